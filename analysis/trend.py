"""A trend: one report in a few numbers, to be compared with those of the reports before and after it."""

from collections import Counter
from collections.abc import Iterable, Mapping
from math import ceil
from typing import Any

from analysis.findings.kinds import SEVERITIES
from analysis.groups import PERCENTILES

SCHEMA = "snoopy.trend/v1"


def point(report: Mapping[str, Any], key: str) -> dict[str, Any]:
    """Give a report's point in its trend (docs: `snoopy.trend/v1`): the same for the same report.

    Args:
        report: report.json's content, of a campaign that had a plan.
        key: where report.json is in the object store.

    """
    pairs, campaign = _entries(report, "pairs"), report["campaign"]
    measured = {
        "rtt_ms": _pooled(pair["rtt_ms"] for pair in pairs if "rtt_ms" in pair),
        "retransmissions": _added(pair.get("retransmissions", {}) for pair in pairs),
        "loss": _added(pair.get("loss", {}) for pair in pairs),
        "dns": _dns(_entries(report, "dns")),
        "tls": _tls(_entries(report, "tls")),
        "http": _http(_entries(report, "http")),
    }
    return {
        "schema": SCHEMA,
        "campaign": campaign["name"],
        "namespace": campaign["namespace"],
        "started": campaign["started"],
        "ended": campaign["ended"],
        "report": key,
        "targets": _counted(target["outcome"] for target in report["targets"]),
        "connections": _connections(pairs),
        "packets": sum(pair["packets"] for pair in pairs),
        "bytes": sum(pair["bytes"] for pair in pairs),
        **{name: numbers for name, numbers in measured.items() if numbers},
        "findings": {
            severity: _counted(each["code"] for each in report["findings"] if each["severity"] == severity)
            for severity in SEVERITIES
        },
    }


def _entries(report: Mapping[str, Any], table: str) -> list[Mapping[str, Any]]:
    """Give the entries of one of the tables, and the sum of those that were too many to list."""
    rest = report["rest"].get(table)
    return [*report[table], *([rest] if rest else [])]


def _counted(words: Iterable[str]) -> dict[str, int]:
    return dict(sorted(Counter(words).items()))


def _added(parts: Iterable[Mapping[str, Any]]) -> dict[str, int]:
    """Add up what is counted under the same name; rates and times are not."""
    total: Counter[str] = Counter()
    for part in parts:
        total.update({name: number for name, number in part.items() if isinstance(number, int)})
    return dict(total)


def _connections(pairs: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    total: dict[str, Any] = {"total": 0, **_added(pair["connections"] for pair in pairs)}
    if decided := total.get("attempts", 0) - total.get("undecided", 0):
        total["success_rate"] = round(total["succeeded"] / decided, 6)
    return total


def _pooled(parts: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Give percentiles over all pairs from those of each: of one pair they are exact, of several never too low.

    Each value counts as the next percentile of its pair that is known, which is not below it.
    """
    steps: list[tuple[float, int]] = []
    for part in parts:
        ranks = [*(ceil(percent / 100 * part["n"]) for percent in PERCENTILES), part["n"]]
        names = [*(f"p{percent}" for percent in PERCENTILES), "max"]
        steps += [
            (part[name], rank - before)
            for name, rank, before in zip(names, ranks, [0, *ranks], strict=False)
            if rank > before
        ]
    steps.sort()
    n = sum(count for _, count in steps)
    if not n:
        return {}
    return {"n": n, **{f"p{percent}": _ranked(steps, ceil(percent / 100 * n)) for percent in PERCENTILES}}


def _ranked(steps: Iterable[tuple[float, int]], rank: int) -> float:
    """Give the value of a rank, from 1, of sorted values that occur so many times each."""
    reached = 0
    for value, count in steps:
        reached += count
        if reached >= rank:
            return value
    raise ValueError(rank)


def _dns(servers: list[Mapping[str, Any]]) -> dict[str, int]:
    codes = _added(each["rcodes"] for each in servers)
    total = _added(servers)
    failed = sum(count for code, count in codes.items() if code != "NOERROR") - total.get("search_steps", 0)
    return _failures(total, "lookups", failed)


def _tls(servers: list[Mapping[str, Any]]) -> dict[str, int]:
    total = _added(servers)
    return _failures(total, "handshakes", total.get("alerted", 0))


def _http(servers: list[Mapping[str, Any]]) -> dict[str, int]:
    statuses, calls = (_added(each[kind] for each in servers) for kind in ("statuses", "grpc_statuses"))
    failed = sum(count for status, count in statuses.items() if status.startswith("5"))
    failed += sum(count for status, count in calls.items() if status != "0")
    return _failures(_added(servers), "requests", failed)


def _failures(total: Mapping[str, int], what: str, failed: int) -> dict[str, int]:
    return {what: total[what], "failed": failed, "unanswered": total["unanswered"]} if what in total else {}
