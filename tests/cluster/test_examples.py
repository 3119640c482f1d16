"""Every example runs: submitted with the user's kubeconfig, and with Hera's own create() to the Argo server."""

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hera.workflows import WorkflowsService

from workflows.userfile import load

HERE = Path(__file__).parent
EXAMPLES = HERE.parents[1] / "examples"
PYTHON = ["web_pods", "during_load", "throughput"]
NAMESPACE = "snoopy-operator"


@pytest.fixture(scope="module", autouse=True)
def _examples_shop(installation: Any) -> Iterator[None]:
    with installation.pods(HERE / "examples.yaml", "shop"):
        yield


def succeeded(snoopy: Any, directory: Path, names: dict[str, str]) -> None:
    """Wait for the campaigns of the examples, and check what each reported."""
    for example, name in names.items():
        waited = snoopy("wait", name)
        assert waited.returncode == 0, f"{example}: {waited.stderr}"
        report = snoopy.report(name, directory / name)
        pods = {target["pod"].rpartition("-")[0].partition("-")[0] for target in report["targets"]}
        assert pods == {"web_pods": {"web"}, "during_load": {"web"}, "throughput": {"agent"}}[example]
        if example == "throughput":
            assert report["iperf"][0]["bits_per_second"] > 1e6
        if example == "during_load":
            succeeded = [pair["connections"].get("succeeded", 0) for pair in report["pairs"]]
            assert sum(succeeded) >= 50, "the load makes a hundred requests"


def test_through_the_kubernetes_api(snoopy: Any, tmp_path: Path) -> None:
    names = {}
    for example in PYTHON:
        done = snoopy("submit", str(EXAMPLES / f"{example}.py"))
        assert done.returncode == 0, done.stderr
        names[example] = done.stdout.strip()
    file = snoopy("submit", "-f", str(EXAMPLES / "campaign.yaml"), "--duration", "5s", "--wait")
    assert file.returncode == 0, file.stderr
    report = snoopy.report(file.stdout.strip(), tmp_path / "file")
    assert sorted(target["pod"].partition("-")[0] for target in report["targets"]) == ["db", "web", "web"]
    succeeded(snoopy, tmp_path, names)


@pytest.fixture
def argo_server(kubectl: Any) -> Iterator[WorkflowsService]:
    """Give the Argo server as a service account that may submit Workflows reaches it."""
    kubectl("create", "serviceaccount", "submitter", "-n", NAMESPACE)
    subject = f"--serviceaccount={NAMESPACE}:submitter"
    kubectl("create", "rolebinding", "submitter", "-n", NAMESPACE, "--clusterrole=edit", subject)
    token = kubectl("create", "token", "submitter", "-n", NAMESPACE).strip()
    command = ["kubectl", "port-forward", "-n", "argo", "service/argo-server", ":2746"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as tunnel:
        try:
            assert tunnel.stdout
            port = tunnel.stdout.readline().split("127.0.0.1:")[1].split()[0]
            yield WorkflowsService(
                host=f"https://127.0.0.1:{port}", token=f"Bearer {token}", namespace=NAMESPACE, verify_ssl=False
            )
        finally:
            tunnel.terminate()
            kubectl("delete", "rolebinding,serviceaccount", "submitter", "-n", NAMESPACE)


@pytest.mark.filterwarnings(
    "ignore:Unverified HTTPS request",  # the server signs its own certificate
    "ignore::pydantic.warnings.PydanticDeprecatedSince20",  # in Hera
)
def test_through_the_argo_server(argo_server: WorkflowsService, snoopy: Any, tmp_path: Path) -> None:
    names = {}
    for example in PYTHON:
        workflow = load(EXAMPLES / f"{example}.py")
        workflow.workflows_service = argo_server
        names[example] = workflow.create().metadata.name
    succeeded(snoopy, tmp_path, names)


def test_with_the_argo_command(argo: str, kubectl: Any, snoopy: Any, tmp_path: Path) -> None:
    parameters = {"namespaces": "shop", "selector": "app=web", "duration": "5s"}
    given = [word for name, value in parameters.items() for word in ("-p", f"{name}={value}")]
    source = ("--from", "workflowtemplate/capture-campaign")
    done = subprocess.run(
        [argo, "submit", "-n", NAMESPACE, *source, *given, "--wait", "-o", "json"],
        text=True,
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    name = json.JSONDecoder().raw_decode(done.stdout[done.stdout.index("{") :])[0]["metadata"]["name"]
    assert kubectl.get("workflow", name, "-n", NAMESPACE)["status"]["phase"] == "Succeeded"
    report = snoopy.report(name, tmp_path)
    assert {target["outcome"] for target in report["targets"]} <= {"captured", "no_traffic"}
    assert len(report["targets"]) == 2
