"""The resources that things are made for: found from what was made, and told how it is."""

import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

from steps.cluster import ClusterError
from workflows import status
from workflows.resources import Object, Resources
from workflows.status import Condition
from workflows.translate import OWNER, OWNER_PARTS

#: How often a status is read and written again, when somebody else was quicker.
TRIES = 5
#: How many resources may be worked on at once.
LOCKS = 64

Say = Callable[[Mapping[str, Any], str, str, str], None]
"""Told a resource, Normal or Warning, a reason and a message: what becomes an event."""


class WaitingError(Exception):
    """Something must end first; the message says what."""


class Owners:
    """Tcpdumps, SnoopyJobs and SnoopyDataEndpoints. Every method raises ClusterError when the cluster refuses."""

    def __init__(self, resources: Resources, say: Say) -> None:
        self._resources, self.say = resources, say
        self._locks = [threading.Lock() for _ in range(LOCKS)]

    def of(self, made: Object) -> Object | None:
        """Give the resource for which an object was made; None when it is gone."""
        labels = made["metadata"]["labels"]
        kind, namespace, name, uid = (labels[OWNER + part] for part in OWNER_PARTS)
        found = self._resources.get(kind, namespace, name)
        return found if found and found["metadata"]["uid"] == uid else None

    def lock(self, uid: str) -> threading.Lock:
        """Give the lock of a resource: what changes for it is heard by more than one thread."""
        return self._locks[hash(uid) % len(self._locks)]

    def reconcile(self, resource: Object, act: Callable[[Object], bool], refused: Callable[[str], Condition]) -> None:
        """Act on a resource as it is now, unless it is going; again when its status was changed before it was written.

        What the cluster refuses becomes part of the status.
        """
        meta = resource["metadata"]
        with self.lock(meta["uid"]):
            for _ in range(TRIES):
                current = self._resources.get(resource["kind"], meta["namespace"], meta["name"])
                if (
                    not current
                    or current["metadata"]["uid"] != meta["uid"]
                    or "deletionTimestamp" in current["metadata"]
                ):
                    return
                try:
                    if act(current):
                        return
                except ClusterError as error:
                    with suppress(ClusterError):
                        self.tell(current, [refused(str(error))])
                    raise
                time.sleep(0.1)
        raise ClusterError(f"the status of {resource['kind']} {meta['namespace']}/{meta['name']} is changed by others")

    def tell(self, resource: Object, now: list[Condition], *, generation: bool = False, **about: Any) -> bool:
        """Write conditions and other parts of a status, where they say something new; tell in events what is.

        `generation`: the status is now about the resource's present specification. Of the parts None removes one.
        False when the resource has changed since it was read, and nothing was written.
        """
        meta, before = resource["metadata"], resource.get("status", {})
        of = meta["generation"] if generation else before.get("observedGeneration", 0)
        known = before.get("conditions", [])
        conditions = status.conditions(known, now, of, datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"))
        after = {**about, "observedGeneration": of, "conditions": conditions}
        if resource["kind"] != "SnoopyDataEndpoint":
            after["phase"] = status.in_a_word(conditions, resource["spec"])
        if all(before.get(part) == value for part, value in after.items()):
            return True
        change = {"metadata": {"resourceVersion": meta["resourceVersion"]}, "status": after}
        if not self._resources.patch(resource["kind"], meta["namespace"], meta["name"], change, "status"):
            return False
        for each in status.news(known, conditions):
            bad = each["type"] == status.DEGRADED or each["status"] == "False"
            self.say(resource, "Warning" if bad else "Normal", each["reason"], each["message"])
        return True
