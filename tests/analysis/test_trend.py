"""A report in a few numbers: each of them is what the report's own tables add up to."""

import json
import math
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from analysis import groups
from analysis import trend as trends

CLIENT, API, WEB = "10.244.0.2", "10.244.1.3", "10.244.1.4"
MS, SECOND = 1_000_000, 1_000_000_000
TIMES = st.lists(st.integers(1, 50).map(float), max_size=120)


def campaign(wire: Any, store: Any) -> None:
    """Two servers, one of them farther away; refused and silent ones; names that exist and that do not."""
    for count in range(3):
        wire.http(count * 100 * MS, CLIENT, 41000 + count, API, 5432, rtt=2 * MS)
    wire.http(0, CLIENT, 42000, WEB, 5432, rtt=40 * MS)
    wire.refused(SECOND, CLIENT, 43000, API, 81)
    wire.silent(SECOND, CLIENT, 44000, "192.0.2.1", 443)
    wire.lookup(0, CLIENT, 50000, "api.demo.svc", 0, number=1)
    wire.lookup(0, CLIENT, 50001, "nosuch.demo.svc", 3, number=2)
    wire.lookup(0, CLIENT, 50002, "api.demo.svc", None, number=3)
    wire.quiet(20 * SECOND)
    store.plan("client", "api")
    store.capture("client", wire.seen_at(CLIENT))


def test_a_point_is_what_the_report_adds_up_to(wire: Any, store: Any, report: Any) -> None:
    campaign(wire, store)
    found = report()
    point = trends.point(found, "reports/snoopy-operator/demo-1/report.json")
    assert point["schema"] == "snoopy.trend/v1"
    assert (point["campaign"], point["namespace"]) == ("demo-1", "snoopy-operator")
    assert (point["started"], point["ended"]) == (found["campaign"]["started"], found["campaign"]["ended"])
    assert point["report"] == "reports/snoopy-operator/demo-1/report.json"
    assert point["targets"] == {"captured": 1, "missing": 1}
    connections = point["connections"]
    assert {name: connections[name] for name in ("attempts", "succeeded", "refused", "timed_out", "undecided")} == {
        "attempts": 6,
        "succeeded": 4,
        "refused": 1,
        "timed_out": 1,
        "undecided": 0,
    }
    assert connections["success_rate"] == 0.666667
    assert connections["total"] == sum(pair["connections"]["total"] for pair in found["pairs"]) == 10
    assert point["rtt_ms"] == {"n": 4, "p50": 2.0, "p95": 40.0, "p99": 40.0}
    assert point["retransmissions"]["plain"] == 2
    assert point["dns"] == {"lookups": 3, "failed": 1, "unanswered": 1}
    assert "tls" not in point
    assert "http" not in point
    assert "loss" not in point
    assert point["findings"]["error"] == {
        "connection_refused": 1,
        "connection_timed_out": 1,
        "dns_failed": 1,
        "dns_unanswered": 1,
        "target_missing": 1,
    }
    assert sum(sum(codes.values()) for codes in point["findings"].values()) == len(found["findings"])
    packets = sum(capture["packets"] for capture in found["captures"])
    assert point["packets"] == packets == len(wire.seen_at(CLIENT))


def test_the_same_report_gives_the_same_point(wire: Any, store: Any, report: Any) -> None:
    campaign(wire, store)
    first = json.dumps(trends.point(report(), "key"))
    assert json.dumps(trends.point(report(), "key")) == first


def test_pairs_that_are_not_listed_count_too(wire: Any, store: Any, report: Any, monkeypatch: Any) -> None:
    campaign(wire, store)
    whole = trends.point(report(), "key")
    monkeypatch.setattr("analysis.pairs.MOST", 2)
    found = report()
    assert found["rest"]["pairs"]["pairs"] == 4
    part = trends.point(found, "key")
    assert part.pop("rtt_ms")["p95"] == whole.pop("rtt_ms")["p95"]
    for each in (whole, part):
        del each["findings"]
    assert part == whole


def test_without_anything_there_is_a_point_too(store: Any, report: Any) -> None:
    store.plan("client")
    store.capture("client", [])
    point = trends.point(report(), "key")
    assert point["targets"] == {"no_traffic": 1}
    assert (point["connections"], point["packets"]) == ({"total": 0}, 0)
    assert not {"rtt_ms", "dns", "retransmissions"} & set(point)


def test_what_is_undecided_or_a_step_of_a_search_is_no_failure() -> None:
    connections = {"total": 6, "attempts": 5, "succeeded": 2, "refused": 1, "undecided": 2, "success_rate": 0.666667}
    report: dict[str, Any] = {
        "campaign": {"name": "c", "namespace": "n", "started": None, "ended": None},
        "targets": [],
        "pairs": [{"connections": connections, "packets": 9, "bytes": 900, "loss": {"sent": 5, "lost": 1}}] * 2,
        "dns": [
            {"lookups": 9, "unanswered": 1, "search_steps": 3, "rcodes": {"NOERROR": 3, "NXDOMAIN": 4, "REFUSED": 1}}
        ],
        **{table: [] for table in ("tls", "http", "findings")},
        "rest": {},
    }
    point = trends.point(report, "key")
    assert point["connections"]["success_rate"] == 0.666667
    assert point["loss"] == {"sent": 10, "lost": 2}
    assert point["dns"] == {"lookups": 9, "failed": 2, "unanswered": 1}


def test_failures_of_tls_and_http_are_counted() -> None:
    report: dict[str, Any] = {
        "campaign": {"name": "c", "namespace": "n", "started": None, "ended": None},
        **{table: [] for table in ("targets", "pairs", "dns", "findings")},
        "tls": [{"handshakes": 5, "alerted": 2, "unanswered": 1, "completed": 2, "hello_ms": {"n": 4}}] * 2,
        "http": [
            {"requests": 9, "unanswered": 1, "statuses": {"200": 5, "404": 1, "503": 2}, "grpc_statuses": {}},
            {"requests": 4, "unanswered": 0, "statuses": {"200": 4}, "grpc_statuses": {"0": 1, "14": 3}},
        ],
        "rest": {},
    }
    point = trends.point(report, "key")
    assert point["tls"] == {"handshakes": 10, "failed": 4, "unanswered": 2}
    assert point["http"] == {"requests": 13, "failed": 5, "unanswered": 1}


def percentiles(times: list[float]) -> dict[str, Any]:
    """Nearest rank, as report.json has them."""
    known = sorted(times)
    ranks = {f"p{p}": known[math.ceil(p / 100 * len(known)) - 1] for p in groups.PERCENTILES if known}
    return {"n": len(known), **ranks, **({"max": known[-1]} if known else {})}


@given(TIMES)
def test_percentiles_of_one_pair_are_its_own(times: list[float]) -> None:
    own = percentiles(times)
    own.pop("max", None)
    assert trends._pooled([percentiles(times)]) == (own if times else {})


@given(st.lists(TIMES, min_size=1, max_size=6))
def test_percentiles_of_several_pairs_are_never_too_low_nor_above_all(pairs: list[list[float]]) -> None:
    every = [time for times in pairs for time in times]
    pooled = trends._pooled(percentiles(times) for times in pairs)
    if not every:
        assert pooled == {}
        return
    exact = percentiles(every)
    assert pooled["n"] == exact["n"]
    assert all(exact[name] <= pooled[name] <= exact["max"] for name in ("p50", "p95", "p99"))
    assert pooled["p50"] <= pooled["p95"] <= pooled["p99"]
