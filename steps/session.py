"""One capture as it comes to a data endpoint: cut into chunks that are readable files of their own.

Its newest chunk is a file whose name says which bytes of the session it holds, and which begins with the capture's
header. Nothing else is known of a session, so a server that was killed goes on where it was.
"""

import os
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

from steps.chunks import HEADER, Records, is_pcap

#: A chunk is closed at this size, in bytes, or at this age with something in it, in seconds.
SIZE, AGE = 8 * 1024**2, 10
#: What chunks are: a pcap; what began as none; and what follows where a pcap's records end to make sense.
PCAP, RAW, BROKEN = ".pcap", ".txt", ".bin"


class Session:
    """A session whose chunks are files of `folder`: new, or what a killed server left there.

    `closed` gets each chunk that is whole. `size` is the newest one's, `held` that of all the session so far, in bytes;
    `broken` says what is wrong with a pcap, and `touched` when data came last, by the monotonic clock. `open` is for
    whoever ends sessions.
    """

    def __init__(self, folder: Path, closed: Callable[[Path], None]) -> None:
        self.folder, self.open, self.touched, self.broken = folder, False, time.monotonic(), ""
        self._closed = closed
        self._since: float | None = None  # when the chunk got something
        folder.mkdir(parents=True, exist_ok=True)
        for part in folder.glob("*.part"):
            part.unlink()
        files = sorted(folder.iterdir())
        if not files:
            files = [self._written(1, 0, RAW, b"")]
        for path, following in pairwise(files):
            held = _base(following) + (HEADER if following.suffix == PCAP else 0)
            os.truncate(path, held - _base(path))  # it may have been killed before it did
            closed(path)
        self._load(files[-1])

    @property
    def held(self) -> int:
        """How many bytes of the session came so far."""
        return _base(self._path) + self.size

    def append(self, data: bytes) -> None:
        """Keep what follows. Raises OSError; then nothing of it is kept, or all."""
        try:
            with self._path.open("ab") as file:
                file.write(data)
        except OSError:
            os.truncate(self._path, self.size)
            raise
        self._read(data)
        self.touched = time.monotonic()
        self._since = self._since or self.touched
        if self.size >= SIZE:
            self.cut()

    def begins_anew(self, data: bytes) -> bool:
        """Tell whether data is the beginning of another capture."""
        return is_pcap(data) and not self._tail

    def is_due(self, now: float) -> bool:
        """Tell whether the chunk is old, and holds something."""
        return self._whole > len(self._header) and self._since is not None and now - self._since >= AGE

    def cut(self) -> None:
        """Close the chunk where its last record ends, if it holds something; what follows begins the next."""
        if self._whole > len(self._header) or (self._whole and self._is_first):
            self._next(self._path.suffix, self._header)

    def forget(self) -> None:
        """Remove the newest chunk: at most a part of a record, if it has been cut."""
        self._path.unlink()
        self.size = 0

    @property
    def _is_first(self) -> bool:
        return self._path.name.startswith("000001-")

    def _next(self, suffix: str, header: bytes) -> None:
        path, whole, base = self._path, self._whole, self.held - len(self._tail) - len(header)
        number = int(path.name.partition("-")[0])
        self._load(self._written(number + 1, base, suffix, header + self._tail))
        os.truncate(path, whole)
        self._closed(path)

    def _written(self, number: int, base: int, suffix: str, content: bytes) -> Path:
        """Write a chunk's file; it is there with all of its content, or not at all.

        `base` is how many bytes of the session came before it, less the header that it repeats.
        """
        path = self.folder / f"{number:06d}-{base}{suffix}"
        part = path.with_suffix(".part")
        part.write_bytes(content)
        return part.replace(path)

    def _load(self, path: Path) -> None:
        """Take a file as the newest chunk."""
        content = path.read_bytes()
        self._path = path
        self._header = content[:HEADER] if path.suffix == PCAP else b""
        self._records = Records(self._header) if self._header else None
        self._tail = b""
        self._since = None
        self.size = self._whole = len(self._header)
        self._read(content[self.size :])

    def _read(self, data: bytes) -> None:
        """Find where the last whole record ends, now that the file has more data."""
        undecided = self._is_first and self.size < HEADER
        self.size += len(data)
        if self._records:
            self._follow(self._records, data)
        elif undecided and is_pcap(self._path.read_bytes()):
            self._load(self._path.replace(self._path.with_suffix(PCAP)))
        else:
            self._whole = self.size

    def _follow(self, records: Records, data: bytes) -> None:
        data = self._tail + data
        end, wrong = records.whole(data)
        self._whole += end
        self._tail = data[end:]
        if wrong:
            self.broken = f"{wrong}: from there on it is kept as it came"
            self._next(BROKEN, b"")


def _base(path: Path) -> int:
    return int(path.stem.partition("-")[2])
