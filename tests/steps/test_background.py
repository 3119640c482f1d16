"""Outputs in the background: the same bytes in the same order, with room for as much as one may be behind."""

import threading
from collections.abc import Callable

import pytest

from steps import background
from steps.background import Background
from steps.outputs import OutputError
from tests.waiting import eventually


class Recorder:
    """An output that keeps what it gets, once it is `let`; `fail` says when it takes no more."""

    def __init__(self, fail: Callable[[bytes], bool] = lambda _: False) -> None:
        self.let, self.data, self.calls, self.closed = threading.Event(), b"", 0, False
        self._fail = fail

    def write(self, data: bytes) -> None:
        assert self.let.wait(30)
        if self._fail(data):
            raise OutputError("it takes no more")
        self.data += data
        self.calls += 1

    def close(self) -> None:
        self.closed = True


def test_all_is_written_in_order_before_it_is_closed() -> None:
    output = Recorder()
    to = Background(output)
    parts = [bytes([number % 256]) * number for number in range(1000)]
    for part in parts:
        to.write(part)
    output.let.set()
    to.close()
    assert output.data == b"".join(parts)
    assert output.closed


def test_whoever_writes_waits_when_too_much_is_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("steps.background.ROOM", 100)
    monkeypatch.setattr("steps.background.PART", 50)
    output = Recorder()
    to, written = Background(output), list[int]()

    def write() -> None:
        for number in range(20):
            to.write(bytes(50))
            written.append(number)

    writing = threading.Thread(target=write)
    writing.start()
    eventually("it waits", lambda: len(written) == 3)  # one of them with the output
    assert output.data == b""
    output.let.set()
    writing.join(10)
    to.close()
    assert len(output.data) == 1000


def test_an_output_hears_that_nothing_was_written(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("steps.background.TICK", 0.05)
    output = Recorder()
    output.let.set()
    to = Background(output)
    eventually("it is told three times", lambda: output.calls >= 3)
    to.close()
    assert output.data == b""


def test_a_failure_is_said_once_and_keeps_nobody_waiting() -> None:
    output = Recorder(lambda data: data.startswith(b"bad"))
    output.let.set()
    to = Background(output)
    to.write(b"bad")
    with pytest.raises(OutputError, match=r"^it takes no more$"):
        eventually("it is said", lambda: to.write(b""))
    to.write(bytes(2 * background.ROOM))
    to.write(b"more")
    to.close()
    assert output.closed


def test_whatever_fails_is_said_and_nothing_is_kept_for_it() -> None:
    class Full(Recorder):
        def write(self, _: bytes) -> None:
            raise OSError(28, "No space left on device")

    to = Background(Full())
    with pytest.raises(OutputError, match="No space left on device"):
        eventually("it is said", lambda: to.write(b"text"))
    for _ in range(3):
        to.write(bytes(background.ROOM))
    to.close()


def test_the_first_of_two_failures_is_said() -> None:
    class Torn(Recorder):
        def close(self) -> None:
            raise OutputError("nor can it be closed")

    output = Torn(lambda data: data.startswith(b"bad"))
    to = Background(output)
    to.write(b"bad")
    output.let.set()
    with pytest.raises(OutputError, match=r"^it takes no more$"):
        to.close()
    to = Background(output := Torn())
    output.let.set()
    with pytest.raises(OutputError, match=r"^nor can it be closed$"):
        to.close()


def test_what_fails_last_is_said_at_the_end() -> None:
    output = Recorder(lambda data: data.startswith(b"bad"))
    to = Background(output)
    to.write(b"bad")
    output.let.set()
    with pytest.raises(OutputError, match=r"^it takes no more$"):
        to.close()
