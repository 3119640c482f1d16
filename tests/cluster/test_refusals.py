"""What cannot work ends with one clear sentence, before any pod, Workflow or object of it exists."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

NAMESPACE = "snoopy-operator"
BAD_INPUT, REFUSED = 2, 3


@pytest.fixture
def leaves_nothing(kubectl: Any, installation: Any) -> Iterator[None]:
    """Check that a test changes nothing that is not its own."""

    def everything() -> set[str]:
        found = kubectl("get", "workflows,pods,secrets", "-n", NAMESPACE, "-o", "name").split()
        return {*found, *installation.bucket.keys("")}

    before = everything()
    yield
    installation.deploy()
    assert everything() <= before


def refused(done: Any, code: int, *words: str) -> None:
    """Check that a command ended with this exit code and one sentence that holds these words."""
    assert done.returncode == code, done.stderr
    sentences = done.stderr.strip().splitlines()
    assert len(sentences) == 1, done.stderr
    for word in words:
        assert word in sentences[0]


@pytest.mark.usefixtures("leaves_nothing")
@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (("--namespaces", "no-such-place", "--pods", "*"), ("namespaces", "no-such-place", "no such namespace")),
        (("--selector", "app=web,,"), ("selector: 'app=web,,'", "found ','")),
        (("--selector", "app=nobody"), ("no target", "app=nobody")),
        (("--pods", "nobody-*"), ("pods", "nobody-*", "no such pod")),
        (("--selector", "app=web", "--filter", "-z id"), ("filter", "-z id", "option")),
        (("--selector", "app=web", "--filter", "; id"), ("filter", "; id", "syntax error")),
        (("--selector", "app=web", "--filter", "tcp prt 80"), ("filter", "tcp prt 80", "syntax error")),
        (("--selector", "app=web", "--duration", "soon"), ("duration", "soon", "30s")),
        ((), ("selector", "pods", "owners", "nodes")),
    ],
)
def test_bad_input(snoopy: Any, shop: Any, flags: tuple[str, ...], words: tuple[str, ...]) -> None:
    here = () if "--namespaces" in flags else ("--namespaces", shop.namespace)
    refused(snoopy("submit", *here, *flags), BAD_INPUT, *words)


@pytest.mark.usefixtures("leaves_nothing")
def test_an_object_store_that_cannot_be_reached(snoopy: Any, shop: Any) -> None:
    asked = ("submit", "--namespaces", shop.namespace, "--pods", "*")
    refused(snoopy(*asked, SNOOPY_S3_ENDPOINT="http://127.0.0.1:1"), REFUSED, "127.0.0.1:1", "cannot be reached")


@pytest.mark.usefixtures("leaves_nothing")
def test_a_bucket_that_is_not_there(kubectl: Any, snoopy: Any, shop: Any) -> None:
    text = kubectl.get("configmap", "artifact-repositories", "-n", NAMESPACE)["data"]["snoopy"]
    wrong = json.dumps({"data": {"snoopy": text.replace("bucket: snoopy", "bucket: elsewhere")}})
    kubectl("patch", "configmap", "artifact-repositories", "-n", NAMESPACE, "-p", wrong)
    done = snoopy("submit", "--namespaces", shop.namespace, "--pods", "*")
    refused(done, REFUSED, "bucket", "elsewhere", "no such bucket")


@pytest.mark.usefixtures("leaves_nothing")
def test_keys_that_are_wrong(kubectl: Any, snoopy: Any, shop: Any) -> None:
    wrong = json.dumps({"stringData": {"secretkey": "not the key"}})
    kubectl("patch", "secret", "snoopy-s3", "-n", NAMESPACE, "-p", wrong)
    done = snoopy("submit", "--namespaces", shop.namespace, "--pods", "*")
    refused(done, REFUSED, "refuses the keys of Secret snoopy-s3")
    assert "not the key" not in done.stderr


@pytest.fixture
def stranger(kubectl: Any, shop: Any, tmp_path: Path) -> str:
    """Give the kubeconfig of somebody whom the cluster knows and allows nothing."""
    config = json.loads(kubectl("config", "view", "--raw", "--minify", "-o", "json"))
    token = kubectl("create", "token", "default", "-n", shop.namespace).strip()
    config["users"][0]["user"] = {"token": token}
    path = tmp_path / "kubeconfig"
    path.write_text(json.dumps(config))
    return str(path)


@pytest.mark.usefixtures("leaves_nothing")
def test_a_user_who_may_not_run_campaigns(snoopy: Any, shop: Any, stranger: str) -> None:
    done = snoopy("submit", "--namespaces", shop.namespace, "--pods", "*", KUBECONFIG=stranger)
    refused(done, REFUSED, "cannot get", NAMESPACE, shop.namespace)


@pytest.mark.usefixtures("leaves_nothing")
def test_a_user_who_may_not_look_into_the_pods(kubectl: Any, snoopy: Any, shop: Any, stranger: str) -> None:
    subject = f"--serviceaccount={shop.namespace}:default"
    kubectl("create", "rolebinding", "stranger", "-n", NAMESPACE, "--clusterrole=admin", subject)
    try:
        done = snoopy("submit", "--namespaces", shop.namespace, "--pods", "*", KUBECONFIG=stranger)
    finally:
        kubectl("delete", "rolebinding", "stranger", "-n", NAMESPACE)
    refused(done, REFUSED, "permission missing", "pods/exec", shop.namespace)
