"""Run Tcpdumps and SnoopyJobs, and write how it goes into their status; each step can be taken twice.

Nothing is remembered between two calls: what has been done is read from the cluster, so that a controller may end at
any moment, and the next one goes on.
"""

from typing import Any

from steps.campaign_input import InvalidInputError
from workflows import status, translate
from workflows.cluster import STARTED_BY
from workflows.owners import Owners, WaitingError
from workflows.progress import ENDED, phase
from workflows.resources import Object, Resources
from workflows.status import Condition


class Reconciler:
    """Runs resources as campaigns in a namespace.

    Every method raises ClusterError when the cluster refuses or cannot be reached; it is then called again.
    """

    def __init__(self, resources: Resources, namespace: str, owners: Owners) -> None:
        self._resources, self._namespace, self._owners = resources, namespace, owners

    def run(self, resource: Object) -> None:
        """Run what a Tcpdump or a SnoopyJob specifies; what it specified before is stopped, and reported.

        Raises:
            WaitingError: what ran before has not ended.

        """
        try:
            what = translate.run(resource)
        except InvalidInputError as error:
            self._owners.tell(resource, status.invalid(str(error)), generation=True)
            self._wind_down(resource)
            return
        self._wind_down(resource, keep=translate.name(resource))
        manifest = translate.manifest(resource, what, self._namespace)
        if what.schedule:
            self._schedule(resource, manifest, paused=what.schedule.suspend)
        else:
            self._submit(resource, manifest)

    def _submit(self, resource: Object, workflow: Object) -> None:
        """Create a Workflow for a specification, once: a Workflow that is gone has been, and is not run again."""
        name = workflow["metadata"]["name"]
        if self._owners.status(resource).get("workflow") != name and not self._resources.create(workflow):
            self._must_be_ours(resource, "Workflow", name)
        conditions = status.submitted("Workflow", name)
        if self._owners.status(resource).get("workflow") == name:  # whoever watches it may have been quicker
            self._owners.tell(resource, conditions[:1], generation=True, cronJobList=[])
        else:
            new: dict[str, Any] = {"workflow": name, "report": None, "targets": None}
            self._owners.tell(resource, conditions, generation=True, cronJobList=[], **new)
        self.look(resource)

    def _schedule(self, resource: Object, cron_workflow: Object, *, paused: bool) -> None:
        """Make a CronWorkflow so; what is known of its last run stays."""
        self._resources.apply(cron_workflow)
        name = cron_workflow["metadata"]["name"]
        before = self._owners.status(resource).get("conditions", [])
        told = {each["type"] for each in before if not each["reason"].startswith("Invalid")}
        now = status.submitted("CronWorkflow", name, paused=paused)
        fresh = [each for each in now if each.type == status.SUBMITTED or each.type not in told]
        self._owners.tell(resource, fresh, generation=True, cronJobList=[name])

    def end(self, resource: Object) -> None:
        """Stop what runs for a resource that is being deleted, and when it has ended and is reported, remove it.

        Raises:
            WaitingError: it has not ended.

        """
        self._wind_down(resource)
        for workflow in self._workflows(resource):
            self._resources.delete("Workflow", self._namespace, workflow["metadata"]["name"])

    def mirror(self, workflow: Object) -> None:
        """Write how a campaign is into the status of the resource that it runs for; without one, end and remove it."""
        resource = self._owners.of(workflow)
        if resource is None:
            if phase(workflow) in ENDED:
                self._resources.delete("Workflow", self._namespace, workflow["metadata"]["name"])
            else:
                self._resources.patch("Workflow", self._namespace, workflow["metadata"]["name"], STOPPED)
        elif resource["spec"].get("schedule"):
            self._mirror(resource, (self._workflows(resource) or [workflow])[-1])
        elif workflow["metadata"]["name"] == translate.name(resource):  # else it is an earlier specification's
            self._mirror(resource, workflow)

    def look(self, resource: Object) -> None:
        """Write how what runs for a resource is, whatever was heard of it: it may be gone."""
        if resource["spec"].get("schedule"):
            found = self._workflows(resource)[-1:]
        else:
            found = list(filter(None, [self._resources.get("Workflow", self._namespace, translate.name(resource))]))
        if found:
            self._mirror(resource, found[0])
        elif self._is_current(resource) and self._owners.holds(resource, status.RUNNING):
            self._owners.tell(resource, status.deleted(self._owners.status(resource)["workflow"]))

    def gone(self, workflow: Object) -> None:
        """Take note that a Workflow was deleted: it may have ended before, and nobody heard of that."""
        if resource := self._owners.of(workflow):
            if phase(workflow) in ENDED:
                self.mirror(workflow)
            else:
                self.look(resource)

    def _mirror(self, resource: Object, workflow: Object) -> None:
        if self._is_invalid(resource):
            return  # it is still being stopped
        self._owners.tell(
            resource,
            status.of_campaign(workflow),
            workflow=workflow["metadata"]["name"],
            report=status.report(workflow) or None,
            targets=status.targets(workflow),
        )

    def mirror_schedule(self, cron_workflow: Object) -> None:
        """Write whether Argo takes a schedule into the status of the resource; without one, end and remove it."""
        resource, name = self._owners.of(cron_workflow), cron_workflow["metadata"]["name"]
        if resource is None:
            self._resources.patch("CronWorkflow", self._namespace, name, PAUSED)
            runs = self._resources.list("Workflow", self._namespace, {STARTED_BY: name})
            if all(phase(each) in ENDED for each in runs):
                self._resources.delete("CronWorkflow", self._namespace, name)
        elif refused := status.invalid_schedule(cron_workflow):
            self._owners.tell(resource, refused)
        elif self._owners.holds(resource, status.DEGRADED, "InvalidSchedule"):
            self._owners.tell(
                resource,
                [Condition(status.DEGRADED, holds=False, reason=status.AS_EXPECTED, message=status.NOTHING_WRONG)],
            )

    def _must_be_ours(self, resource: Object, kind: str, name: str) -> None:
        there = self._resources.get(kind, self._namespace, name)
        if there and not translate.owned_by(resource).items() <= there["metadata"].get("labels", {}).items():
            raise WaitingError(f"{kind} {name} is not this resource's, and has the name that it needs")

    def _is_invalid(self, resource: Object) -> bool:
        return self._is_current(resource) and self._owners.holds(resource, status.DEGRADED, status.INVALID)

    def _is_current(self, resource: Object) -> bool:
        """Say whether the status is about the present specification: another one may wait for what runs to stop."""
        return bool(self._owners.status(resource).get("observedGeneration") == resource["metadata"]["generation"])

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
            if keep not in {each["metadata"]["name"], each["metadata"]["labels"].get(STARTED_BY)}
            and phase(each) not in ENDED
        ]
        for each in running:
            if each["spec"].get("shutdown") != "Stop":
                name = each["metadata"]["name"]
                self._resources.patch("Workflow", self._namespace, name, STOPPED)
                self._owners.say(
                    resource, "Normal", "Stopping", f"{name} is stopped; snoopy report {name} has what it saw"
                )
        if running:
            raise WaitingError(f"{running[0]['metadata']['name']} is stopping, and reports first")
        for each in schedules:
            self._resources.delete("CronWorkflow", self._namespace, each["metadata"]["name"])


PAUSED = {"spec": {"suspend": True}}
STOPPED = {"spec": {"shutdown": "Stop"}}
