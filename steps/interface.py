"""One capture: tcpdump on an interface of a pod, uploaded in chunks while it runs, and the record of it."""

import os
import subprocess
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import IO

from analysis.outcomes import TIME_OVER
from analysis.timestamps import rfc3339
from steps import tcpdump
from steps.campaign_input import CampaignInput
from steps.chunks import READ, Chunk, Chunks, NotPcapError
from steps.fields import as_written
from steps.namespaces import NetworkNamespace
from steps.plan import CapturedFile, CaptureRecord, Outcome, Target
from steps.stop import Stop
from steps.uploads import UploadError, Uploads, out_of_time, put_record

#: A chunk with packets in it is uploaded at this age, in seconds: what a killed node may lose.
CHUNK_AGE = 10
#: How long tcpdump may take to listen, in seconds.
LISTENS = 30
#: How long a pod's last process may outlive its interface, in seconds.
POD_ENDING = 5
#: How long tcpdump may take to end when asked, in seconds.
GRACE = 5
TICK = 0.2

POD_DELETED, NO_TIME = "the pod was deleted", "there was no time left"


class Capture:
    """A capture that has not run yet; `listening` is set once tcpdump sees the interface.

    `prefix` is where its files go in the object store, `spool` a new directory for chunks on their way there.
    """

    def __init__(  # noqa: PLR0913 - a capture has this many independent parts
        self,
        target: Target,
        namespace: NetworkNamespace,
        interface: str,
        asked: CampaignInput,
        *,
        uploads: Uploads,
        prefix: str,
        spool: Path,
    ) -> None:
        self.listening = threading.Event()
        self.record = CaptureRecord(
            target=target,
            interface=interface,
            tool="tcpdump",
            arguments=tcpdump.command(asked, interface)[1:],
            outcome="capturing",
        )
        self._namespace, self._asked = namespace, asked
        self._uploads, self._prefix, self._spool = uploads, prefix, spool
        self._messages = tcpdump.Messages()
        self._full = threading.Event()
        self._ended_because = self._broken = ""
        self._ended_at: float | None = None
        self._unsaved: dict[Path, str] = {}  # chunks in the spool, and why the store would not take them

    def run(self, stop: Stop) -> CaptureRecord:
        """Capture until a limit is reached, the pod ends or `stop` is set; give the record, as it was uploaded.

        Raises:
            UploadError: the record itself could not be uploaded.

        """
        self._spool.mkdir(parents=True)
        command = self._namespace.enter("tcpdump", *self.record.arguments)
        with (
            # A group of its own: a terminal's Ctrl-C is ours to handle.
            subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, process_group=0) as process,
            ThreadPoolExecutor(max_workers=2) as watchers,
            ThreadPoolExecutor(max_workers=1) as uploader,
        ):
            if not (process.stdout and process.stderr):
                raise AssertionError("pipes were asked for")
            pipe = process.stdout.fileno()
            chunks = Chunks(pipe, self._spool, size=self._asked.chunk, seconds=CHUNK_AGE, limit=self._asked.bytes)
            tasks = [
                watchers.submit(self._listen, process.stderr),
                watchers.submit(self._watch, process, chunks, stop),
            ]
            for chunk in self._kept(chunks):
                self._count(chunk)
                self._unsaved[chunk.path] = ""
                if self._asked.print:
                    tasks.append(uploader.submit(_print, chunk.path))
                tasks.append(uploader.submit(self._save, stop))
            while os.read(pipe, READ):  # past a limit: or tcpdump would wait for a reader, and not end
                self._full.set()
            for task in tasks:
                task.result()
        while self._unsaved and not out_of_time(self._ended_at, stop):
            time.sleep(1)
            self._save(stop)
        self._conclude(process.returncode)
        put_record(self._uploads, self._prefix, self.record)
        return self.record

    def _kept(self, chunks: Chunks) -> Iterator[Chunk]:
        try:
            yield from chunks
        except (NotPcapError, OSError) as error:
            self._broken = f"the capture could not be kept: {error}"
            self._full.set()

    def _listen(self, log: IO[bytes]) -> None:
        """Read tcpdump's messages; when it listens, say so in the object store."""
        for line in log:
            if self._messages.add(line.decode(errors="replace")) and not self.listening.is_set():
                self.record.listening = now()
                self.listening.set()
                with suppress(UploadError):  # the store may be back when the capture ends
                    put_record(self._uploads, self._prefix, self.record)

    def _watch(self, process: subprocess.Popen[bytes], chunks: Chunks, stop: Stop) -> None:
        """End tcpdump when there is a reason to; insist when it does not end."""
        deadline = ending = None
        begun = time.monotonic()
        while process.poll() is None:
            moment = time.monotonic()
            if deadline is None and self.listening.is_set():
                deadline = moment + self._asked.duration
            if deadline is None and ending is None and moment > begun + LISTENS:
                self._broken = self._broken or f"tcpdump did not listen within {LISTENS} seconds"
            if ending is None:
                over = deadline is not None and moment >= deadline
                self._ended_because = self._reason_to_end(stop, over=over)
                if self._ended_because:
                    ending, chunks.until = moment, time.time_ns()
                    self.record.ended = rfc3339(chunks.until)
            elif moment > ending + tcpdump.FLUSH + GRACE:
                process.kill()
            elif moment > ending + tcpdump.FLUSH or self._full.is_set():
                process.terminate()
            with suppress(subprocess.TimeoutExpired):
                process.wait(TICK)
        self._ended_at = time.monotonic()
        self.record.ended = self.record.ended or now()

    def _reason_to_end(self, stop: Stop, *, over: bool) -> str:
        if stop.is_set():
            return "it was stopped"
        if self._full.is_set():
            return f"it reached its limit of {as_written(self._asked.bytes)}"
        if over:
            return TIME_OVER
        return self._broken or ("" if self._namespace.alive() else POD_DELETED)

    def _count(self, chunk: Chunk) -> None:
        record = self.record
        record.linktype = chunk.linktype
        record.files.append(
            CapturedFile(
                name=chunk.path.name,
                sha256=chunk.digest.hexdigest(),
                bytes=chunk.size,
                packets=chunk.packets,
            )
        )
        record.packets += chunk.packets
        if chunk.packets:
            record.first = record.first or rfc3339(chunk.first)
            record.last = rfc3339(chunk.last)

    def _save(self, stop: Stop) -> None:
        """Upload chunks in order and free their space, until the store refuses one: it is offered again later."""
        for path in list(self._unsaved):
            if out_of_time(self._ended_at, stop):
                return
            try:
                self._uploads.put(self._prefix + path.name, path.read_bytes())
            except UploadError as error:
                self._unsaved[path] = str(error)
                return
            del self._unsaved[path]
            path.unlink()

    def _conclude(self, exit_code: int) -> None:
        record = self.record
        record.exit_code = exit_code
        record.kernel_dropped = self._messages.dropped("kernel")
        record.interface_dropped = self._messages.dropped("interface")
        record.outcome, record.reason = self._outcome(failed=exit_code != 0 and not self._ended_because)

    def _outcome(self, *, failed: bool) -> tuple[Outcome, str]:
        record = self.record
        if self._unsaved:
            reason = next(filter(None, self._unsaved.values()), NO_TIME)
            return (
                "upload_failed",
                f"{len(self._unsaved)} of {len(record.files)} files could not be uploaded: {reason}",
            )
        if self._ended_because == POD_DELETED or (failed and self._pod_is_ending()):
            return "pod_deleted", f"{POD_DELETED} while it was captured; what was captured until then is here"
        if failed or self._broken:
            return "capture_failed", self._broken or self._messages.reason()
        if not record.packets:
            return "no_traffic", "no packet was seen"
        if record.packets >= self._asked.packets:
            return "captured", f"it reached its limit of {self._asked.packets} packets"
        return "captured", "" if self._ended_because == TIME_OVER else self._ended_because

    def _pod_is_ending(self) -> bool:
        """Tell whether tcpdump lost its interface because the pod goes: its processes then end a moment later."""
        deadline = time.monotonic() + POD_ENDING
        while self._namespace.alive() and time.monotonic() < deadline:
            time.sleep(TICK)
        return not self._namespace.alive()


def now() -> str:
    """Give the time as records have it."""
    return rfc3339(time.time_ns())


def _print(file: Path) -> None:
    subprocess.run(tcpdump.printing(file), stderr=subprocess.DEVNULL, check=False)
