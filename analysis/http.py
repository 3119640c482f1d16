"""HTTP: which requests were answered, with what status and how soon; HTTP/1, HTTP/2 and gRPC.

Rules: RFC 9112 (an HTTP/1 connection's responses come in the order of its requests), RFC 9113 (HTTP/2: by stream) and
gRPC's PROTOCOL-HTTP2 (its status is in the trailers). An interim response (1xx) answers nothing, but 101 does.
"""

import re
from collections import deque
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any

import pandas as pd

from analysis.timestamps import NANOSECONDS
from analysis.tshark import SEPARATOR

FIELDS = (  # Wireshark's
    *("http.request.method", "http.request.uri", "http.request.version", "http.host"),
    *("http.response.code", "http.response.version"),
    *("http2.type", "http2.flags", "http2.streamid", "http2.header.count", "http2.header.name", "http2.header.value"),
    *("tcp.len", "tcp.analysis.lost_segment", "tcp.analysis.ack_lost_segment"),
    "tcp.analysis.out_of_order",
)
HTTP1, HTTP2, TCP = slice(0, 6), slice(6, 12), slice(12, 16)  # of FIELDS
PUSH_PROMISE = "5"
END_HEADERS = 4  # a flag
HEADER_FRAMES = {"1", PUSH_PROMISE, "9"}  # HEADERS, PUSH_PROMISE, CONTINUATION
SELECTED = 256 << 10  # bytes of an HTTP/2 connection's direction; what follows was not dissected
HTTP = "HTTP/"
FINAL, SWITCHING = 200, 101  # status codes
GRACE = NANOSECONDS  # a request this close to the capture's end may be answered yet
MESSAGES = {  # beside the columns of its packet (`analysis.dissect.PACKET`)
    "kind": "str",  # request, response, trailers; segment: one of an HTTP/2 connection
    "version": "str",
    "method": "str",
    "host": "str",
    "path": "str",  # without its query, which may hold secrets
    "status": "int64",
    "grpc_status": "str",
    "stream": "int64",  # of HTTP/2
    "bytes": "int64",  # of a segment
    "has_gap": "bool",  # segments around this one are missing or out of order, and Wireshark was lost
}
REQUEST = {  # `requests` explains them
    "client": "str",
    "client_port": "int64",
    "server": "str",
    "server_port": "int64",
    "connection": "int64",
    "requested": "int64",
    "version": "str",
    "method": "str",
    "host": "str",
    "path": "str",
    "status": "int64",
    "grpc_status": "Int64",
    "first_byte_ms": "float64",
    "stream": "int64",
    "outcome": "str",
    "frame": "int64",
    "proof": "int64",
}
Row = tuple[str, str, str, str, str, int, str, int, int, bool]


def messages(values: Sequence[str]) -> Iterator[Row]:
    """Read the heads of HTTP/1 requests and responses in one packet.

    Args:
        values: those of FIELDS, as `analysis.tshark.fields` gives them.

    Returns:
        The columns MESSAGES.

    """
    methods, targets, versions, hosts, codes, answers = map(_split, values[HTTP1])
    if len(hosts) != len(methods):  # not each request names its host
        hosts = [*hosts, ""][:1] * len(methods)
    if len(versions) != len(methods):  # HTTP/0.9, or it was cut off
        versions = [""] * len(methods)
    for method, target, version, host in zip(methods, targets, versions, hosts, strict=False):
        if version.startswith(HTTP) or not version:  # not RTSP, which looks like it
            yield _row("request", version.removeprefix(HTTP), method, host, _path(method, target))
    for code, version in zip(codes, answers, strict=False):
        yield _row("response", version.removeprefix(HTTP), status=int(code))


def frames(values: Sequence[str]) -> Iterator[Row]:
    """Read the header blocks of the HTTP/2 frames in one packet, after a row for the segment; else as `messages`."""
    length, *gaps = values[TCP]
    kinds, flags, streams, counts, names, texts = map(_split, values[HTTP2])
    blocks, is_lost = _blocks(kinds, flags, streams, len(counts))
    yield _row("segment", "2", size=int(length or 0), has_gap=is_lost or any(gaps))
    yield from messages(values)  # a connection may begin as HTTP/1
    headers = zip(names, texts, strict=False)
    for (kind, stream), count in zip(blocks, counts, strict=False):
        head = dict(islice(headers, int(count)))
        grpc, status = (_digits(head.get(name, "")) for name in ("grpc-status", ":status"))
        if status:
            yield _row("response", "2", status=int(status), grpc_status=grpc, stream=stream)
        elif ":method" in head and kind != PUSH_PROMISE:
            host = head.get(":authority", head.get("host", ""))
            path = _path(head[":method"], head.get(":path", ""))
            yield _row("request", "2", head[":method"], host, path, stream=stream)
        elif grpc:
            yield _row("trailers", "2", grpc_status=grpc, stream=stream)


def _blocks(kinds: list[str], flags: list[str], streams: list[str], decoded: int) -> tuple[list[tuple[str, int]], bool]:
    """Say of which frames (type, stream) the header blocks are that were decoded, and whether some were not.

    Of a block in several frames, Wireshark decodes the last part or each.
    """
    frames = [
        (kind, int(stream), int(flag, 16) & END_HEADERS > 0)
        for kind, flag, stream in zip(kinds, flags, streams, strict=False)
        if kind in HEADER_FRAMES
    ]
    every = [(kind, stream) for kind, stream, _ in frames]
    last = [(kind, stream) for kind, stream, is_last in frames if is_last]
    if decoded in {len(every), len(last)}:
        return (every if decoded == len(every) else last), False
    is_one = len({stream for _, stream in every}) == 1
    return every[:1] * decoded if is_one else [], decoded < len(last) or not is_one


def _split(value: str) -> list[str]:
    return value.split(SEPARATOR) if value else []


def _digits(value: str) -> str:
    """Give a status code, and nothing where it is none."""
    return value if re.fullmatch(r"[0-9]{1,3}", value) else ""


def _row(  # noqa: PLR0913 - a message has that many columns
    kind: str,
    version: str,
    method: str = "",
    host: str = "",
    path: str = "",
    *,
    status: int = 0,
    grpc_status: str = "",
    stream: int = 0,
    size: int = 0,
    has_gap: bool = False,
) -> Row:
    return kind, version, method, host, path, status, grpc_status, stream, size, has_gap


def _path(method: str, target: str) -> str:
    """Give the path of a request's target in any of its forms (RFC 9112 section 3.2)."""
    if method == "CONNECT":
        return ""
    path = target.partition("?")[0].partition("#")[0]
    scheme, absolute, rest = path.partition("://")
    return "/" + rest.partition("/")[2] if absolute and "/" not in scheme else path


def requests(found: pd.DataFrame, end: int) -> pd.DataFrame:
    """Match requests with responses: one row per request.

    Args:
        found: HTTP messages (`analysis.dissect.Messages.http`).
        end: when the capture ended, ns since the epoch.

    Returns:
        Columns client, client_port, server, server_port, connection (row of the connection table), requested (ns),
        version (1.0, 1.1, 2), method, host, path (without its query), status (0: none), grpc_status (null: none),
        first_byte_ms (request to response head), stream (0 but for HTTP/2), outcome (answered; unanswered; undecided:
        requested in the capture's last second, or the answer is in packets that were not dissected), frame (of the
        request) and proof (of the response or its gRPC status, or of the request).

    """
    rows: list[dict[str, Any]] = []
    open_requests: dict[tuple[int, int], deque[dict[str, Any]]] = {}
    answered: dict[tuple[int, int], dict[str, Any]] = {}
    blind = _partly_seen(found)
    message: Any
    for message in found[found["kind"] != "segment"].sort_values("time", kind="stable").itertuples(index=False):
        key = message.connection, message.stream
        waiting = open_requests.setdefault(key, deque())
        if message.kind == "request":
            is_open = message.time > end - GRACE or message.connection in blind
            rows.append(_request(message, "undecided" if is_open else "unanswered"))
            waiting.append(rows[-1])
        elif message.kind == "response" and waiting and (message.status >= FINAL or message.status == SWITCHING):
            answered[key] = row = waiting.popleft()
            elapsed = (message.time - row["requested"]) / 1e6
            if message.status == SWITCHING:  # to HTTP/2, perhaps: the request is its first stream then, RFC 7540
                open_requests.setdefault((message.connection, 1), deque()).append(row)
            row |= {"status": message.status, "first_byte_ms": elapsed, "outcome": "answered", "proof": message.frame}
        if message.grpc_status and key in answered:
            answered[key] |= {"grpc_status": int(message.grpc_status), "proof": message.frame}
    return pd.DataFrame(rows, columns=list(REQUEST)).astype(REQUEST)


def _request(message: Any, outcome: str) -> dict[str, Any]:
    same = ("connection", "version", "method", "host", "path", "stream", "frame")
    return {
        "client": message.src,
        "client_port": message.src_port,
        "server": message.dst,
        "server_port": message.dst_port,
        "requested": message.time,
        "status": 0,
        "outcome": outcome,
        "proof": message.frame,
        **{name: getattr(message, name) for name in same},
    }


def _partly_seen(found: pd.DataFrame) -> set[int]:
    """Give the HTTP/2 connections of which some segments were not dissected, or in vain."""
    segments = found[found["kind"] == "segment"]
    sizes = segments.groupby(["connection", "src", "src_port"])["bytes"].sum()
    full = sizes.index.get_level_values("connection")[sizes >= SELECTED]
    return {*segments.loc[segments["has_gap"], "connection"], *full}
