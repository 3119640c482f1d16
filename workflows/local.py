"""A campaign on this machine, without a cluster: the same steps on network namespaces, processes and containers."""

import json
import os
import socket
import subprocess
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from ipaddress import ip_address
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from analysis.timestamps import rfc3339
from steps import filters
from steps.capture import capture_target
from steps.namespaces import NetworkNamespace, NoProcessError, of_container
from steps.plan import CampaignInput, InvalidInputError, Plan, Target, pcaps_prefix
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
            case "netns" if (NETNS / name).exists():
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


def run(texts: Sequence[str], asked: CampaignInput, out: Path, *, name: str, stop: threading.Event) -> dict[str, Any]:
    """Capture at every target at once, and report: captures and report.html go into `out`, as a join leaves them.

    Raises:
        InvalidInputError: a target or the filter is wrong, or there is no right to enter network namespaces.

    """
    from analysis.analyse import analyse  # noqa: PLC0415 - pandas takes a second, and captures need not wait for it

    filters.check(asked.filter)
    if os.geteuid():
        raise InvalidInputError("run --local: user: not root: entering network namespaces takes root's rights")
    namespaces = [find(text) for text in texts]
    targets = [_target(text, namespace) for text, namespace in zip(texts, namespaces, strict=True)]
    plan = Plan(campaign=name, namespace=NAMESPACE, submitted=rfc3339(time.time_ns()), input=asked, targets=targets)
    Directory(out).put("plan.json", plan.model_dump_json(by_alias=True, indent=1).encode())
    with TemporaryDirectory(prefix="snoopy-") as spool, ThreadPoolExecutor(len(targets)) as threads:
        for run in [
            threads.submit(
                capture_target,
                target,
                namespace,
                asked,
                uploads=Directory(out),
                prefix=pcaps_prefix(NAMESPACE, name),
                spool=Path(spool, target.directory),
                stop=stop,
            )
            for target, namespace in zip(targets, namespaces, strict=True)
        ]:
            run.result()
    return analyse([out], out, reported=rfc3339(time.time_ns()))


def _target(text: str, namespace: NetworkNamespace) -> Target:
    """Describe a network namespace as a plan does a pod; its inode is what tells it from another of that name."""
    kind, _, name = text.partition(":")
    shown = subprocess.run(namespace.enter("ip", "-j", "address"), capture_output=True, text=True, check=True).stdout
    addresses = [info["local"] for link in json.loads(shown) for info in link.get("addr_info", [])]
    return Target(
        namespace=kind,
        pod=name,
        uid=str(namespace.path.stat().st_ino),
        node=socket.gethostname(),
        addresses=[address for address in addresses if not _is_everywhere(address)],
    )


def _is_everywhere(address: str) -> bool:
    return ip_address(address).is_loopback or ip_address(address).is_link_local
