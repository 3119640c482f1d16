"""Schedules on real pods: each run has its own report, all are one trend, and none is lost with its schedule."""

import json
import secrets
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.waiting import eventually

NAMESPACE = "snoopy-operator"
STARTED_BY = "workflows.argoproj.io/cron-workflow"


class Schedule:
    """A schedule of the test's own: what it is called, and what there is of it."""

    def __init__(self, kubectl: Any, installation: Any) -> None:
        self._kubectl, self._installation = kubectl, installation
        self.name = f"cron-{secrets.token_hex(3)}"

    def runs(self) -> set[str]:
        found = self._kubectl.items("workflows", "-n", NAMESPACE, "-l", f"{STARTED_BY}={self.name}")
        return {each["metadata"]["name"] for each in found}

    def keys(self, prefix: str) -> list[str]:
        return list(self._installation.bucket.keys(prefix))

    def points(self) -> list[dict[str, Any]]:
        bucket = self._installation.bucket
        return [json.loads(bucket.get(key)) for key in self.keys(f"trends/{NAMESPACE}/{self.name}/")]

    def left(self) -> list[str]:
        """Give what is left of it in the cluster."""
        kinds = "cronworkflows,workflows,pods,secrets"
        found = self._kubectl("get", kinds, "-n", NAMESPACE, "-o", "name", "--ignore-not-found").split()
        return [each for each in found if self.name in each]


def listed(snoopy: Any, name: str) -> str:
    """Give the schedule's line of `snoopy cron list`."""
    (line,) = (line for line in snoopy("cron", "list").stdout.splitlines() if line.startswith(f"{name} "))
    return str(line)


@pytest.fixture
def schedule(kubectl: Any, installation: Any) -> Iterator[Schedule]:
    found = Schedule(kubectl, installation)
    yield found
    kubectl("delete", "cronworkflow", found.name, "-n", NAMESPACE, "--ignore-not-found")


def test_every_minute(snoopy: Any, shop: Any, schedule: Any, tmp_path: Path) -> None:
    name = schedule.name
    choice = ("--namespaces", shop.namespace, "--selector", "part=shop", "--duration", "5s")
    created = snoopy("cron", "create", name, "--schedule", "* * * * *", *choice)
    assert (created.returncode, created.stdout) == (0, f"{name}\n"), created.stderr

    server = f"{shop.addresses()['web']}:8080"

    def two_are_reported() -> bool:
        assert shop.talk({server: 3}) == {server: {"succeeded": 3}}
        return len(schedule.points()) >= 2

    eventually("two runs are reported", two_are_reported, 150)
    assert snoopy("cron", "pause", name).returncode == 0
    points = schedule.points()
    assert {point["campaign"] for point in points} <= schedule.runs()
    for point in points:
        report = snoopy.report(point["campaign"], tmp_path / point["campaign"])
        assert report["campaign"]["name"] == point["campaign"]
        assert point["targets"] == {"captured": 3}
        assert point["connections"]["success_rate"] == 1
        made = sum(pair["connections"].get("attempts", 0) for pair in report["pairs"])
        assert point["connections"]["attempts"] == made > 0
    first, second = sorted(points, key=lambda point: str(point["started"]))[:2]
    assert first["campaign"] != second["campaign"]
    assert (int(second["campaign"].rpartition("-")[2]) - int(first["campaign"].rpartition("-")[2])) % 60 == 0
    lines = snoopy("cron", "runs", name).stdout.splitlines()
    assert [line.split()[0] for line in lines if "snoopy report" in line][-2:] == [
        second["campaign"],
        first["campaign"],
    ]

    assert " paused " in listed(snoopy, name)
    time.sleep(2)  # Argo hears of it
    before, over = schedule.runs(), time.time() // 60 * 60 + 70
    while time.time() < over:
        assert schedule.runs() <= before, "a run started while the schedule was paused"
        time.sleep(2)

    assert snoopy("cron", "resume", name).returncode == 0
    assert " active " in listed(snoopy, name)
    deleted = snoopy("cron", "delete", name)
    assert deleted.returncode == 0, deleted.stderr
    eventually("nothing is left", lambda: not schedule.left())
    assert first["campaign"] in snoopy("cron", "runs", name).stdout


def test_a_run_is_stopped_and_reported_before_its_schedule_is_deleted(
    snoopy: Any, shop: Any, schedule: Any, tmp_path: Path
) -> None:
    name = schedule.name
    choice = ("--namespaces", shop.namespace, "--selector", "part=shop", "--duration", "10m")
    created = snoopy("cron", "create", name, "--schedule", "@every 2s", *choice)
    assert created.returncode == 0, created.stderr
    (run,) = eventually("a run started", schedule.runs)
    eventually("its targets are resolved", lambda: schedule.keys(f"reports/{NAMESPACE}/{run}/plan.json"))
    snoopy.listening(run)
    server = f"{shop.addresses()['web']}:8080"
    assert shop.talk({server: 7}) == {server: {"succeeded": 7}}

    deleted = snoopy("cron", "delete", name)
    assert deleted.returncode == 0, deleted.stderr
    assert f"{run} still runs: it is stopped, and reported" in deleted.stderr
    assert f"{run}: Stopped; snoopy report {run}" in deleted.stderr
    report = snoopy.report(run, tmp_path)
    attempts = [pair["connections"]["attempts"] for pair in report["pairs"] if pair["protocol"] == "tcp"]
    assert sum(attempts) == 7
    assert [point["campaign"] for point in schedule.points()] == [run]
    eventually("nothing is left", lambda: not schedule.left(), 90)
