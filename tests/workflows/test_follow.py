"""Waiting: what changes at each target is said once, and a cluster or store out of reach is not the end."""

from typing import Any

import pytest

from steps.cluster import ClusterError
from steps.plan import CaptureRecord, Target
from workflows import follow
from workflows.cluster import Cluster
from workflows.follow import Follower
from workflows.store import open_store

NAMESPACE = "snoopy-operator"
WORKFLOW = f"/apis/argoproj.io/v1alpha1/namespaces/{NAMESPACE}/workflows/c"
KEY = f"pcaps/{NAMESPACE}/c/shop_web-1_u_eth0/capture.json"


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(follow, "TICK", 0)


def status(argo: str, *, capture: str) -> dict[str, Any]:
    inputs = {"target": "shop/web-1", "uid": "u", "node": "node-1"}
    parameters = [{"name": name, "value": value} for name, value in inputs.items()]
    node = {
        "id": "1",
        "displayName": "capture(0)",
        "type": "Pod",
        "phase": capture,
        "inputs": {"parameters": parameters},
    }
    return {"metadata": {"name": "c"}, "status": {"phase": argo, "nodes": {"1": node}}}


def record(outcome: str, **more: Any) -> bytes:
    target = Target(namespace="shop", pod="web-1", uid="u", node="node-1")
    found = CaptureRecord(target=target, interface="eth0", tool="tcpdump", arguments=[], outcome=outcome, **more)
    return found.model_dump_json(by_alias=True).encode()


def test_each_change_at_a_target_is_said_once(cluster: Cluster, api: Any, s3: Any) -> None:
    said: list[str] = []
    steps = {
        "shop/web-1 on node-1: starting": record("capturing", listening="2026-11-23T22:00:05Z"),
        "shop/web-1 on node-1: listening since 22:00:05": record("captured", listening="2026-11-23T22:00:05Z"),
    }

    def say(line: str) -> None:
        said.append(line.partition("  ")[2])
        s3.objects[KEY] = steps.get(said[-1], s3.objects.get(KEY, b""))

    running = [status("Running", capture="Running")] * 4
    api.scripts[WORKFLOW] = [{"metadata": {"name": "c"}}, *running, status("Succeeded", capture="Succeeded")]
    assert Follower(cluster, "c", open_store(cluster).bucket, say).wait() == "Succeeded"
    assert said == [*steps, "shop/web-1 on node-1: captured"]


def test_who_comes_late_reads_the_record_all_the_same(cluster: Cluster, api: Any, s3: Any) -> None:
    said: list[str] = []
    s3.objects[KEY] = record("pod_deleted", reason="the pod was deleted")
    api.scripts[WORKFLOW] = [status("Failed", capture="Failed")]
    Follower(cluster, "c", open_store(cluster).bucket, said.append).wait()
    assert said[0].endswith("shop/web-1 on node-1: pod_deleted: the pod was deleted")


def test_a_record_that_cannot_be_read_is_none(cluster: Cluster, api: Any, s3: Any) -> None:
    said: list[str] = []
    s3.objects[KEY] = b"{"
    api.scripts[WORKFLOW] = [status("Succeeded", capture="Succeeded")]
    assert Follower(cluster, "c", open_store(cluster).bucket, said.append).wait() == "Succeeded"
    assert said[0].endswith("shop/web-1 on node-1: succeeded")


def test_without_a_store_argos_word_must_do(cluster: Cluster, api: Any) -> None:
    said: list[str] = []
    api.scripts[WORKFLOW] = [status("Running", capture="Running"), status("Failed", capture="Failed")]
    assert Follower(cluster, "c", None, said.append).wait() == "Failed"
    assert [line.partition("  ")[2] for line in said] == [
        "shop/web-1 on node-1: starting",
        "shop/web-1 on node-1: failed",
    ]


def test_a_store_that_goes_away_is_said_once_and_waiting_goes_on(cluster: Cluster, api: Any, s3: Any) -> None:
    bucket, said = open_store(cluster).bucket, []
    s3.answer = lambda *_: (403, b"<Error><Code>AccessDenied</Code></Error>")
    api.scripts[WORKFLOW] = [status("Running", capture="Running")] * 3 + [status("Failed", capture="Failed")]
    assert Follower(cluster, "c", bucket, said.append).wait() == "Failed"
    assert sum("what captures say themselves is not shown" in line for line in said) == 1


def test_a_cluster_that_is_away_for_a_moment_is_waited_for(cluster: Cluster, api: Any) -> None:
    answer, refusals = api.answer, iter([True, True, True])
    api.answer = lambda *asked: (503, b"{}") if next(refusals, False) else answer(*asked)
    api.scripts[WORKFLOW] = [status("Succeeded", capture="Succeeded")]
    assert Follower(cluster, "c", None, lambda _: None).wait() == "Succeeded"


def test_a_cluster_that_stays_away_ends_the_waiting(cluster: Cluster, api: Any) -> None:
    api.refusals["GET", "/workflows/c"] = (503, "the server is starting")
    with pytest.raises(ClusterError, match="the server is starting"):
        Follower(cluster, "c", None, lambda _: None).wait()


def test_a_campaign_that_does_not_exist_is_not_waited_for(cluster: Cluster, api: Any) -> None:
    with pytest.raises(ClusterError, match="no campaign 'c' in namespace"):
        Follower(cluster, "c", None, lambda _: None).wait()
    assert len(api.asked) == 1
