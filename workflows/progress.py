"""How far a campaign is: its Workflow's status, and what its captures say in the object store."""

import base64
import gzip
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from analysis.timestamps import nanoseconds
from steps.objects import Bucket
from steps.plan import CaptureRecord, pcaps_prefix

ENDED = {"Succeeded", "Failed", "Error", "Stopped"}
LOGGED = re.compile(r"time=\S+ level=|Error: exit status \d+$")
LOGGED_AFTER = re.compile(r":? time=\S+ level=.*")
WAITING = {"", "Pending"}
#: What Argo says of a pod that it stops; the pod counts as failed until its exit code is known.
STOPPED = "workflow shutdown with strategy"
#: What every pod waits for, and nobody needs to read; a message such as ErrImagePull is another matter.
USUAL = {"ContainerCreating", "PodInitializing"}


@dataclass(frozen=True)
class Pod:
    """One pod of a Workflow. `target` is namespace/pod where it is a capture, else empty."""

    node_id: str
    name: str
    target: str
    node: str
    phase: str
    message: str
    finished: str
    exit_code: str

    def state(self, records: Sequence[CaptureRecord]) -> str:
        """Say in a few words what the pod does, with the records of its target's captures."""
        if self.phase in ENDED:
            reasons = "; ".join(record.reason for record in records if record.reason) or self.message
            outcomes = ", ".join(sorted({record.outcome for record in records})) or self.phase.lower()
            return f"{outcomes}: {reasons}" if reasons and self.phase != "Succeeded" else outcomes
        since = [record.listening for record in records if record.listening]
        if since:
            return f"listening since {max(since)[11:19]}"
        started = "starting" if self.target and self.phase == "Running" else self.phase.lower()
        state = "waiting" if self.phase in WAITING else started
        return f"{state}: {self.message}" if self.message and self.message not in USUAL else state


def phase(workflow: Mapping[str, Any]) -> str:
    """Give a Workflow's phase: Pending, Running, Succeeded, Failed or Error; Stopped where Argo says Failed of one."""
    said = str(workflow.get("status", {}).get("phase") or "Pending")
    return "Stopped" if said == "Failed" and workflow.get("spec", {}).get("shutdown") == "Stop" else said


def pods(workflow: Mapping[str, Any]) -> list[Pod]:
    """Give a Workflow's pods, in the order in which they started."""
    nodes = [node for node in _nodes(workflow).values() if node["type"] == "Pod"]
    nodes.sort(key=lambda node: (str(node.get("startedAt")), node["displayName"]))
    return [_pod(node, running=phase(workflow) not in ENDED) for node in nodes]


def failure(workflow: Mapping[str, Any]) -> str:
    """Say why a Workflow failed: in the words of the first pod that did, or in Argo's."""
    words = [
        f"{pod.name}: {pod.message.removeprefix(pod.name).lstrip(': ')}"
        for pod in pods(workflow)
        if pod.phase in {"Failed", "Error"} and pod.message
    ]
    return words[0] if words else str(workflow.get("status", {}).get("message") or phase(workflow))


def _nodes(workflow: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Give the status nodes; Argo compresses those of large Workflows."""
    status = workflow.get("status", {})
    if packed := status.get("compressedNodes"):
        return dict(json.loads(gzip.decompress(base64.b64decode(packed))))
    return dict(status.get("nodes") or {})


def _pod(node: Mapping[str, Any], *, running: bool) -> Pod:
    code, message = node.get("outputs", {}).get("exitCode", ""), node.get("message", "")
    stopped = message.startswith(STOPPED)
    inputs = {each["name"]: each.get("value", "") for each in node.get("inputs", {}).get("parameters", ())}
    captures = {"target", "uid", "node"} <= inputs.keys()
    return Pod(
        node_id=node["id"],
        name=inputs["target"] if captures else node["displayName"],
        target=inputs["target"] if captures else "",
        node=inputs["node"] if captures else node.get("hostNodeName", ""),
        phase="Running" if stopped and running and not code else node.get("phase", ""),
        message="it was stopped" if stopped else _last_words(message),
        finished=node.get("finishedAt") or "",
        exit_code=code,
    )


def _last_words(message: str) -> str:
    """Give what the step itself said last: Argo's own log lines are in between, and its verdict comes first."""
    first, *rest = message.splitlines() or [""]
    said = [line for line in rest if line and not LOGGED.match(line)]
    return said[-1].strip() if said else LOGGED_AFTER.sub("", first)


def record_keys(bucket: Bucket, namespace: str, campaign: str) -> list[str]:
    """List the capture records of a campaign in the object store. Raises ObjectStoreError."""
    return [key for key in bucket.keys(pcaps_prefix(namespace, campaign)) if key.endswith("/capture.json")]


def read_record(bucket: Bucket, key: str) -> CaptureRecord | None:
    """Read a capture record; None when it is gone, or is none. Raises ObjectStoreError."""
    try:
        return CaptureRecord.model_validate_json(bucket.get(key))
    except (KeyError, ValidationError):
        return None


def read_records(bucket: Bucket, namespace: str, campaign: str) -> list[CaptureRecord]:
    """Read all capture records of a campaign. Raises ObjectStoreError."""
    found = (read_record(bucket, key) for key in record_keys(bucket, namespace, campaign))
    return [record for record in found if record]


def durations(workflow: Mapping[str, Any], captured: Sequence[CaptureRecord], submitted: str) -> dict[str, float]:
    """Give how long each phase of a campaign took, in seconds, as its report counts them; unknown ones are absent.

    When it was reported is when the pod that did so ended, by Argo's clock: in whole seconds.
    """
    start = nanoseconds(submitted)
    listening = [nanoseconds(record.listening) for record in captured if record.listening]
    ended = [nanoseconds(record.ended) for record in captured if record.ended]
    last = [nanoseconds(record.last) for record in captured if record.last]
    reported = [
        nanoseconds(pod.finished)
        for pod in pods(workflow)
        if pod.name in {"join", "salvage"} and pod.finished and pod.phase in ENDED
    ]
    taken: dict[str, float] = {}
    if listening:
        taken["submit to all listening"] = (max(listening) - start) / 1e9
    if listening and ended:
        taken["capture"] = (max(ended) - max(listening)) / 1e9
    if last and reported:
        taken["last packet to report"] = (min(reported) - max(last)) / 1e9
    return taken
