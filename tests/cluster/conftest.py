"""A cluster with Snoopy on it, a shop whose client counts its own connections, and campaigns on that shop.

The tests install and remove the quick start: they want a cluster where nobody uses Snoopy in earnest.
"""

import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from steps.objects import Bucket
from tests.waiting import eventually
from workflows.cluster import open_cluster
from workflows.progress import read_records
from workflows.store import open_store

HERE = Path(__file__).parent
PROJECT = HERE.parents[1]
NAMESPACE = "snoopy-operator"
OURS = "app.kubernetes.io/created-by=snoopy-tests"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.is_relative_to(HERE):
            item.add_marker(pytest.mark.cluster)


def run(*command: str, **options: Any) -> str:
    """Run a command that must succeed, and give what it printed."""
    done = subprocess.run(command, text=True, capture_output=True, check=False, **options)
    assert done.returncode == 0, f"{' '.join(command)}: {done.stderr or done.stdout}"
    return done.stdout


class Kubectl:
    """kubectl on the cluster of KUBECONFIG."""

    def __call__(self, *arguments: str, **options: Any) -> str:
        return run("kubectl", *arguments, **options)

    def ask(self, *arguments: str) -> str:
        """Give kubectl's answer to a question whose `no` is also an exit code."""
        done = subprocess.run(["kubectl", *arguments], text=True, capture_output=True, check=False)
        return done.stdout.strip()

    def get(self, *arguments: str) -> dict[str, Any]:
        return dict(json.loads(self("get", *arguments, "-o", "json")))

    def items(self, *arguments: str) -> list[dict[str, Any]]:
        return list(self.get(*arguments)["items"])


@pytest.fixture(scope="session")
def kubectl() -> Kubectl:
    if "KUBECONFIG" not in os.environ:
        pytest.skip("KUBECONFIG names no cluster: 'make cluster' starts one")
    if not shutil.which("kubectl"):
        pytest.skip("kubectl is not on PATH")
    return Kubectl()


@pytest.fixture(scope="session")
def argo() -> str:
    found = shutil.which("argo")
    if not found:
        pytest.skip("argo is not on PATH")
    return found


class Installation:
    """Snoopy and its object store on the cluster."""

    def __init__(self, kubectl: Kubectl) -> None:
        self._kubectl = kubectl

    def deploy(self, *variables: str, tree: Path = PROJECT) -> None:
        """Run `make deploy` on the project, or on a tree with its deploy/."""
        run("make", "--file", str(PROJECT / "Makefile"), "deploy", *variables, cwd=tree)

    def undeploy(self, *variables: str, tree: Path = PROJECT) -> None:
        """Run `make undeploy`, likewise."""
        run("make", "--file", str(PROJECT / "Makefile"), "undeploy", *variables, cwd=tree)

    @property
    def bucket(self) -> Bucket:
        return open_store(open_cluster(NAMESPACE)).bucket

    def outside(self) -> str:
        """Give the object store an address on a node, for what uses no tunnel, once it answers there."""
        labels, ports = {"app.kubernetes.io/name": "minio"}, [{"port": 9000}]
        service = {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": "minio-outside"},
            "spec": {"type": "NodePort", "selector": labels, "ports": ports},
        }
        self._kubectl("apply", "-n", NAMESPACE, "-f", "-", input=json.dumps(service))
        port = self._kubectl.get("service", "minio-outside", "-n", NAMESPACE)["spec"]["ports"][0]["nodePort"]
        node = self._kubectl.items("nodes")[0]["status"]["addresses"]
        host = next(each["address"] for each in node if each["type"] == "InternalIP")
        with socket.socket() as probe:
            eventually("the node port answers", lambda: probe.connect_ex((host, port)) == 0)
        return f"{host}:{port}"

    @contextmanager
    def pods(self, manifest: Path, namespace: str) -> Iterator[str]:
        """Run a manifest's pods in a new namespace, in the image that captures: it has Python and iperf3."""
        template = self._kubectl.get("workflowtemplate", "capture-campaign", "-n", NAMESPACE)
        steps = template["spec"]["templates"]
        image = next(step["container"]["image"] for step in steps if step["name"] == "capture")
        nodes = [node["metadata"]["name"] for node in self._kubectl.items("nodes")]
        text = manifest.read_text()
        for word, meant in {"IMAGE": image, "NODE_A": nodes[0], "NODE_B": nodes[-1]}.items():
            text = text.replace(word, meant)
        self._remove(namespace)  # an earlier run may have been cut off; a namespace that is not ours is left alone
        self._kubectl("create", "namespace", namespace)
        self._kubectl("label", "namespace", namespace, OURS)
        try:
            self._kubectl("apply", "-n", namespace, "-f", "-", input=text)
            eventually("pods exist", lambda: self._kubectl.items("pods", "-n", namespace))
            ready = ("pod", "--all", "--for=condition=Ready", "--timeout=60s")
            self._kubectl("wait", "-n", namespace, *ready)
            yield namespace
        finally:
            self._remove(namespace, "--wait=false")

    def _remove(self, namespace: str, *how: str) -> None:
        which = ("--selector", OURS, "--field-selector", f"metadata.name={namespace}")
        self._kubectl("delete", "namespace", *which, *how)


@pytest.fixture(scope="session")
def installation(kubectl: Kubectl) -> Installation:
    """Snoopy, installed. It stays: `make undeploy` is the way to end it."""
    config = ("configmap", "artifact-repositories", "-n", NAMESPACE, "-o", "jsonpath={.data.snoopy}")
    if "endpoint: minio:9000" not in (kubectl.ask("get", *config) or "endpoint: minio:9000"):
        pytest.fail("Snoopy is in use on this cluster, with an object store of its own: the tests would replace it")
    found = Installation(kubectl)
    found.deploy()
    return found


class Shop:
    """The pods of shop.yaml in a namespace of their own."""

    def __init__(self, kubectl: Kubectl, namespace: str) -> None:
        self._kubectl, self.namespace = kubectl, namespace

    def pods(self) -> dict[str, dict[str, Any]]:
        """Give the pods as the API has them, by name."""
        return {pod["metadata"]["name"]: pod for pod in self._kubectl.items("pods", "-n", self.namespace)}

    def addresses(self) -> dict[str, str]:
        return {name: pod["status"]["podIP"] for name, pod in self.pods().items()}

    def service(self) -> str:
        return str(self._kubectl.get("service", "web", "-n", self.namespace)["spec"]["clusterIP"])

    def talk(self, connect: dict[str, int], look_up: dict[str, int] | None = None) -> dict[str, dict[str, int]]:
        """Let the client connect to each ADDRESS:PORT so many times; give what it counted of each."""
        asked = json.dumps({"connect": connect, "look_up": look_up or {}})
        client = ("exec", "-i", "-n", self.namespace, "client", "--", "python3", "-", asked)
        return dict(json.loads(self._kubectl(*client, input=(HERE / "traffic.py").read_text())))


@pytest.fixture
def shop(kubectl: Kubectl, installation: Installation) -> Iterator[Shop]:
    with installation.pods(HERE / "shop.yaml", f"shop-{secrets.token_hex(3)}") as namespace:
        found = Shop(kubectl, namespace)
        servers = [f"{found.addresses()[name]}:8080" for name in ("stock", "web")] + [f"{found.service()}:80"]
        every = dict.fromkeys(servers, 1)
        eventually("the servers answer", lambda: all("succeeded" in n for n in found.talk(every).values()))
        yield found


class Snoopy:
    """The snoopy command, and what its campaigns leave in the object store."""

    def __init__(self, installation: Installation) -> None:
        self._installation = installation

    def __call__(self, *arguments: str, **environment: str) -> "subprocess.CompletedProcess[str]":
        command = [sys.executable, "-m", "workflows.cli", *arguments]
        return subprocess.run(command, text=True, capture_output=True, check=False, env={**os.environ, **environment})

    def submit(self, *arguments: str) -> str:
        """Start a campaign, wait until its captures listen, and give its name."""
        done = self("submit", *arguments)
        assert done.returncode == 0, done.stderr
        name = done.stdout.strip()
        self.listening(name)
        return name

    def listening(self, name: str) -> None:
        """Wait until every target of the campaign is listened to."""
        bucket = self._installation.bucket

        def listen() -> bool:
            plan = json.loads(bucket.get(f"reports/{NAMESPACE}/{name}/plan.json"))
            records = read_records(bucket, NAMESPACE, name)
            interfaces = 2 if plan["input"]["loopback"] else 1
            return sum(bool(record.listening) for record in records) == interfaces * len(plan["targets"])

        eventually(f"{name} listens", listen)

    def report(self, name: str, directory: Path) -> dict[str, Any]:
        """Fetch a campaign's report and captures with `snoopy report`, and give report.json."""
        done = self("report", name, "--captures", "--out", str(directory))
        assert done.returncode == 0, done.stderr
        return dict(json.loads((directory / "report.json").read_text()))


@pytest.fixture
def snoopy(installation: Installation) -> Snoopy:
    return Snoopy(installation)
