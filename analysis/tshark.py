"""Wireshark's command line: its version, its names for values, and one run over a file, a row of fields per packet."""

import os
import re
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from functools import cache
from pathlib import Path
from threading import Lock
from typing import Any

SEPARATOR = "\x1f"  # between the values of a field that occurs several times in a packet: no value holds it
AGGREGATOR = b"\xff"  # what tshark writes there: in no UTF-8, and escaped by no version, as 4.2 and later would \f
CONTROL = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]|\xc2[\x80-\x9f]")  # C0 but the tab between fields, DEL, C1 in UTF-8
NAMING = Lock()  # captures are read in several threads, and one asks for names
Process = subprocess.Popen[bytes]


class StoppedError(Exception):
    """tshark is not installed, or ended with an error; the message is a sentence without its full stop."""


def stopped(code: int, said: str) -> StoppedError:
    """Say that tshark ended with this exit code, and the last that it said, or (negative) was killed by a signal."""
    if code < 0:
        return StoppedError(f"tshark was killed by signal {-code}")
    return StoppedError(f"tshark ended with {code}{': ' + said.removeprefix('tshark: ') if said else ''}")


def _run(*words: str | bytes, **options: Any) -> Process:
    try:
        return subprocess.Popen(["tshark", *words], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, **options)
    except FileNotFoundError:
        raise StoppedError("tshark, Wireshark's command line, is not installed here") from None


@cache
def version() -> str:
    """Give tshark's version.

    Raises:
        StoppedError: tshark is not installed.

    """
    output, _ = _run("--version", stderr=subprocess.DEVNULL).communicate()
    found = re.search(rb"\d+\.\d+\.\d+", output)
    return found[0].decode() if found else "unknown"


def value_names(*names: str) -> dict[str, dict[int, str]]:
    """Give Wireshark's names for the values of fields, by field and number.

    It is asked once in a process: it takes half a second to list the values of all its fields, more than a million.
    Custom columns had the names of each packet's values, but tshark writes none since 4.4.

    Args:
        names: Wireshark's names of fields.

    Raises:
        StoppedError: tshark is not installed, or ended with an error.

    """
    with NAMING:
        return _value_names(names)


@cache
def _value_names(names: Sequence[str]) -> dict[str, dict[int, str]]:
    found: dict[str, dict[int, str]] = {name: {} for name in names}
    starts = tuple(f"V\t{name}\t".encode() for name in names)
    with _run("-G", "values", stderr=subprocess.DEVNULL) as process:
        for line in process.stdout or ():
            if line.startswith(starts):
                _, name, number, text = line.decode(errors="replace").rstrip("\n").split("\t")
                found[name][int(number, 0)] = text
    if process.returncode:
        raise stopped(process.returncode, "")
    return found


def fields(file: Path, names: Sequence[str], *, options: Sequence[str] = ()) -> Iterator[list[str]]:
    r"""Give a row for every packet of a file: these fields' values, in this order.

    Whoever sends packets chooses some of them, and a terminal may show them: control characters are written as \xNN.

    Args:
        file: any capture file.
        names: Wireshark's names of fields; the values of one that occurs several times are joined by SEPARATOR.
        options: more words of tshark's command line.

    Raises:
        StoppedError: tshark is not installed, or ended with an error; what it read until then was given.

    """
    words = [word for name in names for word in ("-e", name)]
    with ExitStack() as stack:
        settings = stack.enter_context(tempfile.TemporaryDirectory(prefix="snoopy-"))  # not this user's own
        errors = stack.enter_context(tempfile.TemporaryFile())
        process = _run(
            *["-n", "-r", str(file), "-T", "fields", "-E", "occurrence=a"],
            "-E",
            b"aggregator=" + AGGREGATOR,
            *options,
            *words,
            stderr=errors,
            env={**os.environ, "WIRESHARK_CONFIG_DIR": settings},
        )
        stack.callback(_end, process)
        for line in process.stdout or ():
            if line.endswith(b"\n"):  # not one that it was killed in
                yield _values(line[:-1])
        if process.wait():
            errors.seek(0)
            said = errors.read().decode(errors="replace").strip().splitlines()
            raise stopped(process.returncode, said[-1] if said else "")


def _values(line: bytes) -> list[str]:
    harmless = CONTROL.sub(lambda found: b"\\x%02x" % found[0][-1], line)
    return harmless.replace(AGGREGATOR, SEPARATOR.encode()).decode(errors="replace").split("\t")


def _end(process: Process) -> None:
    if process.stdout:
        process.stdout.close()
    process.terminate()
    process.wait()
