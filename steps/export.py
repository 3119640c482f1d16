"""Output of a pod to a data endpoint, as podtracer's -d and -p send it: in order, and kept once if ours receives it."""

import os
import re
import secrets
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path, PurePath
from typing import Any

import grpc  # type: ignore[import-untyped]

from steps import wire
from steps.chunks import HEADER, Records, is_pcap
from steps.uploads import UploadError, Uploads

#: Where a pod mounts the Secret of an endpoint that asks for certificates.
TLS = Path(os.environ.get("SNOOPY_ENDPOINT_TLS", "/etc/snoopy/endpoint-tls"))
PIECE = 1024 * 1024
#: What one `put` may take, in seconds: that, and a second for each piece.
PATIENCE = 20
#: How often what waits is looked for, and how long after a refusal it is offered again, in seconds.
TICK, PAUSE = 0.2, 1
OPTIONS = [
    ("grpc.enable_http_proxy", 0),  # the endpoint was named, and is near
    ("grpc.max_reconnect_backoff_ms", 5000),  # an endpoint that is back is found soon
]


class Export:
    """One capture's output on its way to a data endpoint, HOST:PORT or tls://HOST:PORT.

    `session` names the capture among those of the pod; each Export is a session of its own all the same.
    `tls_directory` holds tls.crt, tls.key and ca.crt, for tls://.

    Raises:
        UploadError: a certificate cannot be read.

    """

    def __init__(self, destination: str, *, namespace: str, pod: str, session: str, tls_directory: Path = TLS) -> None:
        self._namespace, self._pod, self._name = namespace, _plain(pod), _plain(session)
        self._host = destination.removeprefix("tls://")
        self._is_new = True
        self._header = self._part = b""  # of a pcap: its header, and what was sent of a record that is not whole
        self._begin()
        if destination == self._host:
            self._channel = grpc.insecure_channel(self._host, OPTIONS)
        else:
            self._channel = grpc.secure_channel(self._host, _credentials(tls_directory), OPTIONS)
        self._export = self._channel.stream_stream(
            f"/{wire.SERVICE}/{wire.METHOD}",
            request_serializer=wire.PodData.SerializeToString,
            response_deserializer=wire.Response.FromString,
        )

    def put(self, data: bytes) -> None:
        """Send the next bytes of the capture, and wait until the endpoint has them.

        After an error the same bytes are to be offered again: what the endpoint has of them is not kept twice. An
        endpoint that has lost what came before gets a new session, which is readable on its own, too.

        Raises:
            UploadError: the endpoint cannot be reached, or refuses.

        """
        if not data:
            return
        try:
            self._send(data)
        except grpc.RpcError as error:
            if error.code() is not grpc.StatusCode.FAILED_PRECONDITION or not self._offset:
                details = " ".join((error.details() or "no reason given").split())
                raise UploadError(
                    f"the data endpoint {self._host} did not take it: {error.code().name}: {details}"
                ) from None
            self._begin()
            self.put(data)

    def check(self, seconds: float) -> None:
        """Make sure that the endpoint can be reached within so many seconds. Raises UploadError."""
        try:
            grpc.channel_ready_future(self._channel).result(timeout=seconds)
        except grpc.FutureTimeoutError:
            raise UploadError(f"the data endpoint {self._host} cannot be reached: {_reason(self._host)}") from None

    def close(self) -> None:
        """Close the connection."""
        self._channel.close()

    def _begin(self) -> None:
        """Begin a session. Its name is like no other's: an endpoint skips what it has of a session that it knows."""
        self._session, self._offset = f"{self._name}.{secrets.token_hex(4)}", 0
        self._before = self._header + self._part

    def _send(self, data: bytes) -> None:
        sent = data if self._offset or data.startswith(self._before) else self._before + data
        metadata = [
            (wire.NAMESPACE, self._namespace),
            (wire.SESSION, self._session),
            (wire.OFFSET, str(self._offset)),
        ]
        for _ in self._export(self._pieces(sent), timeout=PATIENCE + len(sent) / PIECE, metadata=metadata):
            pass  # how much is held: the end without an error says that all is
        self._offset += len(sent)
        self._follow(data)

    def _follow(self, data: bytes) -> None:
        """Remember what another session would begin with: a pcap's header, and the record that is not whole."""
        if self._is_new and is_pcap(data):
            self._header, data = data[:HEADER], data[HEADER:]
        self._is_new = False
        if self._header:
            data = self._part + data
            end, wrong = Records(self._header).whole(data)
            self._part = data[end:]
            if wrong:
                self._header = self._part = b""

    def _pieces(self, data: bytes) -> Iterator[Any]:
        for begin in range(0, len(data), PIECE):
            yield wire.PodData(name=self._pod, data=data[begin : begin + PIECE])


def _plain(name: str) -> str:
    """Give a name as endpoints take it: interfaces may have others, such as eth0:1 and net1@if5."""
    return re.sub(r"[^A-Za-z0-9_.-]|\.(?=\.|$)", "-", name)


def _reason(host: str) -> str:
    """Say why nobody serves gRPC there: it keeps the operating system's words to itself."""
    name, _, port = host.rpartition(":")
    try:
        socket.create_connection((name.strip("[]"), int(port)), timeout=1).close()
    except OSError as error:
        return error.strerror or "nobody answers"
    return "what answers there speaks no gRPC, or other certificates"


def _credentials(directory: Path) -> Any:
    try:
        return grpc.ssl_channel_credentials(*wire.certificates(directory))
    except wire.CertificateError as error:
        raise UploadError(str(error)) from None


class Exported:
    """Uploads of one capture, whose output a data endpoint gets too: as one stream, in the order of the files.

    The endpoint holds up nothing: what it has not taken yet waits in `spool`, a new directory, and is offered to it
    in the background, through what `connect` gives.
    """

    def __init__(self, uploads: Uploads, spool: Path, connect: Callable[[], Export]) -> None:
        spool.mkdir(parents=True)
        self._uploads, self._spool, self._connect = uploads, spool, connect
        self._export: Export | None = None
        self._header = b""
        self._stored = self._exported = 0
        self._waiting = deque[Path]()
        self._refusal = self._broken = ""
        self._closed = threading.Event()
        # An endpoint that hangs must not keep the process from ending.
        threading.Thread(target=self._work, daemon=True).start()

    def put(self, key: str, data: bytes) -> None:
        """Store an object; if it is output, the endpoint gets it when it has what came before.

        Raises:
            UploadError: the object could not be stored.

        """
        self._uploads.put(key, data)
        if not _is_output(key):
            return
        self._stored += 1
        path = self._spool / f"{self._stored:06d}"
        if not self._broken:
            try:
                path.write_bytes(data)
                self._waiting.append(path)
            except OSError as error:  # what follows would not follow
                self._broken = f"what it has not taken yet could not be kept: {error.strerror}"

    def missing(self, out_of_time: Callable[[], bool]) -> str:
        """Wait until the endpoint has it all; when it has not in time, give a sentence that says what and why."""
        while self._waiting and not out_of_time():
            time.sleep(TICK)
        missing = self._stored - self._exported
        if not missing:
            return ""
        reason = self._broken or self._refusal or "it gave no answer in time"
        return f"{missing} of {self._stored} files did not reach the data endpoint: {reason}"

    def close(self) -> None:
        """Close the connection; what is on its way stays there."""
        self._closed.set()
        if self._export:
            self._export.close()

    def _work(self) -> None:
        while not self._closed.wait(TICK):
            while self._waiting and self._sent(self._waiting[0]):
                self._waiting.popleft().unlink()

    def _sent(self, path: Path) -> bool:
        try:
            data = path.read_bytes()
            self._export = self._export or self._connect()
            self._export.put(data.removeprefix(self._header))
        except (UploadError, OSError, ValueError) as error:  # the last: it was closed
            self._refusal = str(error)
            self._closed.wait(PAUSE)
            return False
        self._exported += 1
        if not self._header and is_pcap(data):
            self._header = data[:HEADER]
        return True


def _is_output(key: str) -> bool:
    name = PurePath(key)
    return name.suffix in {".pcap", ".txt"} or name.name == "iperf3.json"
