"""The resolve step: from what a person chose to the plan, one entry per running pod."""

import sys
from collections.abc import Iterable, Iterator
from fnmatch import fnmatchcase
from time import time_ns
from typing import Any

import click
from kubernetes import client

from analysis.timestamps import rfc3339
from steps import filters
from steps.campaign_input import CampaignInput, InvalidInputError, campaign_input
from steps.cluster import BAD_REQUEST, NOT_FOUND, ClusterError, connect, explained
from steps.handover import create_secret, items, put_plan
from steps.namespaces import NamespaceError, NoSuchPodError
from steps.objects import Bucket, ObjectStoreError, repository_from_environment
from steps.options import input_options
from steps.plan import SCRATCH, Endpoint, LeftOut, Plan, Service, Target

TARGETS = SCRATCH / "targets"

#: Namespaces whose services a report names when it may: the cluster's DNS and API.
SYSTEM_NAMESPACES = ("default", "kube-system")
WORKFLOW_LABEL = "workflows.argoproj.io/workflow"
STATIC_POD_UID = "kubernetes.io/config.hash"


class ResolveError(Exception):
    """Nothing can be planned; the message is one sentence."""


class NoTargetError(ResolveError):
    """No pod matches; at another time one may."""


def resolve(api: client.ApiClient, asked: CampaignInput, *, campaign: str, namespace: str) -> Plan:
    """Find the pods that were chosen, and the names that a report gives to addresses.

    Raises:
        ResolveError: a namespace or pod that does not exist, no target, or more targets than `parallelism`.
        ClusterError: the Kubernetes API refused or cannot be reached.

    """
    submitted = rfc3339(time_ns())
    core = client.CoreV1Api(api)
    pods = [pod for name in asked.namespaces for pod in _pods(core, name, asked) if not _is_our_own(pod, campaign)]
    _all_were_found(asked, pods)
    reasons = {pod.metadata.uid: _why_not(pod) for pod in pods}
    targets = [_target(pod) for pod in pods if not reasons[pod.metadata.uid]]
    left_out = [
        LeftOut(namespace=pod.metadata.namespace, pod=pod.metadata.name, reason=reasons[pod.metadata.uid])
        for pod in pods
        if reasons[pod.metadata.uid]
    ]
    _is_possible(asked, targets, left_out)
    return Plan(
        campaign=campaign,
        namespace=namespace,
        submitted=submitted,
        input=asked,
        targets=targets,
        left_out=left_out,
        services=list(_services(api, {*asked.namespaces, *SYSTEM_NAMESPACES})),
    )


def pod_uid(namespace: str, name: str) -> str:
    """Ask the Kubernetes API for a pod's UID, as the pod's node knows it.

    Raises:
        NoSuchPodError: it does not exist.
        NamespaceError: the API refused or cannot be reached.

    """
    try:
        with explained(f"get pod {namespace}/{name}"):
            try:
                return _uid(client.CoreV1Api(connect()).read_namespaced_pod(name, namespace))
            except client.ApiException as error:
                if error.status != NOT_FOUND:
                    raise
                raise NoSuchPodError(
                    f"pod {namespace}/{name} does not exist: it is gone, or its name is wrong"
                ) from None
    except ClusterError as error:
        raise NamespaceError(str(error)) from None


def _pods(core: client.CoreV1Api, namespace: str, asked: CampaignInput) -> Iterator[Any]:
    """Give a namespace's pods that match every criterion, in the order of their names."""
    try:
        with explained(f"list pods in namespace {namespace}"):
            listed: list[Any] = core.list_namespaced_pod(namespace, label_selector=asked.selector).items
    except ClusterError as error:
        if error.status == BAD_REQUEST:
            raise ResolveError(f"selector: {asked.selector!r}: {error}") from None
        raise
    if not listed:
        _must_exist(core, namespace)
    for pod in sorted(listed, key=lambda pod: str(pod.metadata.name)):
        if (
            (not asked.pods or any(fnmatchcase(pod.metadata.name, pattern) for pattern in asked.pods))
            and (not asked.owners or _owner(pod) in asked.owners)
            and (not asked.nodes or pod.spec.node_name in asked.nodes)
        ):
            yield pod


def _is_our_own(pod: Any, campaign: str) -> bool:
    """Tell whether a pod is one of the campaign's steps, such as the one that this runs in."""
    return (pod.metadata.labels or {}).get(WORKFLOW_LABEL) == campaign


def _must_exist(core: client.CoreV1Api, namespace: str) -> None:
    try:
        with explained(f"get namespace {namespace}"):
            core.read_namespace(namespace)
    except ClusterError as error:
        if error.status == NOT_FOUND:
            raise ResolveError(f"namespaces: {namespace!r}: no such namespace") from None


def _all_were_found(asked: CampaignInput, pods: Iterable[Any]) -> None:
    """Refuse a name that matches nothing: it is more likely a mistake than a wish."""
    names, owners = {pod.metadata.name for pod in pods}, {_owner(pod) for pod in pods}
    where = f"in namespaces {', '.join(asked.namespaces)} with the other criteria"
    for pattern in asked.pods:
        if not any(fnmatchcase(name, pattern) for name in names):
            raise NoTargetError(f"pods: {pattern!r}: no such pod {where}")
    for owner in asked.owners:
        if owner not in owners:
            raise NoTargetError(f"owners: {owner!r}: has no pod {where}")


def _is_possible(asked: CampaignInput, targets: list[Target], left_out: list[LeftOut]) -> None:
    if not targets:
        criteria = asked.parameters()
        chosen = ", ".join(
            f"{name}: {criteria[name]}" for name in ("namespaces", "selector", "nodes") if criteria[name]
        )
        reasons = "; ".join(f"{pod.namespace}/{pod.pod} was left out: {pod.reason}" for pod in left_out)
        raise NoTargetError(f"no target: no running pod matches {chosen}{'; ' + reasons if reasons else ''}")
    if len(targets) > asked.parallelism:
        raise ResolveError(
            f"parallelism: {asked.parallelism}: the selection has {len(targets)} pods; choose fewer, or allow more"
        )


def _why_not(pod: Any) -> str:
    """Give the reason why a pod cannot be captured, or nothing."""
    if pod.metadata.deletion_timestamp:
        return "it is being deleted"
    if pod.status.phase != "Running":
        return f"it is {pod.status.phase}"
    return "it uses its node's network" if pod.spec.host_network else ""


def _target(pod: Any) -> Target:
    return Target(
        namespace=pod.metadata.namespace,
        pod=pod.metadata.name,
        uid=_uid(pod),
        node=pod.spec.node_name,
        addresses=[address.ip for address in pod.status.pod_ips or []],
        node_addresses=[pod.status.host_ip] if pod.status.host_ip else [],
        owner=_owner(pod),
        labels=pod.metadata.labels or {},
    )


def _uid(pod: Any) -> str:
    """Give the UID that the node's kubelet uses: a static pod's is not the API's."""
    return str((pod.metadata.annotations or {}).get(STATIC_POD_UID, pod.metadata.uid))


def _owner(pod: Any) -> str:
    """Give KIND/NAME of a pod's controller; a ReplicaSet that a Deployment made counts as the Deployment.

    Such a ReplicaSet is named after the Deployment and the pods' template hash.
    """
    controller = next((ref for ref in pod.metadata.owner_references or [] if ref.controller), None)
    if not controller:
        return ""
    suffix = "-" + (pod.metadata.labels or {}).get("pod-template-hash", "")
    if controller.kind == "ReplicaSet" and suffix != "-" and controller.name.endswith(suffix):
        return f"Deployment/{controller.name.removesuffix(suffix)}"
    return f"{controller.kind}/{controller.name}"


def _services(api: client.ApiClient, namespaces: set[str]) -> Iterator[Service]:
    """Give the services of some namespaces; where they may not be listed, addresses stay numbers."""
    core, discovery = client.CoreV1Api(api), client.DiscoveryV1Api(api)
    for namespace in sorted(namespaces):
        try:
            with explained(f"list services in namespace {namespace}"):
                services: list[Any] = core.list_namespaced_service(namespace).items
                slices = discovery.list_namespaced_endpoint_slice(namespace).items
        except ClusterError:
            continue
        for service in services:
            addresses = [address for address in service.spec.cluster_ips or [] if address != "None"]
            yield Service(
                namespace=namespace,
                name=service.metadata.name,
                addresses=addresses,
                ports=[port.port for port in service.spec.ports or []],
                endpoints=_endpoints(service.metadata.name, slices),
            )


def _endpoints(service: str, slices: Iterable[Any]) -> list[Endpoint]:
    return [
        Endpoint(address=address, pod=endpoint.target_ref.name if endpoint.target_ref else "")
        for part in slices
        if (part.metadata.labels or {}).get("kubernetes.io/service-name") == service
        for endpoint in part.endpoints or []
        for address in endpoint.addresses
    ]


@click.command()
@click.option("--campaign", required=True, help="The campaign's name: the Workflow's.")
@click.option("--namespace", required=True, help="The campaign's namespace.")
@click.option("--workflow-uid", required=True, help="The Workflow's UID: it will own the upload policies.")
@input_options
def main(campaign: str, namespace: str, workflow_uid: str, **values: str) -> None:
    """Resolve a campaign's targets inside the cluster, for campaigns that were not resolved when submitted."""
    try:
        asked = campaign_input(values)
        filters.check_input(asked)
        bucket = Bucket(repository_from_environment())
        bucket.check()
        api = connect()
        plan = resolve(api, asked, campaign=campaign, namespace=namespace)
        put_plan(bucket, plan)
        create_secret(api, plan, bucket.where, workflow_uid)
    except InvalidInputError as error:
        sys.exit(_say(error, 2))
    except (ResolveError, ClusterError, ObjectStoreError) as error:
        sys.exit(_say(error, 1))
    TARGETS.write_text(items(plan))
    for target in plan.targets:
        click.echo(f"{target.name} on {target.node}")
    for pod in plan.left_out:
        click.echo(f"{pod.namespace}/{pod.pod} is left out: {pod.reason}")


def _say(message: object, code: int) -> int:
    click.echo(f"resolve: {message}", err=True)
    return code


if __name__ == "__main__":
    main()
