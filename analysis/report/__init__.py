"""report.html: one page that opens anywhere, without scripts or anything to fetch, and stays small."""

import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from ipaddress import ip_address
from itertools import groupby
from operator import itemgetter
from typing import Any

import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined

from analysis.pairs import FAILURES
from analysis.report import charts
from analysis.timestamps import NANOSECONDS, nanoseconds

SHOWN = 50  # rows of a table; the rest is in report.json, and the page says how many those are
BESIDE = 15  # rows of what is not the point: UDP, SCTP and ICMP
LISTED = 2  # findings of one kind that are open; the rest of them unfolds
UNITS = ("B", "KiB", "MiB", "GiB", "TiB")
SEVERITIES = ("error", "warning")
Entry = Mapping[str, Any]


def html(report: Entry, connections: pd.DataFrame, reported: str | None) -> str:
    """Draw the page.

    Args:
        report: report.json's content.
        connections: those that count, once each, with `source` and `destination` (`analysis.summary.summarise`).
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
    pairs = sorted(report["pairs"], key=_worst_first)
    beside = [pair for pair in pairs if pair["protocol"] != "tcp"]
    other = [pair for pair in beside if not _is_between_neighbours(pair)]
    return environment.get_template("page.html").render(
        report=report,
        campaign=report["campaign"],
        shown=SHOWN,
        listed=LISTED,
        beside=BESIDE,
        totals=totals(report),
        findings=[(code, list(group)) for code, group in groupby(report["findings"], key=itemgetter("code"))],
        severities=Counter(finding["severity"] for finding in report["findings"]),
        tcp=[pair for pair in pairs if pair["protocol"] == "tcp"],
        other=sorted(other, key=lambda each: -each["packets"]),
        neighbours=len(beside) - len(other),
        applications={
            "dns": sorted(report["dns"], key=lambda entry: -_errors(entry) - entry["unanswered"]),
            "tls": sorted(report["tls"], key=lambda entry: -entry["alerted"] - entry["unanswered"]),
            "http": sorted(report["http"], key=lambda entry: -sum(failed(entry).values()) - entry["unanswered"]),
        },
        failed=failed,
        skipped=skipped(report["captures"]),
        matrix=charts.matrix(connections),
        timeline=charts.timeline(connections, report["captures"]),
        strips=charts.strips(connections),
        talkers=charts.talkers(connections),
        phases=_phases(report, reported),
    )


def _is_between_neighbours(pair: Entry) -> bool:
    """Say whether a pair is ICMP that no router forwards: discovery of neighbours, routers and groups."""
    ends = [ip_address(pair[end]["address"]) for end in ("source", "destination")]
    return pair["protocol"] == "icmp" and any(end.is_link_local or end.is_multicast for end in ends)


def totals(report: Entry) -> dict[str, Any]:
    """Add up what the first screen says."""
    counts = _sum("pairs", "connections", report)
    dns = _sum("dns", None, report)
    failures = sum(counts[failure] for failure in FAILURES)
    decided = counts["succeeded"] + failures
    errors = dns["answered"] - dns["NOERROR"] - dns["search_steps"]
    return {
        **{key: counts[key] for key in ("attempts", "succeeded", "undecided")},
        "failed": failures,
        "rate": counts["succeeded"] / decided if decided else None,
        "captured": sum(target["outcome"] in {"captured", "no_traffic"} for target in report["targets"]),
        "captures": sum("tool" not in capture for capture in report["captures"]),
        "packets": sum(capture["packets"] for capture in report["captures"]),
        "bytes": sum(capture["bytes"] for capture in report["captures"]),
        "names": dns["lookups"] - dns["search_steps"],
        "found": dns["NOERROR"],
        "dns_errors": errors,
        "unanswered": dns["unanswered"],
    }


def _sum(table: str, part: str | None, report: Entry) -> Counter[str]:
    """Add up whole numbers of a table of report.json and of what it leaves to `rest`."""
    counts: Counter[str] = Counter()
    for entry in [*report[table], *filter(None, [report["rest"].get(table)])]:
        numbers = entry[part] if part else {**entry, **entry["rcodes"]}
        counts.update({key: value for key, value in numbers.items() if isinstance(value, int)})
    return counts


def failed(entry: Entry) -> dict[str, int]:
    """Give the statuses of a pair's HTTP that are errors: 5xx, and gRPC's other than 0."""
    errors = {status: count for status, count in entry["statuses"].items() if status >= "5"}
    return errors | {f"gRPC {code}": count for code, count in entry["grpc_statuses"].items() if code != "0"}


def skipped(captures: Sequence[Entry]) -> list[tuple[str, int, int]]:
    """Give why packets are in no connection: the reason, how many packets, in how many captures; the most first."""
    packets: Counter[str] = Counter()
    places: Counter[str] = Counter()
    for capture in captures:
        packets.update(capture["skipped"])
        places.update(capture["skipped"].keys())
    return [(reason, count, places[reason]) for reason, count in packets.most_common()]


def _errors(entry: Entry) -> int:
    return int(entry["answered"] - entry["rcodes"].get("NOERROR", 0) - entry["search_steps"])


def _worst_first(pair: Entry) -> tuple[Any, ...]:
    connections = pair["connections"]
    failures = sum(connections.get(failure, 0) for failure in FAILURES)
    return (-failures, -connections["total"], pair["source"]["name"], pair["destination"]["name"])


def _phases(report: Entry, reported: str | None) -> list[tuple[str, float]]:
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
