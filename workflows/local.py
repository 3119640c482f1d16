"""A campaign on this machine, without a cluster: the same steps on network namespaces, processes and containers."""

import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from ipaddress import ip_address
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from analysis.timestamps import rfc3339
from steps import filters
from steps.campaign_input import CampaignInput, InvalidInputError
from steps.capture import capture_target
from steps.namespaces import NetworkNamespace, NoProcessError, of_container
from steps.plan import Plan, Target, pcaps_prefix
from steps.stop import Stop
from steps.uploads import Directory

PROC, NETNS = Path("/proc"), Path("/run/netns")
NAMESPACE = "local"


def find(text: str) -> NetworkNamespace:
    """Find the network namespace that netns:NAME, pid:N or container:ID names on this machine.

    Raises:
        InvalidInputError: it is none of these, or does not exist.

    """
    kind, _, name = text.partition(":")
    try:
        match kind:
            case "netns" if name and "/" not in name and (NETNS / name).exists():
                return NetworkNamespace(NETNS / name)
            case "pid" if name.isdigit() and (PROC / name).exists():
                return NetworkNamespace(PROC / name / "ns/net")
            case "container" if name:
                return of_container(name, PROC)
    except NoProcessError as error:
        raise InvalidInputError(f"target: {text!r}: {error}") from None
    raise InvalidInputError(
        f"target: {text!r}: no such target here; allowed are netns:NAME (ip netns), pid:N and container:ID"
    )


def plan(texts: Sequence[str], asked: CampaignInput, out: Path, name: str) -> tuple[Plan, list[NetworkNamespace]]:
    """Plan a campaign on targets of this machine; give it with each target's network namespace, in order.

    Raises:
        InvalidInputError: a target, the filter or `out` is wrong, or there is no right to enter network namespaces.

    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise InvalidInputError(f"out: {str(out)!r}: a new or empty directory is needed, or reports would mix")
    for text in texts:
        if texts.count(text) > 1:
            raise InvalidInputError(f"target: {text!r}: it is given {texts.count(text)} times")
    filters.check_input(asked)
    namespaces = [find(text) for text in texts]
    if os.geteuid():
        raise InvalidInputError("run --local must be run by root: it enters network namespaces")
    return Plan(
        campaign=name,
        namespace=NAMESPACE,
        submitted=rfc3339(time.time_ns()),
        input=asked.model_copy(update={"namespaces": []}),
        targets=[_target(text, namespace) for text, namespace in zip(texts, namespaces, strict=True)],
    ), namespaces


def run(plan: Plan, namespaces: Sequence[NetworkNamespace], out: Path) -> dict[str, Any]:
    """Capture at every target at once, and report; captures and reports go into `out`. Gives the report.

    Ctrl-C ends the captures early; they are reported all the same.

    Raises:
        UploadError: `out` cannot be written.

    """
    from analysis.analyse import analyse  # noqa: PLC0415 - pandas takes a second, and captures need not wait for it

    store = Directory(out)
    store.put("plan.json", plan.model_dump_json(by_alias=True, indent=1).encode())
    prefix = pcaps_prefix(plan.namespace, plan.campaign)
    with (
        _interrupted() as stop,
        TemporaryDirectory(prefix="snoopy-") as spool,
        ThreadPoolExecutor(len(plan.targets)) as threads,
    ):
        captures = [
            threads.submit(
                capture_target,
                target,
                namespace,
                plan.input,
                uploads=store,
                prefix=prefix,
                spool=Path(spool, target.directory),
                stop=stop,
            )
            for target, namespace in zip(plan.targets, namespaces, strict=True)
        ]
        for capture in captures:
            capture.result()
    return analyse([out], out, reported=rfc3339(time.time_ns()))


@contextmanager
def _interrupted() -> Iterator[Stop]:
    """Give what Ctrl-C sets, in place of ending the program."""
    stop = Stop()
    before = signal.signal(signal.SIGINT, lambda *_: stop.set())
    try:
        yield stop
    finally:
        signal.signal(signal.SIGINT, before)


def _target(text: str, namespace: NetworkNamespace) -> Target:
    """Describe a network namespace as a plan does a pod; its inode is what tells it from another of that name."""
    kind, _, name = text.partition(":")
    shown = subprocess.run(namespace.enter("ip", "-j", "address"), capture_output=True, text=True, check=False)
    if shown.returncode:
        raise InvalidInputError(f"target: {text!r}: its network cannot be entered: {shown.stderr.strip()}")
    addresses = [info["local"] for link in json.loads(shown.stdout) for info in link.get("addr_info", [])]
    return Target(
        namespace=kind,
        pod=name,
        uid=f"{namespace.path.stat().st_ino:08x}",
        node=socket.gethostname(),
        addresses=[address for address in addresses if not _is_everywhere(address)],
    )


def _is_everywhere(address: str) -> bool:
    return ip_address(address).is_loopback or ip_address(address).is_link_local
