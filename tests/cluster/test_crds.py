"""The API server takes every example of a resource, and says in a sentence what is wrong with another."""

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

EXAMPLES = sorted((Path(__file__).parents[2] / "crds/examples").glob("*.yaml"))
pytestmark = pytest.mark.usefixtures("installation")


def applied(resource: dict[str, Any], *flags: str) -> "subprocess.CompletedProcess[str]":
    """Ask the API server, which writes nothing, what it thinks of a resource."""
    command = ["kubectl", "apply", "--dry-run=server", "--namespace=default", "-f", "-", *flags]
    return subprocess.run(command, input=json.dumps(resource), capture_output=True, text=True, check=False)


def resource(kind: str, **spec: Any) -> dict[str, Any]:
    group = {"Tcpdump": "pcap", "SnoopyJob": "job", "SnoopyDataEndpoint": "data"}[kind]
    needed = {
        "Tcpdump": {"targetNamespace": "default", "podLabel": {"app": "web"}},
        "SnoopyJob": {"targetNamespace": "default", "labelSelector": {"app": "web"}, "command": "ss"},
        "SnoopyDataEndpoint": {},
    }
    asked = {name: value for name, value in (needed[kind] | spec).items() if value is not None}
    meta = {"name": "sample"}
    return {"apiVersion": f"{group}.fennecproject.io/v1alpha1", "kind": kind, "metadata": meta, "spec": asked}


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_examples(kubectl: Any, example: Path) -> None:
    kubectl("apply", "--dry-run=server", "-f", str(example))


@pytest.mark.parametrize(
    ("kind", "spec", "sentence"),
    [
        ("Tcpdump", {"targetNamespace": None}, "spec.targetNamespace: Required value"),
        ("Tcpdump", {"podLabel": {}}, "spec.podLabel: Invalid value: 0: spec.podLabel in body should have at least 1"),
        ("Tcpdump", {"targetNamespace": "a,kube-system"}, "the name of one namespace is needed"),
        ("SnoopyJob", {"targetNamespace": "{{workflow.name}}"}, "the name of one namespace is needed"),
        ("Tcpdump", {"packetCount": 0}, "spec.packetCount: Invalid value: 0"),
        ("Tcpdump", {"duration": "soon"}, "a duration such as 30s, 1m30s, 2h or 1d is needed"),
        ("Tcpdump", {"filter": "-z id"}, "it may neither begin with '-', as an option would"),
        ("Tcpdump", {"filter": "host {{x}}"}, "nor hold '{{', which Argo would expand"),
        ("Tcpdump", {"interfaceName": "eth0; id"}, "letters, digits and . _ @ : - are allowed"),
        ("Tcpdump", {"schedule": "now and then"}, "five fields such as '*/15 * * * *', or @hourly"),
        ("Tcpdump", {"suspend": True}, "schedule is missing: suspend, timeZone"),
        ("Tcpdump", {"name": "Test_Pcap"}, "only a-z, 0-9 and - are allowed"),
        ("Tcpdump", {"concurrencyPolicy": "Sometimes", "schedule": "@daily"}, 'supported values: "Allow", "Forbid"'),
        ("SnoopyJob", {"command": "sh"}, "tcpdump, iperf3, iperf, ping, traceroute, ss, ip, tc, nstat and ethtool are"),
        ("SnoopyJob", {"timer": "5"}, "a duration such as 30s, 1m30s, 2h or 1d is needed"),
        ("SnoopyJob", {"dataServicePort": "51001"}, "dataServiceIP and dataServicePort are needed together"),
        ("SnoopyJob", {"dataServiceTLS": True}, "dataServiceIP and dataServicePort are missing"),
        ("SnoopyJob", {"dataServiceIP": "a/b", "dataServicePort": "1"}, "an address or a DNS name is needed"),
        ("SnoopyJob", {"dataServiceIP": "a.b", "dataServicePort": "70000"}, "a number from 1 to 65535, as text"),
        ("SnoopyJob", {"args": "{{workflow.name}}"}, "it may not hold '{{', which Argo would expand"),
        ("SnoopyDataEndpoint", {"servicePort": 80}, "a port from 1024 to 65535 is needed"),
        ("SnoopyDataEndpoint", {"serviceName": "My.Service"}, "only a-z, 0-9 and - are allowed"),
        ("SnoopyDataEndpoint", {"streamLimit": "1GB"}, "a size such as 512KiB, 64MiB or 1GiB is needed"),
    ],
)
def test_what_is_wrong(kind: str, spec: dict[str, Any], sentence: str) -> None:
    refused = applied(resource(kind, **spec))
    assert refused.returncode == 1
    assert sentence in refused.stderr


@pytest.mark.parametrize("kind", ["Tcpdump", "SnoopyJob", "SnoopyDataEndpoint"])
def test_a_name_that_can_be_no_label(kind: str) -> None:
    assert applied(resource(kind) | {"metadata": {"name": "n" * 63}}).returncode == 0
    refused = applied(resource(kind) | {"metadata": {"name": "n" * 64}})
    assert "metadata.name: at most 63 characters are allowed, for it becomes a label" in refused.stderr


def test_what_a_schedules_campaigns_are_found_by_cannot_be_changed(kubectl: Any) -> None:
    paused = {"name": "web", "schedule": "0 0 1 1 *", "suspend": True}
    kubectl("apply", "-n", "default", "-f", "-", input=json.dumps(resource("Tcpdump", **paused)))
    try:
        for name in ("db", None):
            refused = applied(resource("Tcpdump", **{**paused, "name": name}))
            assert "name: it cannot be changed, for a schedule's campaigns are found by it" in refused.stderr
        assert applied(resource("Tcpdump", **{**paused, "filter": "port 80"})).returncode == 0
    finally:
        kubectl("delete", "tcpdump", "sample", "-n", "default")


@pytest.fixture
def somebody(kubectl: Any) -> Iterator[str]:
    """Somebody with every right on the resources, and none on pods or Deployments."""
    groups = [f"{group}.fennecproject.io" for group in ("pcap", "job", "data")]
    role = {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRole",
        "metadata": {"name": "snoopy-tests-resources"},
        "rules": [{"apiGroups": groups, "resources": ["*"], "verbs": ["*"]}],
    }
    kubectl("apply", "-f", "-", input=json.dumps(role))
    named = ("clusterrolebinding", "snoopy-tests-resources")
    kubectl("create", *named, "--clusterrole=snoopy-tests-resources", "--user=somebody")
    yield "--as=somebody"
    kubectl("delete", *named)
    kubectl("delete", "clusterrole", "snoopy-tests-resources")
    kubectl("delete", "rolebinding", "snoopy-tests", "-n", "default", "--ignore-not-found")


def test_who_may_not_run_commands_in_pods_may_not_capture_at_them(kubectl: Any, somebody: str) -> None:
    for kind in ("Tcpdump", "SnoopyJob"):
        refused = applied(resource(kind), somebody)
        assert "permission missing: you may not create pods/exec in it" in refused.stderr, refused.stderr
    kubectl("create", "rolebinding", "snoopy-tests", "-n", "default", "--clusterrole=admin", "--user=somebody")
    assert applied(resource("Tcpdump"), somebody).returncode == 0
    refused = applied(resource("Tcpdump", targetNamespace="kube-system"), somebody)
    assert "targetNamespace: 'kube-system': permission missing" in refused.stderr


def test_nor_may_they_change_what_is_captured(kubectl: Any, somebody: str) -> None:
    paused = {"schedule": "0 0 1 1 *", "suspend": True, "targetNamespace": "default"}
    name = ("tcpdump", "sample", "-n", "default")
    kubectl("apply", "-n", "default", "-f", "-", input=json.dumps(resource("Tcpdump", **paused)))
    try:
        refused = applied(resource("Tcpdump", **{**paused, "filter": "port 80"}), somebody)
        assert "permission missing: you may not create pods/exec" in refused.stderr
        kubectl("annotate", *name, "of=mine", somebody)
        kubectl("delete", *name, somebody, "--timeout=60s")
    finally:
        kubectl("delete", *name, "--ignore-not-found")


def test_who_may_not_run_servers_may_make_no_data_endpoint(somebody: str) -> None:
    refused = applied(resource("SnoopyDataEndpoint"), somebody)
    assert "permission missing: you may not create deployments in the namespace where campaigns run" in refused.stderr
