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


def plan(texts: Sequence[str], asked: CampaignInput, name: str) -> tuple[Plan, list[NetworkNamespace]]:
    """Plan a campaign on targets of this machine; give it with each target's network namespace, in order.

    Raises:
        InvalidInputError: a target or the filter is wrong, or there is no right to enter network namespaces.

    """
    filters.check(asked.filter)
    namespaces = [find(text) for text in texts]
    if os.geteuid():
        raise InvalidInputError("run --local must be run by root: it enters network namespaces")
    return Plan(
        campaign=name,
        namespace=NAMESPACE,
        submitted=rfc3339(time.time_ns()),
        input=asked,
        targets=[_target(text, namespace) for text, namespace in zip(texts, namespaces, strict=True)],
    ), namespaces


def run(plan: Plan, namespaces: Sequence[NetworkNamespace], out: Path, stop: threading.Event) -> dict[str, Any]:
    """Capture at every target at once, and report; captures and reports go into `out`. Gives the report.

    Raises:
        UploadError: `out` cannot be written.

    """
    from analysis.analyse import analyse  # noqa: PLC0415 - pandas takes a second, and captures need not wait for it

    store = Directory(out)
    store.put("plan.json", plan.model_dump_json(by_alias=True, indent=1).encode())
    prefix = pcaps_prefix(plan.namespace, plan.campaign)
    with TemporaryDirectory(prefix="snoopy-") as spool, ThreadPoolExecutor(len(plan.targets)) as threads:
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
