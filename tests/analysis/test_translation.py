"""One connection under two addresses: through services, masqueraded by nodes, or both, and what is not one."""

import tracemalloc
from dataclasses import replace
from typing import Any

import pandas as pd
import pytest

from analysis import counting
from analysis.names import Names
from analysis.pairs import ORIGIN, RESPONDER

CLIENT, API, WEB, SERVICE, NODE = "10.244.0.2", "10.244.1.3", "10.244.1.4", "10.96.0.80", "172.18.0.2"
SECOND, MS = 1_000_000_000, 1_000_000


def attempts(report: dict[str, Any]) -> dict[tuple[str, str, int], int]:
    return {
        (pair["source"]["name"], pair["destination"]["name"], pair["destination"]["port"]): pair["connections"]["total"]
        for pair in report["pairs"]
    }


def test_the_plan_says_what_a_record_s_target_does_not(wire: Any, store: Any, report: Any) -> None:
    wire.http(0, CLIENT, 40000, API)
    store.plan("client", "api")
    store.capture("client", wire.seen_at(CLIENT))
    store.capture("api", [replace(packet, time=packet.time + MS) for packet in wire.seen_at(API)])
    found = report()
    assert {target["pod"]: target["addresses"] for target in found["targets"]} == {"api": [API], "client": [CLIENT]}
    assert attempts(found) == {("demo/client", "demo/api", 80): 1}
    assert found["pairs"][0]["rtt_ms"]["n"] == 1


def test_masqueraded_connections_count_once_and_as_their_clients(
    wire: Any, store: Any, report: Any, masqueraded: Any
) -> None:
    for port in (40000, 40001):
        wire.http(0, CLIENT, port, WEB, 8080, isn=port)
    wire.refused(SECOND, CLIENT, 40002, WEB, 8081)
    wire.silent(SECOND, CLIENT, 40003, WEB, 8082)
    store.plan("client", "web")
    store.capture("client", wire.packets)
    store.capture("web", masqueraded(wire.packets, CLIENT, NODE))
    found = report()
    assert attempts(found) == {("demo/client", "demo/web", port): n for port, n in ((8080, 2), (8081, 1), (8082, 1))}
    problems = [finding["text"] for finding in found["findings"]]
    assert len(problems) == 2
    assert "1 of 1 attempt timed out, though 1 arrived there" in problems[1]
    assert [(entry["client_seen_as"]["name"], entry["connections"]) for entry in found["translations"]] == [
        ("node-1", 2),
        ("node-1", 1),
        ("node-1", 1),
    ]
    assert found["translations"][0]["client_view"] == found["translations"][0]["server_view"]


def test_masqueraded_on_the_way_through_a_service(
    wire: Any, store: Any, report: Any, translated: Any, masqueraded: Any
) -> None:
    wire.http(0, CLIENT, 40000, SERVICE, isn=5)
    wire.http(0, CLIENT, 40001, SERVICE, isn=6)
    store.plan("client", "web")
    store.capture("client", wire.packets)
    store.capture("web", masqueraded(translated(wire.packets, SERVICE, 80, WEB, 8080), CLIENT, NODE))
    found = report()
    assert attempts(found) == {("demo/client", "demo/web", 80): 2}
    (entry,) = found["translations"]
    assert (entry["service"], entry["client"]["name"], entry["client_seen_as"]["name"]) == (
        "demo/web",
        "demo/client",
        "node-1",
    )
    assert (entry["server_view"]["port"], entry["connections"]) == (8080, 2)


@pytest.mark.parametrize("difference", ["time", "answer", "port", "two of them", "two, one unanswered"])
def test_the_same_number_alone_is_no_translation(
    wire: Any, store: Any, report: Any, masqueraded: Any, difference: str
) -> None:
    wire.http(0, CLIENT, 40000, WEB, 8080)
    other = type(wire)()
    other.http(9 * SECOND if difference == "time" else 0, CLIENT, 40000, WEB, 8081 if difference == "port" else 8080)
    if difference == "answer":  # another initial sequence number of the server
        other.packets[1] = replace(other.packets[1], head=b"\1" + other.packets[1].head[1:])
    seen = masqueraded(other.packets, CLIENT, NODE)
    if difference.startswith("two"):
        seen += masqueraded(other.packets[: None if difference == "two of them" else 1], CLIENT, "172.18.0.3")
    store.plan("client", "web")
    store.capture("client", wire.packets)
    store.capture("web", seen)
    found = report()
    assert sum(attempts(found).values()) == (3 if difference.startswith("two") else 2)
    assert found["translations"] == []


PLAN = {"services": [{"namespace": "demo", "name": "web", "addresses": [SERVICE], "endpoints": [{"address": WEB}]}]}


def ends(vantage: int, src: str, dst: str, isn: Any, resp_isn: Any, proto: str = "tcp", count: int = 1) -> pd.DataFrame:
    """Make what one end's capture has of a scanner's connections, all from one port, to as many ports."""
    table = pd.DataFrame({"isn": isn, "resp_isn": resp_isn, "dst_port": range(1, count + 1)})
    table["community_id"] = [f"{vantage} {port}" for port in table["dst_port"]]
    same = {"scope": "", "proto": proto, "src_port": 61000, "start": 0, "duration_s": 1.0}
    return table.assign(**same, src=src, dst=dst, vantage=vantage, capture_number=vantage)


@pytest.mark.parametrize("how", ["numbers", "one number", "udp", "no numbers there", "masqueraded", "some answers"])
def test_a_scanner_from_one_port_is_not_multiplied(how: str) -> None:
    count = 1000
    some, node = range(count), NODE if how in {"masqueraded", "some answers"} else CLIENT
    isn = {"numbers": some, "no numbers there": some, "udp": -1}.get(how, 7)
    here = {"proto": "udp" if how == "udp" else "tcp", "count": count}
    answers = [*some] if node == NODE else -1
    client = ends(ORIGIN, CLIENT, WEB if node == NODE else SERVICE, isn, answers, **here)
    server = ends(RESPONDER, node, WEB, -1 if how == "no numbers there" else isn, answers, **here)
    if how == "some answers":
        client.loc[0, "resp_isn"] = server.loc[count - 1, "resp_isn"] = -1
    every = counting.identities([client, server])
    tracemalloc.start()
    try:
        counts, _, translations = counting.counted(every, Names(PLAN, []))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 5000 * count
    assert counts.tolist() == [True] * count + [False] * count
    assert len(translations) == count


def test_what_is_sure_comes_first() -> None:
    """A client's view without a number may be any; the one with the server's number is it."""
    client = ends(ORIGIN, CLIENT, SERVICE, [-1, 5], -1, count=2)
    server = ends(RESPONDER, CLIENT, WEB, [5, -1], -1, count=2)
    other = ends(RESPONDER, CLIENT, API, [6, -1], -1, count=2).assign(capture_number=2)  # no backend
    other["community_id"] += " other"
    counts, _, translations = counting.counted(counting.identities([client, server, other]), Names(PLAN, []))
    assert dict(zip(translations["index_server"], translations["index"], strict=True)) == {2: 1, 3: 0}
    assert counts.tolist() == [True, True, False, False, True, True]


def test_a_view_is_no_translation_of_the_same_destination() -> None:
    """A scanner with one number: its first destination needs no translation to be its second one."""
    client = ends(ORIGIN, CLIENT, WEB, 7, -1, count=2)
    server = ends(RESPONDER, CLIENT, WEB, 7, -1, count=2)
    _, _, translations = counting.counted(counting.identities([client, server]), Names({}, []))
    assert dict(zip(translations["index_server"], translations["index"], strict=True)) == {2: 1, 3: 0}
