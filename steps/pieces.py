"""What a tool writes, cut into files that go to the object store one after the other, while the tool still runs."""

from collections.abc import Callable
from pathlib import Path
from time import monotonic

from steps.chunks import HEADER, Chunk, Records
from steps.plan import CapturedFile
from steps.uploads import UploadError, Uploads

#: A piece is closed at this age, in seconds: what a killed node may lose.
AGE = 10


class Pieces:
    """Text as 000001.txt and so on below `prefix`; a piece is closed at `size` bytes, or when it is AGE seconds old.

    Closed pieces are described in `files`. Each is in `spool`, a new directory, until the store has taken it; `refusal`
    is what the store said of the next one, if it did not take that.
    """

    suffix = ".txt"

    def __init__(self, uploads: Uploads, prefix: str, spool: Path, *, size: int) -> None:
        spool.mkdir(parents=True)
        self.files: list[CapturedFile] = []
        self.refusal = ""
        self._uploads, self._prefix, self._spool, self._size = uploads, prefix, spool, size
        self._waiting: list[Path] = []
        self._piece: Chunk | None = None
        self._pending = b""

    @property
    def waiting(self) -> int:
        """How many closed pieces the store has not taken."""
        return len(self._waiting)

    def write(self, data: bytes) -> None:
        """Keep what the tool wrote; called without data, too, so that a piece does not grow older. Raises OSError."""
        self._pending += data
        full = True
        while full and self._pending:
            self._piece = self._piece or self._opened()
            taken, full = self._move(self._piece)
            self._pending = self._pending[taken:]
            if full:
                self.close()
        if self._piece and self._has_content(self._piece) and monotonic() - self._piece.opened >= AGE:
            self.close()

    def close(self) -> None:
        """Close the open piece: at the end, what is left."""
        piece, self._piece = self._piece, None
        if piece and (self._has_content(piece) or not self.files):
            name, digest = piece.path.name, piece.digest.hexdigest()
            self.files.append(CapturedFile(name=name, sha256=digest, bytes=piece.size, packets=piece.packets))
            self._waiting.append(piece.path)

    def offer(self, out_of_time: Callable[[], bool] = lambda: False) -> bool:
        """Upload closed pieces in order, until the store refuses one or time is over; tell whether it has them all."""
        for path in list(self._waiting):
            if out_of_time():
                return False
            try:
                self._uploads.put(self._prefix + path.name, path.read_bytes())
            except UploadError as error:
                self.refusal = str(error)
                return False
            self.refusal = ""
            self._waiting.remove(path)
            path.unlink()
        return True

    def _opened(self) -> Chunk:
        return Chunk(self._spool / f"{len(self.files) + 1:06d}{self.suffix}", linktype=0)

    def _move(self, piece: Chunk) -> tuple[int, bool]:
        """Move pending bytes into a piece; give how many, and whether it is full."""
        part = self._pending[: self._size - piece.size]
        piece.append(part)
        return len(part), piece.size == self._size

    def _has_content(self, piece: Chunk) -> bool:
        return piece.size > 0


class PcapPieces(Pieces):
    """A pcap in pieces that are pcap files of their own, cut where a record ends.

    `write` also raises NotPcapError, when what is written is no pcap.
    """

    suffix = ".pcap"

    def __init__(self, uploads: Uploads, prefix: str, spool: Path, *, size: int) -> None:
        super().__init__(uploads, prefix, spool, size=size)
        self._header = b""
        self._records: Records | None = None

    def write(self, data: bytes) -> None:
        """Keep what the tool wrote, as Pieces do."""
        if self._records is None:
            begun = self._header + data
            self._header, data = begun[:HEADER], begun[HEADER:]
            if len(self._header) < HEADER:
                return
            self._records = Records(self._header)
            self._piece = self._opened()
        super().write(data)

    def _opened(self) -> Chunk:
        piece = super()._opened()
        piece.append(self._header)
        return piece

    def _move(self, piece: Chunk) -> tuple[int, bool]:
        if self._records is None:
            raise AssertionError("a record comes after its header")
        return self._records.move(self._pending, piece, room=self._size - piece.size, until=None)

    def _has_content(self, piece: Chunk) -> bool:
        return piece.packets > 0
