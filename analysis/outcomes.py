"""How a target's capture ended, by report.json's words, the worst first."""

from collections.abc import Iterable, Mapping
from typing import Any

WORST = ("missing", "upload_failed", "capture_failed", "pod_deleted", "captured", "no_traffic")
"""A target's outcome is the worst of its captures'; an interface without traffic does not hide one that has it."""
CAPTURED = frozenset({"captured", "no_traffic"})
"""The outcomes of captures that ran to their end, with all they saw stored."""


TIME_OVER = "its time was over"
"""The reason why a tool that would have gone on was ended: it ran for as long as it was asked to."""


def worst(records: Iterable[Mapping[str, Any]]) -> tuple[str, str]:
    """Give the outcome of a target, and the reason for it, from the records of its captures."""
    missing = ("missing", "it left no capture.json: its capture never began, or nothing of it was stored")
    return min(
        [_outcome(record) for record in records] or [missing], key=lambda each: (WORST.index(each[0]), not each[1])
    )


def not_captured(report: Mapping[str, Any]) -> list[str]:
    """Give a sentence for each target of report.json that was not captured to its end."""
    return [
        f"{target['namespace']}/{target['pod']}: {target['outcome']}: {target.get('reason') or 'no reason given'}"
        for target in report["targets"]
        if target["outcome"] not in CAPTURED
    ]


def _outcome(record: Mapping[str, Any]) -> tuple[str, str]:
    outcome, reason = record.get("outcome"), str(record.get("reason") or "")
    if outcome == "capturing":
        stored = "its uploaded chunks are included"
        return "capture_failed", f"it was cut off and never said how it ended; {stored}"
    if outcome not in WORST:
        return "capture_failed", f"its record has an unknown outcome, {outcome!r}"
    return outcome, "" if outcome == "captured" and reason == TIME_OVER else reason
