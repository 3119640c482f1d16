"""report.json: what a campaign's captures say together. The same captures give the same report."""

import sys
from collections.abc import Sequence
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from analysis import counting, pairs, tshark
from analysis.captures import Capture, Found
from analysis.findings import Seen, findings
from analysis.iperf import results
from analysis.names import Names
from analysis.outcomes import CAPTURED, worst
from analysis.places import Places
from analysis.thresholds import Thresholds
from analysis.timestamps import NANOSECONDS, nanoseconds, rfc3339
from analysis.views import View, described, view, written

SCHEMA = "snoopy.report/v1"
MARGIN = NANOSECONDS  # nodes' clocks differ, and what begins as a capture ends may arrive after it
LOOKUP = ["scope", "client", "client_port", "id", "name", "type"]  # one lookup, whichever address its server has
COLUMNS = [  # of the connections, all that report and findings are made from; a row of all of them takes a kilobyte
    *("capture_number", "vantage", "inside", "proto", "src", "src_port", "dst", "dst_port", "start", "duration_s"),
    *("history", "outcome", "established", "reset_by", "icmp_code", "syn_count", "syn_times_s", "synack_count"),
    *("rtt_ms", "ack_rtt_ms", "first_byte_ms", *pairs.TROUBLES.values(), "too_big", "mtu"),
    *(f"{end}_{what}" for end in ("orig", "resp") for what in ("packets", "bytes", "payload_bytes", "retransmitted")),
    *(f"{end}_{what}" for end in ("orig", "resp") for what in ("stuck_bytes", "stuck_tries", "largest_acked")),
    *("orig_data_rtt_ms", "resp_data_rtt_ms", "frame", "proof", "reset_frame", "retransmission_frame"),
    *("zero_window_frame", "window_full_frame", "stuck_frame", "too_big_frame", "unreachable_frame"),
]


def summarise(found: Found, views: Sequence[View], thresholds: Thresholds) -> tuple[dict[str, Any], pd.DataFrame]:
    """Give report.json (docs: `snoopy.report/v1`), and the connections that count with `source` and `destination`."""
    records = [capture.record for capture in found.captures if capture.record]
    names = Names(found.plan, [record["target"] for record in records])
    captures = [described(each) for each in views]
    texts = [written(capture) for capture in found.captures if capture.tool and not capture.is_iperf]
    seen, translations = _seen(views or [view(0, Capture("", Path(), ()))], captures, names)
    tables = {
        "pairs": pairs.pairs(seen.connections),
        "dns": pairs.dns(seen.lookups),
        "tls": pairs.tls(seen.handshakes),
        "http": pairs.http(seen.requests),
    }
    report: dict[str, Any] = {
        "schema": SCHEMA,
        "campaign": {**_campaign(found, views, records), "thresholds": thresholds.json()},
        "targets": _targets(found.plan, records),
        "left_out": sorted(found.plan.get("left_out", ()), key=lambda pod: (pod["namespace"], pod["pod"])),
        "captures": [*captures, *texts],
        **{name: entries for name, (entries, _) in tables.items()},
        "rest": {name: rest for name, (_, rest) in tables.items() if rest},
        "translations": counting.translated(translations, names),
        "iperf": [entry for capture in found.captures if capture.is_iperf for entry in results(capture, names)],
    }
    places = Places([(each.capture.files, each.packets.counts) for each in views])
    report["findings"] = findings(report, seen, places, thresholds)
    report["phases"] = _phases(found.plan, records)
    return report, seen.connections


def _seen(views: Sequence[View], captures: Sequence[dict[str, Any]], names: Names) -> tuple[Seen, pd.DataFrame]:
    """Give what counts of all captures, once each and with names; and the translations."""
    starts = np.cumsum([0, *(len(each.connections) for each in views)])
    counts, arrived, translations = counting.counted(counting.identities([each.connections for each in views]), names)
    parts = [
        each.connections.loc[counts[start : start + len(each.connections)], COLUMNS]
        for each, start in zip(views, starts, strict=False)
    ]
    rows = pd.concat(parts, ignore_index=True)
    del parts
    rows["arrived"] = arrived[counts]
    rows["responder_captured"] = _responder_captured(rows, views, captures)

    def of_connections(name: str) -> pd.DataFrame:
        """Keep what happened on connections that count."""
        table = pd.concat([getattr(each, name) for each in views], ignore_index=True)
        return names.named(table[counts[starts[table["capture_number"]] + table["connection"]]], "client", "server")

    lookups = pd.concat([each.lookups for each in views], ignore_index=True)
    lookups = lookups[counting.best_view(lookups, LOOKUP)]
    return Seen(
        names.named(rows, "src", "dst"),
        names.named(lookups, "client", "server"),
        of_connections("handshakes"),
        of_connections("requests"),
    ), translations


def versions() -> dict[str, str]:
    """Give the versions of what the numbers come from; of tshark none where it is not installed."""
    try:
        ours = version("snoopy-campaigns")
    except PackageNotFoundError:
        ours = "unknown"
    tools = {"snoopy": ours, "python": sys.version.split()[0]}
    with suppress(tshark.StoppedError):
        tools["tshark"] = tshark.version()
    return tools | {name: version(name) for name in ("numpy", "pandas", "pyarrow")}


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


def _responder_captured(
    rows: pd.DataFrame, views: Sequence[View], captures: Sequence[dict[str, Any]]
) -> npt.NDArray[np.bool_]:
    """Say for each connection whether its responder was captured, whole, when it began: would it have been seen?"""
    is_captured = np.zeros(len(rows), dtype=bool)
    for each, entry in zip(views, captures, strict=False):
        record = each.capture.record
        if _is_whole(record, entry) and not each.capture.is_loopback:
            begin, end = nanoseconds(record["listening"]) + MARGIN, nanoseconds(record["ended"]) - MARGIN
            there = rows["dst"].isin(each.capture.target.get("addresses", ())) & rows["start"].between(begin, end)
            is_captured |= there.to_numpy(bool)
    return is_captured


def _is_whole(record: dict[str, Any], entry: dict[str, Any]) -> bool:
    """Say whether a capture has every packet of its time, and all of them could be read."""
    is_kept = record.get("kernel_dropped") == 0 and record.get("interface_dropped") in {0, None}
    is_read = not ({"problems", "truncated_at"} & set(entry))
    ran = record.get("outcome") in CAPTURED and bool(record.get("listening") and record.get("ended"))
    return is_kept and is_read and ran


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
