"""The status of a resource, from that of its campaign: pure functions between two Kubernetes objects.

A condition's message is for the person who reads `kubectl describe`; its reason is for programs.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from steps.plan import INCOMPLETE, reports_prefix
from workflows.progress import ENDED, failure, phase, pods

Status = dict[str, Any]
SUBMITTED, RUNNING, COMPLETE, DEGRADED = ("Submitted", "Running", "Complete", "Degraded")
INVALID, INVALID_SCHEDULE, REFUSED, DELETED = "InvalidSpec", "InvalidSchedule", "Refused", "WorkflowDeleted"
WAITING = "Waiting"
REPORTED = {"0", str(INCOMPLETE)}


@dataclass(frozen=True)
class Condition:
    """One thing that is so, or is not: a status condition without its times."""

    type: str
    holds: bool
    reason: str
    message: str = ""


def invalid(sentence: str, stopping: str = "") -> list[Condition]:
    """Say that a specification cannot be run, and which Workflow of the one before is `stopping`."""
    running = Condition(RUNNING, holds=False, reason=INVALID, message="nothing runs")
    if stopping:
        running = Condition(
            RUNNING, holds=True, reason="Stopping", message=f"{stopping} is stopping, and reports first"
        )
    return [
        Condition(SUBMITTED, holds=False, reason=INVALID, message=sentence),
        running,
        Condition(DEGRADED, holds=True, reason=INVALID, message=sentence),
    ]


def refused(sentence: str) -> Condition:
    """Say what the cluster refuses to do for a resource."""
    return Condition(DEGRADED, holds=True, reason=REFUSED, message=sentence)


def as_expected() -> Condition:
    """Say that nothing is known to be wrong."""
    return Condition(DEGRADED, holds=False, reason="AsExpected", message="nothing is known to be wrong")


def holds(of: Mapping[str, Any], kind: str, *reasons: str) -> bool:
    """Say whether a condition of a status holds, for one of these reasons where any is given."""
    return any(
        each["type"] == kind and each["status"] == "True" and (not reasons or each["reason"] in reasons)
        for each in of.get("conditions", ())
    )


def settled(resource: Mapping[str, Any]) -> bool:
    """Say whether what a specification asked for has been done once and for all, and is in the status."""
    known = resource.get("status", {})
    running = [each for each in known.get("conditions", ()) if each["type"] == RUNNING and each["status"] == "False"]
    return (
        not resource["spec"].get("schedule")
        and known.get("observedGeneration") == resource["metadata"]["generation"]
        and any(each["reason"] in ENDED | {DELETED} for each in running)
        and not holds(known, DEGRADED, REFUSED)
    )


def deleted(workflow: str) -> list[Condition]:
    """Say that somebody deleted a Workflow that ran."""
    sentence = f"{workflow} was deleted while it ran: what it had captured is in the object store, without a report"
    return [
        Condition(RUNNING, holds=False, reason=DELETED, message=f"{workflow} is gone"),
        Condition(COMPLETE, holds=False, reason="NoReport", message=sentence),
        Condition(DEGRADED, holds=True, reason=DELETED, message=sentence),
    ]


def submitted(kind: str, workflow: str, *, paused: bool = False) -> list[Condition]:
    """Say that a specification has become a Workflow or a CronWorkflow, of which nothing is known yet."""
    how = "; it is paused" if paused else ""
    return [
        Condition(SUBMITTED, holds=True, reason=f"{kind}Created", message=f"{kind} {workflow} runs it{how}"),
        Condition(RUNNING, holds=False, reason="Paused" if paused else WAITING, message="no capture runs yet"),
        Condition(COMPLETE, holds=False, reason=WAITING, message="there is no report yet"),
        as_expected(),
    ]


def invalid_schedule(cron_workflow: Mapping[str, Any]) -> list[Condition]:
    """Say that Argo refuses a schedule; nothing when it does not."""
    said = cron_workflow.get("status", {}).get("conditions") or []
    words = [
        str(each.get("message", "")) for each in said if each.get("type") == "SpecError" and each["status"] == "True"
    ]
    return [Condition(DEGRADED, holds=True, reason=INVALID_SCHEDULE, message=word) for word in words]


def of_campaign(workflow: Mapping[str, Any]) -> list[Condition]:
    """Say how a campaign is."""
    name, at = workflow["metadata"]["name"], phase(workflow)
    if at == "Pending":
        return [
            Condition(RUNNING, holds=False, reason=WAITING, message=f"{name} waits for Argo to start it"),
            Condition(COMPLETE, holds=False, reason=WAITING, message="there is no report yet"),
            as_expected(),
        ]
    counts = targets(workflow)
    captured = f"{counts['captured']} of {counts['planned']} targets"
    if at not in ENDED and workflow.get("spec", {}).get("shutdown") == "Stop":
        return [
            Condition(RUNNING, holds=True, reason="Stopping", message=f"{name} is stopping, and reports first"),
            Condition(COMPLETE, holds=False, reason="Running", message=f"{name} still runs"),
            as_expected(),
        ]
    if at not in ENDED:
        started = counts["planned"] > 0
        doing = f"capturing at {counts['planned']} targets" if started else "looking for targets"
        degraded = as_expected()
        if counts["failed"]:
            degraded = Condition(
                DEGRADED, holds=True, reason="TargetsNotCaptured", message=f"{name}: {failure(workflow)}"
            )
        return [
            Condition(RUNNING, holds=True, reason="Capturing" if started else "Resolving", message=f"{name}: {doing}"),
            Condition(COMPLETE, holds=False, reason="Running", message=f"{name} still runs"),
            degraded,
        ]
    reported = report(workflow)
    degraded = as_expected()
    if at not in {"Succeeded", "Stopped"}:
        reason = "TargetsNotCaptured" if reported else "CampaignFailed"
        degraded = Condition(DEGRADED, holds=True, reason=reason, message=f"{name}: {failure(workflow)}")
    fetch = f"{name}: {captured} captured; snoopy report {name} fetches the report"
    missing = f"{name} ended without a report"
    return [
        Condition(RUNNING, holds=False, reason=at, message=f"{name} has ended"),
        Condition(COMPLETE, bool(reported), *(("Reported", fetch) if reported else ("NoReport", missing))),
        degraded,
    ]


def targets(workflow: Mapping[str, Any]) -> dict[str, int]:
    """Count a campaign's targets: how many there are, were captured, and could not be."""
    phases = Counter(pod.phase for pod in pods(workflow) if pod.target)
    failed = phases["Failed"] + phases["Error"]
    return {"planned": phases.total(), "captured": phases["Succeeded"], "failed": failed}


def report(workflow: Mapping[str, Any]) -> str:
    """Give where a campaign's report is: s3://BUCKET/KEY; empty while there is none."""
    meta, status, found = workflow["metadata"], workflow.get("status", {}), pods(workflow)
    reports = any(pod.name in {"join", "salvage"} and pod.exit_code in REPORTED for pod in found)
    if not reports or not any(pod.target for pod in found):
        return ""
    store = status.get("artifactRepositoryRef", {}).get("artifactRepository", {}).get("s3", {})
    key = f"{reports_prefix(meta['namespace'], meta['name'])}report.html"
    return f"s3://{store['bucket']}/{key}" if store.get("bucket") else key


def conditions(
    before: Iterable[Mapping[str, Any]], now: Iterable[Condition], generation: int, time: str
) -> list[Status]:
    """Give a resource's conditions: of those that did not change, the time of their transition stays.

    `time` is RFC 3339 in whole seconds, as the Kubernetes API has times.
    """
    known = {str(each["type"]): dict(each) for each in before}
    for condition in now:
        status = "True" if condition.holds else "False"
        same = known.get(condition.type, {}).get("status") == status
        known[condition.type] = {
            "type": condition.type,
            "status": status,
            "reason": condition.reason,
            "message": condition.message,
            "observedGeneration": generation,
            "lastTransitionTime": known[condition.type]["lastTransitionTime"] if same else time,
        }
    return list(known.values())


def in_a_word(now: Iterable[Mapping[str, Any]], spec: Mapping[str, Any]) -> str:
    """Sum the conditions of a specification up in one word, for `kubectl get`."""
    found = {each["type"]: each for each in now}
    holding = {kind for kind, each in found.items() if each["status"] == "True"}
    if DEGRADED in holding and found[DEGRADED]["reason"].startswith("Invalid"):
        return "Invalid"
    if RUNNING in holding:
        return RUNNING
    if DEGRADED in holding:
        return DEGRADED
    if spec.get("schedule"):
        return "Paused" if spec.get("suspend") else "Scheduled"
    if COMPLETE in holding:
        return COMPLETE
    return "Stopped" if found.get(RUNNING, {}).get("reason") == "Stopped" else SUBMITTED


def news(before: Iterable[Mapping[str, Any]], now: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Give the conditions that came to hold, or hold for another reason, or cannot: what an event is worth."""
    known = {each["type"]: (each["status"], each["reason"], each["message"]) for each in before}
    return [
        each
        for each in now
        if (each["status"] == "True" or each["reason"] in {REFUSED, "NameTaken"})
        and known.get(each["type"]) != (each["status"], each["reason"], each["message"])
    ]
