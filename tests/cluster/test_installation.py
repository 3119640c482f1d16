"""What is installed can do its work and no more, and is gone without a trace when it is removed."""

import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

NAMESPACE = "snoopy-operator"
DEPLOY = Path(__file__).parents[2] / "deploy"


def run(*command: str, cwd: Path) -> str:
    return subprocess.run(command, cwd=cwd, text=True, capture_output=True, check=True).stdout


@pytest.mark.parametrize(
    ("account", "may", "what"),
    [
        ("snoopy-resolve", "yes", ("list", "pods", "-A")),
        ("snoopy-resolve", "yes", ("create", "secrets")),
        ("snoopy-resolve", "no", ("get", "secrets")),
        ("snoopy-resolve", "no", ("create", "secrets", "-n", "default")),
        ("snoopy-resolve", "no", ("create", "pods", "--subresource=exec")),
        ("snoopy-workflow", "yes", ("create", "workflowtaskresults.argoproj.io")),
        ("snoopy-workflow", "no", ("get", "pods")),
        ("snoopy-workflow", "no", ("get", "secrets")),
        ("snoopy-controller", "yes", ("list", "tcpdumps.pcap.fennecproject.io", "-A")),
        ("snoopy-controller", "yes", ("create", "workflows.argoproj.io")),
        ("snoopy-controller", "no", ("create", "workflows.argoproj.io", "-n", "default")),
        ("snoopy-controller", "no", ("create", "pods", "--subresource=exec", "-A")),
        ("snoopy-controller", "no", ("get", "secrets")),
        ("snoopy-controller", "no", ("get", "pods", "-A")),
    ],
)
@pytest.mark.usefixtures("installation")
def test_least_privilege(kubectl: Any, account: str, may: str, what: tuple[str, ...]) -> None:
    who = f"--as=system:serviceaccount:{NAMESPACE}:{account}"
    where = () if "-n" in what or "-A" in what else ("-n", NAMESPACE)
    command = ("auth", "can-i", *what, *where, who)
    answer = kubectl.ask(*command)
    assert answer == may


def test_nothing_is_left(kubectl: Any, installation: Any) -> None:
    def kinds(where: str) -> str:
        return ",".join(kubectl("api-resources", "--verbs=list", where, "-o", "name").split())

    def ours() -> list[str]:
        label = ("-l", "app.kubernetes.io/part-of=snoopy", "-o", "name")
        inside = kubectl("get", kinds("--namespaced=true"), "-n", NAMESPACE, "-o", "name")
        return [*kubectl("get", kinds("--namespaced=false"), *label).split(), *inside.split()]

    crd = "customresourcedefinition.apiextensions.k8s.io/tcpdumps.pcap.fennecproject.io"
    there = {f"namespace/{NAMESPACE}", "deployment.apps/minio", "configmap/artifact-repositories", crd}
    assert there <= set(ours())
    installation.undeploy()
    try:
        assert ours() == []
    finally:
        installation.deploy()


def test_upgraded_from_the_version_before(
    kubectl: Any, installation: Any, snoopy: Any, shop: Any, tmp_path: Path
) -> None:
    """What was installed before there were resources and a controller, version 0.1.0, becomes this by `make deploy`."""
    first = ("log", "--diff-filter=A", "--format=%H", "--", "crds/kustomization.yaml")
    commit = run("git", *first, cwd=DEPLOY.parent).split()[-1]
    archive = tmp_path / "before.tar"
    run("git", "archive", f"--output={archive}", f"{commit}^", "deploy", cwd=DEPLOY.parent)
    shutil.unpack_archive(archive, tmp_path)
    asked = ("--namespaces", shop.namespace, "--selector", "part=shop", "--duration", "2s")
    installation.undeploy()
    try:
        installation.deploy(tree=tmp_path)
        assert not kubectl.ask("get", "deployment", "snoopy-controller", "-n", NAMESPACE, "-o", "name")
        before = {**template(kubectl)["metadata"]}
    finally:
        installation.deploy()
    assert template(kubectl)["metadata"]["uid"] == before["uid"]
    assert template(kubectl)["metadata"]["generation"] > before["generation"]
    assert kubectl.items("tcpdumps", "-A") == []
    done = snoopy("submit", *asked, "--wait")
    assert done.returncode == 0, done.stderr


def template(kubectl: Any) -> dict[str, Any]:
    return dict(kubectl.get("workflowtemplate", "capture-campaign", "-n", NAMESPACE))


def test_an_object_store_that_exists(kubectl: Any, installation: Any, snoopy: Any, shop: Any, tmp_path: Path) -> None:
    """The overlay s3, after its file is edited and its Secret made, as the README says."""
    minio, keys = DEPLOY / "overlays/quick-start/minio.yaml", ("accesskey=elsewhere", "secretkey=of-its-own")
    secret = ("create", "secret", "generic", "snoopy-s3", *(f"--from-literal={key}" for key in keys))
    service = minio.read_text()
    kubectl(*secret, "-n", shop.namespace)
    kubectl("apply", "-n", shop.namespace, "-f", "-", input=service)
    kubectl("rollout", "status", "deployment/minio", "-n", shop.namespace, "--timeout=120s")

    for part in ("deploy", "crds"):
        shutil.copytree(DEPLOY.parent / part, tmp_path / part)
    config = tmp_path / "deploy/overlays/s3/artifact-repositories.yaml"
    endpoint = f"endpoint: minio.{shop.namespace}:9000\n      insecure: true"
    config.write_text(config.read_text().replace("endpoint: s3.example.com", endpoint))
    installation.undeploy()
    try:
        kubectl("create", "namespace", NAMESPACE)
        kubectl(*secret, "-n", NAMESPACE)
        installation.deploy("OVERLAY=s3", tree=tmp_path)
        asked = ("--namespaces", shop.namespace, "--selector", "part=shop", "--duration", "2s")
        done = snoopy("submit", *asked, "--wait")
        assert done.returncode == 0, done.stderr
        assert len(snoopy.report(done.stdout.strip(), tmp_path / "report")["targets"]) == 3
    finally:
        installation.undeploy("OVERLAY=s3", tree=tmp_path)
        installation.deploy()
