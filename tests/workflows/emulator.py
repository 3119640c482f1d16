"""A Kubernetes API in the test's process that does what the controller relies on, beside what kmock does by itself.

That is: metadata of new objects, server-side apply, generations, label selectors, and changes that come too late.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import jsonpatch
import kmock
from kmock import KubernetesEmulator, KubernetesError

VERBS = {"list", "watch", "get", "patch", "create", "delete"}
RESOURCES = {
    "Tcpdump": "pcap.fennecproject.io/v1alpha1/tcpdumps",
    "SnoopyJob": "job.fennecproject.io/v1alpha1/snoopyjobs",
    "SnoopyDataEndpoint": "data.fennecproject.io/v1alpha1/snoopydataendpoints",
    "Workflow": "argoproj.io/v1alpha1/workflows",
    "CronWorkflow": "argoproj.io/v1alpha1/cronworkflows",
    "WorkflowTemplate": "argoproj.io/v1alpha1/workflowtemplates",
    "Deployment": "apps/v1/deployments",
    "Service": "v1/services",
    "Event": "v1/events",
    "Namespace": "v1/namespaces",  # kopf waits for these two, whether it needs them or not
    "CustomResourceDefinition": "apiextensions.k8s.io/v1/customresourcedefinitions",
}
CLUSTERWIDE = {"Namespace", "CustomResourceDefinition"}


def plain(each: Any) -> dict[str, Any]:
    """Give an object as it is now: kmock's own follow what becomes of it."""
    return dict(json.loads(json.dumps(each, default=dict)))


def _nobody(_what: str, _made: bool) -> None:
    pass


class Emulator(KubernetesEmulator):
    """`change(what, made)` hears what the controller changes, before and after: what it raises is the answer."""

    def __attrs_post_init__(self) -> None:
        super().__attrs_post_init__()
        self.version = 0
        self.change: Callable[[str, bool], None] = _nobody
        for kind, resource in RESOURCES.items():
            self.resources[resource] = {
                "kind": kind,
                "singular": kind.lower(),
                "namespaced": kind not in CLUSTERWIDE,
                "verbs": VERBS,
            }

    async def _handle(self, request: Any) -> Any:
        if request.action in {kmock.action.LIST, kmock.action.WATCH, kmock.action.FETCH, None}:
            return await super()._handle(request)
        part = f"/{request.subresource}" if request.subresource else ""
        what = f"{request.method.value} {request.resource.plural}{part}".lower()
        hear = self.change if "Authorization" in request.headers else _nobody
        hear(what, False)
        self._complete(request)
        answer = await super()._handle(request)
        hear(what, True)
        return answer

    def _complete(self, request: Any) -> None:
        """Do to an object what an API server does before it stores it."""
        self.version += 1
        key, number = (request.resource, request.namespace, request.name), str(self.version)
        there = key in self.objects and not self.objects[key].deleted
        known = self.objects[key].raw if there else {}
        if isinstance(request.data, list):  # a JSON patch: kopf's, of its finalizer
            try:
                changed = jsonpatch.apply_patch(plain(known), request.data)
            except jsonpatch.JsonPatchTestFailed:
                raise KubernetesError(status=422, reason="Invalid", message="the object has been modified") from None
            finalizers = {"finalizers": changed["metadata"].get("finalizers", [])}
            object.__setattr__(request, "data", {"metadata": finalizers})  # kmock's own code merges objects only
        applied = request.headers.get("Content-Type") == "application/apply-patch+yaml"
        meta = request.data.setdefault("metadata", {}) if request.data else {}
        if request.action == kmock.action.CREATE or (applied and not there):
            new = {"uid": f"uid-{number}", "generation": 1, "creationTimestamp": f"2026-11-26T00:00:00.{number:0>6}Z"}
            meta |= {"name": f"{meta.get('generateName')}{number}", **new, "resourceVersion": number, **meta}
            if applied:
                self.objects[key] = request.data
        elif request.action == kmock.action.UPDATE and there:
            if (
                meta.get("resourceVersion", known["metadata"]["resourceVersion"])
                != known["metadata"]["resourceVersion"]
            ):
                raise KubernetesError(status=409, reason="Conflict", message="the object has been modified")
            meta["resourceVersion"] = number
            if {**known.get("spec", {}), **request.data.get("spec", {})} != known.get("spec", {}):
                meta["generation"] = known["metadata"]["generation"] + 1

    async def _serve_watch(self, request: Any) -> AsyncIterator[Any]:
        """Tell what changed since a list: kmock's own watch begins anew, and misses what happens meanwhile."""
        yield b""
        since = int(request.params.get("resourceVersion", 0))
        told = {key: each for key, each in self._there(request) if int(each["metadata"]["resourceVersion"]) <= since}
        while True:
            there = dict(self._there(request))
            for key, each in there.items():
                if told.get(key) != each:
                    yield {"type": "MODIFIED" if key in told else "ADDED", "object": each}
            for key in told.keys() - there.keys():
                yield {"type": "DELETED", "object": told[key]}
            told = there
            await asyncio.sleep(0.03)

    def _there(self, request: Any) -> Iterator[tuple[Any, dict[str, Any]]]:
        for key, each in self.objects.items():
            if key[0] == request.resource and request.namespace in {None, key[1]} and not each.deleted:
                yield key, plain(each.raw)

    async def _serve_list(self, request: Any) -> Any:
        payload: Any = await super()._serve_list(request)
        selector = request.params.get("labelSelector", "")
        wanted = dict(part.split("=", 1) for part in selector.split(",") if "=" in part).items()
        payload["items"] = [each for each in payload["items"] if wanted <= each["metadata"].get("labels", {}).items()]
        return payload | {"metadata": {"resourceVersion": str(self.version)}}
