"""Findings: what a person can act on, one sentence each, with the packets that prove it."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from analysis.findings import applications, attempts, capturing, transport
from analysis.findings.kinds import SEVERITIES, Finding, finding, many
from analysis.places import Places
from analysis.thresholds import Thresholds


@dataclass(frozen=True)
class Seen:
    """What counts, once each, with `source` and `destination`: what findings are made from.

    `connections`, `lookups`, `handshakes` (TLS) and `requests` (HTTP) are as their modules make them.
    """

    connections: pd.DataFrame
    lookups: pd.DataFrame
    handshakes: pd.DataFrame
    requests: pd.DataFrame


def findings(report: Mapping[str, Any], seen: Seen, places: Places, thresholds: Thresholds) -> list[Finding]:
    """Give every finding, the worst first.

    Args:
        report: what report.json says of targets, left_out, captures and iperf.
        seen: the tables.
        places: where the packets are that prove it.
        thresholds: from what on something is a finding.

    """
    found = [
        *capturing.findings(report, seen.connections, places, thresholds),
        *attempts.findings(seen.connections, places, thresholds),
        *transport.findings(seen.connections, places, thresholds),
        *applications.of_dns(seen.lookups, places, thresholds),
        *applications.of_tls(seen.handshakes, places, thresholds),
        *applications.of_http(seen.requests, places, thresholds),
    ]
    if all(each["severity"] == "info" for each in found):
        found.append(_all_well(seen, {each["tool"] for each in report["captures"] if "tool" in each}))
    return sorted(found, key=lambda each: SEVERITIES.index(each["severity"]))


def _all_well(seen: Seen, tools: Collection[str]) -> Finding:
    counts = {
        "{} succeeded": ("connection", (seen.connections["outcome"] == "succeeded").sum()),
        "{} answered": ("DNS lookup", (seen.lookups["rcode"] != "").sum()),
        "{} completed": ("TLS handshake", (seen.handshakes["outcome"] == "completed").sum()),
        "{} answered ": ("HTTP request", (seen.requests["outcome"] == "answered").sum()),
    }
    done = [said.strip().format(many(int(count), thing)) for said, (thing, count) in counts.items() if count]
    if not done and tools and seen.connections.empty:
        return finding(
            "nothing_tried", f"What {' and '.join(sorted(tools))} wrote is below; no connection was captured."
        )
    if not done:
        return finding("nothing_tried", "No TCP connection was opened and no name was looked up in this time.")
    said = " and ".join(filter(None, [", ".join(done[:-1]), done[-1]]))
    return finding("all_well", f"Everything that was tried worked: {said}, and none failed.")
