"""`snoopy analyse` from the terminal's side: its flags, what it prints where, what it writes, and how it exits."""

import json
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from typing import Any, Never

import pandas as pd
import pytest
from click.testing import CliRunner, Result

from analysis import extract
from analysis.captures import CaptureError
from tests.analysis.formats import Interface, pcap
from tests.analysis.scenes import lookup
from tests.analysis.traffic import SECOND, START, Packet, Tcp, Traffic
from workflows import cli

REPORT = {"report.json", "report.html", "connections.parquet", "dns.parquet", "tls.parquet", "http.parquet"}
HEAVY = {"hera", "kubernetes", "minio", "numpy", "pandas", "pyarrow"}


def snoopy(*arguments: str | Path) -> Result:
    return CliRunner().invoke(cli.main, list(map(str, arguments)))


def traffic() -> list[Packet]:
    """Make one HTTP request and one DNS lookup."""
    wire = Traffic(1)
    get = b"GET / HTTP/1.1\r\nHost: shop.example\r\n\r\n"
    Tcp(wire, START, 80, version=4).handshake().exchange(get, b"HTTP/1.1 200 OK\r\n\r\n").close(True, False)
    lookup(wire, START + 5 * SECOND)
    return wire.in_order()


@pytest.fixture
def capture(tmp_path: Path) -> Path:
    path = tmp_path / "capture.pcap"
    path.write_bytes(pcap(traffic(), Interface()).data)
    return path


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out"


def written(out: Path) -> set[str]:
    return {path.name for path in out.iterdir()}


def report(out: Path) -> Any:
    return json.loads((out / "report.json").read_text())


def test_a_report_and_its_tables(capture: Path, out: Path) -> None:
    done = snoopy("analyse", capture, "--out", out)
    assert (done.exit_code, done.stdout, written(out)) == (0, f"{out}/report.html\n", REPORT), done.output
    assert report(out)["captures"][0]["packets"] == len(traffic())


def test_tables_and_nothing_else(capture: Path, out: Path) -> None:
    done = snoopy("analyse", capture, "--out", out, "--tables", "dns,connections", "--tables", "http")
    paths = [out / f"{name}.parquet" for name in ("connections", "dns", "http")]
    assert (done.exit_code, done.stdout) == (0, "".join(f"{path}\n" for path in paths)), done.output
    assert written(out) == {path.name for path in paths}
    assert [len(pd.read_parquet(path)) for path in paths] == [2, 1, 1]


def test_the_packets_of_a_connection(capture: Path, out: Path) -> None:
    snoopy("analyse", capture, "--out", out, "--tables", "connections")
    found = pd.read_parquet(out / "connections.parquet").set_index("proto")["community_id"]
    before = written(capture.parent)
    done = snoopy("analyse", capture, "--connection", found["tcp"])
    assert done.exit_code == 0, done.output
    places = [line.split()[0] for line in done.stdout.splitlines()[1:]]
    assert places == [f"capture.pcap:{frame}" for frame in range(1, len(traffic()) - 1)]  # the last two are DNS
    assert "GET / HTTP/1.1" in done.stdout
    assert written(capture.parent) == before


def test_a_connection_that_is_not_there(capture: Path) -> None:
    done = snoopy("analyse", capture, "--connection", "1:nosuch")
    sentence = "Error: connection: no capture here has one with the Community ID '1:nosuch'\n"
    assert (done.exit_code, done.output) == (2, sentence)


@pytest.mark.parametrize(
    ("chosen", "is_slow"), [("dns_slow_ms=0.001", True), ("dns_slow_ms=90000,tls_slow_ms=1", False)]
)
def test_thresholds_decide_what_is_found(capture: Path, out: Path, chosen: str, *, is_slow: bool) -> None:
    done = snoopy("analyse", capture, "--out", out, "--thresholds", chosen)
    assert done.exit_code == 0, done.output
    assert ("dns_slow" in {finding["code"] for finding in report(out)["findings"]}) == is_slow
    assert "lookup" in done.stderr or not is_slow


@pytest.mark.parametrize(
    ("chosen", "sentence"),
    [
        ("nosuch=1", "there is no threshold 'nosuch': there are connect_slow_ms, "),
        ("dns_slow_ms=fast", "threshold dns_slow_ms cannot be 'fast'"),
        ("dns_slow_ms", "'dns_slow_ms' is no threshold: write NAME=VALUE"),
    ],
)
def test_a_threshold_that_is_none(capture: Path, out: Path, chosen: str, sentence: str) -> None:
    done = snoopy("analyse", capture, "--out", out, "--thresholds", chosen)
    assert (done.exit_code, done.output.startswith(f"Error: {sentence}")) == (2, True), done.output
    assert not out.exists()


def test_a_port_on_which_vxlan_is_spoken(tmp_path: Path, out: Path) -> None:
    path = tmp_path / "tunnel.pcap"
    data = pcap(traffic(), Interface(tunnel="VXLAN")).data
    path.write_bytes(data.replace((4789).to_bytes(2), (5555).to_bytes(2)))
    for ports, tunnels in (("5555,4789", ["vxlan"] * 2), ("4789", [])):
        done = snoopy("analyse", path, "--out", out, "--tables", "connections", "--vxlan", ports)
        assert done.exit_code == 0, done.output
        assert pd.read_parquet(out / "connections.parquet")["tunnel"].dropna().to_list() == tunnels


NOTHING_NAMED = "nothing is named"
NO_REPORT = "no report is written: {} would do nothing"


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        ("", "give either --out, for a report or tables, or --connection"),
        ("--out OUT --connection 1:a", "give either --out, for a report or tables, or --connection"),
        ("--out OUT --tables=", NOTHING_NAMED),
        ("--out OUT --tables ,", NOTHING_NAMED),
        ("--out OUT --thresholds=", NOTHING_NAMED),
        ("--out OUT --vxlan ,", NOTHING_NAMED),
        ("--out OUT --tables flows", "'flows' is no table: there are connections, packets, dns, tls, http"),
        ("--out OUT --vxlan 0", "0 is not in the range 1<=x<=65535"),
        ("--out OUT --vxlan 4789,vxlan", "'vxlan' is not a valid integer range"),
        ("--out OUT --tables dns --thresholds nosuch=1 --open", NO_REPORT.format("--thresholds and --open")),
        ("--connection 1:a --tables dns --thresholds zz=1", NO_REPORT.format("--tables and --thresholds")),
        ("--connection 1:a --open", NO_REPORT.format("--open")),
    ],
)
def test_flags_that_mean_nothing(capture: Path, out: Path, flags: str, sentence: str) -> None:
    done = snoopy("analyse", capture, *flags.replace("OUT", str(out)).split())
    assert (done.exit_code, sentence in done.output, out.exists()) == (2, True, False), done.output


@pytest.mark.parametrize("more", [(), ("--tables", "connections")])
def test_a_file_that_is_no_capture(tmp_path: Path, out: Path, more: tuple[str, ...]) -> None:
    text = tmp_path / "notes.txt"
    text.write_text("no packets")
    done = snoopy("analyse", text, "--out", out, *more)
    sentence = "Error: notes.txt: it is no capture: neither pcap nor pcapng, compressed or not\n"
    assert (done.exit_code, done.output) == (2, sentence)


@pytest.mark.parametrize("more", [(), ("--tables", "connections")])
def test_a_capture_that_was_cut(tmp_path: Path, out: Path, more: tuple[str, ...]) -> None:
    path = tmp_path / "cut.pcap"
    path.write_bytes(pcap(traffic(), Interface()).data[:-1])
    done = snoopy("analyse", path, "--out", out, *more)
    assert (done.exit_code, "cut.pcap ends in the middle of a packet" in done.stderr) == (0, True), done.output


@pytest.mark.parametrize("more", [(), ("--tables", "connections")])
def test_a_directory_that_cannot_be_made(capture: Path, more: tuple[str, ...]) -> None:
    done = snoopy("analyse", capture, "--out", capture / "out", *more)
    assert (done.exit_code, done.output) == (2, f"Error: out: '{capture}/out': not a directory\n")


@pytest.mark.parametrize(("more", "name"), [((), "report.json"), (("--tables", "dns"), "dns.parquet")])
def test_a_file_that_this_machine_refuses_to_write(capture: Path, out: Path, more: tuple[str, ...], name: str) -> None:
    (out / name).mkdir(parents=True)
    done = snoopy("analyse", capture, "--out", out, *more)
    assert (done.exit_code, done.output.count("\n")) == (3, 1), done.output
    assert f"{name}: Is a directory" in done.output


@pytest.mark.parametrize("name", cli.EXIT_CODES)
def test_exit_codes_are_of_exceptions_that_exist(name: str) -> None:
    module, _, kind = name.rpartition(".")
    assert issubclass(getattr(import_module(module), kind), Exception)


def test_an_exception_has_the_exit_code_of_its_base(capture: Path, out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class OfItsOwnError(CaptureError):
        pass

    def refuse(*_: object) -> Never:
        raise OfItsOwnError("this one")

    monkeypatch.setattr(extract, "extract", refuse)
    done = snoopy("analyse", capture, "--out", out, "--tables", "dns")
    assert (done.exit_code, done.output) == (2, "Error: this one\n")


def test_an_exception_that_nobody_foresaw_is_not_hidden(
    capture: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class CaptureError(Exception):
        """Only its name is the same."""

    def refuse(*_: object) -> Never:
        raise CaptureError

    monkeypatch.setattr(extract, "extract", refuse)
    assert isinstance(snoopy("analyse", capture, "--out", out, "--tables", "dns").exception, CaptureError)


def imported(*arguments: str | Path) -> set[str]:
    """Run the command in a process of its own, and say what of HEAVY it imported."""
    code = "import sys\nfrom workflows.cli import main\nmain(sys.argv[1:], standalone_mode=False)\n"
    code += f"print(*sorted({HEAVY} & set(sys.modules)), file=sys.stderr)"
    words = [sys.executable, "-c", code, *map(str, arguments)]
    return set(subprocess.run(words, capture_output=True, text=True, check=True).stderr.split())


@pytest.mark.parametrize("arguments", [("--help",), ("analyse", "--help")])
def test_whoever_asks_for_help_does_not_wait(arguments: tuple[str, ...]) -> None:
    assert imported(*arguments) == set()


def test_whoever_wants_connections_waits_for_neither_pandas_nor_a_cluster(capture: Path, out: Path) -> None:
    assert imported("analyse", capture, "--out", out, "--tables", "connections") == {"numpy", "pyarrow"}
    assert written(out) == {"connections.parquet"}


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_the_help_says_of_a_command_what_the_command_says(name: str) -> None:
    command = cli.main.get_command(None, name)  # type: ignore[arg-type]  # it needs no context
    assert command
    assert command.get_short_help_str(limit=1000) == cli.COMMANDS[name][1]
