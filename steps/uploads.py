"""Where a capture's files go: in a pod, a presigned POST policy that opens one prefix; else a directory.

Both take `put(key, data)` with the whole key. Only urllib3 is needed, so that a capture pod's image stays small.
"""

import json
import time
from pathlib import Path
from typing import Protocol

import urllib3
from urllib3.util import Retry, Timeout

from steps.plan import CaptureRecord
from steps.stop import Stop

#: Few and fast: a capture keeps what was not taken, and offers it again.
RETRIES = Retry(
    total=2,
    backoff_factor=0.5,
    status_forcelist=(429, 500, 502, 503, 504),
    allowed_methods=None,
    raise_on_status=False,  # what the store says in the end is the reason
    read=1,  # a connection may be stale; a store that hangs is offered it again later
    respect_retry_after_header=False,  # MinIO's is two minutes
)
TIMEOUT = Timeout(connect=3, read=20)
#: How long after its end a capture offers what was not taken, in seconds; and when it is stopped.
PATIENCE, LAST_PATIENCE = 120, 15
TYPES = {
    ".json": "application/json",
    ".pcap": "application/vnd.tcpdump.pcap",
    ".html": "text/html; charset=utf-8",
    ".txt": "text/plain; charset=utf-8",
}


class UploadError(Exception):
    """An object could not be stored; the message is one sentence that holds no credential."""


class Uploads(Protocol):
    """What takes a capture's files."""

    def put(self, key: str, data: bytes) -> None:
        """Store an object, replacing what had its key. Raises UploadError."""


def out_of_time(ended: float | None, stop: Stop) -> bool:
    """Tell whether what a capture left is offered no more; `ended` is when it did by the monotonic clock, if it did."""
    return ended is not None and time.monotonic() > ended + (LAST_PATIENCE if stop.is_set() else PATIENCE)


def put_record(uploads: Uploads, prefix: str, record: CaptureRecord) -> None:
    """Store a capture's record beside its files. Raises UploadError."""
    uploads.put(prefix + "capture.json", record.model_dump_json(by_alias=True, indent=1).encode())


class PresignedPost:
    """Uploads with a policy that was signed for one prefix, as S3's browser-based uploads define it.

    `policy` is JSON: {"url": where to post, "fields": the signed form}.
    """

    def __init__(self, policy: str) -> None:
        parsed = json.loads(policy)
        self._url, self._fields = parsed["url"], parsed["fields"]
        self._http = urllib3.PoolManager(retries=RETRIES, timeout=TIMEOUT)

    def put(self, key: str, data: bytes) -> None:
        """Store an object under a key that the policy covers."""
        # The file comes last: S3 ignores what follows it.
        form = {**self._fields, "key": key, "file": (Path(key).name, data)}
        try:
            answer = self._http.request("POST", self._url, fields=form)
        except urllib3.exceptions.HTTPError as error:
            raise UploadError(f"{key}: the object store cannot be reached: {_reason(error)}") from None
        if answer.status // 100 != 2:  # noqa: PLR2004 - HTTP's success
            raise UploadError(f"{key}: the object store answered {answer.status}: {_code(answer.data)}")


def _reason(error: urllib3.exceptions.HTTPError) -> str:
    return type(getattr(error, "reason", None) or error).__name__


def _code(body: bytes) -> str:
    """Give the code of S3's error document."""
    return body.partition(b"<Code>")[2].partition(b"</Code>")[0].decode(errors="replace") or "no reason given"


class Directory:
    """A directory as the object store: keys are paths below it."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def put(self, key: str, data: bytes) -> None:
        """Store an object; a reader never sees half of it."""
        path = self.root / key
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            part = path.with_name(f".{path.name}.part")
            part.write_bytes(data)
            part.replace(path)
        except OSError as error:
            raise UploadError(f"{path}: cannot be written: {error.strerror}") from None
