"""The page: it runs and fetches nothing, stays small, and draws the numbers of the report."""

import math
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from analysis.names import Names
from analysis.report import charts, ms, number, percent, size
from analysis.timestamps import rfc3339

CLIENT, API, WEB = "10.244.0.2", "10.244.1.3", "10.244.1.4"
START, SECOND, MS = 1_767_225_600_000_000_000, 1_000_000_000, 1_000_000


class _Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: list[tuple[str, str | None]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes += attrs


def test_the_page_runs_nothing_and_fetches_nothing_whatever_names_say(
    wire: Any, store: Any, report: Any, tmp_path: Path
) -> None:
    hostile = "<script>alert(1)</script><img src=x onerror=alert(2)>"
    wire.lookup(0, CLIENT, 50000, "<img src=x>.example.com", 3)
    wire.refused(0, CLIENT, 40000, API, 81)
    store.plan("client", "api", left_out=[{"namespace": "demo", "pod": hostile, "reason": hostile}])
    store.capture("client", wire.seen_at(CLIENT), reason=hostile, outcome="capture_failed")
    report()
    page = (tmp_path / "out/report.html").read_text()
    tags = _Tags()
    tags.feed(page)
    assert "svg" in tags.tags
    assert not tags.tags & {"script", "img", "link", "iframe", "object", "embed", "base", "form"}
    assert not [name for name, value in tags.attributes if name.startswith("on") or name in {"src", "href", "action"}]
    assert "url(" not in page
    assert "&lt;img src=x&gt;.example.com" in page


def test_the_page_stays_small(wire: Any, store: Any, report: Any, tmp_path: Path) -> None:
    for count in range(1500):
        wire.silent(count * MS, CLIENT, 20000 + count, f"10.1.{count // 250}.{count % 250}", 443, tries=1)
    store.plan("client")
    store.capture("client", wire.seen_at(CLIENT))
    found = report()
    assert len(found["pairs"]) == 1500
    assert found["findings"][0]["text"].startswith("demo/client to 1500 addresses port 443: 1500 of 1500")
    page = (tmp_path / "out/report.html").read_text()
    assert "1\u202f450 more pairs are in report.json" in page
    assert len(page) < 150_000


def table(*rows: dict[str, Any]) -> pd.DataFrame:
    """Make connections that count, with what these rows say of them."""
    usual = {
        "src": CLIENT,
        "dst": API,
        "dst_port": 80,
        "inside": "",
        "vantage": 0,
        "outcome": "succeeded",
        "start": START,
    }
    usual |= {"rtt_ms": 1.0, "ack_rtt_ms": 0.1, "orig_bytes": 100, "resp_bytes": 50}
    return Names({}, []).named(pd.DataFrame([usual | row for row in rows]), "src", "dst")


def test_the_matrix_has_the_worst_first_and_sums_up_the_others() -> None:
    rows = [{"src": f"10.0.0.{n}", "dst": f"10.1.0.{n % 3}"} for n in range(charts.ENDS + 4)]
    bad = [
        {"src": "10.0.0.9", "dst": "10.1.0.9", "outcome": outcome} for outcome in ("refused", "timed_out", "undecided")
    ]
    drawn = charts.matrix(table(*rows, *bad))
    assert drawn is not None
    sources, cells = zip(*drawn["rows"], strict=True)
    assert (sources[0].name, drawn["destinations"][0].name) == ("10.0.0.9", "10.1.0.9")
    assert cells[0][0] == {"good": 0, "bad": 2, "open": 1, "rate": 0.0, "step": 5}
    assert (len(sources), sources[-1]) == (charts.ENDS + 1, 4)
    assert sum(cell["good"] for line in cells for cell in line) == len(rows)
    assert {cell["step"] for line in cells for cell in line} == {0, 5, None}


@pytest.mark.parametrize(("good", "bad", "step"), [(9, 0, 0), (999, 1, 1), (95, 5, 2), (5, 5, 3), (1, 9, 4), (0, 1, 5)])
def test_a_cell_is_redder_the_fewer_succeed(good: int, bad: int, step: int) -> None:
    drawn = charts.matrix(table(*[{}] * good, *[{"outcome": "refused"}] * bad))
    assert drawn is not None
    ((_, (cell,)),) = drawn["rows"]
    assert cell["step"] == step


def test_the_timeline_has_every_attempt_once() -> None:
    rows = [
        {"start": START + n * SECOND // 7, "outcome": ("succeeded", "refused", "undecided")[n % 3]} for n in range(70)
    ]
    seen = [{"first": "2026-01-01T00:00:00Z", "last": "2026-01-01T00:00:09.9Z"}]
    drawn = charts.timeline(table(*rows, {"outcome": ""}), seen)
    assert drawn is not None
    assert [sum(column) for column in zip(*drawn["attempts"], strict=True)] == [24, 23, 23]
    assert (sum(drawn["failures"]), drawn["peak"], drawn["worst"]) == (23, 1, 1)
    assert (drawn["ticks"][0][11:19], drawn["ticks"][4][11:19]) == ("00:00:00", "00:00:09")


@pytest.mark.parametrize("first", [-(2**63), START, 2**63 - 1])
@pytest.mark.parametrize("last", [-(2**63), START + SECOND, 2**63 - 1])
def test_any_time_can_be_drawn(first: int, last: int) -> None:
    starts = [-(2**63), -1, 0, START, 2**63 - 1]
    drawn = charts.timeline(
        table(*[{"start": start} for start in starts]), [{"first": rfc3339(first), "last": rfc3339(last)}]
    )
    assert drawn is not None
    assert sum(good for good, _, _ in drawn["attempts"]) == len(starts)
    assert math.isfinite(drawn["width"])


def test_round_trips_that_are_no_number_are_not_drawn() -> None:
    longest = 2.0**63 / MS
    drawn = charts.strips(table(*[{"rtt_ms": rtt} for rtt in (math.inf, math.nan, -1.0, 0.0, 1e-6, longest)]))
    assert drawn is not None
    (pair,) = drawn["pairs"]
    assert (pair["n"], pair["p50"], pair["p95"]) == (2, 1e-6, longest)
    assert charts.strips(table({"rtt_ms": math.inf})) is None


def test_round_trips_are_shares_on_one_scale() -> None:
    drawn = charts.strips(table(*[{"rtt_ms": 1.5}] * 9, {"rtt_ms": 150.0}, {"vantage": 2, "dst_port": 81}))
    assert drawn is not None
    often, once = drawn["pairs"]
    assert (often["key"][2], often["n"], often["p50"], often["p95"]) == (80, 10, 1.5, 150.0)
    assert sorted(filter(None, often["bars"])) == [0.1, 0.9]
    assert once["p50"] == 0.1  # seen by its responder: SYN-ACK to ACK
    assert [0 <= mark <= 1 for mark in often["marks"]] == [True, True]
    assert len(often["bars"]) == charts.BARS // (len(drawn["decades"]) - 1) * (len(drawn["decades"]) - 1)


def test_talkers_are_those_who_send_and_receive_most() -> None:
    rows = [{"src": f"10.0.0.{n}", "orig_bytes": n, "resp_bytes": 0} for n in range(20)]
    drawn = charts.talkers(table(*rows, {"src": "10.0.0.99", "orig_bytes": 500, "resp_bytes": 7}))
    assert drawn is not None
    assert [(who.name, *counts) for who, *counts in drawn["shown"][:2]] == [(API, 7, 690), ("10.0.0.99", 500, 7)]
    shown = sum(sent for _, sent, _ in drawn["shown"]) + sum(received for *_, received in drawn["shown"])
    assert (drawn["more"], drawn["others"] + shown) == (22 - charts.TALKERS, 2 * (690 + 7))


def test_without_attempts_nothing_is_drawn() -> None:
    nothing = table({"outcome": "", "rtt_ms": float("nan")}).iloc[:0]
    seen: list[dict[str, Any]] = []
    assert charts.timeline(table({}), seen) is None
    assert [
        charts.matrix(nothing),
        charts.timeline(nothing, seen),
        charts.strips(nothing),
        charts.talkers(nothing),
    ] == [None] * 4


def test_every_drawing_has_a_name_and_the_page_all_parts(wire: Any, store: Any, report: Any, tmp_path: Path) -> None:
    wire.http(0, CLIENT, 40000, API)
    wire.silent(0, CLIENT, 40001, WEB, 81)
    wire.lookup(SECOND, CLIENT, 50000, "api.demo.svc.cluster.local")
    store.plan("client")
    store.capture("client", wire.seen_at(CLIENT))
    report()
    page = (tmp_path / "out/report.html").read_text()
    assert page.count("<svg") == len(re.findall(r'<svg [^>]*role="img" aria-label="[^"]+"', page))
    headings = re.findall(r"<h2>([^<]+?) *(?:<small|</h2>)", page)
    assert headings[:5] == ["Findings", "Who reaches whom", "Attempts over time", "Round trips", "Top talkers"]
    assert {"Who connects to whom", "DNS", "Targets", "Captures"} <= set(headings)
    assert "prefers-color-scheme:dark" in page
    assert "@media print" in page


@pytest.mark.parametrize(
    ("made", "text"),
    [
        (number(1234567), "1\u202f234\u202f567"),
        (size(1023), "1023\u202fB"),
        (size(1536), "1.5\u202fKiB"),
        (percent(1), "100%"),
        (percent(0.99999), "99.9%"),
        (percent(0.00001), "0.1%"),
        (ms(123.456), "123"),
        (ms(0.012345), "0.0123"),
    ],
)
def test_numbers_are_written_for_people(made: str, text: str) -> None:
    assert made == text
