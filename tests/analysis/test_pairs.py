"""Many groups at once against one group at a time, names against addresses, and what a pair in report.json holds."""

import math
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from analysis import groups as groups_module
from analysis import pairs
from analysis.groups import Groups
from analysis.names import Names, Party

CLIENT, API, WEB = "10.244.0.2", "10.244.1.3", "10.244.1.4"
SECOND, MS = 1_000_000_000, 1_000_000
FIN, SYN, RST, ACK = 1, 2, 4, 16
VALUES = st.one_of(st.just(math.nan), st.integers(1, 9).map(float))
PLAN = {"targets": [{"namespace": "demo", "pod": "client", "addresses": [CLIENT]}]}


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(80, 82), VALUES, st.sampled_from(["", "x", "y"]))))
def test_groups_measure_as_each_group_alone_would(rows: list[tuple[str, int, float, str]]) -> None:
    table = pd.DataFrame(rows, columns=["who", "port", "ms", "word"]).astype({"port": "int64", "ms": "float64"})
    groups = Groups(table, ["who", "port"])
    assert groups.keys == sorted({row[:2] for row in rows})
    measured = zip(
        groups.percentiles(table["ms"]), groups.tally(table["word"]), groups.total(table["port"]), strict=True
    )
    for number, (key, (percentiles, words, total)) in enumerate(zip(groups.keys, measured, strict=True)):
        mine = [row for row in rows if row[:2] == key]
        known = sorted(row[2] for row in mine if not math.isnan(row[2]))
        ranks = {f"p{p}": known[math.ceil(p / 100 * len(known)) - 1] for p in (50, 95, 99) if known}
        assert percentiles == {"n": len(known)} | ranks | ({"max": known[-1]} if known else {})
        assert words == {word: n for word in "xy" if (n := sum(row[3] == word for row in mine))}
        assert total == sum(row[1] for row in mine)
        assert len(groups.of(number)) == groups.counts[number] == len(mine)
        half = groups.quantile(table["ms"], 50)[number]
        assert half == ranks["p50"] if known else math.isnan(half)


def test_the_groups_with_most_weight_are_kept_and_the_others_summed() -> None:
    table = pd.DataFrame({"who": list("abcda"), "n": [1, 20, 3, 40, 5], "bad": [0, 0, 9, 0, 0]})
    groups = Groups(table, ["who"], most=2, weight=1 + table["bad"].to_numpy())
    assert (groups.keys, groups.beyond) == ([("a",), ("c",)], 2)
    assert groups.total(table["n"]).tolist() == [6, 3, 60]


def test_each_address_is_named_once(monkeypatch: pytest.MonkeyPatch) -> None:
    named: list[str] = []
    party = Names.party

    def counting(names: Names, address: str, inside: str = "") -> Party:
        named.append(address)
        return party(names, address, inside)

    monkeypatch.setattr(Names, "party", counting)
    rows = pd.DataFrame({"src": [CLIENT, API, "127.0.0.1"] * 100, "dst": [API, CLIENT, "127.0.0.1"] * 100})
    rows["inside"] = ["", "", "demo/client"] * 100
    table = Names(PLAN, []).named(rows, "src", "dst")
    assert sorted(named) == sorted([CLIENT, API, "127.0.0.1"])
    client, api, itself = (
        Party("pod", "demo/client", CLIENT),
        Party("external", API, API),
        Party("pod", "demo/client", "127.0.0.1"),
    )
    assert table["source"].tolist()[:3] == [client, api, itself]
    assert table["destination"].tolist()[-3:] == [api, client, itself]
    assert list(table["source"].cat.categories) == sorted([client, api, itself])


def tcp(report: dict[str, Any]) -> dict[str, Any]:
    (pair,) = (each for each in report["pairs"] if each["protocol"] == "tcp")
    return pair


def once(value: float) -> dict[str, float]:
    return {"n": 1, "p50": value, "p95": value, "p99": value, "max": value}


def test_times_of_a_pair_are_those_of_the_side_that_was_captured(wire: Any, store: Any, report: Any) -> None:
    wire.tcp(0, CLIENT, 40000, WEB, 80, SYN, 1000)
    wire.tcp(4 * MS, WEB, 80, CLIENT, 40000, SYN | ACK, 9000, 1001)
    wire.tcp(5 * MS, CLIENT, 40000, WEB, 80, ACK, 1001, 9001)
    wire.tcp(6 * MS, CLIENT, 40000, WEB, 80, ACK, 1001, 9001, b"hello")
    wire.tcp(13 * MS, WEB, 80, CLIENT, 40000, ACK, 9001, 1006)
    wire.tcp(26 * MS, WEB, 80, CLIENT, 40000, ACK, 9001, 1006, b"hi, there")
    wire.tcp(29 * MS, CLIENT, 40000, WEB, 80, ACK, 1006, 9010)
    store.plan("client", "web")
    store.capture("web", wire.packets)
    pair = tcp(report())
    assert (pair["rtt_ms"], pair["data_rtt_ms"], pair["first_byte_ms"]) == (once(1.0), once(3.0), once(20.0))
    store.capture("client", wire.packets)
    pair = tcp(report())
    assert (pair["rtt_ms"], pair["data_rtt_ms"], pair["first_byte_ms"]) == (once(4.0), once(7.0), once(20.0))


def test_icmp_has_a_type_and_no_port(wire: Any, store: Any, report: Any) -> None:
    wire.http(0, CLIENT, 40000, API)
    kind = type(wire.packets[0])
    start = wire.packets[0].time
    for number, (src, dst, first) in enumerate([(CLIENT, API, 8), (API, CLIENT, 0)] * 2):
        echo = bytes([first, 0, 0, 0, 0, 9, 0, number // 2]) + b"ping"
        wire.packets.append(kind(start + number * MS, src, dst, 1, 0, 0, echo))
    store.plan("client")
    store.capture("client", wire.seen_at(CLIENT))
    (pair,) = (each for each in report()["pairs"] if each["protocol"] == "icmp")
    assert pair["destination"] == {"kind": "external", "name": API, "address": API}
    assert pair["icmp"] == {"type": 8, "name": "echo"}
    assert (pair["packets"], pair["bytes"], pair["connections"]) == (4, 4 * 32, {"total": 1})
    assert "rtt_ms" not in pair


def test_tls_and_http_are_counted_once_with_their_connection(
    wire: Any, store: Any, report: Any, translated: Any
) -> None:
    service = "10.96.0.80"
    for number, status in enumerate((200, 404, 200)):
        at, port, isn = number * SECOND, 40000 + number, 1000 + number
        up, down = (CLIENT, port, service, 80), (service, 80, CLIENT, port)
        request, head = b"GET /a?b=c HTTP/1.1\r\nHost: web\r\n\r\n", f"HTTP/1.1 {status} X\r\n\r\n".encode()
        wire.tcp(at, *up, SYN, isn)
        wire.tcp(at + MS, *down, SYN | ACK, 9000, isn + 1)
        wire.tcp(at + 2 * MS, *up, ACK, isn + 1, 9001)
        wire.tcp(at + 3 * MS, *up, ACK, isn + 1, 9001, request)
        wire.tcp(at + 7 * MS, *down, ACK, 9001, isn + 1 + len(request), head)
    store.plan("client", "web")
    store.capture("client", wire.seen_at(CLIENT))
    other = type(wire)()
    other.http(-SECOND, "203.0.113.9", 40000, WEB, 8080)  # counts, and is the first in the server's capture
    store.capture("web", other.packets + translated(wire.seen_at(service), service, 80, WEB, 8080))
    found = report()
    (entry,) = found["http"]
    assert (entry["source"]["name"], entry["destination"]["name"], entry["destination"]["port"]) == (
        "demo/client",
        "demo/web",
        80,
    )
    assert (entry["requests"], entry["answered"], entry["unanswered"]) == (3, 3, 0)
    assert (entry["statuses"], entry["methods"], entry["versions"]) == ({"200": 2, "404": 1}, {"GET": 3}, {"1.1": 3})
    assert entry["first_byte_ms"]["p50"] == 4.0
    assert (found["tls"], found["rest"]) == ([], {})


def test_pairs_beyond_the_most_are_summed_in_rest(
    wire: Any, store: Any, report: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(5):
        wire.http(number * MS, CLIENT, 40000 + number, f"203.0.113.{number}", isn=number)
    wire.refused(0, CLIENT, 41000, "203.0.113.9", 81)
    monkeypatch.setattr(pairs, "MOST", 2)
    store.plan("client")
    store.capture("client", wire.seen_at(CLIENT))
    found = report()
    assert groups_module.MOST == 10_000
    assert [pair["destination"]["name"] for pair in found["pairs"]] == ["203.0.113.0", "203.0.113.9"]
    rest = found["rest"]["pairs"]
    assert (rest["pairs"], rest["connections"]["succeeded"], rest["packets"]) == (4, 4, 32)
    assert np.isclose(rest["rtt_ms"]["p50"], 2.0)
