"""A namespace prepared with the component runs campaigns on its own pods, and on nobody else's."""

import json
import shutil
from pathlib import Path
from typing import Any

NAMESPACE = "snoopy-operator"
DEPLOY = Path(__file__).parents[2] / "deploy"
KUSTOMIZATION = """\
namespace: {namespace}
components: [../../components/campaign-namespace]
resources: [artifact-repositories.yaml]
"""


def test_a_prepared_namespace(kubectl: Any, shop: Any, tmp_path: Path) -> None:
    team = tmp_path / "deploy/overlays/team"
    shutil.copytree(DEPLOY / "components", tmp_path / "deploy/components")
    team.mkdir(parents=True)
    (team / "kustomization.yaml").write_text(KUSTOMIZATION.format(namespace=shop.namespace))
    config = (DEPLOY / "overlays/quick-start/artifact-repositories.yaml").read_text()
    (team / "artifact-repositories.yaml").write_text(config.replace("minio:9000", f"minio.{NAMESPACE}:9000"))
    kubectl("apply", "-k", str(team))
    copied = kubectl.get("secret", "snoopy-s3", "-n", NAMESPACE) | {"metadata": {"name": "snoopy-s3"}}
    kubectl("apply", "-n", shop.namespace, "-f", "-", input=json.dumps(copied))

    def campaign(namespace: str) -> dict[str, Any]:
        values = {"namespaces": namespace, "pods": "*", "duration": "2s"}
        workflow = {
            "apiVersion": "argoproj.io/v1alpha1",
            "kind": "Workflow",
            "metadata": {"name": f"of-{namespace}"},
            "spec": {
                "workflowTemplateRef": {"name": "capture-campaign"},
                "arguments": {"parameters": [{"name": name, "value": value} for name, value in values.items()]},
            },
        }
        kubectl("create", "-n", shop.namespace, "-f", "-", input=json.dumps(workflow))
        ended = ("--for=condition=Completed", "--timeout=90s")
        kubectl("wait", "workflow", f"of-{namespace}", "-n", shop.namespace, *ended)
        return dict(kubectl.get("workflow", f"of-{namespace}", "-n", shop.namespace)["status"])

    assert campaign(shop.namespace)["phase"] == "Succeeded"
    refused = campaign("kube-system")
    assert refused["phase"] == "Failed"
    messages = [node.get("message", "") for node in refused["nodes"].values()]
    assert any("cannot list pods in namespace kube-system" in message for message in messages)
