"""How fast it is and how much memory it takes, beside what is used today: writes docs/benchmarks.md.

    make bench                                             everything; about half an hour
    .venv/bin/python -m tests.bench.compare --quick        a tenth of the packets, one round, to standard output

Tools take turns, round by round, so that what else the machine does meets them all; files are read once before, so that
no disk is measured. Competitors are installed in .venv-bench, tcptrace as Debian's package (as root).
"""

import argparse
import compileall
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

from tests.bench.captures import Made, crowd, few, write
from tests.bench.measure import MIB, Run, middle, ratios, rounds, run

HERE = Path(__file__).parent
PROJECT = HERE.parents[1]
VENV = PROJECT / ".venv-bench"
PYTHON = Path(sys.prefix) / "bin/python"
TABLE = ["connections"]


def install(scratch: Path) -> None:
    """Install the competitors, and compile the walk."""
    if not (VENV / "ready").exists():
        subprocess.run([sys.executable, "-m", "venv", VENV], check=True)
        subprocess.run([VENV / "bin/pip", "install", "--quiet", "nfstream", "pyshark", "pandas"], check=True)
        (VENV / "ready").touch()
    if not shutil.which("tcptrace"):
        subprocess.run(["apt-get", "install", "-y", "-qq", "tcptrace"], check=True, stdout=subprocess.DEVNULL)
    subprocess.run(["cc", "-O3", "-march=native", HERE / "walk.c", "-o", scratch / "walk"], check=True)


def snoopy(capture: Path, tables: Sequence[str], out: Path) -> list[str | Path]:
    return [PYTHON, PYTHON.with_name("snoopy"), "analyse", capture, "--out", out, "--tables", ",".join(tables)]


def competitor(name: str, capture: Path) -> list[str | Path]:
    return [VENV / "bin/python", HERE / "competitors.py", name, capture]


def compared(title: str, runs: Mapping[str, Sequence[Run]], made: Made) -> list[str]:
    """Write a table of tools beside the first of them, which is ours."""
    ours = next(iter(runs.values()))
    lines = [
        f"## {title}",
        "",
        "| tool | seconds | CPU seconds | MiB | times Snoopy's | TCP connections | retransmissions |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: |",
        f"| what is true | | | | | {made.connections:,} | {made.retransmissions:,} |",
    ]
    for name, several in runs.items():
        text = several[-1].output
        found = json.loads(text) if text.startswith("{") else {}
        counts = [f"{found[key]:,}" if key in found else "" for key in ("connections", "retransmissions")]
        cpu, memory = (statistics.median(getattr(one, what) for one in several) for what in ("cpu", "memory"))
        seconds, times = middle([one.wall for one in several]), middle(ratios(several, ours))
        peak = f"{memory / MIB:.0f}" if memory else ""
        lines.append(f"| {name} | {seconds} | {cpu:.2f} | {peak} | {times} | {' | '.join(counts)} |")
    return [*lines, ""]


def answer(capture: Path, out: Path) -> str:
    """Give what our table of connections says, in the words of the competitors."""
    code = (
        "import json, sys, pyarrow.parquet as p; t = p.read_table(sys.argv[1]).to_pandas(); t = t[t.proto == 'tcp'];"
        "again = t.filter(regex='^retransmissions_').to_numpy().sum();"
        "print(json.dumps({'connections': len(t), 'retransmissions': int(again)}))"
    )
    run(snoopy(capture, TABLE, out))
    return run([sys.executable, "-c", code, out / "connections.parquet"]).output


def tables(capture: Made, tools: Sequence[str], times: int, scratch: Path, title: str) -> list[str]:
    """Compare tables of connections."""
    capture.path.read_bytes()
    commands = {"Snoopy": snoopy(capture.path, TABLE, scratch / "out")}
    names = {"tshark": "tshark -T fields, pandas", "pyshark": "pyshark FileCapture"}
    commands |= {names.get(name, name): competitor(name, capture.path) for name in tools}
    commands["C walk, headers only"] = [scratch / "walk", capture.path]
    runs = rounds(commands, times)
    ours = runs["Snoopy"]
    ours[-1] = Run(ours[-1].wall, ours[-1].cpu, ours[-1].memory, answer(capture.path, scratch / "out"))
    return compared(title, runs, capture)


def memory(sizes: Sequence[int], scratch: Path, times: int) -> list[str]:
    """Compare captures of few connections: ten times the packets must not take more memory."""
    lines = [
        "## Memory: the same 500 connections, more packets",
        "",
        "| packets | seconds | MiB |",
        "| ---: | ---: | ---: |",
    ]
    peaks = []
    for size in sizes:
        capture = write(scratch / "few.pcap", few(1), size, snaplen=160, goes_on=True)
        runs = [run(snoopy(capture.path, TABLE, scratch / "out")) for _ in range(times)]
        peaks.append(statistics.median(one.memory for one in runs))
        lines.append(f"| {size:,} | {middle([one.wall for one in runs])} | {peaks[-1] / MIB:.0f} |")
    (scratch / "few.pcap").unlink()
    return [*lines, "", f"The last takes {peaks[-1] / peaks[0]:.2f} times the memory of the first.", ""]


def applications(capture: Made, scratch: Path, times: int) -> list[str]:
    """Compare the tables of DNS, TLS and HTTP with tshark over the whole file."""
    theirs = "tshark over the whole file"
    commands = {
        "Snoopy": snoopy(capture.path, ["dns", "tls", "http"], scratch / "out"),
        theirs: competitor("applications", capture.path),
    }
    runs = rounds(commands, times)
    share = json.loads(runs[theirs][-1].output)["packets"] / capture.packets
    head = f"## DNS, TLS and HTTP: {share:.1%} of {capture.packets:,} packets"
    lines = [head, "", "| tool | seconds | MiB | times Snoopy's |", "| --- | ---: | ---: | ---: |"]
    for name, several in runs.items():
        peak = statistics.median(one.memory for one in several) / MIB
        times_ours = middle(ratios(several, runs["Snoopy"]))
        lines.append(f"| {name} | {middle([one.wall for one in several])} | {peak:.0f} | {times_ours} |")
    return [*lines, ""]


def first_runs(captures: Sequence[Made], scratch: Path, times: int) -> list[str]:
    """Compare first runs with later ones: in a copy of the installation that nothing was run from."""
    copy = scratch / "fresh"
    shutil.copytree(Path(sys.prefix), copy, symlinks=True)
    for package in ("analysis", "steps", "workflows"):
        shutil.copytree(PROJECT / package, copy / "project" / package, ignore=shutil.ignore_patterns("target"))
    lines = ["## The first run", "", "| packets | bytecode | first, s | second, s | first / second |"]
    lines += ["| ---: | --- | ---: | ---: | ---: |"]
    for compiled in (False, True):
        for capture in captures:
            pairs = [_first(copy, compiled, capture, scratch / "out") for _ in range(times)]
            first, second, both = ([*column] for column in zip(*pairs, strict=True))
            bytecode = "as an image has it" if compiled else "none"
            lines.append(f"| {capture.packets:,} | {bytecode} | {middle(first)} | {middle(second)} | {middle(both)} |")
    shutil.rmtree(copy)
    return [*lines, ""]


def _first(copy: Path, compiled: bool, capture: Made, out: Path) -> tuple[float, float, float]:
    for cache in list(copy.rglob("__pycache__")):
        shutil.rmtree(cache)
    if compiled:
        compileall.compile_dir(copy, quiet=2, workers=0)
    command = [copy / "bin/python", copy / "bin/snoopy", *snoopy(capture.path, TABLE, out)[2:]]
    first, second = (run(command, PYTHONPATH=str(copy / "project")).wall for _ in range(2))
    return first, second, first / second


def machine() -> list[str]:
    """Say on what this was measured, and when."""
    cpu = next(line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name"))
    total = int(Path("/proc/meminfo").read_text().split()[1]) / MIB
    listed = json.loads(run([VENV / "bin/pip", "list", "--format", "json"]).output.splitlines()[0])
    versions = [f"{one['name']} {one['version']}" for one in listed if one["name"] in {"nfstream", "pandas", "pyshark"}]
    tshark = run(["tshark", "--version"]).output.split("TShark (Wireshark) ")[1].split()[0]
    words = (
        f"{cpu.partition(': ')[2]}, {os.cpu_count()} cores, {total:.0f} GiB; Linux {platform.release()}, "
        f"Python {platform.python_version()}, tshark {tshark.rstrip('.')}, {', '.join(versions)}; "
        f"{datetime.now(UTC):%Y-%m-%d}."
    )
    return [words, ""]


INTRODUCTION = """# Benchmarks

`make bench` writes this page. Every time is that of a whole command, from its start to its table: its imports and its
writing are in it. Median of the rounds, least and most beside it; "times Snoopy's" is taken round by round. Memory is
the resident memory of all processes of a command at its highest; of the C walk it is the file itself. tcptrace counts
retransmitted data, not SYNs; nfstream counts none.
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a tenth of the packets, one round")
    parser.add_argument("--packets", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--pyshark-rounds", type=int, default=1, help="of a tenth of the packets; 0 leaves it out")
    parser.add_argument("--capture", type=Path, help="compare on this pcap file, too")
    parser.add_argument("--out", type=Path, help="write the page here")
    options = parser.parse_args()
    size, times = (options.packets // 10, 1) if options.quick else (options.packets, options.rounds)
    page = [INTRODUCTION]
    with tempfile.TemporaryDirectory(prefix="snoopy-bench-") as folder:
        scratch = Path(folder)
        install(scratch)
        page += machine()
        made = write(scratch / "large.pcap", crowd(1, min(size, 50_000)), size)
        small = write(scratch / "small.pcap", crowd(1, min(size // 10, 50_000)), size // 10)
        others = ["tshark", "nfstream", "tcptrace"]
        page += tables(made, others, times, scratch, f"Connections of {made.packets:,} packets")
        page += tables(small, others, times, scratch, f"Connections of {small.packets:,} packets")
        if options.pyshark_rounds:
            title = f"Connections of {small.packets:,} packets, pyshark"
            page += tables(small, ["pyshark"], options.pyshark_rounds, scratch, title)
        if options.capture:
            given = Made(options.capture, 0, 0, 0)
            page += tables(given, others, times, scratch, f"Connections of {options.capture.name}")
        page += applications(made, scratch, times)
        page += memory((size // 2, size * 5), scratch, min(times, 3))
        page += first_runs((small, made), scratch, min(times, 3))
    text = "\n".join(page)
    if options.out:
        options.out.write_text(text)
    else:
        sys.stdout.write(text)


if __name__ == "__main__":
    main()
