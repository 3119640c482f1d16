"""podtracer: run a network tool in a pod's network namespace, from the pod's node, with the pod unchanged."""

import os
import re
import shutil
import sys
from contextlib import ExitStack, suppress
from functools import partial
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory

import click

from steps import namespaces, outputs, running
from steps.campaign_input import InvalidInputError
from steps.fields import HIGHEST_PORT
from steps.namespaces import HOST_PROC, NamespaceError
from steps.options import DURATION
from steps.outputs import Output, OutputError
from steps.plan import SCRATCH
from steps.stop import Stop
from steps.tools import TOOLS, command, file_named, writes_pcap

#: A static pod's has no hyphens.
UID = re.compile(r"[0-9a-f]{32}|[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
BAD_INPUT, OUTPUT_FAILED, NOT_INSTALLED = 2, 7, 127


@click.group()
@click.version_option(version("snoopy-campaigns"), prog_name="podtracer", message="%(prog)s %(version)s")
def main() -> None:
    """Run network tools in a pod's network namespace, from the pod's node."""


@main.command(name="version")
def show_version() -> None:
    """Print the version."""
    click.echo(f"podtracer {version('snoopy-campaigns')}")


@main.command()
@click.argument("tool", metavar="TOOL", type=click.Choice(sorted(TOOLS)))
@click.option("-a", "--arguments", default="", help="The tool's arguments, quoted as in a shell: -a '-i eth0 -c 10'.")
@click.option("--pod", required=True, help="The pod's name.")
@click.option("-n", "--namespace", default="default", show_default=True, help="The pod's namespace.")
@click.option("--uid", help="The pod's UID, where the Kubernetes API cannot be asked for it.")
@click.option(
    "-k",
    "--kubeconfig",
    type=click.Path(dir_okay=False, path_type=Path),
    help="The cluster that is asked for the pod's UID.  [default: $KUBECONFIG, ~/.kube/config]",
)
@click.option("-t", "--timer", type=DURATION, help="End the tool after this long: 30s, 5m.")
@click.option(
    "-f",
    "--file",
    "-o",
    "--stdoutFile",
    "file",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write the output to this file, as tcpdump's -w FILE does.",
)
@click.option("-s", "--stdout", is_flag=True, help="Write it to standard output, as without any output.")
@click.option(
    "-d",
    "--destination",
    metavar="HOST",
    help="Send it to the data endpoint there; with tls://HOST over mutual TLS, with ca.crt, tls.crt and tls.key of the "
    "directory $SNOOPY_ENDPOINT_TLS (or /etc/snoopy/endpoint-tls).",
)
@click.option(
    "-p", "--port", type=click.IntRange(1, HIGHEST_PORT), help=f"The data endpoint's port.  [default: {outputs.PORT}]"
)
@click.option(
    "--upload",
    metavar="PREFIX",
    help="Upload it in pieces below this key prefix; $SNOOPY_UPLOAD holds the presigned policy to do it with.",
)
def run(  # noqa: PLR0913, PLR0917 - a command has this many options
    tool: str,
    arguments: str,
    pod: str,
    namespace: str,
    uid: str | None,
    kubeconfig: Path | None,
    timer: float | None,
    file: Path | None,
    stdout: bool,
    destination: str | None,
    port: int | None,
    upload: str | None,
) -> None:
    """Run TOOL inside a pod's network namespace.

    TOOL is tcpdump, iperf3, iperf, ping, traceroute, ss, ip, tc, nstat, ethtool or bpftrace. What it writes goes at
    once to every output that is named; what it says on standard error goes there.

    \b
    The exit code is the tool's own, 128+N when signal N ended it, 0 when the timer did, or:
      1    the Kubernetes API does not tell the pod's UID
      2    bad input
      3    no such pod
      4    the pod has no process on this node
      5    the pod uses the node's network
      7    a data endpoint cannot be reached, and nothing was run; or an output took no more: a store or an endpoint
           for 30 seconds, once the tool is to end for 15, and then a reader for 5
      127  the tool is not installed here
    """  # noqa: D301 -- a real backspace, which tells click to leave the lines as they are
    if kubeconfig:
        os.environ["KUBECONFIG"] = str(kubeconfig)
    try:
        argv, file = command(TOOLS[tool], arguments), _file(file, file_named(TOOLS[tool], arguments))
        where = outputs.destination(destination, port)
        for program in (tool, "nsenter"):
            if not shutil.which(program):
                sys.exit(_say(f"{program} is not installed here", NOT_INSTALLED))
        inside = namespaces.of_pod(_uid(uid, namespace, pod), f"{namespace}/{pod}", _proc())
        pcap, ending, lost = writes_pcap(argv), Stop(), list[int]()
        with ExitStack() as stack:
            wanted = [  # the file last, for it is emptied
                (stdout or not (file or where or upload), partial(outputs.to_stdout, ending, pcap=pcap)),
                (where, partial(outputs.to_endpoint, where, namespace, pod, ending)),
                (upload, partial(_to_store, stack, str(upload), ending, pcap=pcap)),
                (file, partial(outputs.to_file, Path(file or ""), ending)),
            ]
            to = [get() for is_wanted, get in wanted if is_wanted]
            whole = inside.enter(*TOOLS[tool].through, *argv)
            code = running.run(
                TOOLS[tool], whole, to, timer, ending, lambda error: lost.append(_say(error, OUTPUT_FAILED))
            )
        sys.exit(lost[0] if lost else code)
    except InvalidInputError as error:
        sys.exit(_say(error, BAD_INPUT))
    except NamespaceError as error:
        sys.exit(_say(error, error.exit_code))
    except OutputError as error:
        sys.exit(_say(error, OUTPUT_FAILED))


def _say(message: object, code: int) -> int:
    with suppress(OSError):  # nobody needs to listen
        click.echo(f"podtracer: {message}", err=True)
    return code


def _file(asked: Path | None, named: str) -> Path | None:
    if asked and named:
        raise InvalidInputError(f"file: {asked}: -w of the arguments already names one, {named}")
    return Path(named) if named else asked


def _to_store(stack: ExitStack, prefix: str, ending: Stop, *, pcap: bool) -> Output:
    # A directory of our own, where a step's pod can write, too.
    spool = stack.enter_context(TemporaryDirectory(prefix="podtracer-", dir=SCRATCH if SCRATCH.is_dir() else None))
    return outputs.to_store(prefix, os.environ.get("SNOOPY_UPLOAD"), Path(spool, "spool"), ending, pcap=pcap)


def _proc() -> Path:
    """The node's processes: at /host/proc in a pod, at /proc on the node itself."""
    return HOST_PROC if HOST_PROC.exists() else Path("/proc")


def _uid(given: str | None, namespace: str, pod: str) -> str:
    """Give a pod's UID: the Kubernetes API is asked for it where it is not given.

    Raises:
        InvalidInputError: what is given is none; any beginning of one would find a pod.
        NoSuchPodError: it does not exist.
        NamespaceError: there is nobody to ask, or no answer.

    """
    if given:
        if not UID.fullmatch(given):
            raise InvalidInputError(f"uid: {given!r}: a pod's whole UID is needed")
        return given
    try:
        from steps.resolve import pod_uid  # noqa: PLC0415 - the capture image has no Kubernetes client
    except ImportError:
        raise NamespaceError(
            "there is no Kubernetes client here to ask for the pod's UID: give it with --uid"
        ) from None
    return pod_uid(namespace, pod)


if __name__ == "__main__":
    main()
