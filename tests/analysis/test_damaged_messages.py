"""What is damaged among DNS, TLS and HTTP messages hides none of the others."""

import random
import struct
from collections.abc import Callable
from pathlib import Path

import pytest

from analysis.packets import read
from analysis.views import dissected
from tests.analysis.formats import Interface, pcap
from tests.analysis.mutations import EFFORT, mutated
from tests.analysis.traffic import MS, START, Row, Tcp, Traffic
from tests.bench.captures import client_hello, get, hello, record


def application(wire: Traffic, at: int, kind: int, damage: Callable[[bytes], bytes]) -> Row:
    """Ask and answer in DNS, TLS, HTTP/1 or HTTP/2."""
    question = b"\4host\7example\0" + struct.pack("!HH", 1, 1)
    answer = b"\xc0\x0c" + struct.pack("!HHIH4B", 1, 1, 30, 4, 10, 0, 0, 1)
    ask, reply = (
        (
            struct.pack("!6H", 7, 0x100, 1, 0, 0, 0) + question,
            struct.pack("!6H", 7, 0x8180, 1, 1, 0, 0) + question + answer,
        ),
        (client_hello(b"shop.example"), hello(2, b"\xc0\x2f\0", b"") + record(21, b"\2\x28")),
        (get(b"/items"), b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"),
        (
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0\0\0\3\1\5\0\0\0\1\x82\x86\x84",
            b"\0\0\1\1\4\0\0\0\1\x88",
        ),
    )[kind]
    ask, reply = damage(ask), damage(reply)
    if kind == 0:
        row = wire.row("udp", 53)
        wire.udp(row, True, at, ask)
        wire.udp(row, False, at + MS, reply)
        return row
    tcp = Tcp(wire, at, (443, 80, 8080)[kind - 1]).handshake()
    tcp.ack(False, tcp.data(True, len(ask), ask))
    tcp.ack(True, tcp.data(False, len(reply), reply))
    return tcp.row


@pytest.mark.parametrize("seed", range(3 * EFFORT))
def test_damaged_messages_hide_no_others(seed: int, tmp_path: Path) -> None:
    """Of 500 conversations of DNS, TLS and HTTP, 400 are damaged; the others are in the tables as ever."""
    wire, chance = Traffic(seed), random.Random(seed)
    good: dict[int, set[str]] = {0: set(), 1: set(), 2: set(), 3: set()}

    def damage(data: bytes) -> bytes:
        return mutated(data, chance.randrange(2**32), chance.randrange(1, 9))

    for number in range(500):
        kind, is_good = number % 4, number % 5 == 0
        row = application(wire, START + number * 10 * MS, kind, bytes if is_good else damage)
        good[kind] |= {row.src} if is_good else set()
    (tmp_path / "messages.pcap").write_bytes(pcap(wire.in_order(), Interface()).data)
    packets = read(["messages.pcap"], tmp_path, select=tmp_path / "selected.pcap")
    lookups, handshakes, requests = dissected(packets, packets.last or 0)
    assert len(lookups) + len(handshakes) + len(requests) > 100
    found = [
        set(lookups.loc[(lookups["rcode"] == "NOERROR") & (lookups["latency_ms"] == 1), "client"]),
        set(handshakes.loc[(handshakes["outcome"] == "alerted") & (handshakes["sni"] == "shop.example"), "client"]),
        *(
            set(requests.loc[(requests["status"] == 200) & (requests["version"] == version), "client"])
            for version in ("1.1", "2")
        ),
    ]
    assert [sorted(good[kind] - found[kind]) for kind in good] == [[], [], [], []]
    assert packets.problems == []
