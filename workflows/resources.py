"""Kubernetes objects of any kind, as dictionaries: what the controller reads and writes.

Objects are written so that a second time changes nothing: created once by name, or applied by the server.
"""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlencode

from kubernetes.client import ApiClient, ApiException

from steps.cluster import CONFLICT, NOT_FOUND, explained

Object = dict[str, Any]
FIELD_MANAGER = "snoopy-controller"
PLURALS = {
    "CronWorkflow": "cronworkflows",
    "Deployment": "deployments",
    "Service": "services",
    "SnoopyDataEndpoint": "snoopydataendpoints",
    "SnoopyJob": "snoopyjobs",
    "Tcpdump": "tcpdumps",
    "Workflow": "workflows",
    "WorkflowTemplate": "workflowtemplates",
}
FAILURE = 300
TIMEOUT = (5, 30)
ARGO = "argoproj.io/v1alpha1"
API_VERSIONS = {
    "Tcpdump": "pcap.fennecproject.io/v1alpha1",
    "SnoopyJob": "job.fennecproject.io/v1alpha1",
    "SnoopyDataEndpoint": "data.fennecproject.io/v1alpha1",
    "Deployment": "apps/v1",
    "Service": "v1",
}


class Resources:
    """The objects of a cluster. Every method raises ClusterError, in one sentence."""

    def __init__(self, api: ApiClient) -> None:
        self._api = api

    def get(self, kind: str, namespace: str, name: str) -> Object | None:
        """Give an object; None when there is none."""
        with explained(f"get {kind} {namespace}/{name}"), _or_nothing(NOT_FOUND):
            return self._ask("GET", _path(kind, namespace, name))
        return None

    def list(self, kind: str, namespace: str, labels: Mapping[str, str]) -> list[Object]:
        """Give the objects of a namespace that have all these labels, the oldest first."""
        selector = urlencode({"labelSelector": ",".join(f"{key}={value}" for key, value in labels.items())})
        with explained(f"list {PLURALS[kind]} in namespace {namespace}"):
            found = self._ask("GET", f"{_path(kind, namespace)}?{selector}")["items"]
        return sorted(found, key=lambda each: (each["metadata"]["creationTimestamp"], each["metadata"]["name"]))

    def create(self, manifest: Mapping[str, Any]) -> bool:
        """Create an object; False when there is one of its name."""
        meta = manifest["metadata"]
        with explained(f"create {manifest['kind']} {meta['namespace']}/{meta['name']}"), _or_nothing(CONFLICT):
            self._ask("POST", _path(manifest["kind"], meta["namespace"]), manifest)
            return True
        return False

    def apply(self, manifest: Mapping[str, Any]) -> None:
        """Make an object so, whether it exists or not."""
        meta = manifest["metadata"]
        path = _path(manifest["kind"], meta["namespace"], meta["name"])
        how = urlencode({"fieldManager": FIELD_MANAGER, "force": "true"})
        with explained(f"apply {manifest['kind']} {meta['namespace']}/{meta['name']}"):
            self._ask("PATCH", f"{path}?{how}", manifest, "application/apply-patch+yaml")

    def patch(self, kind: str, namespace: str, name: str, change: Mapping[str, Any], part: str = "") -> bool:
        """Merge a change into an object, or into its `part` such as status; False when it is gone, or has changed.

        A `resourceVersion` in the change makes it one to an object that nobody else has changed since.
        """
        path = _path(kind, namespace, name) + (f"/{part}" if part else "")
        with explained(f"change {kind} {namespace}/{name}"), _or_nothing(NOT_FOUND, CONFLICT):
            self._ask("PATCH", path, change, "application/merge-patch+json")
            return True
        return False

    def delete(self, kind: str, namespace: str, name: str) -> None:
        """Delete an object, and then what it owns, if it is there."""
        with explained(f"delete {kind} {namespace}/{name}"), _or_nothing(NOT_FOUND):
            self._ask("DELETE", _path(kind, namespace, name), {"propagationPolicy": "Background"})

    def _ask(
        self, method: str, path: str, body: Mapping[str, Any] | None = None, kind: str = "application/json"
    ) -> Object:
        headers = {"Accept": "application/json", "Content-Type": kind}
        request = self._api.param_serialize(
            method, path, header_params=headers, body=body, auth_settings=["BearerToken"]
        )
        answer: Any = self._api.call_api(*request, _request_timeout=TIMEOUT)
        content = answer.read().decode()
        if answer.status >= FAILURE:
            raise ApiException.from_response(http_resp=answer, body=content, data=None)
        return dict(json.loads(content))


def contains(there: Any, wanted: Any) -> bool:
    """Say whether an object has all that a manifest has; what the API server added to it is no difference."""
    if not wanted:
        return not there
    if isinstance(wanted, Mapping):
        return isinstance(there, Mapping) and all(contains(there.get(key), value) for key, value in wanted.items())
    if isinstance(wanted, list):
        return isinstance(there, list) and len(there) == len(wanted) and all(map(contains, there, wanted))
    return bool(there == wanted)


@contextmanager
def _or_nothing(*statuses: int) -> Iterator[None]:
    """Let an answer of one of these statuses pass as nothing."""
    try:
        yield
    except ApiException as error:
        if error.status not in statuses:
            raise


def _path(kind: str, namespace: str, name: str = "") -> str:
    version = API_VERSIONS.get(kind, ARGO)
    root = f"/api/{version}" if "/" not in version else f"/apis/{version}"
    return f"{root}/namespaces/{namespace}/{PLURALS[kind]}" + (f"/{name}" if name else "")
