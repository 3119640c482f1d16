"""A tool of a campaign on one target: what it says is printed and uploaded while it runs, and a record beside it."""

import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from pathlib import Path

from analysis.outcomes import TIME_OVER
from steps.arguments import Tool
from steps.campaign_input import CampaignInput
from steps.chunks import blocks
from steps.fields import as_written
from steps.interface import GRACE, NO_TIME, POD_DELETED, TICK, now
from steps.namespaces import NetworkNamespace
from steps.pieces import Pieces
from steps.plan import CaptureRecord, Outcome, Target
from steps.stop import Stop
from steps.tcpdump import FLUSH
from steps.tools import TCPDUMP, TOOLS, command
from steps.uploads import UploadError, Uploads, out_of_time, put_record

#: How much of what a tool said last may be its reason to fail, in bytes and in lines.
LAST_BYTES, LAST_LINES = 1000, 2


def output(process: subprocess.Popen[bytes], reason: Callable[[], str], tool: Tool) -> Iterator[bytes]:
    """Give what a tool's process writes; end it when there is a reason to, and insist when it does not end.

    Nothing is given when it has written nothing for a moment. `reason` is asked until it gives one.
    """
    if not process.stdout:
        raise AssertionError("a pipe was asked for")
    due: list[tuple[float, signal.Signals]] | None = None
    for data in blocks(process.stdout.fileno(), TICK):
        yield data
        if due is None and reason():
            end = time.monotonic() + (FLUSH if tool is TCPDUMP else 0)
            due = [(end, tool.end), (end + GRACE, signal.SIGKILL)]
        if due and time.monotonic() >= due[0][0]:
            process.send_signal(due.pop(0)[1])


def reason_to_end(namespace: NetworkNamespace, stop: Stop, deadline: float, left: int, asked: CampaignInput) -> str:
    """Give why a tool is to end now, if it is; `left` is how many bytes it may still write."""
    if stop.is_set():
        return "it was stopped"
    if left <= 0:
        return f"it reached its limit of {as_written(asked.bytes)}"
    if time.monotonic() >= deadline:
        return TIME_OVER
    return "" if namespace.alive() else POD_DELETED


class ToolRun:
    """A tool that has not run yet.

    `prefix` is where its output goes in the object store, `spool` a new directory for pieces on their way there.
    """

    def __init__(  # noqa: PLR0913 - a run has this many independent parts
        self,
        target: Target,
        namespace: NetworkNamespace,
        asked: CampaignInput,
        *,
        uploads: Uploads,
        prefix: str,
        spool: Path,
    ) -> None:
        self._tool = TOOLS[asked.program]
        self._argv = command(self._tool, asked.arguments)
        self.record = CaptureRecord(
            target=target, interface="", tool=self._tool.program, arguments=self._argv[1:], outcome="capturing"
        )
        self._namespace, self._asked = namespace, asked
        self._uploads, self._prefix = uploads, prefix
        self._pieces = Pieces(uploads, prefix, spool, size=asked.chunk)
        self._left = int(asked.bytes)
        self._last_words = b""
        self._ended_because = self._broken = ""
        self._ended_at: float | None = None

    def run(self, stop: Stop) -> CaptureRecord:
        """Run until the tool ends, a limit is reached, the pod ends or `stop` is set; give the record, as uploaded.

        Raises:
            UploadError: the record itself could not be uploaded.

        """

        def over() -> bool:
            return out_of_time(self._ended_at, stop)

        self.record.listening = now()
        with suppress(UploadError):  # the store may be back when the tool ends
            put_record(self._uploads, self._prefix, self.record)
        with (
            subprocess.Popen(
                self._namespace.enter(*self._tool.through, *self._argv),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                process_group=0,  # a terminal's Ctrl-C is ours to handle
            ) as process,
            ThreadPoolExecutor(max_workers=1) as uploader,
        ):
            deadline = time.monotonic() + self._asked.duration
            offered, offer = 0, Future[bool]()
            offer.set_result(True)
            for data in output(process, partial(self._reason_to_end, stop, deadline), self._tool):
                self._keep(data)
                if len(self._pieces.files) > offered and offer.done():
                    offered, offer = len(self._pieces.files), uploader.submit(self._pieces.offer, over)
            self._ended_at, self.record.ended = time.monotonic(), now()
        self._pieces.close()
        while not (self._pieces.offer(over) or over()):
            time.sleep(1)
        self.record.files, self.record.exit_code = self._pieces.files, process.returncode
        self.record.outcome, self.record.reason = self._outcome(process.returncode)
        put_record(self._uploads, self._prefix, self.record)
        return self.record

    def _reason_to_end(self, stop: Stop, deadline: float) -> str:
        self._ended_because = self._broken or reason_to_end(self._namespace, stop, deadline, self._left, self._asked)
        return self._ended_because

    def _keep(self, data: bytes) -> None:
        """Print what the tool wrote, and keep it to be uploaded; what is past the limit is dropped."""
        data = data[: self._left]
        self._left -= len(data)
        self._last_words = (self._last_words + data)[-LAST_BYTES:]
        with suppress(OSError):  # nobody needs to read along
            sys.stdout.buffer.write(data)
            sys.stdout.buffer.flush()
        try:
            self._pieces.write(data)
        except OSError as error:
            self._broken = f"what it said could not be kept: {error.strerror}"

    def _outcome(self, exit_code: int) -> tuple[Outcome, str]:
        # What sums up when it is ended says by its exit code whether it went well: ping that no answer came.
        has_verdict = self._ended_because == TIME_OVER and self._tool.end is signal.SIGINT
        failed = exit_code > 0 if has_verdict else exit_code != 0 and not self._ended_because
        if waiting := self._pieces.waiting:
            of = f"{waiting} of {len(self._pieces.files)} files"
            return "upload_failed", f"{of} could not be uploaded: {self._pieces.refusal or NO_TIME}"
        if self._ended_because == POD_DELETED or (failed and not self._namespace.alive()):
            return "pod_deleted", f"{POD_DELETED} while {self._tool.program} ran; what it said until then is here"
        if self._broken:
            return "capture_failed", self._broken
        if failed:
            lines = filter(None, map(str.strip, self._last_words.decode(errors="replace").splitlines()))
            said = "; ".join(list(lines)[-LAST_LINES:]) or "it did not say why"
            return "capture_failed", f"{self._tool.program} ended with exit code {exit_code}: {said}"
        return "captured", self._ended_because
