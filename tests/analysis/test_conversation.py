"""One connection packet by packet: what is said of each, in the order captured, and where it is."""

import gc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from analysis import conversation as module
from analysis.conversation import Line, conversation
from analysis.kernel import Ends
from analysis.packets import Reading, read
from analysis.tshark import StoppedError
from tests.analysis.dialogue import MS, SECOND, Dialogue, client_hello, pcap, replace_tshark

CLIENT, SERVER = "10.244.0.2", "10.244.1.3"
ALERT = bytes.fromhex("15030300020228")  # fatal: handshake_failure


@pytest.fixture
def lines(wire: Any, tmp_path: Path) -> Callable[..., list[Line]]:
    def show(*followed: Ends) -> list[Line]:
        file = pcap(tmp_path / "a.pcap", wire.packets)
        packets = read([file.name], tmp_path, select=tmp_path / "selected.pcap", reading=Reading(follow=followed))
        return list(conversation(packets, lambda frame: f"a.pcap:{frame}"))

    return show


def test_a_connection_among_others(wire: Any, lines: Any) -> None:
    wire.lookup(0, CLIENT, 50000, "shop.example.com")
    dialogue = Dialogue(wire, 31337, at=10 * MS)
    dialogue.ask(b"GET /a?b=c HTTP/1.1\r\nHost: shop.example.com\r\nUser-Agent: curl\r\n\r\n")
    wire.quiet(13 * MS + MS // 2)
    dialogue.answer(b"HTTP/1.1 404 Not Found\r\nContent-Type: text/plain\r\nContent-Length: 5000\r\n\r\n" + bytes(5000))
    found = lines(Ends(CLIENT, 40000, SERVER, 31337, 6))
    assert [line.place for line in found] == [f"a.pcap:{frame}" for frame in (3, 4, 5, 7, 8, 9, 10)]
    assert [line.seconds for line in found[:4]] == [0, 0.001, 0.002, 0.003]
    assert [line.is_from_originator for line in found[:4]] == [True, False, True, False]
    assert found[0].protocol == "TCP"
    assert found[0].info.startswith("40000 → 31337 [SYN]")
    assert (found[2].protocol, found[2].info) == ("HTTP", "GET /a?b=c HTTP/1.1 ")
    assert found[2].details == ("Host: shop.example.com", "User-Agent: curl")
    assert "Content-Type: text/plain" in found[3].details
    assert str(found[1]) == f"a.pcap:4  0.001000  ←  TCP  {found[1].info}"
    assert str(found[2]).endswith("GET /a?b=c HTTP/1.1   [Host: shop.example.com; User-Agent: curl]")


def test_dns_and_its_latency(wire: Any, lines: Any) -> None:
    wire.lookup(0, CLIENT, 50000, "gone.example.com", 3)
    asked, answered = lines(Ends(CLIENT, 50000, "10.96.0.10", 53, 17))
    assert asked.info == "Standard query 0x0007 A gone.example.com"
    assert answered.details == ("Reply code: No such name (3)", "Time: 0.003000000 seconds")
    assert (asked.is_from_originator, answered.is_from_originator) == (True, False)


def test_a_refused_handshake(wire: Any, lines: Any) -> None:
    dialogue = Dialogue(wire, 8080, client="fd00::2", server="fd00::3")
    dialogue.ask(client_hello("shop.example.com"))
    dialogue.answer(ALERT)
    hello, alert = lines(Ends("fd00::2", 40000, "fd00::3", 8080, 6))[2:]
    assert (hello.protocol[:3], hello.info[:12]) == ("TLS", "Client Hello")  # 4.4 says the server's name, too
    assert hello.details == ("Server Name: shop.example.com",)  # not all that it offers
    assert alert.details == ("Description: Handshake Failure (40)",)
    assert not alert.is_from_originator


def test_connections_that_share_their_ends(wire: Any, lines: Any) -> None:
    for number in range(2):
        Dialogue(wire, 80, at=number * SECOND, isn=1000 + number * 10**6)
    assert [line.seconds for line in lines(Ends(CLIENT, 40000, SERVER, 80, 6))] == [0, 0.001, 1, 1.001]


def test_no_more_than_so_many_packets(wire: Any, lines: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    wire.http(0, CLIENT, 40000, SERVER)
    monkeypatch.setattr(module, "MOST", 3)
    assert len(lines(Ends(CLIENT, 40000, SERVER, 80, 6))) == 3


def test_a_connection_that_is_not_there(wire: Any, lines: Any) -> None:
    wire.http(0, CLIENT, 40000, SERVER)
    assert lines(Ends(CLIENT, 40001, SERVER, 80, 6)) == []


@pytest.mark.parametrize("output", ["fields", "pdml"], ids=["its summaries", "its details"])
def test_tshark_that_stops(wire: Any, lines: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, output: str) -> None:
    wire.http(0, CLIENT, 40000, SERVER)
    script = f'REAL "$@"; case "$*" in *"-T {output}"*) echo "tshark: it broke" >&2; exit 3;; esac'
    replace_tshark(tmp_path, monkeypatch, script)
    with pytest.raises(StoppedError, match=r"^tshark ended with 3: it broke$"):
        lines(Ends(CLIENT, 40000, SERVER, 80, 6))


def test_without_tshark(wire: Any, lines: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wire.http(0, CLIENT, 40000, SERVER)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(StoppedError, match=r"is not installed here$"):
        lines(Ends(CLIENT, 40000, SERVER, 80, 6))


def test_whoever_has_seen_enough_may_stop(wire: Any, lines: Any, tmp_path: Path) -> None:
    wire.http(0, CLIENT, 40000, SERVER)
    followed = (Ends(CLIENT, 40000, SERVER, 80, 6),)
    lines(*followed)
    packets = read(["a.pcap"], tmp_path, select=tmp_path / "selected.pcap", reading=Reading(follow=followed))
    shown = conversation(packets, str)
    assert next(shown).place == "1"
    shown.close()
    gc.collect()  # what pyshark leaves open would be reported now
