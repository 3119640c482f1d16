"""What the command prints about plans and campaigns, as lines of text."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from analysis.outcomes import CAPTURED
from steps.campaign_input import CampaignInput, InvalidInputError
from steps.plan import CaptureRecord, Plan
from workflows.progress import ENDED, durations, failure, phase, pods
from workflows.schedule import Schedule

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
    meta, status, at = workflow["metadata"], workflow.get("status", {}), phase(workflow)
    submitted = plan.submitted if plan else meta["creationTimestamp"]
    facts = [
        ("campaign", f"{meta['namespace']}/{meta['name']}"),
        ("phase", ": ".join(filter(None, (at, "" if at == "Stopped" else status.get("message"))))),
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


def schedule_lines(schedules: Iterable[Mapping[str, Any]], now: datetime) -> list[str]:
    """Give a line for each CronWorkflow, and why those that cannot run cannot."""
    rows, reasons = [("NAME", "SCHEDULE", "TIMEZONE", "STATE", "LAST", "NEXT", "RUNS")], []
    for each in schedules:
        name, spec, status = each["metadata"]["name"], each["spec"], each.get("status", {})
        state, reason = _state(each)
        upcoming = _next(each, now) if state in {"active", "failing"} else ""
        runs = f"{status.get('succeeded', 0)} succeeded, {status.get('failed', 0)} failed"
        when, last = ", ".join(spec.get("schedules", ())), status.get("lastScheduledTime") or ""
        rows.append((name, when, spec.get("timezone", ""), state, last, upcoming, runs))
        reasons += [f"{name} is {state}: {reason}"] if reason else []
    return [*aligned(rows), *reasons]


def _state(schedule: Mapping[str, Any]) -> tuple[str, str]:
    """Say in a word whether a CronWorkflow runs, and if it cannot, why; Argo itself does not always say so."""
    conditions = schedule.get("status", {}).get("conditions") or ()
    wrong = {each["type"]: " ".join(each.get("message", "").split()) for each in conditions if each["status"] == "True"}
    if "SpecError" in wrong:
        return "invalid", wrong["SpecError"]
    try:
        _schedules(schedule)
    except InvalidInputError as error:
        return "invalid", str(error)
    if schedule["spec"].get("suspend"):
        return "paused", ""
    return ("failing", wrong["SubmissionError"]) if "SubmissionError" in wrong else ("active", "")


def _schedules(schedule: Mapping[str, Any]) -> list[Schedule]:
    spec = schedule["spec"]
    return [Schedule(each, spec.get("timezone", "")) for each in spec["schedules"]]


def _next(schedule: Mapping[str, Any], now: datetime) -> str:
    """Say when a CronWorkflow is due next, where that is known: Argo counts an interval from the last change."""
    meta = schedule["metadata"]
    changes = [meta["creationTimestamp"], *(each["time"] for each in meta.get("managedFields", ()) if "time" in each)]
    changed = datetime.fromisoformat(max(changes))
    due = min(each.due(changed if each.is_interval else now) for each in _schedules(schedule))
    return f"{due.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}" if due > now else ""


def run_lines(
    namespace: str, runs: Iterable[tuple[str, Mapping[str, Any] | None, Mapping[str, Any] | None]]
) -> list[str]:
    """Give a line for each run of a schedule: its name, its Workflow if that is still there, its point in the trend."""
    rows = [("RUN", "STARTED", "PHASE", "TARGETS", "SUCCESS RATE", "FINDINGS", "REPORT")]
    for name, workflow, point in runs:
        at = phase(workflow) if workflow else "Ended"
        if point:
            started, numbers, report = f"{point['started'][:19]}Z", _numbers(point), fetch(namespace, name)
        else:
            captures = [pod.phase for pod in pods(workflow or {}) if pod.target]
            started = workflow["metadata"]["creationTimestamp"] if workflow else ""
            numbers = (f"{captures.count('Succeeded')}/{len(captures)}" if captures else "", "", "")
            report = f"none: {failure(workflow)}" if workflow and at in ENDED else ""
        rows.append((name, started, at, *numbers, report))
    return aligned(rows)


def _numbers(point: Mapping[str, Any]) -> tuple[str, str, str]:
    """Say of a trend's point how many targets were captured, how many connections succeeded, and what was found."""
    targets, rate = point["targets"], point["connections"].get("success_rate")
    captured = sum(targets.get(outcome, 0) for outcome in CAPTURED)
    counts = {severity: sum(codes.values()) for severity, codes in point["findings"].items() if severity != "info"}
    found = [f"{count} {severity}{'' if count == 1 else 's'}" for severity, count in counts.items() if count]
    share = "" if rate is None else _percent(rate)
    return f"{captured}/{sum(targets.values())}", share, ", ".join(found) or "none"


def _percent(share: float) -> str:
    """100 % is said only of all, 0 % only of none."""
    return f"{share:.0%}" if share in {0, 1} else f"{min(max(share, 0.001), 0.999):.1%}"


def fetch(namespace: str, campaign: str) -> str:
    """Give the command that fetches a campaign's report."""
    return f"snoopy report {campaign} -n {namespace}"
