"""report.html: one page that opens anywhere, without scripts or anything to fetch."""

import shlex
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined

from analysis.pairs import FAILURES
from analysis.timestamps import NANOSECONDS, nanoseconds, rfc3339

SHOWN = 100  # rows of a table; the rest is in report.json, and the page says how many those are
BINS = 72  # of the timeline
UNITS = ("B", "KiB", "MiB", "GiB", "TiB")


def html(report: Mapping[str, Any], connections: pd.DataFrame, reported: str | None) -> str:
    """Draw the page.

    Args:
        report: report.json's content.
        connections: those that count, once each: columns start (ns) and outcome, for the timeline.
        reported: when the report was made, RFC 3339, or None where that means nothing.

    """
    environment = Environment(
        loader=PackageLoader("analysis", "report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"number": number, "size": size, "percent": percent, "ms": ms, "clock": clock}
    environment.filters["shell"] = shlex.quote
    page = environment.get_template("page.html")
    pairs = sorted(report["pairs"], key=_worst_first)
    return page.render(
        report=report,
        shown=SHOWN,
        totals=totals(report),
        tcp=[pair for pair in pairs if pair["protocol"] == "tcp"],
        other=[pair for pair in pairs if pair["protocol"] != "tcp"],
        severities=Counter(finding["severity"] for finding in report["findings"]),
        timeline=timeline(connections, report["captures"]),
        phases=_phases(report, reported),
    )


def totals(report: Mapping[str, Any]) -> dict[str, Any]:
    """Add up what the first screen says."""
    counts: Counter[str] = Counter()
    for pair in report["pairs"]:
        counts.update({key: n for key, n in pair["connections"].items() if key != "success_rate"})
    failed = sum(counts[failure] for failure in FAILURES)
    decided = counts["succeeded"] + failed
    dns: Counter[str] = Counter()
    for entry in report["dns"]:
        errors = sum(count for rcode, count in entry["rcodes"].items() if rcode != "NOERROR")
        dns["names"] += entry["lookups"] - entry["search_steps"]
        dns["found"] += entry["rcodes"].get("NOERROR", 0)
        dns["errors"] += errors - entry["search_steps"]
        dns["unanswered"] += entry["unanswered"]
    return {
        **{key: counts[key] for key in ("attempts", "succeeded", "undecided")},
        "failed": failed,
        "rate": counts["succeeded"] / decided if decided else None,
        "captured": sum(target["outcome"] in {"captured", "no_traffic"} for target in report["targets"]),
        "packets": sum(capture["packets"] for capture in report["captures"]),
        "bytes": sum(capture["bytes"] for capture in report["captures"]),
        "names": dns["names"],
        "found": dns["found"],
        "dns_errors": dns["errors"],
        "unanswered": dns["unanswered"],
    }


def timeline(connections: pd.DataFrame, captures: Iterable[Mapping[str, Any]]) -> dict[str, Any] | None:
    """Count attempts by outcome, in BINS equal parts of the time in which packets were seen; None without attempts."""
    tried = connections[connections["outcome"] != ""]
    if tried.empty:
        return None
    seen = [nanoseconds(capture[end]) for capture in captures for end in ("first", "last") if capture[end]]
    first, last = min(seen), max(seen)
    width = max(last - first, NANOSECONDS) / BINS
    bins = np.minimum(((tried["start"] - first) // width).to_numpy(np.int64), BINS - 1)
    kinds = np.select([tried["outcome"] == "succeeded", tried["outcome"] == "undecided"], ["good", "open"], "bad")
    counts = [np.bincount(bins[kinds == kind], minlength=BINS).tolist() for kind in ("good", "bad", "open")]
    bars = list(zip(*counts, strict=True))
    return {
        "bars": bars,
        "peak": max(map(sum, bars)),
        "first": rfc3339(first),
        "last": rfc3339(int(first + width * BINS)),
        "width": width / NANOSECONDS,
    }


def _worst_first(pair: Mapping[str, Any]) -> tuple[Any, ...]:
    connections = pair["connections"]
    failed = sum(connections.get(failure, 0) for failure in FAILURES)
    return (-failed, -connections["total"], pair["source"]["name"], pair["destination"]["name"])


def _phases(report: Mapping[str, Any], reported: str | None) -> list[tuple[str, float]]:
    said = {
        "submit_to_listening_s": "from submitting until every target listened",
        "capture_s": "from then on until the last capture ended",
    }
    phases = [(text, report["phases"][key]) for key, text in said.items() if key in report["phases"]]
    last = [nanoseconds(capture["last"]) for capture in report["captures"] if capture["last"]]
    if reported and last:
        seconds = (nanoseconds(reported) - max(last)) / NANOSECONDS
        phases.append(("from the last packet to this report", round(seconds, 3)))
    return phases


def number(value: float) -> str:
    """12345 -> 12 345, with a narrow space that does not break."""
    return f"{value:,}".replace(",", "\u202f")


def size(value: float) -> str:
    """Bytes in the largest binary unit that keeps them above one."""
    unit = 0
    while value >= 1024 and unit < len(UNITS) - 1:  # noqa: PLR2004 - a kibibyte
        value, unit = value / 1024, unit + 1
    return f"{value:.1f}\u202f{UNITS[unit]}" if unit else f"{value}\u202fB"


def percent(share: float) -> str:
    """100 % is said only of all, 0 % only of none."""
    if share in {0, 1}:
        return f"{share:.0%}"
    return f"{min(max(share, 0.001), 0.999):.1%}"


def ms(value: float) -> str:
    """Milliseconds with three significant digits."""
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"  # noqa: PLR2004 - where whole ones have three


def clock(time: str) -> str:
    """The time of day, to the millisecond, of RFC 3339 text."""
    return time[11:23]
