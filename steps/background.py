"""An output that is written in the background: while its reader, store or endpoint is slow, the others get theirs."""

import threading

from steps.fields import MIB
from steps.outputs import Output, OutputError

#: How much may wait for one output before whoever writes waits, too; and what it is given at a time; in bytes.
ROOM, PART = 16 * MIB, MIB
#: How often an output is told that nothing was written, in seconds.
TICK = 1.0


class Background:
    """An output, which gets the same bytes in the same order, from a thread of its own.

    What it raises is raised once: by the next `write`, or by `close`.
    """

    def __init__(self, output: Output) -> None:
        self._output = output
        self._waiting = bytearray()
        self._closed = self._ended = False
        self._lost: OutputError | None = None
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._thread.start()

    def write(self, data: bytes) -> None:
        """Take the next bytes, when there is room for them. Raises OutputError, of what was written before."""
        with self._changed:
            self._changed.wait_for(lambda: self._ended or len(self._waiting) < ROOM)
            self._waiting += data
            self._changed.notify_all()
        self._complain()

    def close(self) -> None:
        """Wait until all is written, and close the output. Raises OutputError."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._thread.join()
        self._output.close()
        self._complain()

    def _complain(self) -> None:
        lost, self._lost = self._lost, None
        if lost:
            raise lost

    def _work(self) -> None:
        try:
            while (data := self._next()) is not None:
                self._output.write(data)
        except OutputError as error:
            self._lost = error
        finally:
            with self._changed:
                self._ended = True
                self._changed.notify_all()

    def _next(self) -> bytes | None:
        """Give what waits, or nothing when that has taken a while; None at the end."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._closed, TICK)
            data = bytes(self._waiting[:PART])
            del self._waiting[:PART]
            self._changed.notify_all()
            return None if self._closed and not data else data
