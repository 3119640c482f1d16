"""The commands for schedules, `snoopy cron`: create, list, pause, resume, delete, and runs."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, get_args

import click

from steps.campaign_input import CampaignInput, InvalidInputError
from steps.cluster import CONFLICT, NOT_FOUND, ClusterError
from steps.objects import Bucket
from steps.plan import reports_prefix, trends_prefix
from steps.resolve import NoTargetError
from workflows import flags, printing
from workflows.campaign import TEMPLATE
from workflows.cluster import Cluster, open_cluster
from workflows.follow import Follower
from workflows.progress import ENDED, phase
from workflows.schedule import MOST_RUNS, Concurrency, Schedule, check_name, scheduled
from workflows.store import open_store
from workflows.submit import plan
from workflows.translate import OWNER, OWNER_PARTS

DEFAULT = Schedule("@daily")


class _InThisOrder(click.Group):
    """A group that lists its commands as they are below, not by the alphabet."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        return list(self.commands)


@click.group("cron", cls=_InThisOrder)
def cron_command() -> None:
    """Run campaigns on a schedule: each run has its own report, and all of them are one trend."""


def _say(line: str) -> None:
    click.echo(line, err=True)


@cron_command.command("create")
@click.argument("name")
@click.option(
    "--schedule",
    "expression",
    required=True,
    help='When it runs: five fields ("*/15 * * * *"), @hourly, @daily, @weekly, @monthly, @yearly; or "@every 5m",'
    " about that long after the last run.",
)
@click.option("--timezone", default="UTC", show_default=True, help="The schedule's time zone: Europe/Rome.")
@click.option(
    "--concurrency",
    type=click.Choice(get_args(Concurrency), case_sensitive=False),
    default=DEFAULT.concurrency,
    show_default=True,
    help="When one is due and the last still runs: allow both, forbid the new one, or replace the last, without a"
    " report of it.",
)
@click.option(
    "--successful-runs",
    type=click.IntRange(0, MOST_RUNS),
    default=DEFAULT.successful_runs,
    show_default=True,
    help="Workflows to keep of runs that captured every target; reports are kept in any case.",
)
@click.option(
    "--failed-runs",
    type=click.IntRange(0, MOST_RUNS),
    default=DEFAULT.failed_runs,
    show_default=True,
    help="Workflows to keep of the other runs.",
)
@flags.namespace
@flags.campaign_flags
def create_command(name: str, namespace: str, file: Path | None, **values: Any) -> None:
    """Run a campaign on a schedule. Each run captures at the pods that match when it begins.

    The schedule's name goes to standard output, all else to standard error.

    \b
    Examples:
      snoopy cron create shop --schedule "*/15 * * * *" --namespaces shop --selector app=web --duration 1m
      snoopy cron create nightly --schedule "30 2 * * MON-FRI" --timezone Europe/Rome -f campaign.yaml
    """  # noqa: D301 -- a real backspace, which tells click to leave the lines as they are
    check_name(name)
    schedule = Schedule(**{each.name: values.pop(each.name) for each in fields(Schedule) if each.name in values})
    asked = flags.asked(file, values)
    cluster = open_cluster(namespace)
    cluster.require_template(TEMPLATE)
    for line in _targets_now(cluster, asked, name):
        _say(line)
    try:
        cluster.create_schedule(scheduled(asked, name=name, namespace=namespace, schedule=schedule).to_dict())
    except ClusterError as error:
        if error.status != CONFLICT:
            raise
        raise InvalidInputError(f"name: {name!r} is taken: {error}") from None
    click.echo(name)
    _say(f"next due: {schedule.due(datetime.now(UTC)).isoformat(timespec='seconds')}")
    _say(f"to see its runs: snoopy cron runs {name} -n {namespace}")


def _targets_now(cluster: Cluster, asked: CampaignInput, name: str) -> Iterator[str]:
    """Say which pods it would capture now; a selection that has none now may have some when it is due."""
    try:
        yield from printing.plan_lines(plan(cluster, asked, name, _say))
    except NoTargetError as error:
        yield f"now it would capture nothing, and fail: {error}"


@cron_command.command("list")
@flags.namespace
def list_command(namespace: str) -> None:
    """List the schedules, and when each is due."""
    click.echo("\n".join(printing.schedule_lines(open_cluster(namespace).schedules(), datetime.now(UTC))))


@cron_command.command("pause")
@click.argument("name")
@flags.namespace
def pause_command(name: str, namespace: str) -> None:
    """Pause a schedule: nothing runs until it is resumed. What runs already goes on."""
    _suspend(open_cluster(namespace), name, suspended=True)


@cron_command.command("resume")
@click.argument("name")
@flags.namespace
def resume_command(name: str, namespace: str) -> None:
    """Resume a schedule. What was due while it was paused is not made up for."""
    _suspend(open_cluster(namespace), name, suspended=False)


def _suspend(cluster: Cluster, name: str, *, suspended: bool) -> None:
    before = bool(_of_nobody_else(cluster, name)["spec"].get("suspend"))
    if before != suspended:
        cluster.suspend(name, suspended=suspended)
    word = "paused" if suspended else "active"
    _say(f"{name} is {word} already" if before == suspended else f"{name} is {word}")


def _of_nobody_else(cluster: Cluster, name: str) -> dict[str, Any]:
    """Give a schedule, unless it is a resource's: what is done to it, the controller would undo."""
    found = cluster.schedule(name)
    labels = found["metadata"].get("labels", {})
    kind, namespace, resource, _ = (labels.get(OWNER + part) for part in OWNER_PARTS)
    if kind:
        raise InvalidInputError(
            f"name: {name!r}: it is the schedule of {kind} {namespace}/{resource}: change or delete that, with kubectl"
        )
    return found


@cron_command.command("delete")
@click.argument("name")
@flags.namespace
def delete_command(name: str, namespace: str) -> None:
    """Delete a schedule, with the Workflows of its runs. Their captures and reports stay in the object store.

    A run that is not over is stopped first, and what it captured so far is reported: Argo would delete it with the
    schedule, without a report.
    """
    cluster = open_cluster(namespace)
    _of_nobody_else(cluster, name)
    cluster.suspend(name, suspended=True)
    while running := [each["metadata"]["name"] for each in cluster.workflows(name) if phase(each) not in ENDED]:
        _end(cluster, running)
    cluster.delete_schedule(name)
    _say(f"{name} is deleted; the reports of its runs stay: snoopy cron runs {name} -n {namespace}")


def _end(cluster: Cluster, running: Sequence[str]) -> None:
    """Stop runs, and wait until they are reported."""
    bucket = open_store(cluster).bucket
    for run in running:
        cluster.stop(run)
        _say(f"{run} still runs: it is stopped, and reported")
    for run in running:
        ended, prefix = Follower(cluster, run, bucket, _say).wait(), reports_prefix(cluster.namespace, run)
        is_reported = f"{prefix}report.html" in bucket.keys(prefix)
        _say(f"{run}: {ended}; {printing.fetch(cluster.namespace, run) if is_reported else 'it has no report'}")


@cron_command.command("runs")
@click.argument("name")
@click.option("--last", type=click.IntRange(1), default=20, show_default=True, help="How many runs, the newest first.")
@flags.namespace
def runs_command(name: str, last: int, namespace: str) -> None:
    """Show what a schedule's runs found.

    The newest comes first. Runs whose Workflows are gone are shown as long as their points in the trend are kept, and
    so are those of a schedule that was deleted.
    """
    cluster = open_cluster(namespace)
    trend, workflows = _trend(cluster, name), cluster.workflows(name)
    bucket = open_store(cluster).bucket
    keys = {Path(key).stem: key for key in bucket.keys(trends_prefix(namespace, trend))}
    by_name = {each["metadata"]["name"]: each for each in workflows}
    began = {run: _began(run, name) for run in {*keys, *by_name}}
    found = sorted((run for run in began if began[run]), key=lambda run: -began[run])
    if not found:
        cluster.schedule(name)  # or there is none
    shown = [(run, by_name.get(run), _point(bucket, keys.get(run))) for run in found[:last]]
    click.echo("\n".join(printing.run_lines(namespace, shown)))
    if len(found) > last:
        _say(f"and {len(found) - last} more: --last {len(found)}")


def _trend(cluster: Cluster, name: str) -> str:
    """Give the trend that a schedule's runs are in; one that is gone had its own, as they all have unless told."""
    try:
        arguments = cluster.schedule(name)["spec"]["workflowSpec"]["arguments"]["parameters"]
    except ClusterError as error:
        if error.status != NOT_FOUND:
            raise
        return name
    return next((each["value"] for each in arguments if each["name"] == "trend"), name)


def _point(bucket: Bucket, key: str | None) -> dict[str, Any] | None:
    """Read a run's point in its trend; None when there is none, or it is none."""
    from analysis.trend import SCHEMA  # noqa: PLC0415 -- pandas comes with it, and no other command waits for that

    try:
        found = json.loads(bucket.get(key)) if key else None
    except (KeyError, ValueError):
        return None
    return found if isinstance(found, dict) and found.get("schema") == SCHEMA else None


def _began(run: str, schedule: str) -> int:
    """Give when a run was due, in seconds since the epoch, from its name; 0 when it is none of this schedule's."""
    time = run.removeprefix(f"{schedule}-")
    return int(time) if time != run and time.isdigit() else 0
