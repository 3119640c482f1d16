"""Capture files as bytes, decompressed where gzip or zstd is around them, a block at a time."""

import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import pyarrow as pa

from analysis.captures import GZIP, ZSTD

GZIP_MEMBER, GZIP_BLOCK = zlib.MAX_WBITS | 16, 1 << 14  # what is left of a block is copied after every member
DAMAGE = (OSError, EOFError, zlib.error, pa.ArrowException)
"""What a source may raise; what it gave until then is sound."""
Source = Callable[[memoryview], int]
"""Put bytes into the memory, and give how many; 0 at the end."""


@contextmanager
def opened(path: Path) -> Iterator[Source]:
    """Open a file for reading, of gzip and zstd what was compressed."""
    with path.open("rb", buffering=0) as file:
        magic = file.read(4)
        file.seek(0)
        if magic.startswith(GZIP):
            yield _gunzip(file)
        elif magic.startswith(ZSTD):
            with pa.CompressedInputStream(pa.OSFile(str(path)), "zstd") as stream:
                yield stream.readinto
        else:
            yield lambda memory: file.readinto(memory) or 0


def _gunzip(file: IO[bytes]) -> Source:
    """Decompress gzip's members one after the other; of a file that was cut off, all that is there."""
    member, waiting, is_open = zlib.decompressobj(GZIP_MEMBER), b"", False

    def source(memory: memoryview) -> int:
        nonlocal member, waiting, is_open
        while True:
            waiting = waiting or file.read(GZIP_BLOCK)
            found = member.decompress(waiting, len(memory))
            if not waiting and not found:
                if is_open:
                    raise EOFError("it ends early")
                return 0
            is_open, waiting = not member.eof, member.unconsumed_tail
            if member.eof:
                waiting = member.unused_data.lstrip(b"\0")
                member = zlib.decompressobj(GZIP_MEMBER)
            if found:
                memory[: len(found)] = found
                return len(found)

    return source
