"""The files of one capture as one stream of bytes, as Wireshark's programs read it: chunks share one pcap header."""

import mmap
import os
import shutil
import struct
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Thread
from typing import IO

HEADER, RECORD = 24, 16  # bytes of a pcap file's header, and of a packet's (draft-ietf-opsawg-pcap)
ORDERS = {  # by a pcap file's first bytes, µs and ns: the order of a number's bytes
    bytes.fromhex(magic): order
    for order, magics in {"<": ("d4c3b2a1", "4d3cb2a1"), ">": ("a1b2c3d4", "a1b23c4d")}.items()
    for magic in magics
}
BLOCK = 1 << 20


def header(file: Path) -> bytes:
    """Give a pcap file's header, which files must share to be one stream; nothing for a file of another format."""
    with file.open("rb") as opened_file:
        found = opened_file.read(HEADER)
    return found if found[:4] in ORDERS else b""


@contextmanager
def opened(files: Sequence[Path]) -> Iterator[IO[bytes]]:
    """Open files for reading as one: a file of any format, or several pcap files that share a header.

    Whoever hands it to a process closes it then: the rest of the bytes is written until nobody reads them.
    """
    if len(files) == 1:
        with files[0].open("rb") as single:
            yield single
        return
    reading, writing = os.pipe()
    feeder = Thread(target=_feed, args=(os.fdopen(writing, "wb"), files), daemon=True)
    try:
        with os.fdopen(reading, "rb") as stream:
            feeder.start()
            yield stream
    finally:
        feeder.join()


def _feed(pipe: IO[bytes], files: Sequence[Path]) -> None:
    with suppress(OSError), pipe:  # nobody reads on, or a file is gone: whoever counts the packets notices
        for number, file in enumerate(files):
            with file.open("rb") as chunk:
                chunk.seek(HEADER if number else 0)
                shutil.copyfileobj(chunk, pipe, BLOCK)


def whole(file: Path, packets: int, directory: Path) -> Path:
    """Copy the first packets of a file whose end was cut off, or is damaged."""
    copy = directory / f"{packets}-{file.name}"
    order = ORDERS.get(header(file)[:4])
    if not order:  # not pcap
        subprocess.run(["editcap", "-r", file, copy, f"1-{packets}"], stderr=subprocess.DEVNULL, check=False)
        return copy
    shutil.copyfile(file, copy)
    length, end = struct.Struct(f"{order}I"), HEADER
    with file.open("rb") as damaged, mmap.mmap(damaged.fileno(), 0, access=mmap.ACCESS_READ) as data:
        for _ in range(packets):
            end += RECORD + length.unpack_from(data, end + 8)[0]
    os.truncate(copy, end)
    return copy
