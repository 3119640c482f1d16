"""Submit: decide on the spot which pods to capture, and hand the plan to Argo. All of it, or nothing."""

import re
import secrets
from contextlib import ExitStack

from hera.workflows import Workflow

from steps import filters
from steps.handover import create_secret, owner_reference, put_plan
from steps.plan import CampaignInput, InvalidInputError, Plan, pcaps_prefix, reports_prefix
from steps.resolve import resolve
from workflows.campaign import TEMPLATE, planned
from workflows.cluster import Cluster
from workflows.store import Store

LETTERS = "bcdfghjklmnpqrstvwxz2456789"  # as in the names that Kubernetes generates: they spell no words


def new_name() -> str:
    """Give a campaign a name."""
    return "capture-" + "".join(secrets.choice(LETTERS) for _ in range(5))


def plan(cluster: Cluster, asked: CampaignInput, name: str) -> Plan:
    """Decide which pods a campaign captures; nothing is created.

    Raises:
        InvalidInputError: the campaign's name or filter is wrong.
        ClusterError: the user may not capture in one of the namespaces, or the cluster cannot be asked.
        ResolveError: there is nothing to capture.

    """
    if not re.fullmatch(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", name):
        raise InvalidInputError(f"name: {name!r}: at most 63 of a-z, 0-9 and -, with no - at either end")
    filters.check(asked.filter)
    cluster.require_exec(asked.namespaces)
    return resolve(cluster.api, asked, campaign=name, namespace=cluster.namespace)


def submit(cluster: Cluster, store: Store, asked: CampaignInput, name: str) -> Plan:
    """Start a campaign, and give its plan. When anything goes wrong, nothing of it is left behind.

    Raises:
        InvalidInputError, ClusterError, ResolveError: as `plan`; or the name is taken.
        ObjectStoreError: the object store cannot be used.

    """
    cluster.require_template(TEMPLATE)
    decided = plan(cluster, asked, name)
    for prefix in (reports_prefix(cluster.namespace, name), pcaps_prefix(cluster.namespace, name)):
        if store.bucket.keys(prefix):
            raise InvalidInputError(f"name: {name!r} is taken: the object store holds {prefix}")
    with ExitStack() as undo:
        put_plan(store.bucket, decided)
        undo.callback(store.remove, reports_prefix(cluster.namespace, name) + "plan.json")
        create_secret(cluster.api, decided, store.repository)
        undo.callback(cluster.delete_secret, name)
        workflow = cluster.create(planned(decided).to_dict())
        undo.callback(cluster.delete, name)
        cluster.own_secret(name, owner_reference(name, workflow["metadata"]["uid"]))
        undo.pop_all()
    return decided


def submit_workflow(cluster: Cluster, workflow: Workflow) -> str:
    """Submit a Workflow of the user's own, and give the name that it got."""
    return str(cluster.create(workflow.to_dict())["metadata"]["name"])
