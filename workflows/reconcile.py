"""Run Tcpdumps and SnoopyJobs, and write how it goes into their status; each step can be taken twice.

Nothing is remembered between two calls, and it does not matter what a call was made for: what a resource asks for now,
and what there is, is read from the cluster. So a controller may end at any moment, and the next one goes on.
"""

from collections.abc import Mapping
from typing import Any

from steps.campaign_input import InvalidInputError
from steps.cluster import ClusterError
from workflows import status, translate
from workflows.cluster import STARTED_BY
from workflows.owners import Owners, WaitingError
from workflows.progress import ENDED, phase
from workflows.resources import Object, Resources, contains
from workflows.status import Condition
from workflows.translate import OWNER, OWNER_PARTS

PAUSED = {"spec": {"suspend": True}}
STOPPED = {"spec": {"shutdown": "Stop"}}
#: Why a resource is degraded until that is over, whatever becomes of its campaigns.
PASSING = (status.INVALID, status.INVALID_SCHEDULE, status.REFUSED)


class Reconciler:
    """Runs resources as campaigns in a namespace.

    Every method raises ClusterError when the cluster refuses or cannot be reached; it is then called again.
    """

    def __init__(self, resources: Resources, namespace: str, owners: Owners) -> None:
        self._resources, self._namespace, self._owners = resources, namespace, owners

    def run(self, resource: Object, heard: Object | None = None) -> None:
        """Run what a Tcpdump or a SnoopyJob specifies now; what it specified before is stopped, and reported.

        `heard` is a Workflow that has ended, and may be gone.

        Raises:
            WaitingError: what ran before has not ended.

        """
        self._owners.reconcile(resource, lambda current: self._run(current, heard), status.refused)

    def end(self, resource: Object) -> None:
        """Stop what runs for a resource that is being deleted, and when it has ended and is reported, remove it.

        Raises:
            WaitingError: it has not ended.

        """
        with self._owners.lock(resource["metadata"]["uid"]):
            self._end(translate.owned_by(resource), resource)

    def hear(self, made: Object) -> None:
        """Take note of a Workflow or a CronWorkflow that changed; what was made for a resource that is gone, end."""
        if resource := self._owners.of(made):
            ended = made["kind"] == "Workflow" and phase(made) in ENDED
            self.run(resource, made if ended else None)
        else:
            self._end({OWNER + part: made["metadata"]["labels"][OWNER + part] for part in OWNER_PARTS})

    def _run(self, resource: Object, heard: Object | None) -> bool:
        if status.settled(resource):
            return True
        labels = translate.owned_by(resource)
        schedules = self._resources.list("CronWorkflow", self._namespace, labels)
        runs = self._resources.list("Workflow", self._namespace, labels)
        if heard and _name(heard) not in map(_name, runs):
            runs = sorted([*runs, heard], key=lambda each: (each["metadata"]["creationTimestamp"], _name(each)))
        try:
            what = translate.run(resource)
        except InvalidInputError as error:
            return self._cannot(resource, str(error), schedules, runs)
        name = translate.name(resource)
        if stopping := self._wind_down(resource, schedules, runs, keep=name):
            told = self._owners.tell(resource, _of_last(runs), **_about(runs[-1]))
            return told and _wait_for(stopping)
        manifest = translate.manifest(resource, what, self._namespace)
        if what.schedule:
            there = next((each for each in schedules if _name(each) == name), None)
            return self._follow(resource, manifest, there, runs, paused=what.schedule.suspend)
        return self._submit(resource, manifest, next((each for each in runs if _name(each) == name), None))

    def _cannot(self, resource: Object, wrong: str, schedules: list[Object], runs: list[Object]) -> bool:
        """Say what is wrong with a specification, and stop what the one before ran."""
        stopping = self._wind_down(resource, schedules, runs)
        told = self._owners.tell(
            resource,
            [*_of_last(runs), *status.invalid(wrong, stopping)],
            generation=True,
            cronJobList=[_name(each) for each in schedules] if stopping else [],
            **(_about(runs[-1]) if runs else {}),
        )
        return told and _wait_for(stopping)

    def _submit(self, resource: Object, manifest: Object, found: Object | None) -> bool:
        """Create a Workflow for a specification, once: a Workflow that is gone has been, and is not run again."""
        known, name = resource.get("status", {}), _name(manifest)
        if not found and known.get("workflow") != name:
            if not self._resources.create(manifest):
                raise ClusterError(f"Workflow {name} is not this resource's, and has the name that it needs")
            found = manifest
        conditions = status.submitted("Workflow", name)[:1]
        if found:
            conditions += status.of_campaign(found)
        elif _was_running(known):
            conditions += status.deleted(name)
        elif status.holds(known, status.DEGRADED, *PASSING):
            conditions.append(status.as_expected())
        return self._owners.tell(
            resource, conditions, generation=True, cronJobList=[], **(_about(found) if found else {})
        )

    def _follow(
        self, resource: Object, manifest: Object, there: Object | None, runs: list[Object], *, paused: bool
    ) -> bool:
        """Make a CronWorkflow so, and tell of its last run; what is known of one whose Workflow is gone stays."""
        known, name = resource.get("status", {}), _name(manifest)
        same = known.get("observedGeneration") == resource["metadata"]["generation"]
        if not (there and same and contains(there, manifest)):
            self._resources.apply(manifest)
        last = known.get("workflow") or ""
        own = [each for each in runs if each["metadata"]["labels"].get(STARTED_BY) == name]
        conditions = status.submitted("CronWorkflow", name, paused=paused)
        about: dict[str, Any] = {}
        if own and not (last.startswith(f"{name}-") and _name(own[-1]) < last):  # Argo names them after their time
            conditions, about = conditions[:1] + status.of_campaign(own[-1]), _about(own[-1])
        elif last.startswith(f"{name}-"):
            conditions = conditions[:1]
            if _was_running(known):
                conditions += status.deleted(last)
            elif status.holds(known, status.DEGRADED, *PASSING):
                conditions.append(status.as_expected())
        conditions += status.invalid_schedule(there or {})
        return self._owners.tell(resource, conditions, generation=True, cronJobList=[name], **about)

    def _wind_down(self, resource: Object | None, schedules: list[Object], runs: list[Object], keep: str = "") -> str:
        """Stop everything but what is called `keep`, and the runs of a schedule that is; give one that has not ended.

        A schedule is paused first, and removed when its last run has ended: its runs would go with it.
        """
        schedules = [each for each in schedules if _name(each) != keep]
        for each in schedules:
            if not each["spec"].get("suspend"):
                self._resources.patch("CronWorkflow", self._namespace, _name(each), PAUSED)
        running = [
            each
            for each in runs
            if keep not in {_name(each), each["metadata"]["labels"].get(STARTED_BY)} and phase(each) not in ENDED
        ]
        for each in running:
            if each["spec"].get("shutdown") != "Stop":
                self._resources.patch("Workflow", self._namespace, _name(each), STOPPED)
                if resource:
                    words = f"{_name(each)} is stopped; snoopy report {_name(each)} has what it saw"
                    self._owners.say(resource, "Normal", "Stopping", words)
        if running:
            return _name(running[0])
        for each in schedules:
            self._resources.delete("CronWorkflow", self._namespace, _name(each))
        return ""

    def _end(self, labels: Mapping[str, str], resource: Object | None = None) -> None:
        """End and remove what was made for a resource: one that is going, or is gone."""
        schedules = self._resources.list("CronWorkflow", self._namespace, labels)
        runs = self._resources.list("Workflow", self._namespace, labels)
        _wait_for(self._wind_down(resource, schedules, runs))
        for each in runs:
            self._resources.delete("Workflow", self._namespace, _name(each))


def _wait_for(stopping: str) -> bool:
    if stopping:
        raise WaitingError(f"{stopping} is stopping, and reports first")
    return True


def _was_running(known: Mapping[str, Any]) -> bool:
    return any(
        each["type"] == status.RUNNING and (each["status"] == "True" or each["reason"] == status.WAITING)
        for each in known.get("conditions", ())
    )


def _of_last(runs: list[Object]) -> list[Condition]:
    return status.of_campaign(runs[-1]) if runs else []


def _about(workflow: Object) -> dict[str, Any]:
    """Give the parts of a status that are about a campaign."""
    report = status.report(workflow) or None
    return {"workflow": _name(workflow), "report": report, "targets": status.targets(workflow)}


def _name(each: Object) -> str:
    return str(each["metadata"]["name"])
