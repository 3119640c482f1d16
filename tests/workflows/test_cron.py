"""`snoopy cron`, against a Kubernetes API and an S3 on loopback: what is created, changed, deleted and said."""

import json
import struct
from copy import deepcopy
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner, Result

from steps import join
from steps.campaign_input import campaign_input
from steps.plan import Plan, Target
from workflows import follow, printing
from workflows.cli import main
from workflows.cluster import Cluster
from workflows.store import open_store

NAMESPACE = "snoopy-operator"
ARGO = f"/apis/argoproj.io/v1alpha1/namespaces/{NAMESPACE}"
SCHEDULE, TRENDS = f"{ARGO}/cronworkflows/shop", f"trends/{NAMESPACE}/shop"
CHOICE = ["--namespaces", "shop", "--selector", "app=web"]
NOW = datetime(2026, 11, 23, 22, 5, 30, tzinfo=UTC)


def cron(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["cron", *arguments])


def create(*arguments: str) -> Result:
    return cron("create", "shop", "--schedule", "*/15 * * * *", *CHOICE, *arguments)


def run(api: Any, name: str, phase: str, **status: Any) -> dict[str, Any]:
    """Put a run's Workflow with two captures, one of them still running unless it succeeded, into the cluster."""
    inputs = ("shop/web-1", "shop/web-2")
    nodes = {
        f"n-{target}": {
            "id": f"n-{target}",
            "displayName": f"capture({target})",
            "type": "Pod",
            "phase": "Succeeded" if target == "shop/web-1" else phase,
            "inputs": {"parameters": [{"name": name, "value": target} for name in ("target", "uid", "node")]},
        }
        for target in inputs
    }
    meta = {"name": name, "namespace": NAMESPACE, "creationTimestamp": "2026-11-23T22:00:05Z"}
    meta["labels"] = {"workflows.argoproj.io/cron-workflow": "shop"}
    workflow = {"metadata": meta, "spec": {}, "status": {"phase": phase, "nodes": nodes, **status}}
    api.objects[f"{ARGO}/workflows/{name}"] = workflow
    return workflow


def point(name: str, started: str, **changes: Any) -> bytes:
    known = {
        "schema": "snoopy.trend/v1",
        "campaign": name,
        "started": started,
        "targets": {"captured": 2, "no_traffic": 1},
        "connections": {"total": 9, "success_rate": 1},
        "findings": {"error": {}, "warning": {}, "info": {"all_well": 1}},
    }
    return json.dumps(known | changes).encode()


def test_create_prints_the_name_alone_on_standard_output(api: Any) -> None:
    done = create("--duration", "1m", "--timezone", "Europe/Rome", "--concurrency", "replace", "--failed-runs", "9")
    assert (done.exit_code, done.stdout) == (0, "shop\n"), done.output
    assert "shop/web-2  node-2" in done.stderr
    assert "left out: shop/web-3: it is Pending" in done.stderr
    assert "next due: 20" in done.stderr
    assert "snoopy cron runs shop" in done.stderr
    spec = api.objects[SCHEDULE]["spec"]
    assert (spec["schedules"], spec["timezone"], spec["suspend"]) == (["*/15 * * * *"], "Europe/Rome", False)
    assert (spec["concurrencyPolicy"], spec["successfulJobsHistoryLimit"], spec["failedJobsHistoryLimit"]) == (
        "Replace",
        3,
        9,
    )
    given = {each["name"]: each["value"] for each in spec["workflowSpec"]["arguments"]["parameters"]}
    assert (given["selector"], given["duration"], given["trend"]) == ("app=web", "60s", "shop")


def test_create_takes_a_campaigns_file(api: Any, tmp_path: Path) -> None:
    (tmp_path / "campaign.yaml").write_text(yaml.safe_dump({"namespaces": "shop", "pods": "web-*", "trend": "year"}))
    done = cron("create", "shop", "--schedule", "@daily", "-f", str(tmp_path / "campaign.yaml"), "--duration", "5s")
    assert done.exit_code == 0, done.output
    arguments = api.objects[SCHEDULE]["spec"]["workflowSpec"]["arguments"]["parameters"]
    given = {each["name"]: each["value"] for each in arguments}
    assert (given["pods"], given["duration"], given["trend"]) == ("web-*", "5s", "year")


@pytest.mark.parametrize(
    ("choice", "sentence"),
    [
        (["--namespaces", "shop", "--selector", "app=later"], "no target: no running pod matches"),
        (["--namespaces", "shop", "--pods", "later-*"], "pods: 'later-*': no such pod"),
        (["--namespaces", "shop", "--owners", "deploy/later"], "owners: 'Deployment/later': has no pod"),
    ],
)
def test_pods_may_come_later(api: Any, choice: list[str], sentence: str) -> None:
    done = cron("create", "shop", "--schedule", "@hourly", *choice)
    assert (done.exit_code, done.stdout, SCHEDULE in api.objects) == (0, "shop\n", True), done.output
    assert f"now it would capture nothing, and fail: {sentence}" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [
        (["create", "shop", *CHOICE], 2, "Missing option '--schedule'"),
        (["create", "shop", "--schedule", "0 0 * * 7", *CHOICE], 2, "schedule: '0 0 * * 7': day of week: "),
        (["create", "shop", "--schedule", "@daily", "--timezone", "Rome", *CHOICE], 2, "timezone: 'Rome': no such"),
        (["create", "s" * 64, "--schedule", "@daily", *CHOICE], 2, "at most 52 of a-z, 0-9 and -"),
        (["create", "shop", "--schedule", "@daily", "--concurrency", "queue", *CHOICE], 2, "'queue' is not one of"),
        (["create", "shop", "--schedule", "@daily"], 2, "must say which pods to capture"),
        (["create", "shop", "--schedule", "@daily", *CHOICE, "--filter", "tcp port"], 2, "filter: 'tcp port'"),
        (["create", "shop", "--schedule", "@daily", *CHOICE, "--parallelism", "1"], 2, "the selection has 2 pods"),
        (["create", "shop", "--schedule", "@daily", "--namespaces", "no", "--pods", "*"], 2, "'no': no such namespace"),
        (["create", "shop", "--schedule", "@daily", *CHOICE, "-n", "else"], 3, "not installed in namespace else"),
        (["pause", "nosuch"], 3, "no schedule 'nosuch' in namespace snoopy-operator: see snoopy cron list"),
        (["resume", "nosuch"], 3, "no schedule 'nosuch'"),
        (["delete", "nosuch"], 3, "no schedule 'nosuch'"),
        (["runs", "nosuch"], 3, "no schedule 'nosuch'"),
    ],
)
def test_what_is_wrong_is_one_sentence_and_changes_nothing(
    api: Any,
    s3: Any,  # noqa: ARG001
    arguments: list[str],
    code: int,
    sentence: str,
) -> None:
    before = deepcopy(api.objects)
    done = cron(*arguments)
    assert (done.exit_code, sentence in done.output, done.stdout) == (code, True, ""), done.output
    assert "Traceback" not in done.output
    assert api.objects == before


def test_who_may_not_exec_may_not_schedule(api: Any) -> None:
    api.may_exec = False
    done = create()
    assert (done.exit_code, "may not create pods/exec in namespace shop" in done.stderr) == (3, True), done.output
    assert SCHEDULE not in api.objects


def test_a_name_is_given_once(api: Any) -> None:
    assert create().exit_code == 0
    before = deepcopy(api.objects)
    done = create("--duration", "5m")
    assert (done.exit_code, "name: 'shop' is taken: " in done.stderr, done.stdout) == (2, True, ""), done.output
    assert api.objects == before


def test_pausing_and_resuming_twice_is_said(api: Any) -> None:
    create()
    said = [cron(word, "shop").stderr for word in ("pause", "pause", "resume", "resume")]
    assert said == [
        "shop is paused\n",
        "shop is paused already\n",
        "shop is active\n",
        "shop is active already\n",
    ]
    assert [method for method, _ in api.asked].count("PATCH") == 2
    cron("pause", "shop")
    assert api.objects[SCHEDULE]["spec"]["suspend"] is True
    assert len(api.objects[SCHEDULE]["spec"]) > 1


def test_list_shows_when_each_is_due_and_what_is_wrong(api: Any, cluster: Cluster) -> None:
    for name in ("shop", "bad", "idle", "often", "stuck", "foreign"):
        create()
        api.objects[f"{ARGO}/cronworkflows/{name}"] = deepcopy(api.objects[SCHEDULE])
        api.objects[f"{ARGO}/cronworkflows/{name}"]["metadata"]["name"] = name
    objects = {name: api.objects[f"{ARGO}/cronworkflows/{name}"] for name in ("bad", "idle", "often", "stuck")}
    wrong = {"status": "True", "message": "cron schedule\nis malformed"}
    api.objects[SCHEDULE]["status"] = {"lastScheduledTime": "2026-11-23T22:00:00Z", "succeeded": 12, "failed": 1}
    objects["bad"]["status"] = {"conditions": [{"type": "SpecError", **wrong}]}
    objects["idle"]["spec"]["suspend"] = True
    objects["often"]["spec"]["schedules"] = ["@every 5m"]
    objects["often"]["status"] = {"conditions": [{"type": "SpecError", "status": "False", "message": "it was"}]}
    objects["often"]["metadata"]["managedFields"] = [{"time": "2026-11-23T22:03:00Z"}, {"manager": "x"}]
    objects["stuck"]["status"] = {"conditions": [{"type": "SubmissionError", **wrong, "message": "no quota"}]}
    api.objects[f"{ARGO}/cronworkflows/foreign"]["spec"] = {"schedules": ["0 0 * * 7"], "timezone": "Europe/Rome"}
    lines = printing.schedule_lines(cluster.schedules(), NOW)
    every = "*/15 * * * *"
    assert [[cell.strip() for cell in line.split("  ") if cell.strip()] for line in lines[:7]] == [
        ["NAME", "SCHEDULE", "TIMEZONE", "STATE", "LAST", "NEXT", "RUNS"],
        ["bad", every, "UTC", "invalid", "0 succeeded, 0 failed"],
        ["foreign", "0 0 * * 7", "Europe/Rome", "invalid", "0 succeeded, 0 failed"],
        ["idle", every, "UTC", "paused", "0 succeeded, 0 failed"],
        ["often", "@every 5m", "UTC", "active", "2026-11-23T22:08:00Z", "0 succeeded, 0 failed"],
        ["shop", every, "UTC", "active", "2026-11-23T22:00:00Z", "2026-11-23T22:15:00Z", "12 succeeded, 1 failed"],
        ["stuck", every, "UTC", "failing", "2026-11-23T22:15:00Z", "0 succeeded, 0 failed"],
    ]
    assert lines[7] == "bad is invalid: cron schedule is malformed"
    assert lines[8].startswith("foreign is invalid: schedule: '0 0 * * 7': day of week: ")
    assert lines[9:] == ["stuck is failing: no quota"]
    assert cron("list").stdout.splitlines()[0] == lines[0]


def test_runs_are_those_of_the_cluster_and_those_of_the_trend(api: Any, s3: Any) -> None:
    create()
    run(api, "shop-1795471200", "Running")
    failed = "shop-1795470300"
    run(api, failed, "Failed")
    run(api, "shop-1795469400", "Failed", nodes={}, message="no target: no running pod")
    failures = {"error": {"dns_failed": 2}, "warning": {"half_open": 1}, "info": {"left_out": 3}}
    s3.objects |= {
        f"{TRENDS}/{failed}.json": point(
            failed,
            "2026-11-23T21:45:00.123456789Z",
            targets={"captured": 1, "missing": 1},
            connections={"total": 9, "success_rate": 0.99999},
            findings=failures,
        ),
        f"{TRENDS}/shop-995470300.json": point("shop-995470300", "2001-07-18T15:31:40Z"),
        f"{TRENDS}/shop-995470400.json": b"{",
        f"{TRENDS}/shop-995470500.json": b'{"schema": "snoopy.trend/v9"}',
        f"{TRENDS}/other-1795470300.json": b"{}",
    }
    done = cron("runs", "shop")
    assert done.exit_code == 0, done.output
    fetch = "snoopy report {} -n snoopy-operator".format
    assert [[cell.strip() for cell in line.split("  ") if cell.strip()] for line in done.stdout.splitlines()] == [
        ["RUN", "STARTED", "PHASE", "TARGETS", "SUCCESS RATE", "FINDINGS", "REPORT"],
        ["shop-1795471200", "2026-11-23T22:00:05Z", "Running", "1/2"],
        [failed, "2026-11-23T21:45:00Z", "Failed", "1/2", "99.9%", "2 errors, 1 warning", fetch(failed)],
        ["shop-1795469400", "2026-11-23T22:00:05Z", "Failed", "none: no target: no running pod"],
        ["shop-995470500", "Ended"],
        ["shop-995470400", "Ended"],
        ["shop-995470300", "2001-07-18T15:31:40Z", "Ended", "3/3", "100%", "none", fetch("shop-995470300")],
    ]
    few = cron("runs", "shop", "--last", "2")
    assert few.stdout.splitlines() == few.stdout.splitlines()[:3]
    assert few.stderr == "and 4 more: --last 6\n"


def test_runs_of_a_schedule_that_is_gone_are_in_its_trend(api: Any, s3: Any) -> None:  # noqa: ARG001
    s3.objects[f"{TRENDS}/shop-1795470300.json"] = point("shop-1795470300", "2026-11-23T21:45:00Z")
    done = cron("runs", "shop")
    assert (done.exit_code, "shop-1795470300" in done.stdout) == (0, True), done.output


def test_runs_of_a_schedule_that_continues_a_trend(api: Any, s3: Any) -> None:  # noqa: ARG001
    create("--trend", "year")
    s3.objects[f"trends/{NAMESPACE}/year/shop-1795470300.json"] = point("shop-1795470300", "2026-11-23T21:45:00Z")
    assert "shop-1795470300" in cron("runs", "shop").stdout


def test_a_schedule_that_has_not_run_yet(api: Any, s3: Any) -> None:  # noqa: ARG001
    create()
    done = cron("runs", "shop")
    assert (done.exit_code, done.stdout.count("\n")) == (0, 1), done.output


def test_delete_stops_what_runs_and_waits_for_its_report(api: Any, s3: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    create()
    run(api, "shop-1795470300", "Succeeded")
    running, other = run(api, "shop-1795471200", "Running"), run(api, "other", "Running")
    del other["metadata"]["labels"]
    asked: list[tuple[bool, bool]] = []

    def meanwhile(_: float) -> None:
        """Be Argo: end the run once it is asked to stop."""
        assert not asked, "nothing else is waited for"
        asked.append((running["spec"].get("shutdown") == "Stop", api.objects[SCHEDULE]["spec"]["suspend"]))
        running["status"]["phase"] = "Failed"
        s3.objects[f"reports/{NAMESPACE}/shop-1795471200/report.html"] = b""

    monkeypatch.setattr(follow.time, "sleep", meanwhile)
    done = cron("delete", "shop")
    assert (done.exit_code, done.stdout, asked) == (0, "", [(True, True)]), done.output
    assert SCHEDULE not in api.objects
    assert "shop-1795471200 still runs: it is stopped, and reported" in done.stderr
    assert "shop-1795471200: Stopped; snoopy report shop-1795471200 -n snoopy-operator" in done.stderr
    assert "shop is deleted" in done.stderr
    assert "shop-1795470300" not in done.stderr
    assert other["spec"] == {}


def test_delete_needs_no_store_when_nothing_runs(api: Any) -> None:
    create()
    run(api, "shop-1795470300", "Succeeded")
    done = cron("delete", "shop")
    assert (done.exit_code, SCHEDULE in api.objects) == (0, False), done.output


def test_a_run_adds_its_point_after_its_report(api: Any, s3: Any, cluster: Cluster, tmp_path: Path) -> None:
    """The join, on what a run left: two targets were planned, one of them captured."""
    create()
    name, uids = "shop-1795470300", ("web-1-0000-0000", "web-2-0000-0000")
    targets = [Target(namespace="shop", pod=uid[:5], uid=uid, node="node-1", addresses=["10.0.0.1"]) for uid in uids]
    arguments = api.objects[SCHEDULE]["spec"]["workflowSpec"]["arguments"]["parameters"]
    asked = campaign_input({each["name"]: each["value"] for each in arguments})
    plan = Plan(campaign=name, namespace=NAMESPACE, submitted="2026-11-23T21:45:00Z", input=asked, targets=targets)
    record = {"schema": "snoopy.capture/v1", "target": targets[0].model_dump(), "interface": "eth0", "tool": "tcpdump"}
    record |= {"arguments": [], "outcome": "captured", "files": [{"name": "000001.pcap", "sha256": ""}]}
    folder = f"pcaps/{NAMESPACE}/{name}/{targets[0].directory}_eth0"
    s3.objects |= {
        f"reports/{NAMESPACE}/{name}/plan.json": plan.model_dump_json(by_alias=True).encode(),
        f"{folder}/000001.pcap": struct.pack("<IHHiIII", 0xA1B23C4D, 2, 4, 0, 0, 262144, 1),
        f"{folder}/capture.json": json.dumps(record).encode(),
    }
    join.join(open_store(cluster).bucket, NAMESPACE, name, tmp_path)
    stored = [path.partition("/snoopy/")[2] for method, path in s3.asked if method == "PUT"]
    assert stored[-1] == f"{TRENDS}/{name}.json"
    assert f"reports/{NAMESPACE}/{name}/report.json" in stored[:-1]
    found = json.loads(s3.objects[stored[-1]])
    assert (found["schema"], found["campaign"]) == ("snoopy.trend/v1", name)
    assert found["report"] == f"reports/{NAMESPACE}/{name}/report.json"
    assert found["targets"] == {"captured": 1, "missing": 1}
    assert f"{name}  2026-11-23T21:45:00Z  Ended  1/2 " in cron("runs", "shop").stdout


def test_a_campaign_of_no_trend_adds_no_point(s3: Any, cluster: Cluster, tmp_path: Path) -> None:
    target = Target(namespace="shop", pod="web-1", uid="uid-1", node="node-1")
    asked = campaign_input({"pods": "web-1"})
    plan = Plan(campaign="c", namespace=NAMESPACE, submitted="2026-11-23T21:45:00Z", input=asked, targets=[target])
    s3.objects[f"reports/{NAMESPACE}/c/plan.json"] = plan.model_dump_json(by_alias=True).encode()
    join.join(open_store(cluster).bucket, NAMESPACE, "c", tmp_path)
    assert f"reports/{NAMESPACE}/c/report.json" in s3.objects
    assert not [key for key in s3.objects if key.startswith("trends/")]


@pytest.mark.parametrize("word", ["pause", "resume", "delete"])
def test_a_resources_schedule_is_the_resources(api: Any, s3: Any, word: str) -> None:
    del s3
    create()
    owner = {"kind": "Tcpdump", "namespace": "default", "name": "nightly", "uid": "u"}
    labels = {f"snoopy.fennecproject.io/owner-{part}": value for part, value in owner.items()}
    api.objects[SCHEDULE]["metadata"]["labels"] = labels
    before = deepcopy(api.objects[SCHEDULE])
    refused = cron(word, "shop")
    assert refused.exit_code == 2
    assert "name: 'shop': it is the schedule of Tcpdump default/nightly" in refused.stderr
    assert api.objects[SCHEDULE] == before
