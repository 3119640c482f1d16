"""The roles that people are bound to are enough for the snoopy command and the resources."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

NAMESPACE = "snoopy-operator"


@pytest.fixture
def kubeconfig(kubectl: Any, shop: Any, tmp_path: Path) -> Iterator[Path]:
    """Somebody who may edit the shop's namespace, and run campaigns."""
    account = ("serviceaccount", "somebody", "-n", shop.namespace)
    bound = f"--serviceaccount={shop.namespace}:somebody"
    kubectl("create", *account)
    kubectl("create", "rolebinding", "somebody", "--clusterrole=edit", bound, "-n", shop.namespace)
    kubectl("create", "rolebinding", shop.namespace, "--clusterrole=snoopy-campaigns", bound, "-n", NAMESPACE)
    config = yaml.safe_load(kubectl("config", "view", "--raw", "--minify"))
    config["users"][0]["user"] = {"token": kubectl("create", "token", "somebody", "-n", shop.namespace).strip()}
    path = tmp_path / "kubeconfig"
    path.write_text(json.dumps(config))
    yield path
    kubectl("delete", "rolebinding", shop.namespace, "-n", NAMESPACE)


def test_who_may_edit_a_namespace_and_run_campaigns(
    kubectl: Any, shop: Any, snoopy: Any, kubeconfig: Path, tmp_path: Path
) -> None:
    def mine(*words: str) -> str:
        done = snoopy(*words, KUBECONFIG=str(kubeconfig))
        assert done.returncode == 0, done.stderr
        return str(done.stdout)

    name = mine("submit", "--namespaces", shop.namespace, "--pods", "web*", "--duration", "3s", "--wait").split()[0]
    assert name in mine("list")
    assert mine("get", name)
    assert "captured" in mine("logs", name)
    mine("report", name, "--captures", "--out", str(tmp_path / "report"))
    assert list((tmp_path / "report").rglob("*.pcap"))
    schedule = f"{shop.namespace}-web"
    mine("cron", "create", schedule, "--schedule", "@yearly", "--namespaces", shop.namespace, "--pods", "web*")
    mine("cron", "pause", schedule)
    mine("cron", "delete", schedule)

    refused = snoopy("submit", "--namespaces", "kube-system", "--pods", "*", KUBECONFIG=str(kubeconfig))
    assert refused.returncode == 3
    assert "kube-system" in refused.stderr
    assert len(refused.stderr.splitlines()) == 1

    may = ("auth", "can-i", f"--as=system:serviceaccount:{shop.namespace}:somebody")
    for resource in ("tcpdumps.pcap", "snoopyjobs.job", "snoopydataendpoints.data"):
        named = f"{resource}.fennecproject.io"
        assert kubectl(*may, "create", named, "-n", shop.namespace).strip() == "yes"
        assert kubectl.ask(*may, "list", named, "-n", "kube-system").strip() == "no"
