"""Output of a pod to a data endpoint, as podtracer's -d and -p send it: in order, and kept once if ours receives it."""

import os
import secrets
from collections.abc import Iterator
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
        self._namespace, self._pod, self._name = namespace, pod, session
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


def _credentials(directory: Path) -> Any:
    try:
        return grpc.ssl_channel_credentials(*wire.certificates(directory))
    except wire.CertificateError as error:
        raise UploadError(str(error)) from None


class Exported:
    """Uploads of one capture, whose output a data endpoint gets too: as one stream, in the order of the files."""

    def __init__(self, uploads: Uploads, export: Export) -> None:
        self._uploads, self._export = uploads, export
        self._header = b""
        self._stored, self._exported = set[str](), set[str]()

    def put(self, key: str, data: bytes) -> None:
        """Store an object, and export it if it is output; what has been done is not done again for the same key.

        Raises:
            UploadError: the object could not be stored, or it is and the data endpoint did not take it.

        """
        if key not in self._stored:
            self._uploads.put(key, data)
        if key in self._exported or not _is_output(key):
            return
        self._stored.add(key)
        try:
            self._export.put(data.removeprefix(self._header))
        except UploadError as error:
            raise UploadError(f"{key}: the object store has it, but {error}") from None
        self._stored.remove(key)
        self._exported.add(key)
        if not self._header and is_pcap(data):
            self._header = data[:HEADER]


def _is_output(key: str) -> bool:
    name = PurePath(key)
    return name.suffix in {".pcap", ".txt"} or name.name == "iperf3.json"
