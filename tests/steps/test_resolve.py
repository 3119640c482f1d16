"""Resolving against a Kubernetes API that answers as a real one does: which pods become targets, and why others not."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any
from urllib.parse import parse_qs, urlparse

import pytest
from kubernetes import client

from steps.campaign_input import campaign_input
from steps.cluster import ClusterError
from steps.handover import create_secret, items
from steps.objects import Repository
from steps.plan import Plan
from steps.resolve import ResolveError, resolve


def pod(name: str, *, owner: str = "", node: str = "node-1", phase: str = "Running", **more: Any) -> dict[str, Any]:
    """A pod of the namespace shop."""
    kind, _, controller = owner.partition("/")
    labels = {"app": name.partition("-")[0]}
    if kind == "ReplicaSet":
        labels["pod-template-hash"] = controller.rpartition("-")[2]
    reference = {"apiVersion": "apps/v1", "kind": kind, "name": controller, "uid": "1", "controller": True}
    return {
        "metadata": {
            "name": name,
            "namespace": "shop",
            "uid": f"uid-of-{name}",
            "labels": labels,
            "ownerReferences": [reference] if owner else [],
            **more.pop("metadata", {}),
        },
        "spec": {"nodeName": node, "containers": [{"name": "main"}], **more.pop("spec", {})},
        "status": {"phase": phase, "podIPs": [{"ip": "10.0.0.1"}, {"ip": "fd00::1"}], "hostIP": "192.0.2.1"},
    }


PODS = [
    pod("web-5d-x", owner="ReplicaSet/web-5d"),
    pod("web-5d-y", owner="ReplicaSet/web-5d", node="node-2"),
    pod("db-0", owner="StatefulSet/db"),
    pod("agent-1", owner="DaemonSet/agent", spec={"hostNetwork": True}),
    pod("import-1", owner="Job/import", phase="Succeeded"),
    pod("old-1", metadata={"deletionTimestamp": "2026-01-01T00:00:00Z"}),
    pod("run-resolve-7", metadata={"labels": {"workflows.argoproj.io/workflow": "run"}}),
    pod("static-node-1", metadata={"annotations": {"kubernetes.io/config.hash": "0123456789abcdef"}}),
]
SERVICE = {
    "metadata": {"name": "web"},
    "spec": {"clusterIP": "10.96.0.9", "clusterIPs": ["10.96.0.9"], "ports": [{"port": 80}]},
}
SLICE = {
    "metadata": {"labels": {"kubernetes.io/service-name": "web"}},
    "addressType": "IPv4",
    "endpoints": [{"addresses": ["10.0.0.1"], "targetRef": {"kind": "Pod", "name": "web-5d-x"}}],
}


class Api(HTTPServer):
    """Enough of a Kubernetes API: lists by path, label selectors of the form key=value, and refusals."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.lists: dict[str, list[Any]] = {
            "/api/v1/namespaces/shop/pods": PODS,
            "/api/v1/namespaces/shop/services": [SERVICE],
            "/apis/discovery.k8s.io/v1/namespaces/shop/endpointslices": [SLICE],
        }
        self.objects: dict[str, Any] = {"/api/v1/namespaces/shop": {"metadata": {"name": "shop"}}}
        self.refused: set[str] = set()
        self.created: list[Any] = []


class _Handler(BaseHTTPRequestHandler):
    server: Api

    def do_GET(self) -> None:
        path, query = urlparse(self.path).path, parse_qs(urlparse(self.path).query)
        if path in self.server.refused:
            self._answer(403, {"message": f"forbidden: {path}"})
        elif path in self.server.lists:
            key, _, value = query.get("labelSelector", [""])[0].partition("=")
            wanted = [i for i in self.server.lists[path] if not key or i["metadata"]["labels"].get(key) == value]
            self._answer(200, {"items": wanted})
        elif path in self.server.objects:
            self._answer(200, self.server.objects[path])
        elif path.endswith(("/pods", "/services", "/endpointslices")):
            self._answer(200, {"items": []})
        else:
            self._answer(404, {"message": f"{path} not found"})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.created.append(body)
        self._answer(201, body)

    def _answer(self, status: int, body: Any) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Api]:
    with Api() as running:
        thread = threading.Thread(target=running.serve_forever, args=(0.01,))
        thread.start()
        yield running
        running.shutdown()
        thread.join()


@pytest.fixture
def api(server: Api) -> Iterator[client.ApiClient]:
    configuration = client.Configuration(host=f"http://127.0.0.1:{server.server_port}")
    configuration.retries = 0
    with client.ApiClient(configuration) as connected:
        yield connected


def planned(api: client.ApiClient, **values: str) -> Plan:
    asked = campaign_input({"namespaces": "shop", **values})
    return resolve(api, asked, campaign="run", namespace="snoopy-operator")


@pytest.mark.parametrize(
    ("values", "names"),
    [
        ({"selector": "app=web"}, ["web-5d-x", "web-5d-y"]),
        ({"pods": "web-*,db-0"}, ["db-0", "web-5d-x", "web-5d-y"]),
        ({"owners": "deploy/web"}, ["web-5d-x", "web-5d-y"]),
        ({"owners": "deploy/web", "nodes": "node-2"}, ["web-5d-y"]),
        ({"owners": "sts/db deploy/web", "pods": "*-0,*-x"}, ["db-0", "web-5d-x"]),
        ({"pods": "*"}, ["db-0", "static-node-1", "web-5d-x", "web-5d-y"]),
    ],
)
def test_a_pod_is_a_target_when_it_matches_every_criterion(
    api: client.ApiClient, values: dict[str, str], names: list[str]
) -> None:
    assert [target.pod for target in planned(api, **values).targets] == names


def test_a_target_is_what_its_node_and_a_report_need(api: client.ApiClient) -> None:
    (target,) = planned(api, pods="web-5d-x").targets
    assert target.model_dump() == {
        "namespace": "shop",
        "pod": "web-5d-x",
        "uid": "uid-of-web-5d-x",
        "node": "node-1",
        "addresses": ["10.0.0.1", "fd00::1"],
        "node_addresses": ["192.0.2.1"],
        "owner": "Deployment/web",
        "labels": {"app": "web", "pod-template-hash": "5d"},
    }


def test_a_static_pod_has_the_uid_that_its_kubelet_knows(api: client.ApiClient) -> None:
    (target,) = planned(api, pods="static-*").targets
    assert target.uid == "0123456789abcdef"


def test_pods_that_cannot_be_captured_are_left_out_with_the_reason(api: client.ApiClient) -> None:
    assert {pod.pod: pod.reason for pod in planned(api, pods="*").left_out} == {
        "agent-1": "it uses its node's network",
        "import-1": "it is Succeeded",
        "old-1": "it is being deleted",
    }


def test_services_give_names_to_addresses(api: client.ApiClient) -> None:
    (service,) = planned(api, pods="db-0").services
    assert (service.namespace, service.name, service.addresses, service.ports) == ("shop", "web", ["10.96.0.9"], [80])
    assert [(end.address, end.pod) for end in service.endpoints] == [("10.0.0.1", "web-5d-x")]


def test_without_the_right_to_list_services_addresses_stay_numbers(server: Api, api: client.ApiClient) -> None:
    server.refused.add("/api/v1/namespaces/shop/services")
    plan = planned(api, pods="db-0")
    assert plan.targets
    assert not plan.services


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"namespaces": "nope", "pods": "*"}, "namespaces: 'nope': no such namespace"),
        ({"pods": "web-5d-x,cache-*"}, "pods: 'cache-*': no such pod in namespaces shop"),
        ({"owners": "deploy/db"}, "owners: 'Deployment/db': has no pod in namespaces shop"),
        ({"selector": "app=none"}, "no target: no running pod matches namespaces: shop, selector: app=none"),
        ({"selector": "app=import"}, "no target: no running pod matches namespaces: shop, selector: app=import; "),
        ({"pods": "*", "parallelism": "3"}, "parallelism: 3: the selection has 4 pods; choose fewer, or allow more"),
    ],
)  # fmt: skip
def test_nothing_to_plan_is_one_sentence(api: client.ApiClient, values: dict[str, str], sentence: str) -> None:
    with pytest.raises(ResolveError) as error:
        planned(api, **values)
    assert str(error.value).startswith(sentence)


def test_a_missing_right_is_named(server: Api, api: client.ApiClient) -> None:
    server.refused.add("/api/v1/namespaces/shop/pods")
    with pytest.raises(ClusterError, match=r"cannot list pods in namespace shop.*: forbidden"):
        planned(api, pods="*")


def test_an_api_that_is_not_there() -> None:
    configuration = client.Configuration(host="http://127.0.0.1:1")
    configuration.retries = 0
    with (
        client.ApiClient(configuration) as nobody,
        pytest.raises(ClusterError, match="the Kubernetes API cannot be reached: NewConnectionError"),
    ):
        planned(nobody, pods="*")


def test_what_is_handed_over(server: Api, api: client.ApiClient) -> None:
    plan = planned(api, owners="deploy/web")
    assert json.loads(items(plan))[1] == {"id": "uid-of-web-5d-y", "node": "node-2", "target": "shop/web-5d-y"}
    where = Repository("minio:9000", "snoopy", "access", "very-secret", insecure=True)
    create_secret(api, plan, where, workflow_uid="workflow-uid")
    (secret,) = server.created
    assert secret["metadata"]["ownerReferences"][0]["uid"] == "workflow-uid"
    policy = json.loads(secret["stringData"]["uid-of-web-5d-x"])
    assert policy["url"] == "http://minio:9000/snoopy"
    assert "very-secret" not in json.dumps(secret)
