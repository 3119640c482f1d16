"""A SnoopyDataEndpoint in Kubernetes' words: the Deployment and the Service of the server that takes data."""

from collections.abc import Mapping
from typing import Any

from steps.cluster import ClusterError
from workflows.campaign import LABELS, SCRATCH, TEMPLATE, TLS
from workflows.owners import Owners, WaitingError
from workflows.resources import Object, Resources, contains
from workflows.status import REFUSED, Condition
from workflows.translate import OWNER, OWNER_PARTS, owned_by, owner_references

READY = "Ready"
METRICS_PORT = 9090
#: What it may keep on its node while the object store does not answer.
SPOOL = "4Gi"


class DataEndpoints:
    """Runs data endpoints in a namespace. Every method raises ClusterError when the cluster refuses."""

    def __init__(self, resources: Resources, namespace: str, owners: Owners) -> None:
        self._resources, self._namespace, self._owners = resources, namespace, owners

    def serve(self, resource: Object) -> None:
        """Run a SnoopyDataEndpoint's server, and write whether it serves.

        Raises:
            WaitingError: something else has its name.
            ClusterError: also while campaigns are not installed.

        """
        self._owners.reconcile(resource, self._serve, refused)

    def withdraw(self, resource: Object) -> None:
        """Remove a SnoopyDataEndpoint's server; what it took is in the object store."""
        with self._owners.lock(resource["metadata"]["uid"]):
            self._remove(owned_by(resource))

    def hear(self, made: Object) -> None:
        """Take note of a Deployment or a Service that changed or went; what is left of a gone resource, remove."""
        if resource := self._owners.of(made):
            self.serve(resource)
        else:
            self._remove({OWNER + part: made["metadata"]["labels"][OWNER + part] for part in OWNER_PARTS})

    def _serve(self, resource: Object) -> bool:
        name = resource["spec"]["serviceName"]
        there = {kind: self._resources.get(kind, self._namespace, name) for kind in ("Deployment", "Service")}
        for kind, each in there.items():
            if each and not owned_by(resource).items() <= each["metadata"].get("labels", {}).items():
                taken = f"serviceName: {name!r}: there is a {kind} of that name, which is not this data endpoint's"
                told = self._owners.tell(resource, [Condition(READY, False, "NameTaken", taken)], generation=True)
                if told:
                    raise WaitingError(taken)
                return False
        same = resource.get("status", {}).get("observedGeneration") == resource["metadata"]["generation"]
        for manifest in manifests(resource, self._namespace, self._image()):
            if not (same and contains(there[manifest["kind"]], manifest)):
                self._resources.apply(manifest)
        made = self._resources.get("Deployment", self._namespace, name) or {}
        where = {"address": address(resource, self._namespace), "prefix": prefix(resource, self._namespace)}
        return self._owners.tell(resource, [condition(made)], generation=True, **where)

    def _remove(self, labels: Mapping[str, str]) -> None:
        for kind in ("Service", "Deployment"):
            for each in self._resources.list(kind, self._namespace, labels):
                self._resources.delete(kind, self._namespace, each["metadata"]["name"])

    def _image(self) -> str:
        """Give the image of the installed campaigns, wherever that comes from."""
        template = self._resources.get("WorkflowTemplate", self._namespace, TEMPLATE)
        if not template:
            raise ClusterError(
                f"there is no WorkflowTemplate {TEMPLATE} in namespace {self._namespace}: run 'make deploy'"
            )
        return next(str(each["container"]["image"]) for each in template["spec"]["templates"] if each["name"] == "join")


def address(resource: Mapping[str, Any], namespace: str) -> str:
    """Give where a data endpoint is reached, from every namespace: HOST:PORT."""
    spec = resource["spec"]
    return f"{spec['serviceName']}.{namespace}.svc:{spec['servicePort']}"


def prefix(resource: Mapping[str, Any], namespace: str) -> str:
    """Give where what it takes is in the object store."""
    return f"data/{namespace}/{resource['spec']['serviceName']}/"


def manifests(resource: Mapping[str, Any], namespace: str, image: str) -> list[Object]:
    """Give the Deployment and the Service of a data endpoint in the campaigns' namespace."""
    name, port = resource["spec"]["serviceName"], resource["spec"]["servicePort"]
    meta = {
        "name": name,
        "namespace": namespace,
        "labels": {**LABELS, "app.kubernetes.io/name": name, **owned_by(resource)},
        "ownerReferences": owner_references(resource, namespace),
    }
    selector = {"app.kubernetes.io/name": name, "app.kubernetes.io/component": "data-endpoint"}
    template = {"metadata": {"labels": LABELS | selector}, "spec": _pod(resource, namespace, image)}
    deployment = {"replicas": 1, "strategy": {"type": "Recreate"}, "selector": {"matchLabels": selector}}
    protocol = {} if resource["spec"].get("tlsSecretName") else {"appProtocol": "kubernetes.io/h2c"}
    ports = [{"name": "grpc", "port": port, "targetPort": "grpc", **protocol}]
    return [
        {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": meta, "spec": {**deployment, "template": template}},
        {"apiVersion": "v1", "kind": "Service", "metadata": meta, "spec": {"selector": selector, "ports": ports}},
    ]


def condition(deployment: Mapping[str, Any]) -> Condition:
    """Say whether a data endpoint serves as it was last told to, by its Deployment's status."""
    status = deployment.get("status", {})
    seen = status.get("observedGeneration", 0) >= deployment.get("metadata", {}).get("generation", 0)
    if seen and status.get("updatedReplicas") and status.get("readyReplicas"):
        return Condition(READY, holds=True, reason="Serving", message="it takes data")
    failures = [
        each["message"]
        for each in status.get("conditions", [])
        if each["type"] == "ReplicaFailure" and each["status"] == "True"
    ]
    namespace, name = (deployment.get("metadata", {}).get(part, "") for part in ("namespace", "name"))
    why = f"kubectl describe pods -n {namespace} -l app.kubernetes.io/name={name} says why"
    message = failures[0] if failures else f"its pod is not ready: where that lasts, {why}"
    return Condition(READY, holds=False, reason="Starting", message=message)


def refused(sentence: str) -> Condition:
    """Say what the cluster refuses to do for a data endpoint."""
    return Condition(READY, holds=False, reason=REFUSED, message=sentence)


def _pod(resource: Mapping[str, Any], namespace: str, image: str) -> Object:
    mounts: list[Object] = [{"name": "scratch", "mountPath": SCRATCH}]
    volumes: list[Object] = [{"name": "scratch", "emptyDir": {"sizeLimit": SPOOL}}]
    if secret := resource["spec"].get("tlsSecretName"):
        mounts.append({"name": "tls", "mountPath": TLS, "readOnly": True})
        volumes.append({"name": "tls", "secret": {"secretName": secret, "defaultMode": 0o440}})
    user = {"runAsNonRoot": True, "runAsUser": 65532, "runAsGroup": 65532, "fsGroup": 65532}
    return {
        "automountServiceAccountToken": False,
        "terminationGracePeriodSeconds": 40,
        "securityContext": {**user, "seccompProfile": {"type": "RuntimeDefault"}},
        "containers": [{**_container(resource, namespace), "image": image, "volumeMounts": mounts}],
        "volumes": volumes,
    }


def _container(resource: Mapping[str, Any], namespace: str) -> Object:
    spec = resource["spec"]
    arguments = [f"--port={spec['servicePort']}", f"--prefix={prefix(resource, namespace)}"]
    arguments += [f"--stream-limit={spec['streamLimit']}", f"--metrics-port={METRICS_PORT}", f"--spool={SCRATCH}/spool"]
    return {
        "name": "endpoint",
        "command": ["python", "-m", "steps.endpoint"],
        "args": arguments + ([f"--tls-dir={TLS}"] if spec.get("tlsSecretName") else []),
        "env": [*_store(), *({"name": name, "value": SCRATCH} for name in ("HOME", "TMPDIR"))],
        "ports": [
            {"name": "grpc", "containerPort": spec["servicePort"]},
            {"name": "metrics", "containerPort": METRICS_PORT},
        ],
        "readinessProbe": {"tcpSocket": {"port": "grpc"}, "periodSeconds": 2},
        "resources": {"requests": {"cpu": "50m", "memory": "128Mi"}, "limits": {"cpu": "2", "memory": "1Gi"}},
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        "terminationMessagePolicy": "FallbackToLogsOnError",
    }


def _store() -> list[Object]:
    """Give the object store's environment, as the steps of a campaign have it."""
    of_secret = {"AWS_ACCESS_KEY_ID": "accesskey", "AWS_SECRET_ACCESS_KEY": "secretkey"}
    repository = {"configMapKeyRef": {"name": "artifact-repositories", "key": "snoopy"}}
    keys = [
        {"name": name, "valueFrom": {"secretKeyRef": {"name": "snoopy-s3", "key": key}}}
        for name, key in of_secret.items()
    ]
    return [{"name": "SNOOPY_ARTIFACT_REPOSITORY", "valueFrom": repository}, *keys]
