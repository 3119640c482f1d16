"""report.json: what a campaign's captures say together. The same captures give the same report."""

import sys
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import pandas as pd

from analysis import pairs, tshark
from analysis.captures import Capture, Found
from analysis.findings import findings
from analysis.iperf import results
from analysis.names import Names
from analysis.outcomes import CAPTURED, worst
from analysis.timestamps import NANOSECONDS, nanoseconds, rfc3339
from analysis.views import View, described, view

SCHEMA = "snoopy.report/v1"
MARGIN = NANOSECONDS  # nodes' clocks differ, and what begins as a capture ends may arrive after it


def summarise(found: Found, views: Sequence[View]) -> tuple[dict[str, Any], pd.DataFrame]:
    """Give report.json (docs: `snoopy.report/v1`) and the connections that count, once each.

    Raises:
        CaptureError: tshark is not installed.

    """
    records = [capture.record for capture in found.captures if capture.record]
    names = Names(found.plan, [record["target"] for record in records])
    seen = views or [view(0, Capture("", Path(), ()))]
    every = pd.concat([each.connections for each in seen], ignore_index=True)
    captures = [described(each) for each in views]
    every["responder_captured"] = _responder_captured(every, views, captures)
    rows, translations = pairs.counted(every, names)
    lookups = pd.concat([each.lookups for each in seen], ignore_index=True)
    lookups = lookups[pairs.best_view(lookups, ["scope", "client", "client_port", "id", "name", "type"])]
    report: dict[str, Any] = {
        "schema": SCHEMA,
        "campaign": _campaign(found, views, records),
        "targets": _targets(found.plan, records),
        "left_out": sorted(found.plan.get("left_out", ()), key=lambda pod: (pod["namespace"], pod["pod"])),
        "captures": captures,
        "pairs": pairs.pairs(rows, names),
        "translations": pairs.described_translations(translations, names),
        "dns": _dns(lookups, names),
        "iperf": [entry for capture in found.captures if capture.is_iperf for entry in results(capture, names)],
    }
    report["findings"] = findings(report, rows, lookups, names)
    report["phases"] = _phases(found.plan, records)
    return report, rows


def versions() -> dict[str, str]:
    """Give the versions of what the numbers come from.

    Raises:
        CaptureError: tshark is not installed.

    """
    try:
        ours = version("snoopy-campaigns")
    except PackageNotFoundError:
        ours = "unknown"
    libraries = {name: version(name) for name in ("pandas", "pyarrow", "pyshark")}
    return {"snoopy": ours, "tshark": tshark.version(), "python": sys.version.split()[0], **libraries}


def _campaign(found: Found, views: Sequence[View], records: Sequence[dict[str, Any]]) -> dict[str, Any]:
    plan = found.plan
    first = [each.packets.first for each in views if each.packets.first is not None]
    last = [each.packets.last for each in views if each.packets.last is not None]
    ends = [nanoseconds(record["ended"]) for record in records if record.get("ended")]
    started = nanoseconds(plan["submitted"]) if plan else min(first, default=None)
    ended = max([*ends, *last], default=None)
    about = {"name": plan["campaign"], "namespace": plan["namespace"], "input": plan["input"]} if plan else {}
    return {
        **about,
        "started": None if started is None else rfc3339(started),
        "ended": None if ended is None else rfc3339(ended),
        "versions": versions(),
    }


def _targets(plan: dict[str, Any], records: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Give the planned targets, and those that only their records name, with the worst of their captures' outcomes."""
    targets = {target["uid"]: target for target in [*(r["target"] for r in records), *plan.get("targets", ())]}
    entries = []
    for target in sorted(targets.values(), key=lambda t: (t["namespace"], t["pod"], t["uid"])):
        outcome, reason = worst(record for record in records if record["target"]["uid"] == target["uid"])
        about = {key: target.get(key, "") for key in ("namespace", "pod", "uid", "node")}
        entries.append({**about, "addresses": target.get("addresses", []), "outcome": outcome, "reason": reason})
    return entries


def _responder_captured(rows: pd.DataFrame, views: Sequence[View], captures: Sequence[dict[str, Any]]) -> list[bool]:
    """Say for each connection whether its responder was captured, whole, when it began: would it have been seen?"""
    windows: dict[str, list[tuple[int, int]]] = {}
    for each, entry in zip(views, captures, strict=True):
        record = each.capture.record
        if _is_whole(record, entry) and not each.capture.is_loopback:
            window = (nanoseconds(record["listening"]) + MARGIN, nanoseconds(record["ended"]) - MARGIN)
            for address in each.capture.target.get("addresses", ()):
                windows.setdefault(address, []).append(window)
    return [
        any(begin <= start <= end for begin, end in windows.get(address, ()))
        for address, start in zip(rows["dst"], rows["start"], strict=True)
    ]


def _is_whole(record: dict[str, Any], entry: dict[str, Any]) -> bool:
    """Say whether a capture has every packet of its time, and all of them could be read."""
    is_kept = record.get("kernel_dropped") == 0 and record.get("interface_dropped") in {0, None}
    is_read = not ({"problems", "truncated_at"} & set(entry))
    ran = record.get("outcome") in CAPTURED and bool(record.get("listening") and record.get("ended"))
    return is_kept and is_read and ran


def _dns(lookups: pd.DataFrame, names: Names) -> list[dict[str, Any]]:
    by_pair = pairs.groups(pairs.named(lookups, "client", "server", names), "source", "destination", "server_port")
    return [
        {
            "source": source.json(),
            "destination": destination.json(int(port)),
            "lookups": len(group),
            "questions": int(group["tries"].sum()),
            "answered": int((group["rcode"] != "").sum()),
            "unanswered": int(((group["rcode"] == "") & ~group["undecided"]).sum()),
            "undecided": int(group["undecided"].sum()),
            "search_steps": int(group["search_step"].sum()),
            "rcodes": {
                str(k): int(n) for k, n in sorted(group.loc[group["rcode"] != "", "rcode"].value_counts().items())
            },
            "latency_ms": pairs.percentiles(group["latency_ms"]),
        }
        for (source, destination, port), group in by_pair
    ]


def _phases(plan: dict[str, Any], records: Sequence[dict[str, Any]]) -> dict[str, float]:
    """Give how long it took until all listened, and from then on until all ended; absent where records do not say."""
    listening = [nanoseconds(record["listening"]) for record in records if record.get("listening")]
    ends = [nanoseconds(record["ended"]) for record in records if record.get("ended")]
    phases = {}
    if plan and listening:
        phases["submit_to_listening_s"] = (max(listening) - nanoseconds(plan["submitted"])) / NANOSECONDS
    if listening and ends:
        phases["capture_s"] = (max(ends) - max(listening)) / NANOSECONDS
    return {name: round(value, 3) for name, value in phases.items()}
