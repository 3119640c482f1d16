"""The commands for what exists: campaigns (list, get, wait, stop, logs, report), and what else is stored (fetch)."""

import sys
import webbrowser
from pathlib import Path

import click
from kubernetes.client import ApiException
from pydantic import ValidationError

from steps.campaign_input import InvalidInputError
from steps.cluster import NOT_FOUND, ClusterError, explained
from steps.objects import Bucket, ObjectStoreError
from steps.plan import Plan, pcaps_prefix, reports_prefix
from workflows import flags, printing
from workflows.cluster import Cluster, open_cluster
from workflows.follow import Follower
from workflows.progress import ENDED, failure, phase, pods, read_records
from workflows.store import open_store

LEFT_RUNNING = 130


@click.command("list")
@flags.namespace
def list_command(namespace: str) -> None:
    """List the campaigns, the newest first."""
    click.echo("\n".join(printing.list_lines(open_cluster(namespace).workflows())))


@click.command("get")
@click.argument("name")
@flags.namespace
def get_command(name: str, namespace: str) -> None:
    """Show a campaign: its phase, its targets, and how long each part of it took."""
    cluster = open_cluster(namespace)
    workflow = cluster.workflow(name)
    bucket = _bucket(cluster)
    records = read_records(bucket, namespace, name) if bucket else []
    click.echo("\n".join(printing.campaign_lines(workflow, _plan(bucket, namespace, name), records)))


@click.command("wait")
@click.argument("name")
@flags.namespace
def wait_command(name: str, namespace: str) -> None:
    """Wait for a campaign's end, and show what happens at each target."""
    follow(open_cluster(namespace), name)


@click.command("stop")
@click.argument("name")
@flags.namespace
def stop_command(name: str, namespace: str) -> None:
    """Stop a campaign: what was captured so far is kept and reported."""
    cluster = open_cluster(namespace)
    if (ended := phase(cluster.workflow(name))) in ENDED:
        click.echo(f"{name} has already ended: {ended}", err=True)
        return
    cluster.stop(name)
    click.echo(f"{name} is stopping; its report follows: snoopy wait {name} -n {namespace}", err=True)


@click.command("logs")
@click.argument("name")
@click.argument("target", required=False)
@flags.namespace
def logs_command(name: str, target: str | None, namespace: str) -> None:
    """Show what a campaign's pods printed: all of them, or one TARGET's, namespace/pod."""
    cluster = open_cluster(namespace)
    names = {pod.node_id: pod.name for pod in pods(cluster.workflow(name))}
    if target and target not in names.values():
        raise InvalidInputError(
            f"target: {target!r}: the campaign's pods are {', '.join(names.values()) or 'none yet'}"
        )
    with explained(f"list the pods of campaign {namespace}/{name}"):
        listed = cluster.core.list_namespaced_pod(namespace, label_selector=f"workflows.argoproj.io/workflow={name}")
    for pod in listed.items:
        called = names.get(pod.metadata.annotations.get("workflows.argoproj.io/node-id", ""), pod.metadata.name)
        if target in {None, called}:
            for line in _log(cluster, pod.metadata.name).splitlines():
                click.echo(f"{called}: {line}")


@click.command("report")
@click.argument("name")
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), help="Where it goes.  [default: reports/NAME]")
@click.option("--captures", is_flag=True, help="Fetch the captures too: files for Wireshark, and for snoopy analyse.")
@click.option("--open", "show", is_flag=True, help="Show the report in a browser.")
@flags.namespace
def report_command(name: str, out: Path | None, captures: bool, show: bool, namespace: str) -> None:
    """Fetch a campaign's report from the object store."""
    cluster = open_cluster(namespace)
    bucket, out = open_store(cluster).bucket, out or Path("reports", name)
    prefix = reports_prefix(namespace, name)
    keys = bucket.keys(prefix)
    if captures:
        bucket.download(pcaps_prefix(namespace, name), out)
    if f"{prefix}report.html" not in keys:
        raise ClusterError(_no_report(cluster, name))
    flags.directory(out)
    for key in keys:
        (out / Path(key).name).write_bytes(bucket.get(key))
    click.echo(out / "report.html")
    if show:
        webbrowser.open((out / "report.html").absolute().as_uri())


@click.command("fetch")
@click.argument("prefix")
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), required=True, help="Where it goes.")
@flags.namespace
def fetch_command(prefix: str, out: Path, namespace: str) -> None:
    """Fetch what is below a prefix of the object store: what a data endpoint took, the points of a trend.

    Each file keeps its whole key as its path below --out.

    \b
    Example:
      snoopy fetch data/snoopy-operator/snoopy-data-svc/ --out .
    """  # noqa: D301 -- a real backspace, which tells click to leave the lines as they are
    if not prefix.strip("/"):
        raise InvalidInputError(f"prefix: {prefix!r}: data/, pcaps/, reports/ or trends/ is needed, or what is below")
    prefix = prefix.lstrip("/")
    bucket = open_store(open_cluster(namespace)).bucket
    if not bucket.keys(prefix):
        raise InvalidInputError(f"prefix: {prefix!r}: the object store has nothing there")
    for file in bucket.download(prefix, flags.directory(out)):
        click.echo(file)


def follow(cluster: Cluster, name: str) -> None:
    """Wait for a campaign and exit as it ended; Ctrl-C offers to stop it or to leave it running."""
    bucket = _bucket(cluster)
    follower = Follower(cluster, name, bucket, lambda line: click.echo(line, err=True))
    try:
        ended = follower.wait()
    except KeyboardInterrupt:
        if not _wants_stop(name):
            click.echo(f"{name} runs on: snoopy wait {name} -n {cluster.namespace}", err=True)
            sys.exit(LEFT_RUNNING)
        cluster.stop(name)
        ended = follower.wait()
    click.echo(_outcome(cluster, bucket, name, ended), err=True)
    sys.exit(0 if ended in {"Succeeded", "Stopped"} else 1)


def _outcome(cluster: Cluster, bucket: Bucket | None, name: str, ended: str) -> str:
    """Say how a campaign ended; what cannot be asked any more does not change that."""
    prefix = reports_prefix(cluster.namespace, name)
    try:
        if bucket is None or f"{prefix}report.html" in bucket.keys(prefix):
            return f"{name}: {ended}; its report: snoopy report {name} -n {cluster.namespace}"
        # Not every Workflow reports.
        return f"{name}: {ended}" if ended == "Succeeded" else _no_report(cluster, name)
    except (ClusterError, ObjectStoreError) as error:
        return f"{name}: {ended}; whether there is a report is not known: {error}"


def _wants_stop(name: str) -> bool:
    """Ask, where there is somebody to be asked."""
    if not sys.stdin.isatty():
        return False
    choice = click.Choice(["stop", "leave"])
    try:
        return bool(
            click.prompt(f"\nstop {name}, or leave it running?", type=choice, default="leave", err=True) == "stop"
        )
    except click.Abort:  # Ctrl-C again
        return False


def _bucket(cluster: Cluster) -> Bucket | None:
    """Open the object store when it can be; a campaign's phase is known without it."""
    try:
        bucket = open_store(cluster).bucket
        bucket.check()
    except (ClusterError, ObjectStoreError) as error:
        click.echo(f"{error}; what captures say themselves is not shown", err=True)
        return None
    return bucket


def _plan(bucket: Bucket | None, namespace: str, name: str) -> Plan | None:
    try:
        return Plan.model_validate_json(bucket.get(reports_prefix(namespace, name) + "plan.json")) if bucket else None
    except (KeyError, ValidationError):
        return None


def _log(cluster: Cluster, pod: str) -> str:
    with explained(f"read the log of pod {cluster.namespace}/{pod}"):
        try:
            return str(cluster.core.read_namespaced_pod_log(pod, cluster.namespace, container="main"))
        except ApiException as error:
            if error.status not in {400, NOT_FOUND}:  # it has not started, or has gone
                raise
            return ""


def _no_report(cluster: Cluster, name: str) -> str:
    """Say why a campaign has no report. Raises ClusterError when there is no such campaign."""
    workflow = cluster.workflow(name)
    if phase(workflow) in ENDED:
        return f"campaign {name} ended without a report: {failure(workflow)}"
    return f"campaign {name} has no report yet: snoopy wait {name} -n {cluster.namespace}"
