"""The commands that start campaigns: submit, resolve, run; and manifests, for those who start them otherwise."""

import sys
from pathlib import Path
from typing import Any

import click
from hera.workflows import Workflow

from analysis.outcomes import not_captured
from steps.campaign_input import CampaignInput, InvalidInputError
from workflows import campaign, flags, printing
from workflows.cluster import Cluster, open_cluster
from workflows.existing import follow
from workflows.store import open_store
from workflows.submit import new_name, plan, submit, submit_workflow
from workflows.userfile import load


@click.command("submit")
@click.argument("file_py", metavar="[FILE.py]", required=False, type=click.Path(path_type=Path))
@click.option("--name", help="The campaign's name; with FILE.py: which of its Workflows.")
@click.option("--wait", is_flag=True, help="Wait for the end, and show what happens at each target.")
@flags.namespace
@flags.campaign_flags
def submit_command(
    file_py: Path | None, name: str | None, wait: bool, namespace: str, file: Path | None, **values: Any
) -> None:
    """Start a campaign: capture at every chosen pod at once, and report.

    With FILE.py, submit the Hera Workflow that this Python file defines, to the namespace that it names, or else
    to --namespace. The campaign's name goes to standard output, all else to standard error.

    \b
    Examples:
      snoopy submit --selector app=web --duration 1m --wait
      snoopy submit -f campaign.yaml --filter "tcp port 80"
      snoopy submit examples/web_pods.py --wait
    """  # noqa: D301 -- a real backspace, which tells click to leave the lines as they are
    if file_py and (file or flags.given(values)):
        raise InvalidInputError(f"{file_py}: it brings its own arguments; campaign flags do not go with it")
    if file_py:
        cluster, name = _submit_workflow(load(file_py, name), namespace)
    else:
        cluster, name = _submit_campaign(flags.asked(file, values), namespace, name or new_name())
    click.echo(name)
    if wait:
        follow(cluster, name)
    else:
        click.echo(f"to follow it: snoopy wait {name} -n {cluster.namespace}", err=True)


def _say(line: str) -> None:
    click.echo(line, err=True)


def _submit_campaign(asked: CampaignInput, namespace: str, name: str) -> tuple[Cluster, str]:
    cluster = open_cluster(namespace)
    decided = submit(cluster, open_store(cluster), asked, name, _say)
    click.echo("\n".join(printing.plan_lines(decided)), err=True)
    return cluster, name


def _submit_workflow(workflow: Workflow, namespace: str) -> tuple[Cluster, str]:
    cluster = open_cluster(workflow.namespace or namespace)
    return cluster, submit_workflow(cluster, workflow)


@click.command("resolve")
@flags.namespace
@flags.campaign_flags
def resolve_command(namespace: str, file: Path | None, **values: Any) -> None:
    """Show which pods a campaign would capture, and which it would leave out and why. Nothing is created."""
    asked = flags.asked(file, values)
    decided = plan(open_cluster(namespace), asked, new_name(), _say)
    click.echo("\n".join(printing.plan_lines(decided)))


@click.command("run")
@click.argument("targets", nargs=-1, required=True, metavar="TARGET...")
@click.option(
    "--local",
    is_flag=True,
    required=True,
    expose_value=False,
    help="On this machine; campaigns on a cluster: snoopy submit.",
)
@click.option("--name", default="local", show_default=True, help="The campaign's name.")
@click.option("--out", required=True, type=click.Path(file_okay=False, path_type=Path), help="Where everything goes.")
@flags.campaign_flags
def run_command(targets: tuple[str, ...], name: str, out: Path, file: Path | None, **values: Any) -> None:
    """Run a campaign on this machine, without a cluster. Ctrl-C ends it early, and reports.

    Each TARGET is netns:NAME (a network namespace of `ip netns`), pid:N or container:ID.

    \b
    Example:
      snoopy run --local netns:client netns:web --duration 10s --out reports/here
    """  # noqa: D301 -- as above
    from workflows import local  # noqa: PLC0415 -- only this command needs it

    if chosen := sorted(flags.given(values).keys() & {"namespaces", "selector", "pods", "owners", "nodes"}):
        raise InvalidInputError(
            f"{chosen[0]}: it chooses pods of a cluster; run --local takes netns:, pid: or container:"
        )
    asked = flags.asked(file, {**values, "pods": targets})
    planned, namespaces = local.plan(targets, asked, out, name)
    flags.directory(out)
    plural = "s" if len(targets) > 1 else ""
    click.echo(f"capturing at {len(targets)} target{plural} for {asked.duration:g} s", err=True)
    report = local.run(planned, namespaces, out)
    for line in printing.finding_lines(report):
        click.echo(line, err=True)
    missing = not_captured(report)
    for sentence in missing:
        click.echo(f"not captured: {sentence}", err=True)
    click.echo(out / "report.html")
    sys.exit(1 if missing else 0)


@click.command("manifests")
@click.option(
    "--out",
    type=click.Path(file_okay=False, allow_dash=True, path_type=Path),
    default=Path("deploy/components/campaign-namespace"),
    show_default=True,
    help="The directory to write to; - is standard output.",
)
def manifests_command(out: Path) -> None:
    """Write the WorkflowTemplate of campaigns as YAML, for `kubectl apply`."""
    if str(out) == "-":
        click.echo(campaign.manifest(), nl=False)
        return
    path = flags.directory(out) / f"{campaign.TEMPLATE}.yaml"
    path.write_text(campaign.manifest())
    click.echo(path)
