"""HTTP to a Service inside the cluster, through the Kubernetes API: `kubectl port-forward` without a local port."""

import socket
from collections.abc import Callable
from typing import Any

from kubernetes.client import ApiClient, ApiException, CoreV1Api, DiscoveryV1Api
from kubernetes.stream import portforward
from urllib3 import HTTPConnectionPool, HTTPSConnectionPool, PoolManager
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import NewConnectionError
from urllib3.util import Timeout

from steps.cluster import NOT_FOUND, ClusterError, explained
from steps.objects import RETRIES

SERVICE_NAME = "kubernetes.io/service-name"


def in_cluster(host: str, namespace: str) -> tuple[str, str] | None:
    """Read a host as (namespace, name) of a Service, as pods in `namespace` would; None when it can be none."""
    match host.removesuffix(".").split("."):
        case [name]:
            return namespace, name
        case [name, other] | [name, other, "svc"] | [name, other, "svc", "cluster", "local"]:
            return other, name
    return None


def tunnel(api: ApiClient, endpoint: str, namespace: str, *, encrypted: bool) -> PoolManager | None:
    """Give an HTTP client whose every connection goes to a ready pod behind the endpoint, HOST[:PORT].

    None when the endpoint is not a Service of this cluster.

    Raises:
        ClusterError: no pod behind the Service is ready.

    """
    host, _, port = endpoint.partition(":")
    service = in_cluster(host, namespace)
    if service is None or host == "localhost":
        return None
    number, finding = int(port or (443 if encrypted else 80)), f"find the pods of service {'/'.join(service)}"
    with explained(finding):
        try:
            _backend(api, *service, number)
        except ApiException as error:
            if error.status != NOT_FOUND:
                raise
            return None

    def connect() -> socket.socket:  # to whichever pod serves by then
        with explained(finding):
            pod, target = _backend(api, *service, number)
        return _forward(api, service[0], pod, target)

    return _client(connect)


def _backend(api: ApiClient, namespace: str, name: str, port: int) -> tuple[str, int]:
    """Give a ready pod behind a Service, and the pod's own number of the Service's port."""
    core: Any = CoreV1Api(api)
    discovery: Any = DiscoveryV1Api(api)
    ports = core.read_namespaced_service(name, namespace).spec.ports
    names = {each.name for each in ports if each.port == port}
    for each in discovery.list_namespaced_endpoint_slice(namespace, label_selector=f"{SERVICE_NAME}={name}").items:
        numbers = [found.port for found in each.ports or [] if (found.name or None) in names]
        pods = [
            endpoint.target_ref.name
            for endpoint in each.endpoints or []
            if endpoint.conditions.ready and endpoint.target_ref and endpoint.target_ref.kind == "Pod"
        ]
        if numbers and pods:
            return pods[0], numbers[0]
    raise ClusterError(f"the object store is not running: no ready pod serves {name}:{port} in namespace {namespace}")


def _forward(api: ApiClient, namespace: str, pod: str, port: int) -> socket.socket:
    """Open one connection to a pod's port."""
    # A client of its own: while it connects, the library replaces the client's methods.
    core = CoreV1Api(ApiClient(api.configuration))
    try:
        opened = portforward(core.connect_get_namespaced_pod_portforward, pod, namespace, ports=str(port))
    except ApiException as error:
        raise ClusterError(
            f"the object store cannot be reached through pod {namespace}/{pod}: {_reason(error)}"
            " (SNOOPY_S3_ENDPOINT may name an address that this machine reaches)"
        ) from None
    return socket.socket(fileno=opened.socket(port).detach())


def _reason(error: ApiException) -> str:
    if "403" in str(error.reason):
        return "permission missing: you may not create pods/portforward there"
    return str(error.reason).partition(" -+-+-")[0]


def _client(connect: Callable[[], socket.socket]) -> PoolManager:
    """Give an HTTP client that connects in its own way; what `connect` cannot do is tried again, and then said."""

    def connected(client: HTTPConnection) -> socket.socket:
        try:
            return connect()
        except ClusterError as error:
            raise NewConnectionError(client, str(error)) from ConnectionError(str(error))

    class Plain(HTTPConnection):
        _new_conn = connected

    class Encrypted(HTTPSConnection):
        _new_conn = connected

    class PlainPool(HTTPConnectionPool):
        ConnectionCls = Plain

    class EncryptedPool(HTTPSConnectionPool):
        ConnectionCls = Encrypted

    client = PoolManager(timeout=Timeout(connect=10, read=60), retries=RETRIES)
    client.pool_classes_by_scheme = {"http": PlainPool, "https": EncryptedPool}
    return client
