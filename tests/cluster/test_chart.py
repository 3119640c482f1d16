"""The Helm chart: the objects of the kustomizations, bad values refused, and an upgrade that upgrades CRDs too."""

import importlib.util
import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

PROJECT = Path(__file__).parents[2]
CHART, NAMESPACE = PROJECT / "deploy/chart", "snoopy-operator"
QUICK_START = ("--set", "quickStart=true")

spec = importlib.util.spec_from_file_location("generate", CHART / "generate.py")
assert spec
assert spec.loader
generate = importlib.util.module_from_spec(spec)
spec.loader.exec_module(generate)


def helm(*arguments: str | Path) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(["helm", *arguments], capture_output=True, text=True, check=False)


@pytest.fixture(scope="module", autouse=True)
def _helm() -> None:
    if not shutil.which("helm"):
        pytest.skip("helm is not on PATH")


pytestmark = pytest.mark.usefixtures("kubectl")


def by_name(objects: list[dict[str, Any]]) -> dict[tuple[str, str], dict[str, Any]]:
    return {(each["kind"], each["metadata"]["name"]): each for each in objects if each}


@pytest.mark.parametrize(
    ("kustomization", "values"),
    [
        ("overlays/quick-start", QUICK_START),
        ("overlays/s3", ("--set", "objectStore.endpoint=s3.example.com")),
    ],
)
def test_it_renders_what_the_kustomization_gives(kustomization: str, values: tuple[str, ...]) -> None:
    shown = helm("template", "snoopy", CHART, "--namespace", NAMESPACE, *values)
    assert shown.returncode == 0, shown.stderr
    charted, kustomized = by_name(list(yaml.safe_load_all(shown.stdout))), by_name(generate.rendered(kustomization))
    assert charted.keys() == kustomized.keys()
    for name, each in kustomized.items():
        if name[0] == "CustomResourceDefinition":
            assert charted[name]["metadata"].pop("annotations") == {"helm.sh/resource-policy": "keep"}
        if name == ("ConfigMap", "artifact-repositories"):
            for one in (each, charted[name]):
                one["data"] = yaml.safe_load(one["data"]["snoopy"])
                one["metadata"].pop("labels", None)
        assert charted[name] == each


def test_the_templates_are_current() -> None:
    for name, text in generate.templates().items():
        assert (CHART / "templates" / name).read_text() == text, "run: make manifests"


def test_images_and_namespace_are_the_releases() -> None:
    images = ("--set", "images.snoopy=registry.example.com/snoopy@sha256:ab", "--set", "images.capture=a.example/c:1")
    shown = helm("template", "snoopy", CHART, "--namespace", "team-a", *QUICK_START, *images).stdout
    assert "localhost/snoopy" not in shown
    assert "namespace: snoopy-operator" not in shown
    assert "namespace('snoopy-operator')" not in shown
    assert shown.count("image: registry.example.com/snoopy@sha256:ab") == 4  # resolve, join, salvage, the controller
    assert "image: a.example/c:1" in shown


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ((), "objectStore.endpoint is needed"),
        (("--set", "objectStore.endpoint=https://s3.example.com"), "endpoint"),
        (("--set", "quickStart=yes"), "quickStart"),
        ((*QUICK_START, "--set", "objectStore.endpoint=s3.example.com"), "give one of the two"),
        (("--set", "objectstore.endpoint=s3.example.com"), "objectstore"),
    ],
)
def test_values_that_cannot_be_meant_are_refused(values: tuple[str, ...], sentence: str) -> None:
    refused = helm("template", "snoopy", CHART, *values)
    assert refused.returncode == 1
    assert sentence in refused.stderr


def test_installed_and_upgraded(kubectl: Any, installation: Any, snoopy: Any, shop: Any, tmp_path: Path) -> None:
    """A release of before, whose CRDs lack a field, becomes this one, and runs a campaign."""
    before = tmp_path / "chart"
    shutil.copytree(CHART, before)
    template = before / "templates/snoopy.yaml"
    objects = template.read_text()
    assert "streamLimit:" in objects
    template.write_text(objects.replace("streamLimit:", "streamLimitOfBefore:"))
    crd = ("crd", "snoopydataendpoints.data.fennecproject.io")

    def fields() -> set[str]:
        schema = kubectl.get(*crd)["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
        return set(schema["properties"]["spec"]["properties"])

    def release(verb: str, chart: Path) -> None:
        done = helm(
            verb, "snoopy", chart, "-n", NAMESPACE, "--create-namespace", *QUICK_START, "--wait", "--timeout=3m"
        )
        assert done.returncode == 0, done.stderr

    installation.undeploy()
    try:
        release("install", before)
        assert "streamLimit" not in fields()
        release("upgrade", CHART)
        assert "streamLimit" in fields()
        asked = ("--namespaces", shop.namespace, "--selector", "part=shop", "--duration", "2s", "--wait")
        done = snoopy("submit", *asked)
        assert done.returncode == 0, done.stderr
        assert json.loads(kubectl("get", "tcpdumps", "-A", "-o", "json"))["items"] == []
    finally:
        helm("uninstall", "snoopy", "-n", NAMESPACE, "--wait")
        kubectl("delete", "namespace", NAMESPACE, "--ignore-not-found")
        installation.deploy()
