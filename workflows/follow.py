"""Wait for a campaign, and say what happens at each target when it happens."""

import time
from collections.abc import Callable

from steps.cluster import NOT_FOUND, ClusterError
from steps.objects import Bucket, ObjectStoreError
from steps.plan import CaptureRecord
from workflows.cluster import Cluster
from workflows.progress import ENDED, WAITING, Pod, phase, pods, read_record, record_keys

TICK = 1.0
#: How often in a row the cluster may be out of reach before waiting ends.
PATIENCE = 30


class Follower:
    """Follows one campaign. `bucket` is where captures say that they listen; without it Argo's word must do."""

    def __init__(self, cluster: Cluster, name: str, bucket: Bucket | None, say: Callable[[str], None]) -> None:
        self._cluster, self._name, self._bucket, self._say = cluster, name, bucket, say
        self._records = dict[str, CaptureRecord]()  # by key
        self._said: dict[str, str] = {}

    def wait(self) -> str:
        """Wait until the Workflow has ended, and give its phase.

        Raises:
            ClusterError: it does not exist, or the cluster stayed out of reach.

        """
        misses = 0
        while True:
            try:
                workflow = self._cluster.workflow(self._name)
                misses = 0
            except ClusterError as error:
                misses += 1
                if misses > PATIENCE or error.status == NOT_FOUND:
                    raise
            else:
                self._tell(pods(workflow))
                if phase(workflow) in ENDED:
                    return phase(workflow)
            time.sleep(TICK)

    def _tell(self, found: list[Pod]) -> None:
        """Say what changed since the last time."""
        self._listen(found)
        for pod in found:
            state = pod.state([record for record in self._records.values() if record.target.name == pod.target])
            if self._said.get(pod.node_id) != state:
                self._said[pod.node_id] = state
                where = f" on {pod.node}" if pod.node else ""
                self._say(f"{time.strftime('%H:%M:%S')}  {pod.name}{where}: {state}")

    def _listen(self, found: list[Pod]) -> None:
        """Read what captures recorded: of pods that have started and said nothing yet, or that have just ended."""
        ended = {pod.target for pod in found if pod.phase in ENDED}
        started = {pod.target for pod in found if pod.target and pod.phase not in WAITING}
        known = {record.target.name for record in self._records.values()}
        stale = {record.target.name for record in self._records.values() if record.outcome == "capturing"} & ended
        if self._bucket is None or not (started - known or stale):
            return
        try:
            for key in record_keys(self._bucket, self._cluster.namespace, self._name):
                before = self._records.get(key)
                is_news = before is None or before.target.name in stale
                if is_news and (record := read_record(self._bucket, key)):
                    self._records[key] = record
        except ObjectStoreError as error:
            self._say(f"{error}; what captures say themselves is not shown")
            self._bucket = None
