"""What a command costs: seconds, CPU, and the memory of all its processes."""

import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

MIB = 1 << 20
BYTECODE = {**os.environ, "PYTHONDONTWRITEBYTECODE": ""}  # what is imported is compiled once


@dataclass(frozen=True)
class Run:
    """One run of a command: seconds of the clock, seconds of CPU, bytes of memory of all its processes, its output."""

    wall: float
    cpu: float
    memory: int
    output: str


def tree(pid: int) -> int:
    """Give the most memory that a process and each of its children had resident, bytes."""
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        status = Path(f"/proc/{pid}/status").read_text().partition("VmHWM:")[2]
    except OSError:  # it has ended
        return 0
    return int(status.split()[0] if status else 0) * 1024 + sum(tree(int(child)) for child in children)


def run(command: Sequence[str | Path], **environment: str) -> Run:
    """Run a command to its end.

    Raises:
        SystemExit: it failed.

    """
    most, done = 0, threading.Event()
    with tempfile.TemporaryFile() as output:
        start = time.perf_counter()
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, env=BYTECODE | environment)

        def watch() -> None:
            nonlocal most
            while not done.wait(0.005):
                most = max(most, tree(process.pid))

        watcher = threading.Thread(target=watch)
        watcher.start()
        _, status, usage = os.wait4(process.pid, 0)
        wall = time.perf_counter() - start
        process.returncode = os.waitstatus_to_exitcode(status)
        done.set()
        watcher.join()
        output.seek(0)
        text = output.read().decode(errors="replace")
    if process.returncode:
        sys.exit(f"{' '.join(map(str, command))} failed:\n{text}")
    return Run(wall, usage.ru_utime + usage.ru_stime, most, text)


def rounds(commands: Mapping[str, Sequence[str | Path]], times: int) -> dict[str, list[Run]]:
    """Run every command, all of them again, and so on."""
    runs: dict[str, list[Run]] = {name: [] for name in commands}
    for _ in range(times):
        for name, command in commands.items():
            runs[name].append(run(command))
    return runs


def middle(numbers: Sequence[float]) -> str:
    """Give the median, and where there are several the least and the most."""
    least, most = min(numbers), max(numbers)
    spread = f" ({least:.2f} to {most:.2f})" if len(numbers) > 1 else ""
    return f"{statistics.median(numbers):.2f}{spread}"


def ratios(runs: Sequence[Run], ours: Sequence[Run]) -> list[float]:
    return [theirs.wall / mine.wall for theirs, mine in zip(runs, ours, strict=False)]
