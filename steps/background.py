"""An output that is written in the background: while its reader, store or endpoint is slow, the others get theirs."""

import threading

from steps.fields import MIB
from steps.outputs import Output, OutputError

#: How much may wait for one output before whoever writes waits, too; and what it is given at a time; in bytes.
ROOM, PART = 16 * MIB, MIB
#: How often an output is told that nothing was written, in seconds.
TICK = 1.0


class Background:
    """An output, which gets the same bytes in the same order, from a thread of its own, and is closed by it.

    What it raises is raised once: by the next `write`, or by `close`.
    """

    def __init__(self, output: Output) -> None:
        self._output = output
        self._waiting = bytearray()
        self._finished = self._ended = False
        self._lost: OutputError | None = None
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._thread.start()

    def write(self, data: bytes) -> None:
        """Take the next bytes, when there is room for them. Raises OutputError, of what was written before."""
        with self._changed:
            self._changed.wait_for(lambda: self._ended or len(self._waiting) < ROOM)
            if not self._ended:
                self._waiting += data
                self._changed.notify_all()
        self._complain()

    def finish(self) -> None:
        """Take note that there is no more; what waits is still written."""
        with self._changed:
            self._finished = True
            self._changed.notify_all()

    def close(self) -> None:
        """Wait until all is written, and the output closed. Raises OutputError."""
        self.finish()
        self._thread.join()
        self._complain()

    def _complain(self) -> None:
        with self._changed:
            lost, self._lost = self._lost, None
        if lost:
            raise lost

    def _work(self) -> None:
        lost: list[OutputError] = []
        for do in (self._write_all, self._output.close):
            try:
                do()
            except OutputError as error:
                lost.append(error)
            except Exception as error:  # noqa: BLE001 - nobody would hear of it, and the tool would run for nothing
                lost.append(OutputError(f"an output failed: {error!r}"))
        with self._changed:
            self._ended, self._lost = True, lost[0] if lost else None
            self._waiting.clear()
            self._changed.notify_all()

    def _write_all(self) -> None:
        while (data := self._next()) is not None:
            self._output.write(data)

    def _next(self) -> bytes | None:
        """Give what waits, or nothing when that has taken a while; None at the end."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._finished, TICK)
            data = bytes(self._waiting[:PART])
            del self._waiting[:PART]
            self._changed.notify_all()
            return None if self._finished and not data else data
