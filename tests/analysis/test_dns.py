"""DNS messages that a test puts into datagrams and segments, and the lookups that are made of them."""

import struct
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from analysis import dns
from analysis.dissect import COLUMNS, table
from tests.analysis.dialogue import MS, SECOND, Dialogue, Tables, pcap, tables

CLIENT, SERVER = "10.244.0.2", "10.96.0.10"


@pytest.fixture
def look(wire: Any, tmp_path: Path) -> Callable[..., Tables]:
    def found(end: int | None = None) -> Tables:
        result = tables(pcap(tmp_path / "a.pcap", wire.packets), tmp_path, end)
        assert result.messages.problems == ()
        return result

    return found


def message(number: int, name: str, kind: int = 1, rcode: int | None = None, questions: int = 1) -> bytes:
    """Encode a question, or an answer with this rcode and no records."""
    flags = 0x0100 if rcode is None else 0x8180 | rcode
    labels = b"".join(bytes([len(label)]) + label.encode() for label in name.split("."))
    question = labels + b"\0" + struct.pack("!HH", kind, 1)
    return struct.pack("!HHHHHH", number, flags, questions, 0, 0, 0) + question * questions


def test_an_answer_is_matched_with_its_question(wire: Any, look: Any) -> None:
    wire.lookup(0, CLIENT, 50000, "Web.Demo.svc", number=7)
    wire.lookup(5 * MS, CLIENT, 50000, "web.demo.svc", 2, number=8)
    wire.lookup(6 * MS, CLIENT, 50001, "web.demo.svc", 3, number=7)
    found = look().lookups
    first = found.iloc[0].to_dict()
    assert {name: first[name] for name in dns.LOOKUP} == {
        "client": CLIENT,
        "client_port": 50000,
        "server": SERVER,
        "server_port": 53,
        "transport": "udp",
        "id": 7,
        "name": "web.demo.svc",
        "type": "A",
    }
    assert (first["asked"], first["tries"], first["latency_ms"]) == (wire.packets[0].time, 1, 3.0)
    assert (first["undecided"], first["search_step"], first["frame"], first["proof"]) == (False, False, 1, 2)
    assert list(found["rcode"]) == ["NOERROR", "SERVFAIL", "NXDOMAIN"]
    assert list(zip(found["frame"], found["proof"], strict=True)) == [(1, 2), (3, 5), (4, 6)]


def test_a_question_asked_again_is_one_lookup(wire: Any, look: Any) -> None:
    for at in (0, 2 * SECOND):
        wire.lookup(at, CLIENT, 50000, "slow.example.com", None)
    wire.udp(2 * SECOND + 3 * MS, SERVER, 53, CLIENT, 50000, message(7, "slow.example.com", rcode=0))
    (row,) = look().lookups.to_dict("records")
    assert (row["tries"], row["latency_ms"], row["frame"], row["proof"]) == (2, 2003.0, 1, 3)


def test_no_answer(wire: Any, look: Any) -> None:
    for at in (0, 2 * SECOND):
        wire.lookup(at, CLIENT, 50000, "slow.example.com", None)
    last = wire.packets[-1].time
    (early,), (late,) = (look(end).lookups.to_dict("records") for end in (last + SECOND - MS, last + SECOND))
    assert (early["undecided"], late["undecided"]) == (True, False)
    assert (late["rcode"], late["frame"], late["proof"]) == ("", 1, 2)
    assert pd.isna(late["latency_ms"])


@pytest.mark.parametrize("size", [1400, 17], ids=["in one segment", "in small segments"])
def test_several_messages_over_tcp(wire: Any, look: Any, size: int) -> None:
    dialogue = Dialogue(wire, 53)
    names = [("a.example.com", 1), ("b.example.com", 28), ("c.example.com", 12)]
    asked = [message(number, name, kind) for number, (name, kind) in enumerate(names)]
    answers = [message(number, name, kind, rcode=number) for number, (name, kind) in enumerate(names)]
    dialogue.say(b"".join(struct.pack("!H", len(each)) + each for each in asked), from_client=True, size=size)
    dialogue.say(b"".join(struct.pack("!H", len(each)) + each for each in answers[::-1]), from_client=False, size=size)
    found = look().lookups
    assert list(zip(found["name"], found["type"], found["rcode"], found["transport"], strict=True)) == [
        ("a.example.com", "A", "NOERROR", "tcp"),
        ("b.example.com", "AAAA", "FORMERR", "tcp"),
        ("c.example.com", "PTR", "SERVFAIL", "tcp"),
    ]
    assert (found["latency_ms"] > 0).all()


def test_messages_of_several_or_no_questions_do_not_shift_the_others(wire: Any, look: Any) -> None:
    dialogue = Dialogue(wire, 53)
    parts = [message(1, "a.b", questions=2), message(2, "c.d", questions=0)[:12], message(3, "e.f", 255)]
    dialogue.ask(b"".join(struct.pack("!H", len(each)) + each for each in parts))
    found = look().messages.dns
    assert list(zip(found["id"], found["name"], found["type"], strict=True)) == [(1, "a.b", "A"), (3, "e.f", "TYPE255")]


def test_other_ports_and_addresses(wire: Any, look: Any) -> None:
    wire.lookup(0, "fd00::2", 50000, "a.example.com", server="fd00::10")
    wire.udp(MS, CLIENT, 50000, "10.244.1.3", 5353, message(1, "b.example.com"))
    wire.udp(2 * MS, "10.244.1.3", 5353, CLIENT, 50000, message(1, "b.example.com", rcode=11))
    found = look().lookups
    assert list(zip(found["client"], found["server"], found["server_port"], found["rcode"], strict=True)) == [
        ("fd00::2", "fd00::10", 53, "NOERROR"),
        (CLIENT, "10.244.1.3", 5353, "RCODE11"),
    ]


def test_what_is_no_dns_on_its_port(wire: Any, look: Any) -> None:
    wire.udp(0, CLIENT, 50000, SERVER, 53, b"\xff" * 40)
    wire.udp(MS, CLIENT, 50000, SERVER, 53, message(1, "a.example.com")[:20])
    wire.lookup(2 * MS, CLIENT, 50001, "b.example.com")
    assert list(look().lookups["name"]) == ["b.example.com"]


def asked(*rows: tuple[float, str, str]) -> pd.DataFrame:
    """Make lookups of a second, a name and an rcode each."""
    messages = []
    for number, (second, name, rcode) in enumerate(rows):
        for is_answer in (False, True):
            ends = (SERVER, 53, CLIENT, 50000) if is_answer else (CLIENT, 50000, SERVER, 53)
            packet = (int(second * SECOND) + is_answer, 2 * number + is_answer, number, *ends, "udp")
            messages.append((*packet, is_answer, number, name, "A", rcode if is_answer else ""))
    return dns.lookups(table("dns", messages), 10**12)


def test_steps_of_a_search_list() -> None:
    found = asked(
        (0, "web.demo.svc.cluster.local", "NXDOMAIN"),
        (1, "web.svc.cluster.local", "NXDOMAIN"),
        (2, "web.cluster.local", "NOERROR"),
        (3, "web.demo.svc.cluster.local", "NXDOMAIN"),  # nothing found after it
        (4, "gone.example.com", "NXDOMAIN"),
        (5, "other.example.com", "NOERROR"),
        (20, "late.demo.svc.cluster.local", "NXDOMAIN"),
        (30.5, "late", "NOERROR"),  # too late
    )
    assert list(found["search_step"]) == [True, True, *[False] * 6]


def test_a_step_may_follow_the_name_as_it_is() -> None:
    rows = [(0, "web.example.com", "NOERROR"), (1, "web.example.com.demo.svc.cluster.local", "NXDOMAIN")]
    assert list(asked(*rows)["search_step"]) == [False, True]
    assert list(asked(rows[0], (11, *rows[1][1:]))["search_step"]) == [False, False]


def test_a_step_is_one_to_what_the_same_client_found() -> None:
    both = ["web.svc.cluster.local", "web.cluster.local"]  # the first one was found before, and too long ago
    rows = [(0, both[0], "NOERROR"), (20, "web.demo.svc.cluster.local", "NXDOMAIN"), (21, both[1], "NOERROR")]
    assert list(asked(*rows)["search_step"]) == [False, True, False]


def test_names_of_many_labels_are_no_steps() -> None:
    longest = ["web", *"abcdefghijklmno"]
    for tried, expected in ((longest, True), ([*longest, "p"], False)):
        found = asked((0, ".".join(tried), "NXDOMAIN"), (1, "web", "NOERROR"))
        assert list(found["search_step"]) == [expected, False]


def test_names_made_to_be_steps_in_every_way_cost_no_memory() -> None:
    existing = [(0.0, ".".join(["a", *["b"] * count]), "NOERROR") for count in range(120)]
    tried = [(0.0, ".".join(["a", *["b"] * count]), "NXDOMAIN") for count in range(120, 130)]
    table = asked(*existing, *tried)
    tracemalloc.start()
    try:
        dns._search_steps(table)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 300_000


labels = st.lists(st.sampled_from("abc"), min_size=1, max_size=5)


@given(labels, labels)
def test_a_step_has_the_first_labels_and_the_last(tried: list[str], existing: list[str]) -> None:
    added = len(tried) - len(existing)
    expected = added > 0 and any(
        existing == tried[:place] + tried[place + added :] for place in range(1, len(existing) + 1)
    )
    found = asked((0, ".".join(tried), "NXDOMAIN"), (1, ".".join(existing), "NOERROR"))
    assert list(found["search_step"]) == [expected, False]


def test_no_messages_are_no_lookups() -> None:
    found = dns.lookups(table("dns", ()), 0)
    assert found.empty
    said = ("asked", "tries", "latency_ms", "rcode", "undecided", "search_step", "connection", "frame", "proof")
    assert {*dns.LOOKUP, *said} == {*found.columns}
    assert set(dns.MESSAGES) < set(COLUMNS["dns"])
