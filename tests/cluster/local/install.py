"""What runs on the cluster from the start: CoreDNS and Argo Workflows."""

from build import ARGO, argo_manifests
from machine import HERE, ask, kubectl, say

DEPLOYMENTS = (("kube-system", "coredns"), ("argo", "workflow-controller"), ("argo", "argo-server"))


def install() -> None:
    """Apply the manifests and wait until everything is ready."""
    kubectl("apply", "-f", HERE / "manifests/coredns.yaml")
    manifests = argo_manifests()
    # The full definitions are 11 MB; the minimal ones serve.
    kubectl("apply", "--server-side", "-k", manifests / "base/crds/minimal")
    if not ask("get", "namespace", "argo"):
        kubectl("create", "namespace", "argo")
    argo = kubectl("kustomize", manifests / "cluster-install-no-crds", capture_output=True).stdout
    images = argo.replace(":latest", f":{ARGO}")
    kubectl("apply", "--server-side", "--force-conflicts", "-n", "argo", "-f", "-", input=images)
    # By default the controller looks again after ten seconds: half the time of a short campaign.
    kubectl("-n", "argo", "set", "env", "deploy/workflow-controller", "DEFAULT_REQUEUE_TIME=1s")
    for namespace, deployment in DEPLOYMENTS:
        kubectl("-n", namespace, "rollout", "status", f"deploy/{deployment}", "--timeout=180s")
    say("CoreDNS and Argo Workflows: ready")
