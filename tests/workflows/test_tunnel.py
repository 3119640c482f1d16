"""Which addresses are Services of the cluster, and reaching one through the Kubernetes API."""

import secrets
from typing import Any

import pytest

from steps.cluster import ClusterError
from steps.objects import ObjectStoreError
from workflows.cluster import Cluster, open_cluster
from workflows.store import open_store
from workflows.tunnel import in_cluster, tunnel

NAMESPACE = "snoopy-operator"


@pytest.mark.parametrize(
    ("host", "service"),
    [
        ("minio", ("here", "minio")),
        ("minio.store", ("store", "minio")),
        ("minio.store.svc", ("store", "minio")),
        ("minio.store.svc.cluster.local.", ("store", "minio")),
        ("s3.eu-west-1.amazonaws.com", None),
        ("10.0.0.1", None),
    ],
)
def test_a_services_name_as_pods_read_it(host: str, service: tuple[str, str] | None) -> None:
    assert in_cluster(host, "here") == service


def test_an_address_that_is_no_service_needs_no_tunnel(cluster: Cluster) -> None:
    assert tunnel(cluster.api, "s3.example:443", NAMESPACE, encrypted=True) is None
    assert tunnel(cluster.api, "s3.eu-west-1.amazonaws.com", NAMESPACE, encrypted=True) is None


@pytest.fixture
def service(api: Any) -> dict[str, Any]:
    """A Service `minio` and its endpoints, so far without a pod."""
    meta = {"name": "minio", "labels": {"kubernetes.io/service-name": "minio"}}
    core, discovery = f"/api/v1/namespaces/{NAMESPACE}", f"/apis/discovery.k8s.io/v1/namespaces/{NAMESPACE}"
    api.objects[f"{core}/services/minio"] = {"metadata": meta, "spec": {"ports": [{"port": 9000, "name": "s3"}]}}
    endpoints = {"metadata": meta, "addressType": "IPv4", "ports": [{"port": 9001, "name": "s3"}], "endpoints": []}
    api.objects[f"{discovery}/endpointslices/minio-x"] = endpoints
    return endpoints


def endpoint(pod: str, *, ready: bool) -> dict[str, Any]:
    return {
        "addresses": ["10.0.0.9"],
        "conditions": {"ready": ready},
        "targetRef": {"kind": "Pod", "name": pod},
    }


def test_a_service_without_a_ready_pod(cluster: Cluster, service: dict[str, Any]) -> None:
    service["endpoints"] = [endpoint("minio-0", ready=False)]
    with pytest.raises(ClusterError, match="no ready pod serves minio:9000"):
        tunnel(cluster.api, "minio:9000", NAMESPACE, encrypted=False)


def test_without_the_right_to_forward_ports_it_says_so(cluster: Cluster, api: Any, service: dict[str, Any]) -> None:
    service["endpoints"] = [endpoint("minio-0", ready=False), endpoint("minio-1", ready=True)]
    api.refusals["GET", "/portforward$"] = (403, "no")
    bucket = open_store(cluster).bucket
    with pytest.raises(ObjectStoreError, match=r"may not create pods/portforward there .SNOOPY_S3_ENDPOINT may name"):
        bucket.check()
    assert ("GET", f"/api/v1/namespaces/{NAMESPACE}/pods/minio-1/portforward") in api.asked


def test_each_try_asks_which_pod_serves_by_then(cluster: Cluster, api: Any, service: dict[str, Any]) -> None:
    service["endpoints"] = [endpoint("minio-0", ready=True)]
    bucket = open_store(cluster).bucket
    api.refusals["GET", "/portforward$"] = (500, "no")
    slices = f"/apis/discovery.k8s.io/v1/namespaces/{NAMESPACE}/endpointslices"
    answer, pods = api.answer, iter([[], [endpoint("minio-1", ready=True)]])

    def restarting(method: str, path: str, query: dict[str, str], data: bytes) -> Any:
        if path == slices:
            service["endpoints"] = next(pods, service["endpoints"])
        return answer(method, path, query, data)

    api.answer = restarting
    with pytest.raises(ObjectStoreError, match=f"through pod {NAMESPACE}/minio-1"):
        bucket.check()
    forwarded = [path.split("/")[-2] for _, path in api.asked if path.endswith("/portforward")]
    assert forwarded == ["minio-1", "minio-1"]  # of three tries the first found no pod


def test_in_a_pod_the_store_is_reached_as_by_any_pod(
    cluster: Cluster, service: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    service["endpoints"] = [endpoint("minio-1", ready=True)]
    assert open_store(cluster).tunnelled
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.96.0.1")
    assert not open_store(cluster).tunnelled


@pytest.mark.cluster
def test_megabytes_go_through_the_kubernetes_api_and_come_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SNOOPY_S3_ENDPOINT", raising=False)
    try:
        store = open_store(open_cluster(NAMESPACE))
    except ClusterError as error:
        pytest.skip(str(error))
    if not store.tunnelled:
        pytest.skip(f"the object store {store.repository.endpoint} is outside the cluster")
    data, key = secrets.token_bytes(3_000_000), f"tests/{secrets.token_hex(8)}"
    store.bucket.put(key, data)
    try:
        assert store.bucket.get(key) == data
    finally:
        store.bucket.remove(key)
    assert key not in store.bucket.keys("tests/")
