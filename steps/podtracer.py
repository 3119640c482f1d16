"""podtracer: run a network tool in a pod's network namespace, from the pod's node, with the pod unchanged."""

import signal
import subprocess
import sys
from contextlib import nullcontext, suppress
from importlib.metadata import version
from pathlib import Path
from typing import IO

import click

from steps import namespaces
from steps.campaign_input import InvalidInputError, seconds
from steps.namespaces import HOST_PROC, NamespaceError
from steps.tcpdump import FLUSH
from steps.tools import TCPDUMP, TOOLS, command

#: How long a tool may take to end when its time is over, in seconds.
GRACE = 5


class Duration(click.ParamType[float]):
    """A duration such as 30s or 1m30s, in seconds."""

    name = "duration"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Read it; one sentence when it is none."""
        try:
            return seconds(value)
        except ValueError as error:
            self.fail(f"{value!r}: {error}", param, ctx)


@click.group()
def main() -> None:
    """Run network tools in a pod's network namespace, from the pod's node."""


@main.command(name="version")
def show_version() -> None:
    """Print the version."""
    click.echo(f"podtracer {version('snoopy-campaigns')}")


@main.command()
@click.argument("tool", type=click.Choice(sorted(TOOLS)))
@click.option("-a", "--arguments", default="", help="The tool's arguments, quoted as in a shell: -a '-i eth0 -c 10'.")
@click.option("--pod", required=True, help="The pod's name.")
@click.option("-n", "--namespace", default="default", show_default=True, help="The pod's namespace.")
@click.option("--uid", help="The pod's UID, where the Kubernetes API cannot be asked for it.")
@click.option("-t", "--timer", type=Duration(), help="End the tool after this long: 30s, 5m.")
@click.option("-f", "--file", type=click.Path(dir_okay=False, path_type=Path), help="Write the output to this file.")
def run(  # noqa: PLR0913, PLR0917 - a command has this many options
    tool: str,
    arguments: str,
    pod: str,
    namespace: str,
    uid: str | None,
    timer: float | None,
    file: Path | None,
) -> None:
    """Run TOOL inside a pod's network namespace.

    The exit code is the tool's own, or: 2 bad input, 3 no such pod, 4 the pod has no process on this node,
    5 the pod uses the node's network. A tool that the timer ended counts as well ended.
    """
    name = f"{namespace}/{pod}"
    try:
        argv = command(TOOLS[tool], arguments)
        inside = namespaces.of_pod(uid or _uid(namespace, pod), name, _proc())
        with file.open("wb") if file else nullcontext(sys.stdout.buffer) as output:
            if timer is not None and tool == TCPDUMP.program:
                timer += FLUSH
            sys.exit(_run(inside.enter(*argv), output, timer))
    except (InvalidInputError, NamespaceError) as error:
        click.echo(f"podtracer: {error}", err=True)
        sys.exit(getattr(error, "exit_code", 2))
    except OSError as error:
        click.echo(f"podtracer: {file}: {error.strerror}", err=True)
        sys.exit(2)


def _run(argv: list[str], output: IO[bytes], timer: float | None) -> int:
    """Run a command; it gets the signals that we get. Gives its exit code as a shell would."""
    # A group of its own: the signals of a terminal reach it once, through us.
    with subprocess.Popen(argv, stdout=output, process_group=0) as process:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda caught, _: process.send_signal(caught))
        try:
            code = process.wait(timer)
        except subprocess.TimeoutExpired:
            process.terminate()
            with suppress(subprocess.TimeoutExpired):
                process.wait(GRACE)
            process.kill()
            return 0
    return code if code >= 0 else 128 - code


def _proc() -> Path:
    """The node's processes: at /host/proc in a pod, at /proc on the node itself."""
    return HOST_PROC if HOST_PROC.exists() else Path("/proc")


def _uid(namespace: str, pod: str) -> str:
    """Ask the Kubernetes API for a pod's UID.

    Raises:
        NoSuchPodError: it does not exist.
        NamespaceError: there is nobody to ask, or no answer.

    """
    try:
        from steps.resolve import pod_uid  # noqa: PLC0415 - the capture image has no Kubernetes client
    except ImportError:
        raise NamespaceError(
            "there is no Kubernetes client here to ask for the pod's UID: give it with --uid"
        ) from None
    return pod_uid(namespace, pod)


if __name__ == "__main__":
    main()
