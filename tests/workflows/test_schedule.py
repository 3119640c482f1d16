"""Schedules: what Argo would refuse is refused, the rest is due when Argo runs it, and one is a CronWorkflow."""

import re
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from steps.campaign_input import InvalidInputError, campaign_input
from workflows.campaign import TEMPLATE
from workflows.schedule import Schedule, check_name, scheduled

COMMITTED = Path(__file__).parents[2] / "deploy/components/campaign-namespace/capture-campaign.yaml"
ASKED = campaign_input({"namespaces": "shop", "selector": "app=web", "duration": "90s", "thresholds": "dns_slow_ms=50"})
#: What the full CRDs of Argo 4.0 let a schedule be.
CRD = re.compile(
    r"^(@(yearly|annually|monthly|weekly|daily|midnight|hourly)|@every\s+([0-9]+(ns|us|µs|ms|s|m|h))+"
    r"|([0-9*,/?-]+\s+){4}[0-9*,/?-]+)$"
)
DUE = [  # as robfig/cron 3.0.1 says: an expression, a time zone, a time, and what comes after it
    ("*/15 * * * *", "", "2026-09-21T14:13:20", ["2026-09-21T14:15", "2026-09-21T14:30", "2026-09-21T14:45"]),
    ("20/25 8-10 * * *", "", "2026-09-21T14:13:20", ["2026-09-22T08:20", "2026-09-22T08:45", "2026-09-22T09:20"]),
    ("*/90 * * * *", "", "2026-09-21T14:13:20", ["2026-09-21T15:00", "2026-09-21T16:00", "2026-09-21T17:00"]),
    # Sunday is no 7: Friday and two days later is the end of a week.
    ("0 0 * * 5/2", "", "2026-09-21T14:13:20", ["2026-09-25T00:00", "2026-10-02T00:00", "2026-10-09T00:00"]),
    # Of two days one is enough, a step is no star, and a star in a list is one.
    ("0 0 13 * FRI", "", "2026-09-21T14:13:20", ["2026-09-25T00:00", "2026-10-02T00:00", "2026-10-09T00:00"]),
    ("0 0 */2 * MON", "", "2026-09-21T14:13:20", ["2026-09-23T00:00", "2026-09-25T00:00", "2026-09-27T00:00"]),
    ("0 0 9,* * WED", "", "2026-09-21T14:13:20", ["2026-09-23T00:00", "2026-09-30T00:00", "2026-10-07T00:00"]),
    ("0 0 ? JAN-FEB/1 sun", "", "2026-09-21T14:13:20", ["2027-01-03T00:00", "2027-01-10T00:00", "2027-01-17T00:00"]),
    ("0 0 29 2 *", "", "2026-09-21T14:13:20", ["2028-02-29T00:00", "2032-02-29T00:00", "2036-02-29T00:00"]),
    # The hour that is left out in March has no run, the one that is repeated in October has two.
    ("30 2 * * *", "Europe/Rome", "2026-03-28T00:00:00", ["2026-03-28T01:30", "2026-03-30T00:30", "2026-03-31T00:30"]),
    ("30 2 * * *", "Europe/Rome", "2026-10-24T23:00:00", ["2026-10-25T00:30", "2026-10-25T01:30", "2026-10-26T01:30"]),
    ("@daily", "Europe/Rome", "2026-10-24T23:00:00", ["2026-10-25T23:00", "2026-10-26T23:00", "2026-10-27T23:00"]),
    ("@hourly", "Asia/Kathmandu", "2026-09-21T14:13:20", ["2026-09-21T14:15", "2026-09-21T15:15", "2026-09-21T16:15"]),
]


@pytest.mark.parametrize(("expression", "timezone", "after", "expected"), DUE)
def test_it_is_due_when_argo_runs_it(expression: str, timezone: str, after: str, expected: list[str]) -> None:
    schedule, time = Schedule(expression, timezone), datetime.fromisoformat(after).replace(tzinfo=UTC)
    for moment in expected:
        time = schedule.due(time)
        assert time.astimezone(UTC) == datetime.fromisoformat(moment).replace(tzinfo=UTC)


def test_an_interval_counts_from_the_time_that_is_given() -> None:
    schedule = Schedule(" @every  1m30s ")
    assert (schedule.cron, schedule.is_interval) == ("@every 1m30s", True)
    assert schedule.due(datetime(2026, 1, 1, 9, 0, 20, tzinfo=UTC)) == datetime(2026, 1, 1, 9, 1, 50, tzinfo=UTC)


@pytest.mark.parametrize(
    ("expression", "sentence"),
    [
        ("", "five fields"),
        ("* * * *", "five fields"),
        ("0 0 * * * *", "five fields"),
        ("CRON_TZ=Europe/Rome 0 9 * * *", "five fields"),
        ("@reboot", "five fields"),
        ("@Daily", "five fields"),
        ("60 * * * *", "minute: * and 0-59 are allowed"),
        ("a * * * *", "minute: * and 0-59 are allowed"),
        ("*/0 * * * *", "minute: * and 0-59 are allowed"),
        ("5-1 * * * *", "minute: * and 0-59 are allowed"),
        ("1,,2 * * * *", "minute: * and 0-59 are allowed"),
        ("٣ * * * *", "minute: * and 0-59 are allowed"),
        ("0 24 * * *", "hour: * and 0-23 are allowed"),
        ("0 0 0 * *", "day of month: * and 1-31 are allowed"),
        ("0 0 L * *", "day of month: * and 1-31 are allowed"),
        ("0 0 15W * *", "day of month: * and 1-31 are allowed"),
        ("0 0 1 13 *", "month: * and 1-12 or JAN-DEC are allowed"),
        ("0 0 1 MON *", "month: * and 1-12 or JAN-DEC are allowed"),
        ("0 0 * * 7", "day of week: * and 0-6 or SUN-SAT are allowed"),
        ("0 0 * * 5L", "day of week: * and 0-6 or SUN-SAT are allowed"),
        ("0 0 * * 1#2", "day of week: * and 0-6 or SUN-SAT are allowed"),
        ("0 0 * * FRI-MON", "day of week: * and 0-6 or SUN-SAT are allowed"),
        ("0 0 30 FEB *", "never due"),
        ("0 0 31 4,6 *", "never due"),
        ("@every 5", "a duration such as 5m"),
        ("@every 1.5m", "a duration such as 5m"),
        ("@every 1d", "a duration such as 5m"),
        ("@every 0s", "from 1s to less than 20m"),
        ("@every 20m", "from 1s to less than 20m"),
    ],
)
def test_what_argo_does_not_run_is_refused(expression: str, sentence: str) -> None:
    with pytest.raises(InvalidInputError, match=f"^{re.escape(f'schedule: {expression!r}: ')}.*{re.escape(sentence)}"):
        Schedule(expression)


@pytest.mark.parametrize(
    ("field", "value", "sentence"),
    [
        ("timezone", "Mars/Base", "timezone: 'Mars/Base': no such time zone"),
        ("timezone", "Europe", "timezone: 'Europe': no such time zone"),
        ("timezone", "../passwd", "timezone: '../passwd': no such time zone"),
        ("concurrency", "Queue", "concurrency: 'Queue': one of Allow, Forbid, Replace is needed"),
        ("successful_runs", -1, "successful-runs: -1: at least 0 and at most 100 is allowed"),
        ("failed_runs", 101, "failed-runs: 101: at least 0 and at most 100 is allowed"),
    ],
)
def test_what_is_wrong_beside_it_is_refused(field: str, value: Any, sentence: str) -> None:
    with pytest.raises(InvalidInputError, match=f"^{re.escape(sentence)}"):
        Schedule("@daily", **{field: value})


@pytest.mark.parametrize("expression", [*(row[0] for row in DUE), "@every 5m", "0 9 * * mon-fri", "0 0 1 Jan,JUL ?"])
def test_argo_gets_what_its_full_crds_accept(expression: str) -> None:
    assert CRD.match(Schedule(expression).cron)


def test_names_of_days_and_months_are_their_numbers() -> None:
    assert Schedule("0  9 * jan-MAR mon,Wed-fri/2").cron == "0 9 * 1-3 1,3-5/2"


@pytest.mark.parametrize("name", ["", "Shop", "shop.daily", "-shop", "shop-", "a" * 53, "shop\n"])
def test_a_name_that_no_run_could_have(name: str) -> None:
    with pytest.raises(InvalidInputError, match=r"^name: .*: at most 52 of a-z, 0-9 and -"):
        check_name(name)
    with pytest.raises(InvalidInputError, match=r"^name: "):
        scheduled(ASKED, name=name, namespace="n", schedule=Schedule("@daily"))


def test_a_schedule_is_a_cron_workflow_that_runs_the_template() -> None:
    schedule = Schedule("0 9 * * MON", "Europe/Rome", "Replace", suspend=True, successful_runs=5, failed_runs=0)
    built = scheduled(ASKED, name="a" * 52, namespace="n", schedule=schedule, labels={"owner": "ann"}).to_dict()
    labels = {"app.kubernetes.io/part-of": "snoopy", "owner": "ann"}
    assert (built["apiVersion"], built["kind"]) == ("argoproj.io/v1alpha1", "CronWorkflow")
    assert built["metadata"] == {"name": "a" * 52, "namespace": "n", "labels": labels}
    spec = built["spec"]
    run = spec.pop("workflowSpec")
    assert spec == {
        "schedules": ["0 9 * * 1"],
        "timezone": "Europe/Rome",
        "concurrencyPolicy": "Replace",
        "suspend": True,
        "successfulJobsHistoryLimit": 5,
        "failedJobsHistoryLimit": 0,
        "workflowMetadata": {"labels": labels},
    }
    # A strict controller allows no more than these, and the template's own entrypoint resolves.
    assert set(run) == {"activeDeadlineSeconds", "arguments", "workflowTemplateRef"}
    assert run["workflowTemplateRef"] == {"name": TEMPLATE}
    assert 90 < run["activeDeadlineSeconds"] <= 90 + 900
    arguments = {each["name"]: each["value"] for each in run["arguments"]["parameters"]}
    assert campaign_input(arguments) == ASKED.model_copy(update={"trend": "a" * 52})


def test_a_trend_that_was_asked_for_is_continued() -> None:
    asked = ASKED.model_copy(update={"trend": "last-year"})
    built = scheduled(asked, name="shop", namespace="n", schedule=Schedule("@daily")).to_dict()
    assert {"name": "trend", "value": "last-year"} in built["spec"]["workflowSpec"]["arguments"]["parameters"]


def test_without_a_time_zone_it_is_utc_wherever_argo_runs() -> None:
    built = scheduled(ASKED, name="shop", namespace="n", schedule=Schedule("@daily")).to_dict()
    assert built["spec"]["timezone"] == "UTC"


def test_argo_accepts_it(argo: str, tmp_path: Path) -> None:
    made = scheduled(ASKED, name="shop", namespace="n", schedule=Schedule("0 9 * * MON", "Europe/Rome"))
    made.namespace = None  # or argo's offline lint would look for the template in that namespace
    (tmp_path / "schedule.yaml").write_text(str(made.to_yaml()))
    subprocess.run([argo, "lint", "--offline", COMMITTED, tmp_path / "schedule.yaml"], check=True)
