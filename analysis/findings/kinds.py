"""What findings there are: each kind's severity, when it is made, by which thresholds; and how one is written."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

SEVERITIES = ("error", "warning", "info")
EVIDENCE = 5  # packets named for one finding
LISTED = 5  # ports or names written out in one sentence
ENOUGH = 20  # measured times, for a 95th percentile that is not their maximum
MOST = 20  # findings of one kind; the worst are told, of the others how many they are
Finding = dict[str, Any]


class Kind(NamedTuple):
    """A finding's severity, when it is made, and the thresholds (`analysis.thresholds`) that decide."""

    severity: str
    when: str
    thresholds: tuple[str, ...] = ()


KINDS = {
    "target_missing": Kind("error", "a target left no capture record"),
    "capture_failed": Kind("error", "a target's capture ended before its time"),
    "upload_failed": Kind("error", "not all that was captured could be stored"),
    "capture_unreadable": Kind(
        "error", "a capture, or its record, cannot be read to its end or is not what was captured"
    ),
    "iperf_failed": Kind("error", "an iperf3 run measured nothing"),
    "connection_refused": Kind("error", "SYNs were answered by a reset"),
    "connection_timed_out": Kind("error", "SYNs were never answered; says when they were sent again"),
    "connection_unreachable": Kind("error", "SYNs were answered by an ICMP unreachable message"),
    "udp_unreachable": Kind("error", "UDP was answered by an ICMP unreachable message"),
    "mtu_black_hole": Kind(
        "error",
        "a segment larger than all that were acknowledged was sent again and again: large packets are lost",
        ("stuck_tries", "stuck_bytes"),
    ),
    "dns_failed": Kind("error", "lookups ended in an error; steps through a search list are none"),
    "dns_unanswered": Kind("error", "lookups had no answer"),
    "tls_alert": Kind("error", "TLS handshakes ended in an alert; close_notify and user_canceled are none"),
    "tls_unanswered": Kind("error", "a ClientHello had no answer"),
    "http_errors": Kind("error", "HTTP responses had status 5xx", ("http_error_percent",)),
    "grpc_errors": Kind("error", "gRPC calls ended in a status other than 0", ("http_error_percent",)),
    "connection_aborted": Kind("warning", "clients reset their own SYNs before an answer"),
    "connection_reset": Kind(
        "warning", "connections were reset while data flowed, before either side closed", ("reset_connections",)
    ),
    "connection_stalled": Kind("warning", "data was sent again and again and never acknowledged", ("stuck_tries",)),
    "connect_slow": Kind("warning", "connecting took long", ("connect_slow_ms",)),
    "connect_retried": Kind("warning", "connections succeeded, and not at the first SYN", ("connect_retried",)),
    "half_open": Kind("warning", "SYN-ACKs were sent again and never acknowledged", ("half_open_tries",)),
    "retransmissions": Kind(
        "warning", "packets of one direction were sent again", ("retransmission_percent", "retransmission_packets")
    ),
    "zero_window": Kind("warning", "a receiver could take no more", ("zero_window_packets", "window_full_packets")),
    "asymmetric_capture": Kind(
        "warning", "data of TCP connections was seen in one direction only", ("one_way_packets",)
    ),
    "dns_slow": Kind("warning", "lookups took long", ("dns_slow_ms",)),
    "tls_slow": Kind("warning", "TLS handshakes took long", ("tls_slow_ms",)),
    "http_slow": Kind("warning", "responses took long to begin", ("http_slow_ms",)),
    "http_unanswered": Kind("warning", "HTTP requests had no response"),
    "pod_deleted": Kind("warning", "a target was deleted while it was captured"),
    "no_traffic": Kind("warning", "a target had no traffic that its filter lets through"),
    "capture_shortened": Kind("warning", "a target was not captured for the whole time"),
    "kernel_dropped": Kind("warning", "packets were dropped before they were captured"),
    "capture_truncated": Kind("warning", "a file ends in the middle of a packet"),
    "packets_passed_over": Kind("warning", "packets with DNS, TLS or HTTP were too many to dissect them all"),
    "packets_skipped": Kind("info", "packets of a capture are in no connection", ("skipped_percent",)),
    "left_out": Kind("info", "a pod was chosen and cannot be captured"),
    "all_well": Kind("info", "nothing was found, and something worked"),
    "nothing_tried": Kind("info", "nothing was found, and nothing was tried"),
}


def finding(code: str, text: str, evidence: Iterable[Mapping[str, Any]] = ()) -> Finding:
    """Make a finding as report.json has it."""
    return {"severity": KINDS[code].severity, "code": code, "text": text, "evidence": [dict(each) for each in evidence]}


def told(code: str, weights: Any, tell: Callable[[int], Finding]) -> Iterator[Finding]:
    """Give a finding for each of the groups with the highest weights, none for those without, and one for the rest."""
    weights = np.asarray(weights, dtype=float)
    order = [int(group) for group in np.argsort(-weights, kind="stable") if weights[group] > 0]
    shown = order[:MOST] if len(order) > MOST + 1 else order
    yield from map(tell, shown)
    if rest := len(order) - len(shown):
        yield finding(
            code, f"{rest} more have less of the same ({code.replace('_', ' ')}): see the pairs in report.json."
        )


def many(count: int, thing: str) -> str:
    """Give a number and what it counts: 1 lookup, 2 lookups."""
    return f"{count} {thing}{'' if count == 1 else 's'}"


def slowness(times: pd.Series, p95: float, limit: float) -> str:
    """Say how slow: by the 95th percentile, ms, where there are enough times for one to be below it."""
    count = int(times.notna().sum())
    if count < ENOUGH:
        return f"{int((times > limit).sum())} of {count} took more than {limit:g} ms, up to {figure(times.max())} ms"
    return f"the 95th percentile of {count} is {figure(p95)} ms, more than {limit:g} ms"


def listed(thing: str, values: Sequence[Any]) -> str:
    """Give the first values after what they are: ports 80, 81 and 4 more."""
    more = f" and {len(values) - LISTED} more" if len(values) > LISTED else ""
    plural = "s" if thing and len(values) > 1 else ""
    return f"{thing}{plural} {', '.join(map(str, values[:LISTED]))}{more}".strip()


def tallied(counts: Mapping[str, int]) -> str:
    """Give how often what occurred, the most frequent first: 12 x 503, 1 x 500."""
    ordered = sorted(counts.items(), key=lambda each: -each[1])
    return listed("", [f"{count} × {name}" for name, count in ordered])  # noqa: RUF001 - that is how often


def figure(value: float) -> str:
    """Give a number with three significant digits, whole from 100 on."""
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"  # noqa: PLR2004 - where whole ones have three
