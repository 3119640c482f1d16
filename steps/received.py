"""What a data endpoint has received: captures as they come in, many at once, each in a session of its own."""

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from prometheus_client import Gauge

from steps.outbox import Outbox
from steps.session import Session
from steps.uploads import Uploads

#: How long a session that is silent may still go on, in seconds; and how many are known: the most silent goes first.
MEMORY, SESSIONS = 86_400, 10_000
OPEN = Gauge("snoopy_endpoint_sessions_open", "Captures that are coming in")

log = logging.getLogger(__name__)


class GapError(ValueError):
    """What came does not follow what is held; the message is a sentence."""


class Origin(NamedTuple):
    """Whose output it is. Of a client that does not say so, ~ADDRESS and port stand for namespace and session."""

    namespace: str
    pod: str
    session: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.pod}, session {self.session}"


class Received:
    """Sessions, and their chunks on the way to keys below `prefix` of an object store.

    `spool` is a directory of its own: what it holds from a server that was killed is taken over. A session ends when it
    has been silent for `idle` seconds, which loses nothing if it goes on. Nothing here is safe for threads.
    """

    def __init__(self, uploads: Uploads, prefix: str, spool: Path, *, idle: float) -> None:
        self._prefix, self._spool, self._idle = prefix, spool, idle
        self._outbox = Outbox(uploads, self._key)
        self._sessions: dict[Origin, Session] = {}  # the most silent first
        self._newest = 0  # bytes in the sessions' newest chunks
        self._left: set[Path] = set()  # folders to remove when they are empty
        spool.mkdir(parents=True, exist_ok=True)
        for folder in sorted(spool.glob("*/*/*")):
            if any(folder.iterdir()):
                namespace, pod, name = folder.relative_to(spool).parts
                origin = Origin(namespace, pod, name.partition("_")[2])
                self._end(origin, self._add(origin, folder))
            else:
                self._left.add(folder)

    @property
    def spooled(self) -> int:
        """How many bytes are not in the object store yet."""
        return self._newest + self._outbox.bytes

    def append(self, origin: Origin, data: bytes, position: int | None = None) -> str:
        """Keep data that `position` bytes of its session came before; None: it follows what is held.

        Gives a sentence that says how many bytes of the session are held.

        Raises:
            GapError: something before `position` is not held.
            OSError: the spool cannot be written; what was held still is.

        """
        session = self._sessions.get(origin)
        if position is None and session and session.begins_anew(data):
            self._forget(origin)
            session = None
        held = session.held if session else 0
        if position is not None and position > held:
            raise GapError(f"{position} bytes are to come before these, and {held} are held")
        data = data[held - position :] if position is not None else data
        if not session:
            begun = datetime.now(UTC).strftime("%Y%m%dT%H%M%S.%fZ")
            session = self._add(origin, self._spool / origin.namespace / origin.pod / f"{begun}_{origin.session}")
        self._sessions[origin] = self._sessions.pop(origin)
        if not session.open:
            log.info("%s: %s", origin, f"goes on after {held} bytes" if held else "began")
            session.open = True
            OPEN.inc()
        with self._counted(session):
            session.append(data)
        return f"{session.held} bytes are held{session.broken and '; ' + session.broken}"

    def tick(self) -> None:
        """Do what time asks for: close old chunks, end silent sessions, forget old ones. Raises OSError."""
        now = time.monotonic()
        for origin, session in list(self._sessions.items()):
            silent = now - session.touched
            if session.open and silent >= self._idle:
                self._end(origin, session)
            elif session.is_due(now):
                with self._counted(session):
                    session.cut()
            if silent >= MEMORY:
                self._forget(origin)
        for folder in list(self._left):
            if not any(folder.iterdir()):
                folder.rmdir()
                self._left.remove(folder)
                with suppress(OSError):  # another pod or session is there
                    folder.parent.rmdir()
                    folder.parent.parent.rmdir()

    def end(self, seconds: float) -> int:
        """End every session; wait, at most this long, until all is stored. Gives the number of files that are not."""
        for origin, session in self._sessions.items():
            self._end(origin, session)
        return self._outbox.drain(seconds)

    def _key(self, path: Path) -> str:
        namespace, pod, session, chunk = path.relative_to(self._spool).parts
        return f"{self._prefix}{namespace}_{pod}/{session}/{chunk.partition('-')[0]}{path.suffix}"

    def _add(self, origin: Origin, folder: Path) -> Session:
        if origin in self._sessions:
            self._forget(origin)
        elif len(self._sessions) >= SESSIONS:
            self._forget(next(iter(self._sessions)))
        session = self._sessions[origin] = Session(folder, self._outbox.add)
        self._left.discard(folder)
        self._newest += session.size
        return session

    def _end(self, origin: Origin, session: Session) -> None:
        with self._counted(session):
            session.cut()
        if session.open:
            log.info("%s: ended with %d bytes", origin, session.held)
            session.open = False
            OPEN.dec()

    def _forget(self, origin: Origin) -> None:
        session = self._sessions[origin]
        self._end(origin, session)
        with self._counted(session):
            session.forget()
        del self._sessions[origin]
        self._left.add(session.folder)

    @contextmanager
    def _counted(self, session: Session) -> Iterator[None]:
        before = session.size
        try:
            yield
        finally:
            self._newest += session.size - before
