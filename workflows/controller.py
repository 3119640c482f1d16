"""The controller of snoopy-operator's resources: `python -m workflows.controller`.

kopf watches and retries; what to do is in `reconcile`. Two operators are in this process: a resource may be in any
namespace, and what runs for it is in one, so that nothing but resources is watched everywhere, or may be.
"""

import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor
from concurrent.futures import wait as until
from contextlib import contextmanager
from typing import Any

import click
import kopf
from prometheus_client import Counter, start_http_server

from steps.cluster import ClusterError, connect
from workflows.campaign import NAMESPACE
from workflows.reconcile import Reconciler, WaitingError
from workflows.resources import Resources
from workflows.translate import OWNER

NAME: Any = "snoopy-controller"  # kopf would ask for the user's name, which a number in an image has not
#: What kopf keeps on resources is named after it.
DOMAIN = "snoopy.fennecproject.io"
#: Seconds until the next try: of what is waited for, and of what was refused.
SOON, LATER = 2, 5
#: Every so many seconds all Workflows are looked at, whatever was heard of them.
RESYNC = 300
TRIES = 5
#: How long a campaign that is stopped may take to report, before its resource may go all the same, in seconds.
PATIENCE = 900

CAMPAIGNS = {"tcpdumps": "pcap.fennecproject.io", "snoopyjobs": "job.fennecproject.io"}
ENDPOINTS = ("data.fennecproject.io", "v1alpha1", "snoopydataendpoints")
OURS = {OWNER + "uid": kopf.PRESENT}

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
            memo.reconciler.run(dict(body))

    @kopf.on.delete(group, "v1alpha1", plural, registry=resources, id="end", timeout=PATIENCE)
    def end(body: kopf.Body, memo: kopf.Memo, **_: Any) -> None:
        with tried_again():
            memo.reconciler.end(dict(body))


for each in CAMPAIGNS.items():
    campaigns(*each)


@kopf.on.resume(*ENDPOINTS, registry=resources, deleted=False)
@kopf.on.create(*ENDPOINTS, registry=resources)
@kopf.on.update(*ENDPOINTS, registry=resources, field="spec")
def serve(body: kopf.Body, memo: kopf.Memo, **_: Any) -> None:
    """Run a data endpoint."""
    with tried_again():
        memo.reconciler.serve(dict(body))


@kopf.on.delete(*ENDPOINTS, registry=resources, timeout=PATIENCE)
def withdraw(body: kopf.Body, memo: kopf.Memo, **_: Any) -> None:
    """Remove a data endpoint."""
    with tried_again():
        memo.reconciler.withdraw(dict(body))


def mirror(group: str, version: str, plural: str, copy: Callable[[Reconciler, dict[str, Any]], None]) -> None:
    """Copy how something is that was made for a resource into the resource's status, when it changes."""

    @kopf.on.event(group, version, plural, registry=made, id=f"mirror-{plural}", labels=OURS)
    def changed(body: kopf.Body, memo: kopf.Memo, type: str | None, **_: Any) -> None:  # noqa: A002 - kopf's name
        for tried in range(TRIES):
            try:
                return None if type == "DELETED" else copy(memo.reconciler, dict(body))
            except ClusterError:  # kopf does not try again what an event could not do
                REFUSALS.inc()
                time.sleep(2**tried)
        return None


mirror("argoproj.io", "v1alpha1", "workflows", Reconciler.mirror)
mirror("argoproj.io", "v1alpha1", "cronworkflows", Reconciler.mirror_schedule)
mirror("apps", "v1", "deployments", Reconciler.mirror_server)


def configure(settings: kopf.OperatorSettings, **_: Any) -> None:
    """Keep kopf's notes in annotations, for the status is the user's, and hold every watch to an end."""
    settings.persistence.progress_storage = kopf.AnnotationsProgressStorage(prefix=DOMAIN)
    settings.persistence.diffbase_storage = kopf.AnnotationsDiffBaseStorage(prefix=DOMAIN)
    settings.persistence.finalizer = f"{DOMAIN}/finalizer"
    settings.watching.server_timeout = RESYNC
    settings.watching.client_timeout = RESYNC + 30
    settings.networking.connect_timeout = 5
    settings.networking.request_timeout = RESYNC + 60
    settings.execution.default_backoff = LATER
    settings.scanning.disabled = True  # it would want to watch namespaces and CustomResourceDefinitions
    settings.posting.reporting_component = NAME


def login(**how: Any) -> kopf.ConnectionInfo | None:
    """Log in as the pod's service account, or as the user of the kubeconfig."""
    return kopf.login_with_service_account(**how) or kopf.login_with_kubeconfig(**how)


for registry in (resources, made):
    kopf.on.startup(registry=registry)(configure)
    kopf.on.login(registry=registry)(login)


def operate(namespace: str, health_port: int, stop: threading.Event) -> None:
    """Run both operators until `stop` is set, or one of them ends.

    Raises:
        ClusterError: there is no cluster.

    """
    memo = kopf.Memo(reconciler=Reconciler(Resources(connect()), namespace, say))
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
