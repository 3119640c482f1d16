"""Requests and responses of HTTP/1, HTTP/2 and gRPC that a test puts into segments, and the table made of them."""

import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from analysis import http
from analysis.dissect import table
from tests.analysis.dialogue import ACK, MS, SECOND, Dialogue, pcap, tables

GET = b"GET /cart/7?token=secret HTTP/1.1\r\nHost: shop.example.com\r\n\r\n"
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RST_STREAM, SETTINGS, PUSH_PROMISE, CONTINUATION = 0, 1, 3, 4, 5, 9
END_STREAM, END_HEADERS = 1, 4


@pytest.fixture
def look(wire: Any, tmp_path: Path) -> Callable[..., list[dict[str, Any]]]:
    def requests(snaplen: int = 262144, end: int | None = None) -> list[dict[str, Any]]:
        found = tables(pcap(tmp_path / "a.pcap", wire.packets, snaplen), tmp_path, end)
        assert found.messages.problems == ()
        return found.requests.to_dict("records")

    return requests


def response(status: int = 200, body: bytes = b"", **headers: object) -> bytes:
    lines = [f"HTTP/1.1 {status} Whatever", f"Content-Length: {headers.pop('length', len(body))}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode() + body


def said(rows: list[dict[str, Any]], *names: str) -> list[tuple[Any, ...]]:
    return [tuple(row[name] for name in names) for row in rows]


@pytest.mark.parametrize("port", [80, 8080, 443, 5432, 31337])
def test_a_request_and_its_answer_on_any_port(wire: Any, look: Any, port: int) -> None:
    dialogue = Dialogue(wire, port)
    (asked,), (answered,) = dialogue.ask(GET), dialogue.answer(response(404, b"no such cart"))
    (row,) = look()
    assert row["first_byte_ms"] == (answered.time - asked.time) / MS == 1.0
    del row["first_byte_ms"]
    assert row.pop("grpc_status") is None
    assert row == {
        "client": "10.244.0.2",
        "client_port": 40000,
        "server": "10.244.1.3",
        "server_port": port,
        "connection": 0,
        "requested": asked.time,
        "version": "1.1",
        "method": "GET",
        "host": "shop.example.com",
        "path": "/cart/7",
        "status": 404,
        "stream": 0,
        "outcome": "answered",
        "frame": 3,
        "proof": 4,
    }


def test_a_connection_that_is_kept(wire: Any, look: Any) -> None:
    dialogue = Dialogue(wire, 80)
    for number in range(3):
        dialogue.ask(b"GET /%d HTTP/1.1\r\nHost: a\r\n\r\n" % number)
        dialogue.answer(response(200 + number, bytes(5000)))  # its body is not dissected
    assert said(look(), "path", "status", "frame", "proof") == [
        ("/0", 200, 3, 4),
        ("/1", 201, 8, 9),
        ("/2", 202, 13, 14),
    ]


def test_requests_in_one_segment_are_answered_in_their_order(wire: Any, look: Any) -> None:
    dialogue = Dialogue(wire, 80)
    dialogue.ask(b"".join(b"GET /%d HTTP/1.1\r\nHost: host-%d\r\n\r\n" % (number, number) for number in range(3)))
    dialogue.answer(response(200, b"one") + response(304))
    dialogue.answer(response(500))
    assert said(look(), "path", "host", "status", "first_byte_ms") == [
        ("/0", "host-0", 200, 1.0),
        ("/1", "host-1", 304, 1.0),
        ("/2", "host-2", 500, 2.0),
    ]


def test_an_interim_response_answers_nothing(wire: Any, look: Any) -> None:
    dialogue = Dialogue(wire, 80)
    dialogue.ask(b"PUT /x HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n")
    dialogue.answer(b"HTTP/1.1 100 Continue\r\n\r\n")
    dialogue.ask(b"data")
    dialogue.answer(response(201))
    assert said(look(), "method", "status", "first_byte_ms") == [("PUT", 201, 3.0)]


def test_a_request_near_the_end_is_undecided(wire: Any, look: Any) -> None:
    (asked,) = Dialogue(wire, 80).ask(GET)
    ((before,), (after,)) = look(end=asked.time + SECOND - MS), look(end=asked.time + SECOND)
    assert (before["outcome"], after["outcome"]) == ("undecided", "unanswered")
    assert (after["status"], after["frame"], after["proof"]) == (0, 3, 3)
    assert pd.isna(after["first_byte_ms"])


def test_an_answer_to_what_was_asked_before_the_capture(wire: Any, look: Any) -> None:
    dialogue = Dialogue(wire, 80)
    dialogue.answer(response(503))
    dialogue.ask(GET)
    dialogue.answer(response(200))
    assert said(look(), "status", "frame", "proof") == [(200, 4, 5)]


def test_a_segment_sent_again_is_no_other_request(wire: Any, look: Any) -> None:
    dialogue = Dialogue(wire, 80)
    (asked,) = dialogue.ask(GET)
    wire.tcp(500 * MS, *dialogue.ends, ACK, 1001, 5_001_001, asked.payload)
    dialogue.at = 600 * MS
    dialogue.answer(response())
    assert said(look(), "status", "frame", "first_byte_ms") == [(200, 3, 598.0)]


def test_a_second_connection_from_the_same_port(wire: Any, look: Any) -> None:
    for number, isn in enumerate((9_000_000, 1000)):
        dialogue = Dialogue(wire, 80, at=number * SECOND, isn=isn)
        dialogue.ask(GET)
        dialogue.answer(response(200 + number))
    assert said(look(), "connection", "status") == [(0, 200), (1, 201)]


def test_a_head_in_several_segments(wire: Any, look: Any) -> None:
    dialogue = Dialogue(wire, 80)
    dialogue.ask(b"GET / HTTP/1.1\r\nHost: a\r\nCookie: " + b"c" * 3000 + b"\r\n\r\n")
    dialogue.answer(response(200, **{"Set-Cookie": "c" * 3000}))
    assert said(look(), "host", "status", "frame", "proof") == [("a", 200, 3, 6)]


def test_a_request_that_was_cut(wire: Any, look: Any) -> None:
    dialogue = Dialogue(wire, 80)
    dialogue.ask(b"GET /some/path HTTP/1.1\r\nHost: a\r\nCookie: " + b"c" * 300 + b"\r\n\r\n")
    dialogue.answer(response(200, bytes(400)))
    assert said(look(snaplen=96), "path", "status", "outcome") == [("/some/path", 200, "answered")]


@pytest.mark.parametrize(
    ("line", "path"),
    [
        ("GET http://me:pass@shop.example.com/a/b?c=d", "/a/b"),
        ("GET http://shop.example.com", "/"),
        ("GET /login?next=http://shop.example.com/x", "/login"),
        ("GET /proxy/http://shop.example.com/x", "/proxy/http://shop.example.com/x"),
        ("CONNECT shop.example.com:443", ""),
        ("OPTIONS *", "*"),
    ],
)
def test_paths_are_without_secrets(wire: Any, look: Any, line: str, path: str) -> None:
    Dialogue(wire, 3128).ask(f"{line} HTTP/1.1\r\nHost: shop.example.com\r\n\r\n".encode())
    assert said(look(), "method", "path") == [(line.partition(" ")[0], path)]


def test_what_only_looks_like_http(wire: Any, look: Any) -> None:
    Dialogue(wire, 8554).ask(b"OPTIONS rtsp://10.244.1.3/video RTSP/1.0\r\nCSeq: 1\r\n\r\n")
    Dialogue(wire, 80, port=40001, at=SECOND).ask(b"GET /old?q\n")
    assert said(look(), "version", "path") == [("", "/old")]


HOSTILE = {  # sent, and what is said of it
    b"\x1b[31mred": r"\x1b[31mred",
    b"\x7f": r"\x7f",
    b"a\x1fb": r"a\x1fb",
    b"a\fb": r"a\fb",
    b"a\xffb": "a\ufffdb",
}


@pytest.mark.parametrize("sent", HOSTILE)
def test_texts_that_would_control_a_terminal(wire: Any, look: Any, sent: bytes) -> None:
    line = b"GET /%b HTTP/1.1\r\nHost: %b.example\r\n\r\n" % (sent, sent)
    Dialogue(wire, 80).ask(line + line)
    expected = (f"/{HOSTILE[sent]}", f"{HOSTILE[sent]}.example")
    assert said(look(), "path", "host") == [expected, expected]


def frame(kind: int, stream: int, payload: bytes = b"", flags: int = 0) -> bytes:
    return struct.pack("!I", len(payload))[1:] + bytes([kind, flags]) + struct.pack("!I", stream) + payload


def block(**headers: object) -> bytes:
    """Encode headers as HPACK's literals that are not indexed; names with a leading `_` begin with a colon."""
    pairs = [(name.replace("_", ":", 1) if name[0] == "_" else name, str(value)) for name, value in headers.items()]
    texts = [(name.replace("_", "-").encode(), value.encode()) for name, value in pairs]
    return b"".join(bytes([0, len(name)]) + name + bytes([len(value)]) + value for name, value in texts)


def head(stream: int, flags: int = 0, **headers: object) -> bytes:
    return frame(HEADERS, stream, block(**headers), flags | END_HEADERS)


def asking(stream: int, path: str, method: str = "GET") -> bytes:
    return head(stream, END_STREAM, _method=method, _scheme="http", _path=path, _authority="shop.example.com")


@pytest.fixture
def dialogue(wire: Any) -> Dialogue:
    """Open a connection of HTTP/2, on a port that Wireshark takes for something else."""
    opened = Dialogue(wire, 5432)
    opened.ask(PREFACE + frame(SETTINGS, 0))
    opened.answer(frame(SETTINGS, 0))
    return opened


@pytest.mark.parametrize("size", [1400, 20], ids=["whole", "in small segments"])
def test_streams_are_answered_in_any_order(dialogue: Dialogue, look: Any, size: int) -> None:
    asked = dialogue.say(asking(1, "/a?b=c") + asking(3, "/b"), from_client=True, size=size)[-1]
    answers = [
        dialogue.say(head(stream, _status=status) + frame(DATA, stream, b"x" * 9), from_client=False, size=size)
        for stream, status in ((3, 204), (1, 500))
    ]
    first, second = look()
    rows = said([first, second], "version", "method", "host", "path", "status", "stream", "outcome")
    assert rows == [
        ("2", "GET", "shop.example.com", "/a", 500, 1, "answered"),
        ("2", "GET", "shop.example.com", "/b", 204, 3, "answered"),
    ]
    place = dialogue.wire.packets.index
    assert second["frame"] == place(asked) + 1
    assert place(answers[0][0]) < second["proof"] <= place(answers[0][-1]) + 1 < first["proof"]


def test_grpc(dialogue: Dialogue, look: Any) -> None:
    for stream in (1, 3, 5, 7):
        dialogue.ask(asking(stream, "/shop.Cart/Get", "POST") + frame(DATA, stream, bytes(5), END_STREAM))
    dialogue.answer(head(1, _status=200, content_type="application/grpc") + frame(DATA, 1, bytes(9)))
    dialogue.answer(head(1, END_STREAM, grpc_status=0))
    dialogue.answer(head(3, END_STREAM, _status=200, grpc_status=5, grpc_message="no cart"))  # trailers only
    dialogue.answer(head(5, _status=200) + frame(DATA, 5, bytes(9)) + head(5, END_STREAM, grpc_status=13))
    dialogue.answer(head(7, _status=200))  # and no trailers yet
    rows = look()
    assert said(rows, "status", "stream", "proof") == [(200, 1, 10), (200, 3, 11), (200, 5, 12), (200, 7, 13)]
    assert [row["grpc_status"] for row in rows[:3]] == [0, 5, 13]
    assert rows[3]["grpc_status"] is None
    assert [row["first_byte_ms"] for row in rows] == [4.0, 5.0, 5.0, 5.0]


@pytest.mark.parametrize("sent", HOSTILE)
def test_headers_that_would_control_a_terminal(dialogue: Dialogue, look: Any, sent: bytes) -> None:
    text = sent.decode("latin-1")
    dialogue.ask(head(1, END_STREAM, _method="GET", _path=f"/{text}", _authority=text) + asking(3, "/next"))
    path, host = said(look(), "path", "host")[0]
    expected = HOSTILE[sent].replace("\ufffd", "\ufffd\ufffd")  # in UTF-8, two bytes
    assert (path, host) == (f"/{expected}", expected)
    assert said(look(), "path")[1:] == [("/next",)]


def test_interim_heads_promises_and_continuations(dialogue: Dialogue, look: Any) -> None:
    dialogue.ask(
        frame(HEADERS, 1, block(_method="GET", _scheme="http", _path="/a", _authority="a"), END_STREAM)
        + frame(CONTINUATION, 1, block(accept="*/*"), END_HEADERS)
    )
    dialogue.answer(head(1, _status=103))
    promise = struct.pack("!I", 2) + block(_method="GET", _scheme="http", _path="/pushed", _authority="a")
    dialogue.answer(frame(PUSH_PROMISE, 1, promise, END_HEADERS) + head(1, _status=200) + head(2, _status=200))
    assert said(look(), "path", "status", "first_byte_ms") == [("/a", 200, 2.0)]


def test_each_connection_has_its_own_table_of_headers(wire: Any, look: Any) -> None:
    for number, isn in enumerate((9_000_000, 1000)):
        dialogue = Dialogue(wire, 50051, at=number * SECOND, isn=isn)
        path = b"/path-%d" % number
        literal = b"\x44" + bytes([len(path)]) + path  # :path, to be indexed as 62
        for stream, coded in ((1, literal), (3, b"\xbe")):
            start = PREFACE + frame(SETTINGS, 0) if stream == 1 else b""
            dialogue.ask(start + frame(HEADERS, stream, b"\x82\x86" + coded, END_STREAM | END_HEADERS))
            dialogue.answer(frame(HEADERS, stream, b"\x88", END_STREAM | END_HEADERS))
    rows = look()
    assert said(rows, "connection", "path", "status") == [
        (0, "/path-0", 200),
        (0, "/path-0", 200),
        (1, "/path-1", 200),
        (1, "/path-1", 200),
    ]


def test_an_upgrade_to_http2_is_answered_by_its_first_stream(wire: Any, look: Any) -> None:
    dialogue = Dialogue(wire, 80)
    dialogue.ask(GET[:-2] + b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: \r\n\r\n")
    dialogue.answer(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n")
    dialogue.ask(PREFACE + frame(SETTINGS, 0))
    dialogue.answer(frame(SETTINGS, 0) + head(1, _status=404))
    dialogue.ask(asking(3, "/b"))
    dialogue.answer(head(3, _status=200))
    assert said(look(), "version", "path", "status") == [("1.1", "/cart/7", 404), ("2", "/b", 200)]


def test_a_websocket_stays_at_101(wire: Any, look: Any) -> None:
    dialogue = Dialogue(wire, 80)
    dialogue.ask(GET[:-2] + b"Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
    dialogue.answer(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
    dialogue.answer(b"\x81\x02hi")
    assert said(look(), "status", "outcome") == [(101, "answered")]


@pytest.mark.parametrize("lost", [True, False])
def test_no_answer_on_a_connection_of_which_a_segment_is_missing(dialogue: Dialogue, look: Any, *, lost: bool) -> None:
    dialogue.ask(asking(1, "/a"))
    answers = dialogue.answer(head(1, _status=200)), dialogue.answer(frame(DATA, 1, b"x"))
    dialogue.ask(asking(3, "/never"))
    if lost:
        dialogue.wire.packets.remove(answers[0][0])
    expected = [("undecided", 0), ("undecided", 0)] if lost else [("answered", 200), ("unanswered", 0)]
    assert said(look(), "outcome", "status") == expected


def test_no_answer_where_no_more_was_dissected(dialogue: Dialogue, look: Any) -> None:
    dialogue.ask(asking(1, "/large") + asking(3, "/later"))
    dialogue.answer(head(1, _status=200))
    for _ in range(http.SELECTED // 16000 + 1):
        dialogue.say(frame(DATA, 1, bytes(16000)), from_client=False, size=16009)
    dialogue.answer(head(3, _status=200))
    assert said(look(), "outcome", "status") == [("answered", 200), ("undecided", 0)]


def test_no_messages_are_no_requests() -> None:
    assert list(http.requests(table("http", ()), 0)) == list(http.REQUEST)
