"""What the command prints about plans and campaigns, as lines of text."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from steps.campaign_input import CampaignInput
from steps.plan import CaptureRecord, Plan
from workflows.progress import durations, phase, pods

MOST = 20  # findings in a terminal


def aligned(rows: Iterable[Sequence[str]]) -> list[str]:
    """Give rows of text as lines with aligned columns."""
    table = [list(row) for row in rows]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in table]


def plan_lines(plan: Plan) -> list[str]:
    """Say which pods a plan captures, and which it leaves out and why."""
    rows = [("TARGET", "NODE", "ADDRESSES", "OWNER")]
    rows += [(each.name, each.node, ",".join(each.addresses), each.owner) for each in plan.targets]
    return [*aligned(rows), *left_out_lines(plan)]


def left_out_lines(plan: Plan) -> list[str]:
    """Say which pods are left out, and why."""
    return [f"left out: {each.namespace}/{each.pod}: {each.reason}" for each in plan.left_out]


def list_lines(workflows: Iterable[Mapping[str, Any]]) -> list[str]:
    """Give a line for each Workflow."""
    rows = [("NAME", "PHASE", "CAPTURES", "SUBMITTED", "ENDED")]
    for each in workflows:
        captures = sum(1 for pod in pods(each) if pod.target)
        ended = each.get("status", {}).get("finishedAt") or ""
        meta = each["metadata"]
        rows.append((meta["name"], phase(each), str(captures), meta["creationTimestamp"], ended))
    return aligned(rows)


def campaign_lines(workflow: Mapping[str, Any], plan: Plan | None, records: Sequence[CaptureRecord]) -> list[str]:
    """Say everything that is known about one campaign; `plan` is None while there is none."""
    meta, status = workflow["metadata"], workflow.get("status", {})
    submitted = plan.submitted if plan else meta["creationTimestamp"]
    facts = [
        ("campaign", f"{meta['namespace']}/{meta['name']}"),
        ("phase", ": ".join(filter(None, (phase(workflow), status.get("message"))))),
        ("submitted", submitted),
        ("asked", chosen(plan.input) if plan else ""),
        *((name, f"{seconds:.1f} s") for name, seconds in durations(workflow, records, submitted).items()),
    ]
    rows = [("POD", "NODE", "PACKETS", "STATE")]
    for pod in pods(workflow):
        own = [record for record in records if record.target.name == pod.target]
        packets = str(sum(record.packets for record in own)) if own else ""
        rows.append((pod.name, pod.node, packets, pod.state(own)))
    left_out = left_out_lines(plan) if plan else []
    return [*aligned(fact for fact in facts if fact[1]), "", *aligned(rows), *left_out]


def chosen(asked: CampaignInput) -> str:
    """Give what a person chose, without what is as it is by default."""
    default = CampaignInput.defaults()
    return " ".join(f"{name}={value}" for name, value in asked.parameters().items() if value != default[name])


def finding_lines(report: Mapping[str, Any]) -> list[str]:
    """Say what a report found: its first findings, the worst ones."""
    found = report["findings"]
    lines = [f"{finding['severity']}: {finding['text']}" for finding in found[:MOST]]
    more = len(found) - MOST
    return [*lines, f"and {more} more findings, in the report"] if more > 0 else lines
