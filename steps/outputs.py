"""Where podtracer sends what a tool writes, at once: a file or standard output, the object store, a data endpoint."""

import os
import select
import time
from collections.abc import Callable
from io import FileIO
from pathlib import Path
from typing import TYPE_CHECKING, Protocol
from uuid import uuid4

from steps.campaign_input import InvalidInputError
from steps.chunks import NotPcapError
from steps.fields import MIB, endpoint
from steps.pieces import PcapPieces, Pieces
from steps.stop import Stop
from steps.uploads import PresignedPost, UploadError

if TYPE_CHECKING:
    from steps.export import Export

#: How long an object store or a data endpoint may refuse before it is given up, in seconds; and once the tool was told
#: to end. An attempt that has begun may take 40 seconds more.
PATIENCE, LAST_PATIENCE = 30, 15
#: How long a reader may take nothing once the tool was told to end, in seconds; and how often that is looked at.
READER, TICK = 5, 0.5
#: How long it may take to reach a data endpoint before a tool is started, in seconds.
REACHED = 5
#: What a data endpoint listens on, unless it is said.
PORT = 51001
#: How large a piece in the object store becomes, in bytes.
PIECE = 8 * MIB


class OutputError(Exception):
    """An output takes no more; the message is one sentence."""


class Output(Protocol):
    """What takes a tool's output. Whoever writes waits until it is taken."""

    def write(self, data: bytes) -> None:
        """Take the next bytes; none, when there have been none for a while. Raises OutputError."""

    def close(self) -> None:
        """Take note that there are no more. Raises OutputError."""


def destination(host: str | None, port: int | None) -> str:
    """Give a data endpoint as HOST:PORT or tls://HOST:PORT; empty when there is none. Raises InvalidInputError."""
    if not host:
        if port:
            raise InvalidInputError(f"port: {port}: it is a data endpoint's, which -d names")
        return ""
    name = host.removeprefix("tls://")
    address = f"[{name}]" if name.count(":") > 1 and not name.startswith("[") else name
    try:
        return endpoint(f"{host.removesuffix(name)}{address}:{port or PORT}")
    except ValueError:
        raise InvalidInputError(
            f"destination: {host!r}: a host's name or address is needed, with tls:// before it for TLS"
        ) from None


def to_stdout(ending: Stop, *, pcap: bool) -> Output:
    """Give standard output, which nobody needs to read once `ending` is set.

    Raises:
        InvalidInputError: it is a terminal, and packets would go there.

    """
    if pcap and os.isatty(1):
        raise InvalidInputError("standard output is a terminal, and packets are nothing to read: name a file with -f")
    return _Stream("standard output", FileIO(1, "wb", closefd=False), ending)


def to_file(path: Path, ending: Stop) -> Output:
    """Give a file, emptied; or a pipe, as `to_stdout` does. Raises InvalidInputError when it cannot be written."""
    try:
        return _Stream(str(path), FileIO(path, "wb"), ending)
    except OSError as error:
        raise InvalidInputError(f"{path}: {error.strerror}") from None


def to_store(prefix: str, policy: str | None, spool: Path, ending: Stop, *, pcap: bool) -> Output:
    """Give the object store below a key prefix, with a presigned policy; `spool` is a new directory.

    Raises:
        InvalidInputError: the policy is none.

    """
    try:
        uploads = PresignedPost(policy or "")
    except (KeyError, TypeError, ValueError):  # what is wrong with it is not said: it is a credential
        raise InvalidInputError(f"upload: {prefix!r}: $SNOOPY_UPLOAD holds no presigned policy") from None
    return _Store((PcapPieces if pcap else Pieces)(uploads, f"{prefix.rstrip('/')}/", spool, size=PIECE), ending)


def to_endpoint(where: str, namespace: str, pod: str, ending: Stop) -> Output:
    """Give a data endpoint, HOST:PORT or tls://HOST:PORT.

    Raises:
        InvalidInputError: its certificates cannot be read.
        OutputError: it cannot be reached.

    """
    from steps.export import Export  # noqa: PLC0415 - gRPC takes a while to import, and few have a data endpoint

    try:
        export = Export(where, namespace=namespace, pod=pod, session=uuid4().hex)
    except UploadError as error:
        raise InvalidInputError(str(error)) from None
    try:
        export.check(REACHED)
    except UploadError as error:
        export.close()
        raise OutputError(str(error)) from None
    return _Endpoint(export, ending)


class _Stream:
    """A file, or standard output; `name` is for messages."""

    def __init__(self, name: str, stream: FileIO, ending: Stop) -> None:
        self._name, self._stream, self._ending = name, stream, ending

    def write(self, data: bytes) -> None:
        """Write it through: nothing waits in a buffer here. A reader may take its time, until the tool is to end."""
        left, stuck = memoryview(data), 0.0
        while left:
            if self._is_writable():
                left, stuck = left[self._written(left[: select.PIPE_BUF]) :], 0
            elif self._ending.is_set() and (stuck := stuck + TICK) > READER:
                raise OutputError(f"{self._name}: nobody reads it")

    def _is_writable(self) -> bool:
        """Wait a moment until a pipe has room for PIPE_BUF bytes: to write them does not block then."""
        return bool(select.select([], [self._stream.fileno()], [], TICK)[1])

    def _written(self, data: memoryview) -> int:
        try:
            return os.write(self._stream.fileno(), data)
        except OSError as error:
            raise OutputError(f"{self._name}: {error.strerror}") from None

    def close(self) -> None:
        """Close the file."""
        try:
            self._stream.close()
        except OSError as error:
            raise OutputError(f"{self._name}: {error.strerror}") from None


class _Store:
    """The object store: pieces below one key prefix."""

    def __init__(self, pieces: Pieces, ending: Stop) -> None:
        self._pieces, self._ending = pieces, ending
        self._given_up = False

    def write(self, data: bytes) -> None:
        """Keep it for a piece; wait for the store when one is closed."""
        try:
            self._pieces.write(data)
        except (NotPcapError, OSError) as error:
            raise OutputError(f"the object store's pieces could not be made: {error}") from None
        self._upload()

    def close(self) -> None:
        """Upload what is left."""
        self._pieces.close()
        if not self._given_up:
            self._upload()

    def _upload(self) -> None:
        if not _insist(self._pieces.offer, self._ending):
            self._given_up = True
            raise OutputError(self._pieces.refusal)


class _Endpoint:
    """A data endpoint."""

    def __init__(self, export: "Export", ending: Stop) -> None:
        self._export, self._ending = export, ending
        self._refusal = ""

    def write(self, data: bytes) -> None:
        """Send it, and wait until the endpoint has it."""

        def sent() -> bool:
            try:
                self._export.put(data)
            except UploadError as error:
                self._refusal = str(error)
                return False
            return True

        if data and not _insist(sent, self._ending):
            raise OutputError(self._refusal)

    def close(self) -> None:
        """Close the connection."""
        self._export.close()


def _insist(attempt: Callable[[], bool], ending: Stop) -> bool:
    """Try for a while, until it succeeds."""
    begun = time.monotonic()
    while not (succeeded := attempt()) and time.monotonic() < begun + (LAST_PATIENCE if ending.is_set() else PATIENCE):
        time.sleep(1)
    return succeeded
