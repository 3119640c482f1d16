"""The resources that things are made for: found from what was made, and told how it is."""

import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

from steps.cluster import ClusterError
from workflows import status
from workflows.resources import Object, Resources
from workflows.status import Condition
from workflows.translate import OWNER, OWNER_PARTS

#: How often a status is read and written again, when somebody else was quicker.
TRIES = 5

Say = Callable[[Mapping[str, Any], str, str, str], None]
"""Told a resource, Normal or Warning, a reason and a message: what becomes an event."""


class WaitingError(Exception):
    """Something must end first; the message says what."""


class Owners:
    """Tcpdumps, SnoopyJobs and SnoopyDataEndpoints. Every method raises ClusterError when the cluster refuses."""

    def __init__(self, resources: Resources, say: Say) -> None:
        self._resources, self.say = resources, say

    def of(self, made: Object) -> Object | None:
        """Give the resource for which an object was made; None when it is gone."""
        labels = made["metadata"]["labels"]
        kind, namespace, name, uid = (labels[OWNER + part] for part in OWNER_PARTS)
        found = self._resources.get(kind, namespace, name)
        return found if found and found["metadata"]["uid"] == uid else None

    def status(self, resource: Object) -> Object:
        """Give a resource's status as it is now."""
        meta = resource["metadata"]
        found = self._resources.get(resource["kind"], meta["namespace"], meta["name"]) or {}
        return dict(found.get("status", {}))

    def holds(self, resource: Object, kind: str, reason: str = "") -> bool:
        """Say whether a condition holds, for this reason where one is given."""
        return any(
            each["type"] == kind and each["status"] == "True" and reason in {"", each["reason"]}
            for each in self.status(resource).get("conditions", ())
        )

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
                    self.say(current, kind, each["reason"], each["message"])
                return
            time.sleep(0.1)
        raise ClusterError(f"the status of {resource['kind']} {meta['namespace']}/{meta['name']} is changed by others")
