"""Submit: decide on the spot which pods to capture, and hand the plan to Argo. All of it, or nothing."""

import re
import secrets
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial

from hera.workflows import Workflow

from steps import filters
from steps.campaign_input import CampaignInput, InvalidInputError
from steps.cluster import CONFLICT, ClusterError
from steps.handover import create_secret, put_plan
from steps.objects import ObjectStoreError
from steps.plan import Plan, pcaps_prefix, reports_prefix
from steps.resolve import resolve
from workflows.campaign import TEMPLATE, planned
from workflows.cluster import Cluster
from workflows.store import Store

LETTERS = "bcdfghjklmnpqrstvwxz2456789"  # as in the names that Kubernetes generates: they spell no words


def new_name() -> str:
    """Give a campaign a name."""
    return "capture-" + "".join(secrets.choice(LETTERS) for _ in range(5))


def plan(cluster: Cluster, asked: CampaignInput, name: str, say: Callable[[str], None]) -> Plan:
    """Decide which pods a campaign captures; nothing is created. `say` hears what could not be checked here.

    Raises:
        InvalidInputError: the campaign's name, filter or arguments are wrong.
        ClusterError: the user may not capture in one of the namespaces, or the cluster cannot be asked.
        ResolveError: there is nothing to capture.

    """
    if not re.fullmatch(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", name):
        raise InvalidInputError(f"name: {name!r}: at most 63 of a-z, 0-9 and -, with no - at either end")
    if not filters.check_input(asked):
        say("tcpdump is not installed here: the filter is checked by the capture pods")
    cluster.require_exec(asked.namespaces)
    return resolve(cluster.api, asked, campaign=name, namespace=cluster.namespace)


def submit(cluster: Cluster, store: Store, asked: CampaignInput, name: str, say: Callable[[str], None]) -> Plan:
    """Start a campaign, and give its plan. When anything goes wrong, nothing of it is left behind.

    Raises:
        InvalidInputError, ClusterError, ResolveError: as `plan`; or the name is taken.
        ObjectStoreError: the object store cannot be used. What cannot be removed again is a note on any of these.

    """
    cluster.require_template(TEMPLATE)
    decided = plan(cluster, asked, name, say)
    for prefix in (reports_prefix(cluster.namespace, name), pcaps_prefix(cluster.namespace, name)):
        if store.bucket.keys(prefix):
            raise InvalidInputError(f"name: {name!r} is taken: the object store holds {prefix}")
    with ExitStack() as started, _free(name):
        put_plan(store.bucket, decided)
        key = reports_prefix(cluster.namespace, name) + "plan.json"
        started.enter_context(_undone_by(partial(store.bucket.remove, key)))
        workflow = cluster.create(planned(decided).to_dict())
        started.enter_context(_undone_by(partial(cluster.delete, name)))
        # Its first pods wait for this, and it goes with the Workflow.
        create_secret(cluster.api, decided, store.repository, workflow["metadata"]["uid"])
    return decided


@contextmanager
def _undone_by(undo: Callable[[], None]) -> Iterator[None]:
    """Undo a step when a later one fails; if that fails too, it is a note on the reason, which stays the reason."""
    try:
        yield
    except BaseException as reason:
        try:
            undo()
        except (ClusterError, ObjectStoreError) as left:
            reason.add_note(f"left behind: {left}")
        raise


@contextmanager
def _free(name: str) -> Iterator[None]:
    """Say of what exists already that the name is taken."""
    try:
        yield
    except ClusterError as error:
        if error.status != CONFLICT:
            raise
        raise InvalidInputError(f"name: {name!r} is taken: {error}") from None


def submit_workflow(cluster: Cluster, workflow: Workflow) -> str:
    """Submit a Workflow of the user's own, and give the name that it got."""
    return str(cluster.create(workflow.to_dict())["metadata"]["name"])
