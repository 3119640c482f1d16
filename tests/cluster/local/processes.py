"""The cluster's long-running processes: started, known again after a crash or a reboot, and ended."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from machine import LOGS, STATE, say

PIDS = STATE / "pids"


def spawn(name: str, *command: str | Path) -> None:
    """Start a process in a session of its own, its output in a log of its name."""
    with (LOGS / f"{name}.log").open("ab") as log:
        process = subprocess.Popen(
            [str(part) for part in command],
            stdout=log,
            stderr=log,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )
    with PIDS.open("a") as pids:
        pids.write(f"{name} {process.pid} {identity(process.pid)}\n")


def identity(pid: int) -> str | None:
    """Say which process has this PID: the boot and the tick it started at. None if it ended.

    With it a PID read from a file names one process for good, also after a reboot.
    """
    try:
        after_name = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    if after_name[0] == "Z":
        return None
    return f"{Path('/proc/sys/kernel/random/boot_id').read_text().strip()}/{after_name[19]}"


def known() -> dict[str, int]:
    """Give the PIDs of all processes that were started, by name."""
    return {name: int(pid) for name, pid, _ in _rows()}


def running() -> dict[str, int]:
    """Give the PIDs of the processes that still run, by name."""
    return {name: int(pid) for name, pid, which in _rows() if identity(int(pid)) == which}


def _rows() -> list[list[str]]:
    return [line.split() for line in PIDS.read_text().splitlines()] if PIDS.exists() else []


def first_child(pid: int) -> int:
    """Give the process that this one started first: for `unshare --fork`, the first in its PID namespace."""
    return int(Path(f"/proc/{pid}/task/{pid}/children").read_text().split()[0])


def wait(what: str, ready: Callable[[], object], seconds: float = 180) -> None:
    """Wait until it is ready and say how long that took; exit if a process of ours ends meanwhile."""
    start = time.monotonic()
    while time.monotonic() - start < seconds:
        if ready():
            say(f"{what}: {time.monotonic() - start:.1f} s")
            return
        if ended := known().keys() - running().keys():
            sys.exit(f"{what}: {', '.join(sorted(ended))} ended; see {LOGS}")
        time.sleep(0.3)
    sys.exit(f"{what}: not ready after {seconds:g} s; see {LOGS}")


def stop() -> None:
    """End every process of ours, politely first; the last started first."""
    for pid in reversed(running().values()):
        os.killpg(pid, signal.SIGTERM)
    deadline = time.monotonic() + 3  # a node's init ignores SIGTERM, as every init does
    while running() and time.monotonic() < deadline:
        time.sleep(0.2)
    for pid in running().values():
        os.killpg(pid, signal.SIGKILL)
    PIDS.unlink(missing_ok=True)
