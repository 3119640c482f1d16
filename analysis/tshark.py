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

CHUNK = 200_000  # packets held as text at once
PREFERENCES = (  # every frame counts where it stands: no waiting for the rest of a datagram or of a message
    *("ip.defragment:FALSE", "ipv6.defragment:FALSE", "tcp.desegment_tcp_streams:FALSE"),
    *("tcp.analyze_sequence_numbers:TRUE", "tcp.calculate_timestamps:FALSE"),
)
Process = subprocess.Popen[bytes]


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


def contents(file: Path) -> Contents:
    """Count the packets of a file, as far as it can be read; only their headers are looked at.

    Raises:
        CaptureError: capinfos is not installed.

    """
    process = _run("capinfos", "-TMrEc", file, stderr=subprocess.PIPE)
    output, errors = (stream.decode(errors="replace") for stream in process.communicate())
    row = output.rstrip("\n").split("\t")
    packets, linktype = (int(row[-1]), row[-2]) if row[-1].isdigit() else (0, "")
    if before := re.search(r"after reading (\d+) packets", errors):
        packets = int(before[1])
    is_cut = "cut short" in errors
    error = "" if is_cut or not process.returncode else " ".join(errors.split())
    error = re.sub(rf'( from)? "{re.escape(str(file))}"', "", error).replace("capinfos: ", "")
    return Contents(packets, linktype, is_cut, error.replace("capinfos", "Wireshark"))


def whole(file: Path, packets: int, directory: Path) -> Path:
    """Copy the first packets of a file that was cut: what merges files stops at the end of such a one."""
    copy = directory / f"{packets}-{file.name}"
    _run("editcap", "-r", file, copy, f"1-{packets}", stderr=subprocess.DEVNULL).communicate()
    return copy


def fields(files: Sequence[Path], names: Sequence[str], texts: Sequence[str]) -> Iterator[pd.DataFrame]:
    """Give these fields of all packets of the files, as one stream, CHUNK packets at a time.

    A field that occurs several times in a packet is text, with commas; `texts` name the fields that always are.

    Raises:
        CaptureError: tshark is not installed.

    """
    with _output(files, names) as output:
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
def _output(files: Sequence[Path], names: Sequence[str]) -> Iterator[IO[bytes]]:
    options = [word for preference in PREFERENCES for word in ("-o", preference)]
    options += [word for name in names for word in ("-e", name)]
    with ExitStack() as stack:
        source, stdin = files[0], None
        if len(files) > 1:
            merge = _run("mergecap", "-a", "-F", "pcapng", "-w", "-", *files, stderr=subprocess.DEVNULL)
            stack.callback(_end, merge)
            source, stdin = Path("-"), merge.stdout
        settings = stack.enter_context(tempfile.TemporaryDirectory(prefix="snoopy-"))  # not this user's own
        process = _run(
            "tshark",
            *("-n", "-r", str(source), "-T", "fields", "-E", "occurrence=a", *options),
            stdin=stdin,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "WIRESHARK_CONFIG_DIR": settings},
        )
        stack.callback(_end, process)
        yield process.stdout  # type: ignore[misc] # it is a pipe


def _end(process: Process) -> None:
    if process.stdout:
        process.stdout.close()
    process.terminate()
    process.wait()
