"""Findings about the capturing itself: targets, captures, dropped and skipped packets, one direction only, iperf3."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from analysis.findings.kinds import EVIDENCE, Finding, finding, listed, many, tallied
from analysis.places import Places
from analysis.thresholds import Thresholds

Table = Sequence[Mapping[str, Any]]
#: The limit of a campaign that says nothing else, steps.campaign_input's: to reach that is no wish.
PACKETS = 1_000_000
OUTCOMES = {
    "missing": ("target_missing", "was not captured"),
    "capture_failed": ("capture_failed", "was not captured to the end"),
    "upload_failed": ("upload_failed", "was captured, but not all of it was stored"),
    "pod_deleted": ("pod_deleted", "was deleted while it was captured: what it had until then is here"),
    "no_traffic": ("no_traffic", "had no traffic that the capture's filter lets through"),
}


def findings(
    report: Mapping[str, Any], connections: pd.DataFrame, places: Places, thresholds: Thresholds
) -> Iterator[Finding]:
    """Find what keeps the captures from telling all: the numbers of report.json, and the connections that count."""
    yield from _of_targets(report["targets"], report["left_out"], report["campaign"].get("input", {}).get("packets"))
    yield from _of_captures(report["captures"], thresholds)
    yield from _one_way(report["captures"], connections, places, thresholds)
    for run in report["iperf"]:
        if "error" in run:
            yield finding("iperf_failed", f"{run['target']}: iperf3: {run['error']}.")


def _of_targets(targets: Table, left_out: Table, packets: int | None) -> Iterator[Finding]:
    as_asked = f"it reached its limit of {packets} packets" if packets != PACKETS else ""
    for target in targets:
        name = f"{target['namespace']}/{target['pod']}"
        if target["outcome"] in OUTCOMES:
            code, what = OUTCOMES[target["outcome"]]
            yield finding(code, f"{name} {what}{': ' + target['reason'] if target.get('reason') else ''}.")
        elif target.get("reason") not in {None, "", as_asked}:
            yield finding("capture_shortened", f"{name} was not captured for the whole time: {target['reason']}.")
    for pod in left_out:
        yield finding("left_out", f"{pod['namespace']}/{pod['pod']} was chosen and left out: {pod['reason']}.")


def _of_captures(captures: Table, thresholds: Thresholds) -> Iterator[Finding]:
    for capture in captures:
        name = _name(capture)
        if dropped := capture.get("kernel_dropped"):
            yield finding(
                "kernel_dropped",
                f"{name}: the kernel dropped {dropped} of {dropped + capture['packets']} packets before they were "
                "captured, so what looks lost may not be: capture with a filter, a smaller snaplen or a larger buffer.",
            )
        for cut in capture.get("truncated_at", ()):
            text = (
                f"{cut['file']} ends in the middle of a packet: {many(cut['frame'], 'packet')} before it can be read."
            )
            yield finding("capture_truncated", text, [cut] if cut["frame"] else [])
        for problem in capture.get("problems", ()):
            yield finding("capture_unreadable", f"{problem}.")
        if passed_over := capture.get("passed_over"):
            text = f"{name}: {many(passed_over, 'packet')} with DNS, TLS or HTTP came after as many as are dissected"
            yield finding("packets_passed_over", f"{text}: capture for a shorter time, or with a filter.")
        skipped, packets = sum(capture["skipped"].values()), capture["packets"]
        if skipped * 100 > thresholds.skipped_percent * packets:
            text = (
                f"{name}: {skipped} of {many(packets, 'packet')} {'is' if packets == 1 else 'are'} in no connection: "
                f"{tallied(capture['skipped'])}"
            )
            yield finding("packets_skipped", f"{text}.")


def _one_way(captures: Table, connections: pd.DataFrame, places: Places, thresholds: Thresholds) -> Iterator[Finding]:
    """Find TCP whose data was seen, and nothing of the other side; data that is sent again is another trouble."""
    tcp = connections["proto"] == "tcp"
    packets = connections["orig_packets"] + connections["resp_packets"]
    alone = np.minimum(connections["orig_packets"], connections["resp_packets"]) == 0
    again = connections["orig_retransmitted"] + connections["resp_retransmitted"]
    data = connections["orig_payload_bytes"] + connections["resp_payload_bytes"] > 0
    odd = connections[tcp & alone & data & (packets >= thresholds.one_way_packets) & (again * 2 < packets)]
    for number in sorted(set(odd["capture_number"])):
        rows = odd[odd["capture_number"] == number]
        of = many(int(np.sum(tcp & (connections["capture_number"] == number))), "TCP connection")
        yield finding(
            "asymmetric_capture",
            f"{_name(captures[number])}: of {len(rows)} of {of}, {listed('port', sorted(set(rows['dst_port'])))}, "
            "only one direction was seen though data flows: the other one takes another way, or the filter leaves it "
            "out, so neither their outcomes nor their RTT are known here.",
            places.evidence(rows, "frame", EVIDENCE),
        )


def _name(capture: Mapping[str, Any]) -> str:
    target = capture.get("target")
    return f"{target['namespace']}/{target['pod']} ({capture['interface']})" if target else str(capture["name"])
