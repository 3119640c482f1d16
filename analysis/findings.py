"""Findings: what a person can act on, one sentence each, with the packets that prove it."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import pandas as pd

from analysis.names import Names
from analysis.pairs import groups, named

SEVERITIES = ("error", "warning", "info")
EVIDENCE = 5  # packets named for one finding
LISTED = 5  # ports or names written out in one sentence
ADVICE = {
    "refused": "nothing listens there, or a firewall answers with a reset",
    "timed_out": "look for a network policy or firewall that drops, a wrong address or a host that is down",
    "unreachable": "a network policy, a firewall or a router rejects it",
    "aborted": "the client gave up before any answer came",
}
Finding = dict[str, Any]
Table = Sequence[Mapping[str, Any]]


def findings(report: Mapping[str, Any], rows: pd.DataFrame, lookups: pd.DataFrame, names: Names) -> list[Finding]:
    """Give every finding, the worst first.

    Args:
        report: what report.json says of targets, left_out, captures and iperf.
        rows: the connections that count (`analysis.pairs.counted`).
        lookups: the DNS lookups that count (`analysis.dns.lookups`).
        names: names for their addresses.

    """
    found = [
        *_of_targets(report["targets"], report["left_out"]),
        *_of_captures(report["captures"]),
        *_of_iperf(report["iperf"]),
        *_of_connections(rows, names),
        *_of_dns(lookups, names),
    ]
    if all(each["severity"] == "info" for each in found):
        found.append(_all_well(rows, lookups))
    return sorted(found, key=lambda each: SEVERITIES.index(each["severity"]))


def finding(severity: str, code: str, text: str, evidence: Iterable[Mapping[str, Any]] = ()) -> Finding:
    """Make a finding as report.json has it."""
    return {"severity": severity, "code": code, "text": text, "evidence": [dict(place) for place in evidence]}


def _of_targets(targets: Table, left_out: Table) -> Iterator[Finding]:
    said = {
        "missing": ("error", "target_missing", "was not captured"),
        "capture_failed": ("error", "capture_failed", "was not captured to the end"),
        "upload_failed": ("error", "upload_failed", "was captured, but not all of it was stored"),
        "pod_deleted": ("warning", "pod_deleted", "was deleted while it was captured: what it had until then is here"),
        "no_traffic": ("warning", "no_traffic", "had no traffic that the capture's filter lets through"),
    }
    for target in targets:
        if target["outcome"] in said:
            severity, code, what = said[target["outcome"]]
            reason = f": {target['reason']}" if target.get("reason") else ""
            yield finding(severity, code, f"{target['namespace']}/{target['pod']} {what}{reason}.")
        elif target.get("reason"):
            text = f"{target['namespace']}/{target['pod']} was not captured for the whole time: {target['reason']}."
            yield finding("warning", "capture_shortened", text)
    for pod in left_out:
        name = f"{pod['namespace']}/{pod['pod']}"
        yield finding("info", "left_out", f"{name} was chosen and left out: {pod['reason']}.")


def _of_captures(captures: Table) -> Iterator[Finding]:
    for capture in captures:
        name, target = capture["name"], capture.get("target")
        if target:
            name = f"{target['namespace']}/{target['pod']} ({capture['interface']})"
        if dropped := capture.get("kernel_dropped"):
            whole = dropped + capture["packets"]
            yield finding(
                "warning",
                "kernel_dropped",
                f"{name}: the kernel dropped {dropped} of {whole} packets before they were captured, so what looks "
                "lost may not be: capture with a filter, a smaller snaplen or a larger buffer.",
            )
        for cut in capture.get("truncated_at", ()):
            text = f"{cut['file']} ends in the middle of a packet: the {cut['frame']} packets before it were read."
            yield finding("warning", "capture_truncated", text, [cut] if cut["frame"] else [])
        for problem in capture.get("problems", ()):
            yield finding("error", "capture_unreadable", f"{problem}.")


def _of_iperf(runs: Table) -> Iterator[Finding]:
    for run in runs:
        if "error" in run:
            yield finding("error", "iperf_failed", f"{run['target']}: iperf3: {run['error']}.")


def _of_connections(rows: pd.DataFrame, names: Names) -> Iterator[Finding]:
    tried = rows[rows["outcome"] != ""]
    ends = named(tried, "src", "dst", names)
    bad = ends[ends["outcome"].isin(list(ADVICE))]
    for (source, outcome), failed in groups(bad, "source", "outcome"):
        group = ends[ends["source"] == source]
        outside = sorted({party for party in failed["destination"] if party.kind == "external"})
        crowd = outside if len(outside) > LISTED else []  # a scan, or a network that is gone: one finding
        places = [(party.name, [party]) for party in sorted(set(failed["destination"]) - set(crowd))]
        for name, parties in [*places, *([(f"{len(crowd)} addresses", crowd)] if crowd else [])]:
            these = failed[failed["destination"].isin(parties)]
            tries = group["destination"].isin(parties) & group["dst_port"].isin(these["dst_port"])
            severity = "warning" if outcome == "aborted" else "error"
            text = _failure(f"{source.name} to {name}", outcome, these, int(tries.sum()))
            yield finding(severity, f"connection_{outcome}", f"{text}: {ADVICE[outcome]}.", _evidence(these))


def _failure(between: str, outcome: str, failed: pd.DataFrame, attempts: int) -> str:
    ports, count = sorted(set(failed["dst_port"])), len(failed)
    text = f"{between} {_list('port', ports)}: {count} of {_many(attempts, 'attempt')} {outcome.replace('_', ' ')}"
    if outcome == "unreachable":
        return f"{text} ({_list('ICMP code', sorted(set(failed['icmp_code'].dropna())))})"
    if outcome == "timed_out" and failed["arrived"].any():
        return f"{text}, though {int(failed['arrived'].sum())} arrived there"
    if outcome == "timed_out" and failed["responder_captured"].all():
        return f"{text}, and none arrived there"
    return text


def _of_dns(lookups: pd.DataFrame, names: Names) -> Iterator[Finding]:
    lookups = named(lookups, "client", "server", names)
    bad = lookups[~lookups["rcode"].isin(["", "NOERROR"]) & ~lookups["search_step"]]
    for (client, rcode), group in groups(bad, "source", "rcode"):
        of = _many(int((lookups["source"] == client).sum()), "DNS lookup")
        text = f"{client.name}: {len(group)} of {of} ended in {rcode}: {_asked(group)}."
        yield finding("error", "dns_failed", text, _evidence(group))
    silent = lookups[(lookups["rcode"] == "") & ~lookups["undecided"]]
    for (client, server), group in groups(silent, "source", "destination"):
        count = _many(len(group), "DNS lookup")
        text = f"{client.name}: {count} had no answer from {server.name}: {_asked(group)}."
        yield finding("error", "dns_unanswered", text, _evidence(group))


def _asked(lookups: pd.DataFrame) -> str:
    return _list("", sorted(set(lookups["name"])))


def _all_well(rows: pd.DataFrame, lookups: pd.DataFrame) -> Finding:
    succeeded = int((rows["outcome"] == "succeeded").sum())
    answered = int((lookups["rcode"] != "").sum())
    done = [_many(succeeded, "connection") + " succeeded"] if succeeded else []
    done += [_many(answered, "DNS lookup") + " answered"] if answered else []
    if not done:
        return finding("info", "nothing_tried", "No connection was opened and no name was looked up in this time.")
    return finding("info", "all_well", f"Everything that was tried worked: {' and '.join(done)}, and none failed.")


def _evidence(rows: pd.DataFrame) -> list[dict[str, Any]]:
    places = rows[["proof_file", "proof_frame"]].head(EVIDENCE)
    return [{"file": file, "frame": int(frame)} for file, frame in places.itertuples(index=False, name=None)]


def _many(count: int, thing: str) -> str:
    return f"{count} {thing}{'' if count == 1 else 's'}"


def _list(thing: str, values: Sequence[Any]) -> str:
    more = f" and {len(values) - LISTED} more" if len(values) > LISTED else ""
    plural = "s" if thing and len(values) > 1 else ""
    return f"{thing}{plural} {', '.join(map(str, values[:LISTED]))}{more}".strip()
