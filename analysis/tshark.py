"""Wireshark's programs: `capinfos` counts a file's packets, one `tshark` per capture gives the fields asked for."""

import os
import re
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import cache
from pathlib import Path
from typing import IO, Any, NamedTuple

import pandas as pd

from analysis.captures import CaptureError
from analysis.stream import opened

CHUNK = 50_000  # packets held as text at once
AT_ONCE = 500  # files that capinfos is asked about at once
PREFERENCES = (  # every frame counts where it stands: no waiting for the rest of a datagram or of a message
    *("ip.defragment:FALSE", "ipv6.defragment:FALSE", "tcp.desegment_tcp_streams:FALSE"),
    *("tcp.analyze_sequence_numbers:TRUE", "tcp.calculate_timestamps:FALSE"),
)
Process = subprocess.Popen[bytes]


class StoppedError(Exception):
    """tshark ended with an error: its exit code, and the last that it said."""

    def __str__(self) -> str:
        code, said = self.args
        how = f"was killed by signal {-code}" if code < 0 else f"ended with {code}"
        return f"tshark {how}{': ' + said.removeprefix('tshark: ') if said else ''}"


class Contents(NamedTuple):
    """What a file holds: whole packets, and link type (Wireshark's name); `error` where it could not be read on."""

    packets: int
    linktype: str
    is_cut: bool  # it ends in the middle of a packet
    error: str


def _run(*command: str | Path, **options: Any) -> Process:
    try:
        return subprocess.Popen(command, stdout=subprocess.PIPE, **options)
    except FileNotFoundError:
        raise CaptureError(f"{command[0]} is not installed here: install tshark, Wireshark's command line") from None


@cache
def version() -> str:
    """Give tshark's version.

    Raises:
        CaptureError: tshark is not installed.

    """
    output, _ = _run("tshark", "--version", stderr=subprocess.DEVNULL).communicate()
    found = re.search(rb"\d+\.\d+\.\d+", output)
    return found[0].decode() if found else "unknown"


def contents(files: Sequence[Path]) -> Iterator[Contents]:
    """Count the packets of files, as far as each can be read; only their headers are looked at.

    Raises:
        CaptureError: capinfos is not installed.

    """
    for start in range(0, len(files), AT_ONCE):
        some = files[start : start + AT_ONCE]
        found = _contents(some)
        yield from found or (_contents([file])[0] for file in some)


def _contents(files: Sequence[Path]) -> list[Contents]:
    """Count the packets of several files, unless there is something to be said of one; then each is asked alone."""
    process = _run("capinfos", "-TMrEc", *files, stderr=subprocess.PIPE)
    output, errors = (stream.decode(errors="replace") for stream in process.communicate())
    rows = [line.split("\t") for line in output.splitlines()]
    if not process.returncode and len(rows) == len(files):
        return [Contents(int(row[-1]), row[-2], is_cut=False, error="") for row in rows]
    if len(files) > 1:
        return []
    packets, linktype = (int(rows[0][-1]), rows[0][-2]) if rows and rows[0][-1].isdigit() else (0, "")
    if before := re.search(r"after reading (\d+) packets", errors):
        packets = int(before[1])
    is_cut = "cut short" in errors
    error = "" if is_cut else " ".join(errors.split()) or f"capinfos ended with {process.returncode}"
    error = re.sub(rf'( from)? "{re.escape(str(files[0]))}"', "", error).replace("capinfos: ", "")
    return [Contents(packets, linktype, is_cut, error.replace("capinfos", "Wireshark"))]


def fields(files: Sequence[Path], names: Sequence[str], texts: Sequence[str]) -> Iterator[pd.DataFrame]:
    """Give these fields of all packets of the files (`analysis.stream.opened`), CHUNK packets at a time.

    A field that occurs several times in a packet is text, with commas; `texts` name the fields that always are.

    Raises:
        CaptureError: tshark is not installed.
        StoppedError: it ended with an error; what it read until then was given.

    """
    with opened(files) as stream, _output(stream, names) as output:
        try:
            yield from pd.read_csv(
                output,
                sep="\t",
                names=list(names),
                dtype=dict.fromkeys(texts, "str"),
                quoting=3,  # none: tshark writes no quotes of its own
                chunksize=CHUNK,
                low_memory=False,
            )
        except pd.errors.EmptyDataError:
            return


@contextmanager
def _output(stream: IO[bytes], names: Sequence[str]) -> Iterator[IO[bytes]]:
    """Run tshark on a stream; raise StoppedError when all its output was read, and it ended with an error."""
    options = [word for preference in PREFERENCES for word in ("-o", preference)]
    options += [word for name in names for word in ("-e", name)]
    with ExitStack() as stack:
        settings = stack.enter_context(tempfile.TemporaryDirectory(prefix="snoopy-"))  # not this user's own
        errors = stack.enter_context(tempfile.TemporaryFile())
        process = _run(
            "tshark",
            *("-n", "-r", "-", "-T", "fields", "-E", "occurrence=a", *options),
            stdin=stream,
            stderr=errors,
            env={**os.environ, "WIRESHARK_CONFIG_DIR": settings},
        )
        stream.close()  # it is the process's now: when that ends, whoever feeds it notices
        stack.callback(_end, process)
        yield process.stdout  # type: ignore[misc] # it is a pipe
        if process.wait():
            errors.seek(0)
            said = errors.read().decode(errors="replace").strip().splitlines()
            raise StoppedError(process.returncode, said[-1] if said else "")


def _end(process: Process) -> None:
    if process.stdout:
        process.stdout.close()
    process.terminate()
    process.wait()
