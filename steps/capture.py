"""The capture step: every tool of a campaign on one target, and an exit code that says how it went."""

import os
import signal
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, closing
from functools import partial
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

import click

from steps import iperf, namespaces
from steps.campaign_input import CampaignInput, InvalidInputError, campaign_input
from steps.interface import Capture
from steps.namespaces import NamespaceError, NetworkNamespace
from steps.options import input_options
from steps.plan import SCRATCH, CaptureRecord, Outcome, Target, pcaps_prefix
from steps.stop import Stop
from steps.toolrun import ToolRun
from steps.uploads import PresignedPost, UploadError, Uploads, out_of_time, put_record

if TYPE_CHECKING:
    from steps.export import Exported

#: What the step ends with, the worst last.
EXIT_CODES: dict[Outcome, int] = {
    "captured": 0,
    "no_traffic": 0,
    "pod_deleted": 6,
    "upload_failed": 7,
    "capture_failed": 1,
}


def capture_target(  # noqa: PLR0913 - a target has this many independent parts
    target: Target,
    namespace: NetworkNamespace,
    asked: CampaignInput,
    *,
    uploads: Uploads,
    prefix: str,
    spool: Path,
    stop: Stop,
) -> list[CaptureRecord]:
    """Run the campaign's tools on a target, all interfaces at once; give a record for each, in order.

    `prefix` is where the campaign's captures are in the object store. A tool starts when every capture listens.

    Raises:
        UploadError: a record could not be uploaded.

    """
    below = f"{prefix}{target.directory}_"
    with ExitStack() as exports, ThreadPoolExecutor(max_workers=3) as threads:
        exported = _exported(target, asked, uploads, PurePosixPath(prefix).name, spool, exports)

        def begin(what: str, run: Callable[[Stop], CaptureRecord]) -> Future[CaptureRecord]:
            return threads.submit(_recorded, run, stop, exported.get(what), uploads, f"{below}{what}/")

        captures = [
            Capture(
                target,
                namespace,
                each,
                asked,
                uploads=exported.get(each, uploads),
                prefix=f"{below}{each}/",
                spool=spool / each,
            )
            for each in interfaces(asked)
        ]
        runs = [begin(capture.record.interface, capture.run) for capture in captures]
        if tool := asked.program:
            for capture, run in zip(captures, runs, strict=True):
                while not (capture.listening.wait(0.1) or run.done()):
                    pass
            there, where = exported.get(tool, uploads), f"{below}{tool}/"
            if tool == "iperf3":
                runs.append(begin(tool, partial(iperf.run, target, namespace, asked, uploads=there, prefix=where)))
            else:
                told = ToolRun(target, namespace, asked, uploads=there, prefix=where, spool=spool / tool)
                runs.append(begin(tool, told.run))
        return [run.result() for run in runs]


def _exported(  # noqa: PLR0913, PLR0917 - what it sends on is named by that much
    target: Target, asked: CampaignInput, uploads: Uploads, campaign: str, spool: Path, exports: ExitStack
) -> dict[str, "Exported"]:
    """Give what stores the files of an interface or a tool, and sends them to the data endpoint; without one, nothing.

    An endpoint that knows nothing but the pod's name must not mix what two tools write into one file: the first
    output has the pod's name, and each other is POD_WHAT, with the interface or the tool.
    """
    if not asked.destination:
        return {}
    from steps.export import Export, Exported  # noqa: PLC0415 - gRPC takes a while to import, and few need it

    made: dict[str, Exported] = {}
    for what in [*interfaces(asked), *filter(None, [asked.program])]:
        pod = f"{target.pod}_{what}" if made else target.pod
        to = partial(Export, asked.destination, namespace=target.namespace, pod=pod, session=f"{campaign}_{what}")
        made[what] = exports.enter_context(closing(Exported(uploads, spool / f"{what}-export", to)))
    return made


def _recorded(
    run: Callable[[Stop], CaptureRecord],
    stop: Stop,
    exported: "Exported | None",
    uploads: Uploads,
    prefix: str,
) -> CaptureRecord:
    """Run a tool, which stores its files; what the data endpoint did not take of them is said in its record."""
    record = run(stop)
    if exported and (missing := exported.missing(partial(out_of_time, time.monotonic(), stop))):
        but = "" if record.outcome == "upload_failed" else "the object store has it all, but "
        record.outcome = _worst([record.outcome, "upload_failed"])
        record.reason = "; ".join(filter(None, [record.reason, but + missing]))
        put_record(uploads, prefix, record)
    return record


def interfaces(asked: CampaignInput) -> list[str]:
    """Give the interfaces to capture on: none when packets are not captured."""
    if not asked.captures:
        return []
    return [asked.interface] + (["lo"] if asked.loopback and asked.interface != "lo" else [])


def record_failure(
    target: Target, asked: CampaignInput, error: NamespaceError, *, uploads: Uploads, prefix: str
) -> None:
    """Leave a record for every tool of a target whose network namespace could not be entered. Raises UploadError."""
    gone = isinstance(error, namespaces.NoProcessError)
    tools = [(interface, interface, "tcpdump") for interface in interfaces(asked)]
    tools += [(asked.program, "", asked.program)] if asked.program else []
    for directory, interface, tool in tools:
        record = CaptureRecord(
            target=target,
            interface=interface,
            tool=tool,
            arguments=[],
            outcome="pod_deleted" if gone else "capture_failed",
            reason=str(error),
            exit_code=error.exit_code,
        )
        put_record(uploads, f"{prefix}{target.directory}_{directory}/", record)


@click.command()
@click.option("--campaign", required=True, help="The campaign's name: the Workflow's.")
@click.option("--namespace", required=True, help="The campaign's namespace.")
@click.option("--target", required=True, metavar="NAMESPACE/POD", help="The pod to capture at.")
@click.option("--uid", required=True, help="The pod's UID.")
@click.option("--node", required=True, help="The node that this runs on.")
@input_options
def main(campaign: str, namespace: str, target: str, uid: str, node: str, **values: str) -> None:
    """Capture at one pod of this node; $SNOOPY_UPLOAD holds the policy to upload with."""
    stop = Stop()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    pod_namespace, _, pod = target.partition("/")
    here = Target(namespace=pod_namespace, pod=pod, uid=uid, node=node)
    prefix = pcaps_prefix(namespace, campaign)
    try:
        uploads = PresignedPost(os.environ["SNOOPY_UPLOAD"])
        asked = campaign_input(values)
        try:
            inside = namespaces.of_pod(uid, target)
        except NamespaceError as error:
            record_failure(here, asked, error, uploads=uploads, prefix=prefix)
            sys.exit(_say(error, error.exit_code))
        records = capture_target(
            here, inside, asked, uploads=uploads, prefix=prefix, spool=SCRATCH / "spool", stop=stop
        )
    except InvalidInputError as error:
        sys.exit(_say(error, 2))
    except UploadError as error:
        sys.exit(_say(error, EXIT_CODES["upload_failed"]))
    sys.exit(_summary(records))


def _say(message: object, code: int) -> int:
    click.echo(f"capture: {message}", err=True)
    return code


def _summary(records: Sequence[CaptureRecord]) -> int:
    """Print a line per record; give the worst one's exit code."""
    for record in records:
        drops = f", {record.kernel_dropped} dropped by the kernel" if record.kernel_dropped else ""
        amount = (
            f"{record.packets} packets" if record.interface else f"{sum(file.bytes for file in record.files)} bytes"
        )
        click.echo(
            f"{record.target.name} {record.interface or record.tool}: {record.outcome}, {amount} in "
            f"{len(record.files)} files{drops}{': ' + record.reason if record.reason else ''}"
        )
    return EXIT_CODES[_worst(record.outcome for record in records)]


def _worst(outcomes: Iterable[Outcome]) -> Outcome:
    return max(outcomes, key=list(EXIT_CODES).index)


if __name__ == "__main__":
    main()
