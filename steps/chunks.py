"""Cut the pcap that a tool writes to a pipe into chunks that are readable files of their own, while it runs.

A chunk ends where a record ends: when it is large enough, or old enough with something in it. Nothing of a packet is
looked at but its record header (draft-ietf-opsawg-pcap).
"""

import hashlib
import os
import select
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic

from analysis.timestamps import NANOSECONDS

HEADER = 24
READ = 1024 * 1024
TICK = 1.0
#: The largest packet that tcpdump keeps.
SNAPLEN = 262_144
#: What a record's fraction of a second counts, in nanoseconds, by the file's magic number.
FRACTIONS = {0xA1B2C3D4: 1000, 0xA1B23C4D: 1}


class NotPcapError(ValueError):
    """What came through the pipe is no pcap."""


def is_pcap(data: bytes) -> bool:
    """Tell whether bytes begin with the whole header of a pcap."""
    return len(data) >= HEADER and any(struct.unpack_from(order + "I", data)[0] in FRACTIONS for order in "<>")


@dataclass
class Chunk:
    """One file of a capture; `first` and `last` are its packets' times, in nanoseconds since the epoch."""

    path: Path
    linktype: int
    size: int = 0
    packets: int = 0
    first: int = 0
    last: int = 0
    opened: float = field(default_factory=monotonic)
    digest: "hashlib._Hash" = field(default_factory=hashlib.sha256, repr=False)

    def append(self, data: bytes) -> None:
        """Write at the file's end."""
        with self.path.open("ab") as file:
            file.write(data)
        self.digest.update(data)
        self.size += len(data)


class Chunks:
    """A pcap read from a file descriptor, as an iterable of its chunks, each given once it is closed.

    They are 000001.pcap and so on in `directory`. One is closed when the next packet would take it past `size` bytes
    (at least a packet's size), or when it holds packets and is `seconds` old. Reading ends with the stream, or before
    the packet that would pass `limit` bytes in all, or that is later than `until` (nanoseconds since the epoch, which
    may be set at any time). A capture without packets is one chunk without any.

    Raises, while iterated:
        NotPcapError: the bytes are no pcap.

    """

    def __init__(self, pipe: int, directory: Path, *, size: int, seconds: float, limit: int) -> None:
        self.until: int | None = None
        self._pipe, self._directory = pipe, directory
        self._size, self._seconds, self._limit = size, seconds, limit

    def __iter__(self) -> Iterator[Chunk]:
        header = _exactly(self._pipe, HEADER)
        if len(header) < HEADER:
            return
        records = Records(header)
        pending, left, number = b"", self._limit - HEADER, 1
        chunk = self._opened(number, header, records.linktype)
        for block in blocks(self._pipe, TICK):
            pending += block
            full, over = True, False
            while full and not over:
                room = min(left, self._size - chunk.size)
                taken, full = records.move(pending, chunk, room=room, until=self.until)
                pending, left = pending[taken:], left - taken
                over = full and (records.length(pending) > left or records.late(pending, self.until))
                old = chunk.packets > 0 and monotonic() - chunk.opened >= self._seconds
                if (full or old) and not over:
                    yield chunk
                    number += 1
                    chunk = self._opened(number, header, records.linktype)
            if over:
                break
        if chunk.packets or number == 1:
            yield chunk

    def _opened(self, number: int, header: bytes, linktype: int) -> Chunk:
        chunk = Chunk(self._directory / f"{number:06d}.pcap", linktype)
        chunk.append(header)
        return chunk


class Records:
    """The form of one pcap's records. Raises NotPcapError when `header`, its first 24 bytes, is none."""

    def __init__(self, header: bytes) -> None:
        order = next((o for o in "<>" if struct.unpack_from(o + "I", header)[0] in FRACTIONS), None)
        if not order:
            raise NotPcapError(f"the stream begins with {header[:4].hex()}, which is no pcap's magic number")
        self.fraction = FRACTIONS[struct.unpack_from(order + "I", header)[0]]
        self.linktype = struct.unpack_from(order + "I", header, 20)[0] & 0xFFFF
        self.record = struct.Struct(order + "IIII")

    def length(self, data: bytes, offset: int = 0) -> int:
        """Give the length of the record at an offset, its header included."""
        kept: int = self.record.unpack_from(data, offset)[2]
        if kept > SNAPLEN:
            raise NotPcapError(f"a record of {kept} bytes is longer than any that tcpdump writes")
        return self.record.size + kept

    def whole(self, data: bytes) -> tuple[int, str]:
        """Give how many bytes of data are whole records, and what is wrong with the one after them, if anything is."""
        end = 0
        try:
            while len(data) - end >= self.record.size and (following := end + self.length(data, end)) <= len(data):
                end = following
        except NotPcapError as error:
            return end, str(error)
        return end, ""

    def late(self, data: bytes, until: int | None, offset: int = 0) -> bool:
        """Tell whether the record at an offset is later than `until`."""
        return until is not None and self._time(data, offset) > until

    def move(self, data: bytes, chunk: Chunk, *, room: int, until: int | None) -> tuple[int, bool]:
        """Append the whole records of `data` that fit in `room` and are not too late to the chunk.

        Gives how many bytes that were, and whether a whole record is left over.
        """
        end, last, packets, full = 0, 0, 0, False
        while end + self.record.size <= len(data):
            following = end + self.length(data, end)
            if following > len(data):
                break
            if following > room or self.late(data, until, end):
                full = True
                break
            end, last, packets = following, end, packets + 1
        if packets:
            chunk.first = chunk.first or self._time(data, 0)
            chunk.last = self._time(data, last)
            chunk.packets += packets
            chunk.append(data[:end])
        return end, full

    def _time(self, data: bytes, offset: int) -> int:
        seconds, fraction, _, _ = self.record.unpack_from(data, offset)
        return int(seconds) * NANOSECONDS + int(fraction) * self.fraction


def _exactly(pipe: int, count: int) -> bytes:
    data = b""
    while len(data) < count and (more := os.read(pipe, count - len(data))):
        data += more
    return data


def blocks(pipe: int, tick: float) -> Iterator[bytes]:
    """Read what there is, until the end; an empty block says that `tick` seconds have passed with nothing to read."""
    while True:
        if not select.select([pipe], [], [], tick)[0]:
            yield b""
        elif block := os.read(pipe, READ):
            yield block
        else:
            return
