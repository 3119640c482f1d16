"""The capture step: every tool of a campaign on one target, and an exit code that says how it went."""

import os
import signal
import sys
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import click

from steps import iperf, namespaces
from steps.interface import Capture
from steps.namespaces import NamespaceError, NetworkNamespace
from steps.plan import (
    CampaignInput,
    CaptureRecord,
    InvalidInputError,
    Outcome,
    Target,
    campaign_input,
    pcaps_prefix,
)
from steps.uploads import PresignedPost, UploadError, Uploads

SPOOL = Path("/tmp/snoopy/spool")  # noqa: S108 - an emptyDir of the capture's own pod
EXIT_CODES: dict[Outcome, int] = {"captured": 0, "no_traffic": 0, "pod_deleted": 6, "upload_failed": 7}


def capture_target(  # noqa: PLR0913 - a target has this many independent parts
    target: Target,
    namespace: NetworkNamespace,
    asked: CampaignInput,
    *,
    uploads: Uploads,
    prefix: str,
    spool: Path,
    stop: threading.Event,
) -> list[CaptureRecord]:
    """Run the campaign's tools on a target, all interfaces at once; give a record for each, in order.

    `prefix` is where the campaign's captures are in the object store. iperf3 starts when every capture listens.

    Raises:
        UploadError: a record could not be uploaded.

    """
    captures = [
        Capture(
            target,
            namespace,
            interface,
            asked,
            uploads=uploads,
            prefix=f"{prefix}{target.directory}_{interface}/",
            spool=spool / interface,
        )
        for interface in interfaces(asked)
    ]
    with ThreadPoolExecutor(max_workers=3) as threads:
        runs = [threads.submit(capture.run, stop) for capture in captures]
        if "iperf3" in asked.tool:
            for capture, run in zip(captures, runs, strict=True):
                while not (capture.listening.wait(0.1) or run.done()):
                    pass
            result = f"{prefix}{target.directory}_iperf3/"
            runs.append(threads.submit(iperf.run, target, namespace, asked, uploads=uploads, prefix=result, stop=stop))
        return [run.result() for run in runs]


def interfaces(asked: CampaignInput) -> list[str]:
    """Give the interfaces to capture on: none when only iperf3 was asked for."""
    if "tcpdump" not in asked.tool:
        return []
    return [asked.interface] + (["lo"] if asked.loopback and asked.interface != "lo" else [])


def record_failure(
    target: Target, asked: CampaignInput, error: NamespaceError, *, uploads: Uploads, prefix: str
) -> None:
    """Leave a record of a target whose network namespace could not be entered. Raises UploadError."""
    gone = isinstance(error, namespaces.NoProcessError)
    record = CaptureRecord(
        target=target,
        interface=asked.interface,
        tool="tcpdump",
        arguments=[],
        outcome="pod_deleted" if gone else "capture_failed",
        reason=str(error),
        exit_code=error.exit_code,
    )
    key = f"{prefix}{target.directory}_{asked.interface}/capture.json"
    uploads.put(key, record.model_dump_json(by_alias=True, indent=1).encode())


def input_options(command: Any) -> Any:
    """Give a click command an option per field of CampaignInput, with its description and default."""
    for name, field in reversed(CampaignInput.model_fields.items()):
        command = click.option(f"--{name}", name, help=field.description)(command)
    return command


@click.command()
@click.option("--campaign", required=True, help="The campaign's name: the Workflow's.")
@click.option("--namespace", required=True, help="The campaign's namespace.")
@click.option("--target", required=True, metavar="NAMESPACE/POD", help="The pod to capture at.")
@click.option("--uid", required=True, help="The pod's UID.")
@click.option("--node", required=True, help="The node that this runs on.")
@input_options
def main(campaign: str, namespace: str, target: str, uid: str, node: str, **values: str) -> None:
    """Capture at one pod of this node; $SNOOPY_UPLOAD holds the policy to upload with."""
    stop = threading.Event()
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
        records = capture_target(here, inside, asked, uploads=uploads, prefix=prefix, spool=SPOOL, stop=stop)
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
        click.echo(
            f"{record.target.name} {record.interface or record.tool}: {record.outcome}, {record.packets} packets in "
            f"{len(record.files)} files{drops}{': ' + record.reason if record.reason else ''}"
        )
    return max(EXIT_CODES.get(record.outcome, 1) for record in records)


if __name__ == "__main__":
    main()
