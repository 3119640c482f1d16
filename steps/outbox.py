"""Files on their way to the object store: each is offered until it is taken, and only then removed."""

import logging
import queue
import threading
import time
from collections.abc import Callable
from pathlib import Path

from prometheus_client import Counter

from steps.uploads import Uploads

#: Uploads at once; each holds one file in memory.
THREADS = 4
#: How long a thread waits after a failure, in seconds.
PAUSE = 2
FAILURES = Counter(
    "snoopy_endpoint_upload_failures", "Uploads that the object store did not take, and that are repeated"
)

log = logging.getLogger(__name__)


class Outbox:
    """What waits for the object store: `files` of `bytes` in all, each to be stored under the key of its path."""

    def __init__(self, uploads: Uploads, key: Callable[[Path], str]) -> None:
        self.files = self.bytes = 0
        self._uploads, self._key = uploads, key
        self._queue: queue.SimpleQueue[tuple[Path, int]] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._failing = False
        for _ in range(THREADS):
            # A store that hangs must not keep the process from ending.
            threading.Thread(target=self._work, daemon=True).start()

    def add(self, path: Path) -> None:
        """Take a file that nobody writes any more."""
        size = path.stat().st_size
        self._count(1, size)
        self._queue.put((path, size))

    def drain(self, seconds: float) -> int:
        """Wait until all is stored, at most this long; give the number of files that are left."""
        deadline = time.monotonic() + seconds
        while self.files and time.monotonic() < deadline:
            time.sleep(0.05)
        return self.files

    def _work(self) -> None:
        while True:
            path, size = self._queue.get()
            if self._stored(path):
                self._count(-1, -size)
            else:
                self._queue.put((path, size))
                time.sleep(PAUSE)

    def _stored(self, path: Path) -> bool:
        try:
            self._uploads.put(self._key(path), path.read_bytes())
            path.unlink()
        except FileNotFoundError:
            log.warning("%s is gone, and cannot be stored", path)
        except Exception as error:  # noqa: BLE001 - whatever it is: a thread that ended would leave files behind
            FAILURES.inc()
            if not self._failing:
                log.warning("%s; it is kept, and offered again", error)
            self._failing = True
            return False
        self._failing = False
        return True

    def _count(self, files: int, size: int) -> None:
        with self._lock:
            self.files += files
            self.bytes += size
