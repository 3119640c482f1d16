"""The controller of snoopy-operator's resources: `python -m workflows.controller`.

kopf watches and retries; what to do is in `reconcile`. Two operators are in this process: a resource may be in any
namespace, and what runs for it is in one, so that nothing but resources is watched everywhere, or may be.
"""

import asyncio
import os
import signal
import sys
import threading
from collections.abc import Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor
from concurrent.futures import wait as until
from contextlib import contextmanager
from typing import Any

import click
import kopf
from prometheus_client import Counter, start_http_server

from steps.cluster import ClusterError, connect
from workflows.campaign import NAMESPACE
from workflows.data_endpoint import DataEndpoints
from workflows.owners import Owners, WaitingError
from workflows.reconcile import Reconciler
from workflows.resources import Resources
from workflows.status import settled
from workflows.translate import OWNER, OWNER_PARTS

NAME: Any = "snoopy-controller"  # kopf would ask for the user's name, which a number in an image has not
#: What kopf keeps on resources is named after it.
DOMAIN = "snoopy.fennecproject.io"
#: Seconds until the next try: of what is waited for, and of what was refused.
SOON, LATER = 2, 5
#: Every so many seconds what runs for a resource is looked at, whatever was heard of it.
RESYNC = float(os.environ.get("SNOOPY_RESYNC", "60"))
#: How long a watch may last, in seconds.
WATCH = 300

CAMPAIGNS = {"tcpdumps": "pcap.fennecproject.io", "snoopyjobs": "job.fennecproject.io"}
ENDPOINTS = ("data.fennecproject.io", "v1alpha1", "snoopydataendpoints")
OURS = {OWNER + part: kopf.PRESENT for part in OWNER_PARTS}

EVENTS = Counter("snoopy_controller_events", "What resources were told", ["kind", "reason"])
REFUSALS = Counter("snoopy_controller_refusals", "What the cluster refused, or did not answer")

resources, made = kopf.OperatorRegistry(), kopf.OperatorRegistry()


def say(resource: Mapping[str, Any], kind: str, reason: str, message: str) -> None:
    """Post an event on a resource."""
    EVENTS.labels(resource["kind"], reason).inc()
    about: Any = resource  # kopf's types want a Body, its code no more than this
    kopf.event(about, type=kind, reason=reason, message=message)


@contextmanager
def tried_again() -> Iterator[None]:
    """Let kopf call again when the cluster refuses, or something must end first."""
    try:
        yield
    except WaitingError as error:
        raise kopf.TemporaryError(str(error), delay=SOON) from None
    except ClusterError as error:
        REFUSALS.inc()
        raise kopf.TemporaryError(str(error), delay=LATER) from None


def campaigns(plural: str, group: str) -> None:
    """Handle one kind of resource that runs campaigns."""

    @kopf.on.resume(group, "v1alpha1", plural, registry=resources, id="run", deleted=False)
    @kopf.on.create(group, "v1alpha1", plural, registry=resources, id="run")
    @kopf.on.update(group, "v1alpha1", plural, registry=resources, id="run", field="spec")
    def run(body: kopf.Body, memo: kopf.Memo, **_: Any) -> None:
        with tried_again():
            memo.campaigns.run(dict(body))

    @kopf.on.delete(group, "v1alpha1", plural, registry=resources, id="end")
    def end(body: kopf.Body, memo: kopf.Memo, **_: Any) -> None:
        with tried_again():
            memo.campaigns.end(dict(body))

    @kopf.timer(group, "v1alpha1", plural, registry=resources, id="look", interval=RESYNC, initial_delay=RESYNC)
    def look(body: kopf.Body, memo: kopf.Memo, **_: Any) -> None:
        with tried_again():
            if not settled(body):
                memo.campaigns.run(dict(body))


for each in CAMPAIGNS.items():
    campaigns(*each)


@kopf.on.resume(*ENDPOINTS, registry=resources, id="serve", deleted=False)
@kopf.on.create(*ENDPOINTS, registry=resources, id="serve")
@kopf.on.update(*ENDPOINTS, registry=resources, id="serve", field="spec")
def serve(body: kopf.Body, memo: kopf.Memo, **_: Any) -> None:
    """Run a data endpoint."""
    with tried_again():
        memo.endpoints.serve(dict(body))


@kopf.timer(*ENDPOINTS, registry=resources, id="look", interval=RESYNC, initial_delay=RESYNC)
def look_at_endpoint(body: kopf.Body, memo: kopf.Memo, **_: Any) -> None:
    """Run it still, whatever was heard of it."""
    with tried_again():
        memo.endpoints.serve(dict(body))


@kopf.on.delete(*ENDPOINTS, registry=resources, id="withdraw")
def withdraw(body: kopf.Body, memo: kopf.Memo, **_: Any) -> None:
    """Remove a data endpoint."""
    with tried_again():
        memo.endpoints.withdraw(dict(body))


def hear(group: str, plural: str, of: str) -> None:
    """Let one of those in the memo hear when something that was made for a resource changes, or goes.

    kopf does not call again: of what is left of a resource that is gone, nobody else would.
    """

    @kopf.on.event(group, plural, registry=made, id=f"hear-{plural}", labels=OURS)
    async def changed(body: kopf.Body, memo: kopf.Memo, **_: Any) -> None:
        while True:
            try:
                return await asyncio.to_thread(memo[of].hear, dict(body))
            except WaitingError:
                return None  # its end will be heard
            except ClusterError:
                REFUSALS.inc()
                await asyncio.sleep(RESYNC)


hear("argoproj.io", "workflows", "campaigns")
hear("argoproj.io", "cronworkflows", "campaigns")
hear("apps", "deployments", "endpoints")


def configure(settings: kopf.OperatorSettings, **_: Any) -> None:
    """Keep kopf's notes in annotations, for the status is the user's, and hold every watch to an end."""
    settings.persistence.progress_storage = kopf.AnnotationsProgressStorage(prefix=DOMAIN)
    settings.persistence.diffbase_storage = kopf.AnnotationsDiffBaseStorage(prefix=DOMAIN)
    settings.persistence.finalizer = f"{DOMAIN}/finalizer"
    settings.watching.server_timeout = WATCH
    settings.watching.client_timeout = WATCH + 30
    settings.networking.connect_timeout = 5
    settings.networking.request_timeout = WATCH + 60
    settings.execution.default_backoff = LATER
    settings.scanning.disabled = True  # it would want to watch namespaces and CustomResourceDefinitions
    settings.posting.reporting_component = NAME


def narrow(settings: kopf.OperatorSettings, **_: Any) -> None:
    """Be told of nothing but what was made for resources."""
    settings.watching.label_selectors[kopf.EVERYTHING] = ",".join(OURS)


def login(**how: Any) -> kopf.ConnectionInfo | None:
    """Log in as the pod's service account, or as the user of the kubeconfig."""
    return kopf.login_with_service_account(**how) or kopf.login_with_kubeconfig(**how)


for registry in (resources, made):
    kopf.on.startup(registry=registry)(configure)
    kopf.on.login(registry=registry)(login)
kopf.on.startup(registry=made)(narrow)


def operate(namespace: str, health_port: int, stop: threading.Event) -> None:
    """Run both operators until `stop` is set, or one of them ends.

    Raises:
        ClusterError: there is no cluster.

    """
    cluster = Resources(connect())
    there = (cluster, namespace, Owners(cluster, say))
    memo = kopf.Memo(campaigns=Reconciler(*there), endpoints=DataEndpoints(*there))
    scopes: list[dict[str, Any]] = [
        {"registry": resources, "clusterwide": True, "liveness_endpoint": f"http://0.0.0.0:{health_port}/healthz"},
        {"registry": made, "namespaces": [namespace]},
    ]
    with ThreadPoolExecutor(len(scopes)) as threads:
        running = [
            threads.submit(kopf.run, identity=NAME, standalone=True, memo=memo, stop_flag=stop, **scope)
            for scope in scopes
        ]
        until(running, return_when=FIRST_COMPLETED)
        stop.set()
    for each in running:
        each.result()


@click.command()
@click.option("-n", "--namespace", default=NAMESPACE, show_default=True, help="The namespace where campaigns run.")
@click.option("--health-port", default=8080, show_default=True, help="Where /healthz says that it is alive.")
@click.option("--metrics-port", default=9090, show_default=True, help="Where /metrics counts, for Prometheus.")
def main(namespace: str, health_port: int, metrics_port: int) -> None:
    """Run what Tcpdumps, SnoopyJobs and SnoopyDataEndpoints of every namespace ask for."""
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    kopf.configure(log_format=kopf.LogFormat.FULL)
    start_http_server(metrics_port)
    try:
        operate(namespace, health_port, stop)
    except ClusterError as error:
        click.echo(f"controller: {error}", err=True)
        sys.exit(1)


if __name__ == "__main__":
    main()
