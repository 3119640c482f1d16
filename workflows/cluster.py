"""The cluster that the user's kubeconfig names: the Workflows of one namespace, and what the user may do there."""

from collections.abc import Iterable
from typing import Any
from urllib.parse import quote

from kubernetes.client import ApiClient, ApiException, AuthorizationV1Api, CoreV1Api, CustomObjectsApi

from steps.cluster import NOT_FOUND, ClusterError, connect, explained

SCHEDULES = "cronworkflows"
STARTED_BY = "workflows.argoproj.io/cron-workflow"  # Argo's label of a Workflow that a CronWorkflow started


class Cluster:
    """The namespace of a cluster where campaigns run. Every method raises ClusterError, in one sentence."""

    def __init__(self, api: ApiClient, namespace: str) -> None:
        self.api, self.namespace = api, namespace
        self.core: Any = CoreV1Api(api)  # the newer clients' types leave everything optional
        self._argo: Any = CustomObjectsApi(api)
        self._access: Any = AuthorizationV1Api(api)

    def require_template(self, name: str) -> None:
        """Make sure that a WorkflowTemplate is installed."""
        with explained(f"get workflowtemplate {self.namespace}/{name}"):
            try:
                self._argo.get_namespaced_custom_object(**self._kind("workflowtemplates"), name=name)
            except ApiException as error:
                if error.status != NOT_FOUND:
                    raise
                raise ClusterError(
                    f"the WorkflowTemplate {name} is not installed in namespace {self.namespace}: run 'make deploy'"
                ) from None

    def require_exec(self, namespaces: Iterable[str]) -> None:
        """Make sure that the user may run commands in the pods of these namespaces: a capture sees as much."""
        for namespace in sorted(set(namespaces)):
            asked = {"namespace": namespace, "verb": "create", "resource": "pods", "subresource": "exec"}
            review = {"spec": {"resourceAttributes": asked}}
            with explained("ask what you may do"):
                answer = self._access.create_self_subject_access_review(review)
            if not answer.status.allowed:
                raise ClusterError(
                    f"permission missing: you may not create pods/exec in namespace {namespace}, and whoever"
                    " captures at a pod must be allowed to run commands in it"
                )

    def workflow(self, name: str) -> dict[str, Any]:
        """Give a Workflow as the cluster knows it now."""
        with explained(f"get campaign {self.namespace}/{name}"):
            try:
                return dict(self._argo.get_namespaced_custom_object(**self._kind(), name=quote(name, safe="")))
            except ApiException as error:
                if error.status != NOT_FOUND:
                    raise
        raise ClusterError(f"no campaign {name!r} in namespace {self.namespace}: see snoopy list", NOT_FOUND)

    def workflows(self, schedule: str = "") -> list[dict[str, Any]]:
        """Give all Workflows of the namespace, or those that a schedule started, the newest first."""
        selector = f"{STARTED_BY}={schedule}" if schedule else ""
        with explained(f"list campaigns in namespace {self.namespace}"):
            found = self._argo.list_namespaced_custom_object(**self._kind(), label_selector=selector)
        return sorted(found["items"], key=lambda item: str(item["metadata"]["creationTimestamp"]), reverse=True)

    def create(self, workflow: dict[str, Any]) -> dict[str, Any]:
        """Create a Workflow, and give it as the cluster completed it."""
        with explained(f"create a workflow in namespace {self.namespace}"):
            return dict(self._argo.create_namespaced_custom_object(**self._kind(), body=workflow))

    def delete(self, name: str) -> None:
        """Delete a Workflow, and with it all that it owns."""
        with explained(f"delete campaign {self.namespace}/{name}"):
            self._argo.delete_namespaced_custom_object(**self._kind(), name=name)

    def stop(self, name: str) -> None:
        """Stop a Workflow: its captures end and keep what they have, and it is still reported."""
        body = {"spec": {"shutdown": "Stop"}}
        with explained(f"stop campaign {self.namespace}/{name}"):
            self._argo.patch_namespaced_custom_object(**self._kind(), name=name, body=body)

    def schedule(self, name: str) -> dict[str, Any]:
        """Give a CronWorkflow as the cluster knows it now."""
        with explained(f"get schedule {self.namespace}/{name}"):
            try:
                kind = self._kind(SCHEDULES)
                return dict(self._argo.get_namespaced_custom_object(**kind, name=quote(name, safe="")))
            except ApiException as error:
                if error.status != NOT_FOUND:
                    raise
        raise ClusterError(f"no schedule {name!r} in namespace {self.namespace}: see snoopy cron list", NOT_FOUND)

    def schedules(self) -> list[dict[str, Any]]:
        """Give all CronWorkflows of the namespace, in the order of their names."""
        with explained(f"list schedules in namespace {self.namespace}"):
            found = self._argo.list_namespaced_custom_object(**self._kind(SCHEDULES))
        return sorted(found["items"], key=lambda item: str(item["metadata"]["name"]))

    def create_schedule(self, cron_workflow: dict[str, Any]) -> None:
        """Create a CronWorkflow."""
        with explained(f"create a schedule in namespace {self.namespace}"):
            self._argo.create_namespaced_custom_object(**self._kind(SCHEDULES), body=cron_workflow)

    def suspend(self, name: str, *, suspended: bool) -> None:
        """Let a CronWorkflow start no Workflows, or start them again."""
        body = {"spec": {"suspend": suspended}}
        with explained(f"change schedule {self.namespace}/{name}"):
            self._argo.patch_namespaced_custom_object(**self._kind(SCHEDULES), name=name, body=body)

    def delete_schedule(self, name: str) -> None:
        """Delete a CronWorkflow, and with it the Workflows that it has started."""
        with explained(f"delete schedule {self.namespace}/{name}"):
            self._argo.delete_namespaced_custom_object(**self._kind(SCHEDULES), name=name)

    def _kind(self, plural: str = "workflows") -> dict[str, str]:
        return {"group": "argoproj.io", "version": "v1alpha1", "plural": plural, "namespace": self.namespace}


def open_cluster(namespace: str) -> Cluster:
    """Open the cluster of KUBECONFIG or ~/.kube/config, or inside a pod the pod's own. Raises ClusterError."""
    return Cluster(connect(), namespace)
