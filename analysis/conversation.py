"""Show connections packet by packet: what Wireshark says of each, and what pyshark finds in its DNS, TLS and HTTP."""

import asyncio
import re
from asyncio.subprocess import Process
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from itertools import zip_longest
from pathlib import Path
from typing import Any, NamedTuple

from pyshark.capture.file_capture import FileCapture

from analysis import tshark
from analysis.dissect import HTTP1, HTTP2, TLS, Numbers
from analysis.packets import Packets, Selected

MOST = 1000  # packets that are shown
SUMMARY = ("_ws.col.Protocol", "_ws.col.Info", "frame.time_relative")
PREFERENCES = ("-o", "http.desegment_body:FALSE")  # a body is not shown, and may be large
LAYERS = {  # by Wireshark's name, the fields that its summary leaves out
    "dns": ("flags_rcode", "time"),
    "tls": (
        *("handshake_extensions_server_name", "handshake_extensions_alpn_str"),
        *("handshake_extensions_supported_version", "handshake_ciphersuite", "alert_message_desc"),
    ),
    "http": ("host", "user_agent", "content_type", "content_length", "time"),
    "http2": ("headers_authority", "headers_content_type", "header"),
}
SEVERAL = 3  # values of a field are shown at most: a ClientHello offers dozens of ciphers
GRPC = "Header: grpc-"  # the headers of HTTP/2 that are shown, whatever they are
DECODED_AS = {TLS: "tls", HTTP1: "http", HTTP2: "http2"}


class Line(NamedTuple):
    """What is said of one packet; `details` are texts such as `Server Name: example.com`."""

    place: str
    seconds: float  # after the first packet shown
    is_from_originator: bool
    protocol: str
    info: str
    details: tuple[str, ...]

    def __str__(self) -> str:
        arrow = "→" if self.is_from_originator else "←"
        about = f"  [{'; '.join(self.details)}]" if self.details else ""
        return f"{self.place}  {self.seconds:.6f}  {arrow}  {self.protocol}  {self.info}{about}"


def conversation(packets: Packets, place: Callable[[int], str]) -> Iterator[Line]:
    """Show the packets of these connections, the first MOST of them, a line for each.

    Args:
        packets: one capture, of which the packets of these connections were selected (`analysis.packets.read`).
        place: says where a frame of the capture is.

    Raises:
        StoppedError: tshark is not installed, or ended with an error; what it read until then was given.

    """
    selected = packets.selected
    if selected is None or not len(selected.frames):
        return
    options = [*PREFERENCES, "-c", str(MOST), *_decoding(packets.connections["dst_port"], selected)]
    found = tshark.fields(selected.path, SUMMARY, options=options)
    details = _details(selected.path, options)
    for number, (values, about) in enumerate(zip_longest(found, details, fillvalue=())):  # both to their ends
        if values:
            protocol, info, seconds = (value.partition(tshark.SEPARATOR)[0] for value in values)
            is_from_originator = bool(selected.is_orig[number])
            where = place(int(selected.frames[number]))
            yield Line(where, float(seconds), is_from_originator, protocol, info, tuple(about))


def _decoding(server_ports: Numbers, selected: Selected) -> list[str]:
    """Tell Wireshark what the kernel found on the connections' ports, whatever is usual there."""
    found = zip(server_ports[selected.connections].tolist(), selected.applications.tolist(), strict=True)
    first = {port: DECODED_AS[number] for port, number in reversed([*found]) if number in DECODED_AS}
    return [word for port, name in first.items() for word in ("-d", f"tcp.port=={port},{name}")]


class _Capture(FileCapture):  # type: ignore[misc]  # pyshark has no types
    """One that lets tshark end by itself: pyshark kills it at the end of its output, and then calls that a crash."""

    async def _cleanup_subprocess(self, process: Process) -> None:
        self._running_processes.discard(process)  # once is enough
        if not self._eof_reached:
            with suppress(ProcessLookupError):
                process.kill()
        if await process.wait() and self._eof_reached:
            raise tshark.stopped(process.returncode or 0, self._last_error_line or "")


def _details(file: Path, options: Sequence[str]) -> Iterator[tuple[str, ...]]:
    """Give the texts of the fields in LAYERS for each packet."""
    loop = asyncio.new_event_loop()  # its own: pyshark's is shared by all, and belongs to one thread
    layers = ["-J", " ".join(("frame", *LAYERS))]  # what tshark writes out: most of pyshark's cost
    try:
        capture = _Capture(file, keep_packets=False, eventloop=loop, custom_parameters=[*options, *layers])
        try:
            for packet in capture:
                yield tuple(dict.fromkeys(text for layer in packet.layers for text in _texts(layer)))
        finally:
            capture.close()
    finally:
        loop.close()


def _texts(layer: Any) -> Iterator[str]:
    for name in LAYERS.get(layer.layer_name, ()):
        field = layer.get_field(name)
        texts = [each.showname or each.show for each in field.all_fields] if field is not None else []
        texts = [_plain(text) for text in texts if name != "header" or text.startswith(GRPC)]
        yield from texts if len(texts) <= SEVERAL else ()


def _plain(text: str) -> str:
    """Leave away the bits before a flag's text, and the end of a line after a header's."""
    return re.sub(r"^[01. ]+ = ", "", text).removesuffix("\\r\\n")
