"""A campaign's object store: where the cluster says it is, and how this machine reaches it."""

import base64
import os
from dataclasses import dataclass, replace
from typing import Any

from kubernetes.client import ApiException

from steps.cluster import NOT_FOUND, ClusterError, explained
from steps.objects import Bucket, Repository, repository
from workflows.cluster import Cluster
from workflows.tunnel import tunnel

CONFIG_MAP, KEY, SECRET = "artifact-repositories", "snoopy", "snoopy-s3"


@dataclass(frozen=True)
class Store:
    """An object store: `repository` as pods reach it, `bucket` as this machine does, `tunnelled` or not."""

    repository: Repository
    bucket: Bucket
    tunnelled: bool = False


def open_store(cluster: Cluster) -> Store:
    """Open the object store that the campaign namespace's artifact repository names.

    SNOOPY_S3_ENDPOINT (HOST:PORT, http://... or https://...) replaces its address on this machine. An address
    that only pods know is reached through the Kubernetes API.

    Raises:
        ClusterError: the namespace has no artifact repository or no credentials for it, or no pod serves it.
        ObjectStoreError: the artifact repository cannot be used.

    """
    text = _read(cluster, "ConfigMap", CONFIG_MAP).get(KEY, "")
    keys = _read(cluster, "Secret", SECRET)
    try:
        access_key, secret_key = (base64.b64decode(keys[key]).decode() for key in ("accesskey", "secretkey"))
    except KeyError as error:
        raise ClusterError(f"Secret {SECRET} in namespace {cluster.namespace} has no key {error}") from None
    for_pods = repository(text, access_key, secret_key)
    if address := os.environ.get("SNOOPY_S3_ENDPOINT"):
        return Store(for_pods, Bucket(_at(address, for_pods)))
    if "KUBERNETES_SERVICE_HOST" in os.environ:  # in a pod its address is as good as any pod's
        return Store(for_pods, Bucket(for_pods))
    http = tunnel(cluster.api, for_pods.endpoint, cluster.namespace, encrypted=not for_pods.insecure)
    return Store(for_pods, Bucket(for_pods, http), tunnelled=http is not None)


def _at(address: str, where: Repository) -> Repository:
    scheme, given, endpoint = address.rpartition("://")
    return replace(where, endpoint=endpoint.rstrip("/"), insecure=scheme == "http" if given else where.insecure)


def _read(cluster: Cluster, kind: str, name: str) -> dict[str, str]:
    read: Any = cluster.core.read_namespaced_secret if kind == "Secret" else cluster.core.read_namespaced_config_map
    with explained(f"get {kind} {cluster.namespace}/{name}"):
        try:
            return dict(read(name, cluster.namespace).data or {})
        except ApiException as error:
            if error.status != NOT_FOUND:
                raise
    raise ClusterError(f"namespace {cluster.namespace} has no {kind} {name}: run 'make deploy'")
