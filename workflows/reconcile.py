"""Make the cluster as a resource says, and its status as the cluster is; each step can be taken twice.

Nothing is remembered between two calls: what has been done is read from the cluster, so that a controller may end at
any moment, and the next one goes on.
"""

import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

from steps.campaign_input import InvalidInputError
from steps.cluster import ClusterError
from workflows import data_endpoint, status, translate
from workflows.campaign import TEMPLATE
from workflows.progress import ENDED, phase
from workflows.resources import PLURALS, Object, Resources
from workflows.status import Condition

#: The label by which Argo marks the Workflows of a CronWorkflow.
CRON = "workflows.argoproj.io/cron-workflow"
#: How often a status is read and written again, when somebody else was quicker.
TRIES = 5

Say = Callable[[Mapping[str, Any], str, str, str], None]
"""Told a resource, Normal or Warning, a reason and a message: what becomes an event."""


class WaitingError(Exception):
    """Something must end first; the message says what."""


class Reconciler:
    """Runs resources as campaigns in a namespace.

    Every method raises ClusterError when the cluster refuses or cannot be reached; it is then called again.
    """

    def __init__(self, resources: Resources, namespace: str, say: Say) -> None:
        self._resources, self._namespace, self._say = resources, namespace, say

    def run(self, resource: Object) -> None:
        """Run what a Tcpdump or a SnoopyJob specifies; what it specified before is stopped, and reported.

        Raises:
            WaitingError: what ran before has not ended.

        """
        try:
            what = translate.run(resource)
        except InvalidInputError as error:
            self.tell(resource, status.invalid(str(error)), generation=True)
            return
        self._wind_down(resource, keep=translate.name(resource))
        manifest = translate.manifest(resource, what, self._namespace)
        if what.schedule:
            self._schedule(resource, manifest, paused=what.schedule.suspend)
        else:
            self._submit(resource, manifest)

    def _submit(self, resource: Object, workflow: Object) -> None:
        """Create a Workflow for a specification, once: a Workflow that is gone has been, and is not run again."""
        name, before = workflow["metadata"]["name"], self._status(resource)
        known = before.get("workflow") == name
        if not known:
            self._resources.create(workflow)
            known = self._status(resource).get("workflow") == name  # whoever watches it may have been quicker
        conditions = status.submitted("Workflow", name)
        if known:
            self.tell(resource, conditions[:1], generation=True)
        else:
            about = {"workflow": name, "report": None, "targets": None, "cronJobList": []}
            self.tell(resource, conditions, generation=True, **about)
            self.mirror(self._resources.get("Workflow", self._namespace, name) or workflow)

    def _schedule(self, resource: Object, cron_workflow: Object, *, paused: bool) -> None:
        """Make a CronWorkflow so; what is known of its last run stays."""
        self._resources.apply(cron_workflow)
        name = cron_workflow["metadata"]["name"]
        before = self._status(resource).get("conditions", [])
        told = {each["type"] for each in before if not each["reason"].startswith("Invalid")}
        now = status.submitted("CronWorkflow", name, paused=paused)
        fresh = [each for each in now if each.type == status.SUBMITTED or each.type not in told]
        self.tell(resource, fresh, generation=True, cronJobList=[name])

    def end(self, resource: Object) -> None:
        """Stop what runs for a resource that is being deleted, and when it has ended and is reported, remove it.

        Raises:
            WaitingError: it has not ended.

        """
        self._wind_down(resource)
        for workflow in self._workflows(resource):
            self._resources.delete("Workflow", self._namespace, workflow["metadata"]["name"])

    def mirror(self, workflow: Object) -> None:
        """Write how a campaign is into the status of the resource that it runs for."""
        resource = self.owner(workflow)
        if not resource:
            return
        scheduled = bool(resource["spec"].get("schedule"))
        if scheduled:
            workflow = (self._workflows(resource) or [workflow])[-1]
        elif workflow["metadata"]["name"] != translate.name(resource):
            return  # of an earlier specification
        self.tell(
            resource,
            status.of_campaign(workflow),
            workflow=workflow["metadata"]["name"],
            report=status.report(workflow) or None,
            targets=status.targets(workflow),
        )

    def serve(self, resource: Object) -> None:
        """Run a SnoopyDataEndpoint's server. Raises ClusterError, too, while campaigns are not installed."""
        name = resource["spec"]["serviceName"]
        for kind in ("Deployment", "Service"):
            there = self._resources.get(kind, self._namespace, name)
            if there and not translate.owned_by(resource).items() <= there["metadata"].get("labels", {}).items():
                taken = f"serviceName: {name!r}: there is a {kind} of that name, which is not this data endpoint's"
                self.tell(resource, [Condition(data_endpoint.READY, False, "NameTaken", taken)], generation=True)
                return
        for manifest in data_endpoint.manifests(resource, self._namespace, self._image()):
            self._resources.apply(manifest)
        made = self._resources.get("Deployment", self._namespace, name) or {}
        where = {
            "address": data_endpoint.address(resource, self._namespace),
            "prefix": data_endpoint.prefix(resource, self._namespace),
        }
        self.tell(resource, [data_endpoint.condition(made)], generation=True, **where)

    def withdraw(self, resource: Object) -> None:
        """Remove a SnoopyDataEndpoint's server; what it took is in the object store."""
        for kind in ("Service", "Deployment"):
            for each in self._resources.list(kind, self._namespace, translate.owned_by(resource)):
                self._resources.delete(kind, self._namespace, each["metadata"]["name"])

    def mirror_server(self, deployment: Object) -> None:
        """Write whether a data endpoint serves into its status."""
        if resource := self.owner(deployment):
            self.tell(resource, [data_endpoint.condition(deployment)])

    def _image(self) -> str:
        """Give the image of the installed campaigns, wherever that comes from."""
        template = self._resources.get("WorkflowTemplate", self._namespace, TEMPLATE)
        if not template:
            raise ClusterError(
                f"there is no WorkflowTemplate {TEMPLATE} in namespace {self._namespace}: run 'make deploy'"
            )
        return next(str(each["container"]["image"]) for each in template["spec"]["templates"] if each["name"] == "join")

    def mirror_schedule(self, cron_workflow: Object) -> None:
        """Write that Argo refuses a schedule into the status of the resource."""
        refused = status.invalid_schedule(cron_workflow)
        if refused and (resource := self.owner(cron_workflow)):
            self.tell(resource, refused)

    def owner(self, made: Object) -> Object | None:
        """Give the resource for which an object was made; None when it is gone."""
        labels = made["metadata"].get("labels", {})
        kind, namespace, name, uid = (labels.get(translate.OWNER + part, "") for part in translate.OWNER_PARTS)
        found = self._resources.get(kind, namespace, name) if kind in PLURALS and namespace and name else None
        return found if found and found["metadata"]["uid"] == uid else None

    def tell(self, resource: Object, now: list[Condition], *, generation: bool = False, **about: Any) -> None:
        """Write conditions and other parts of a status, where they say something new; tell in events what is.

        `generation`: the status is now about the resource's present specification. Of the parts None removes one.
        """
        meta = resource["metadata"]
        for _ in range(TRIES):
            current = self._resources.get(resource["kind"], meta["namespace"], meta["name"])
            if not current or current["metadata"]["uid"] != meta["uid"]:
                return
            before, spec = current.get("status", {}), current["spec"]
            of = meta["generation"] if generation else before.get("observedGeneration", 0)
            known = before.get("conditions", [])
            conditions = status.conditions(known, now, of, datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"))
            after = {**about, "observedGeneration": of, "conditions": conditions}
            if resource["kind"] != "SnoopyDataEndpoint":
                after["phase"] = status.in_a_word(conditions, spec)
            if all(before.get(part) == value for part, value in after.items()):
                return
            version = {"resourceVersion": current["metadata"]["resourceVersion"]}
            change = {"metadata": version, "status": after}
            if self._resources.patch(resource["kind"], meta["namespace"], meta["name"], change, "status"):
                for each in status.news(known, conditions):
                    kind = "Warning" if each["type"] == status.DEGRADED else "Normal"
                    self._say(current, kind, each["reason"], each["message"])
                return
            time.sleep(0.1)
        raise ClusterError(f"the status of {resource['kind']} {meta['namespace']}/{meta['name']} is changed by others")

    def _status(self, resource: Object) -> Object:
        meta = resource["metadata"]
        found = self._resources.get(resource["kind"], meta["namespace"], meta["name"]) or {}
        return dict(found.get("status", {}))

    def _workflows(self, resource: Object) -> list[Object]:
        return self._resources.list("Workflow", self._namespace, translate.owned_by(resource))

    def _wind_down(self, resource: Object, keep: str = "") -> None:
        """Stop everything of a resource but what is called `keep`, and the runs of a schedule that is.

        A schedule is paused first, and removed when its last run has ended: its runs would go with it.
        """
        schedules = [
            each
            for each in self._resources.list("CronWorkflow", self._namespace, translate.owned_by(resource))
            if each["metadata"]["name"] != keep
        ]
        for each in schedules:
            if not each["spec"].get("suspend"):
                self._resources.patch("CronWorkflow", self._namespace, each["metadata"]["name"], PAUSED)
        running = [
            each
            for each in self._workflows(resource)
            if keep not in {each["metadata"]["name"], each["metadata"]["labels"].get(CRON)} and phase(each) not in ENDED
        ]
        for each in running:
            if each["spec"].get("shutdown") != "Stop":
                self._resources.patch("Workflow", self._namespace, each["metadata"]["name"], STOPPED)
        if running:
            raise WaitingError(f"{running[0]['metadata']['name']} is stopping, and reports first")
        for each in schedules:
            self._resources.delete("CronWorkflow", self._namespace, each["metadata"]["name"])


PAUSED = {"spec": {"suspend": True}}
STOPPED = {"spec": {"shutdown": "Stop"}}
