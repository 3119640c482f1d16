"""What a Workflow's status and its captures' records say together."""

import base64
import gzip
import json
from typing import Any

import pytest

from steps.plan import CaptureRecord, Target
from workflows.printing import aligned, campaign_lines, list_lines
from workflows.progress import durations, failure, phase, pods

INPUTS = [{"name": "target", "value": "shop/web-1"}, {"name": "uid", "value": "u"}, {"name": "node", "value": "n-1"}]


def node(name: str, phase: str, **more: Any) -> dict[str, Any]:
    return {"id": name, "displayName": name, "type": "Pod", "phase": phase, "startedAt": "2026-11-23T22:00:01Z", **more}


def workflow(*nodes: dict[str, Any], **status: Any) -> dict[str, Any]:
    meta = {"name": "c", "namespace": "n", "creationTimestamp": "2026-11-23T22:00:00Z"}
    return {"metadata": meta, "status": {"nodes": {each["id"]: each for each in nodes}, **status}}


def record(outcome: str, **more: Any) -> CaptureRecord:
    target = Target(namespace="shop", pod="web-1", uid="u", node="n-1")
    return CaptureRecord(
        target=target, interface="eth0", tool="tcpdump", arguments=[], outcome=outcome, files=[], **more
    )


CAPTURE = node("capture(0:id:u)", "Running", inputs={"parameters": INPUTS})
GROUP = {"id": "dag", "displayName": "c", "type": "DAG", "phase": "Running"}


def test_a_capture_is_named_after_its_target_and_only_pods_count() -> None:
    found = pods(workflow(GROUP, CAPTURE, node("join", "Pending")))
    assert [(pod.name, pod.target, pod.node) for pod in found] == [
        ("shop/web-1", "shop/web-1", "n-1"),
        ("join", "", ""),
    ]


def test_a_large_workflows_nodes_are_compressed() -> None:
    packed = base64.b64encode(gzip.compress(json.dumps({"x": CAPTURE}).encode())).decode()
    assert pods({"metadata": {}, "status": {"compressedNodes": packed}}) == pods(workflow(CAPTURE))


def test_a_workflow_that_no_controller_has_seen_is_pending() -> None:
    assert phase({"metadata": {}}) == "Pending"
    assert pods({"metadata": {}}) == []


@pytest.mark.parametrize(
    ("argo", "message", "records", "state"),
    [
        ("Pending", "PodInitializing", [], "waiting"),
        ("Pending", "ErrImagePull: no such image", [], "waiting: ErrImagePull: no such image"),
        ("Running", "", [], "starting"),
        ("Running", "", [record("capturing", listening="2026-11-23T22:00:05.5Z")], "listening since 22:00:05"),
        ("Succeeded", "", [record("captured")], "captured"),
        ("Succeeded", "", [record("captured"), record("no_traffic")], "captured, no_traffic"),
        ("Failed", "exit 6", [record("pod_deleted", reason="the pod was deleted")], "pod_deleted: the pod was deleted"),
        ("Failed", "Error (exit code 3)", [], "failed: Error (exit code 3)"),
    ],
)
def test_a_captures_state_in_words(argo: str, message: str, records: list[CaptureRecord], state: str) -> None:
    (pod,) = pods(workflow({**CAPTURE, "phase": argo, "message": message}))
    assert pod.state(records) == state


@pytest.mark.parametrize(
    ("message", "words"),
    [
        ("", ""),
        ("Step exceeded its deadline", "Step exceeded its deadline"),
        (
            'main: Error (exit code 2): time=2026-11-23T22:00:00Z level=INFO msg="waiting" argo=true',
            "main: Error (exit code 2)",
        ),
        (
            """main: Error (exit code 2): time=2026-11-23T22:00:00Z level=INFO msg="waiting" argo=true
resolve: no target: no running pod matches
time=2026-11-23T22:00:01Z level=INFO msg="sub-process exited" argo=true
Error: exit status 2
""",
            "resolve: no target: no running pod matches",
        ),
    ],
)
def test_a_failed_steps_own_words_are_found_among_argos(message: str, words: str) -> None:
    (pod,) = pods(workflow(node("resolve", "Failed", message=message)))
    assert pod.message == words


def test_a_capture_that_is_stopped_runs_until_its_exit_code_is_known() -> None:
    told = {**CAPTURE, "phase": "Failed", "message": "workflow shutdown with strategy:  Stop"}
    (pod,) = pods(workflow(told, phase="Running"))
    assert (pod.phase, pod.message) == ("Running", "it was stopped")
    ended = {**told, "phase": "Succeeded", "outputs": {"exitCode": "0"}}
    assert pods(workflow(ended, phase="Running"))[0].phase == "Succeeded"
    never_began = workflow(told, phase="Failed", message="Stopped with strategy 'Stop'")
    assert pods(never_began)[0].phase == "Failed"
    text = "\n".join(campaign_lines({**never_began, "spec": {"shutdown": "Stop"}}, None, []))
    assert "phase      Stopped\n" in text
    assert "failed: it was stopped" in text


def test_the_time_that_each_part_took() -> None:
    records = [
        record(
            "captured", listening="2026-11-23T22:00:04.5Z", last="2026-11-23T22:00:33Z", ended="2026-11-23T22:00:34Z"
        ),
        record(
            "captured", listening="2026-11-23T22:00:05.5Z", last="2026-11-23T22:00:35Z", ended="2026-11-23T22:00:35.5Z"
        ),
    ]
    joined = workflow(CAPTURE, node("join", "Succeeded", finishedAt="2026-11-23T22:00:40Z"))
    assert durations(joined, records, "2026-11-23T22:00:00.5Z") == {
        "submit to all listening": 5.0,
        "capture": 30.0,
        "last packet to report": 5.0,
    }


def test_what_has_not_ended_has_no_duration() -> None:
    running = workflow(CAPTURE, node("join", "Running"))
    listens = record("capturing", listening="2026-11-23T22:00:04Z")
    assert durations(running, [], "2026-11-23T22:00:00Z") == {}
    assert durations(running, [listens], "2026-11-23T22:00:00Z") == {"submit to all listening": 4.0}


def test_get_prints_phase_message_targets_and_packets() -> None:
    failed = workflow({**CAPTURE, "phase": "Failed"}, phase="Failed", message="child failed")
    text = "\n".join(campaign_lines(failed, None, [record("pod_deleted", reason="it went", packets=12)]))
    assert "phase      Failed: child failed" in text
    assert "shop/web-1  n-1   12       pod_deleted: it went" in text


def test_why_a_campaign_failed_is_in_the_words_of_the_pod_that_did() -> None:
    silent = workflow(node("resolve", "Succeeded"), phase="Failed", message="Stopped with strategy 'Stop'")
    assert failure(silent) == "Stopped with strategy 'Stop'"
    said = workflow(node("resolve", "Failed", message="main: Error\nno target"), phase="Failed")
    assert failure(said) == "resolve: no target"


def test_list_counts_captures() -> None:
    (_, line) = list_lines([workflow(CAPTURE, node("join", "Running"), phase="Running")])
    assert line.split() == ["c", "Running", "1", "2026-11-23T22:00:00Z"]


def test_columns_are_aligned_and_lines_have_no_trailing_space() -> None:
    assert aligned([("a", "bbb", ""), ("aa", "b", "")]) == ["a   bbb", "aa  b"]
