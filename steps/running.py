"""A tool's process: it gets the signals that we get, ends when its time is over, and writes to every output at once."""

import signal
import subprocess
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from operator import methodcaller

from steps.arguments import Tool
from steps.background import Background
from steps.chunks import blocks
from steps.outputs import Output, OutputError
from steps.stop import Stop
from steps.tcpdump import FLUSH
from steps.tools import TCPDUMP

#: How long a tool may take to end when its time is over, in seconds.
GRACE = 5
#: How often it is looked whether an output is lost while the tool writes nothing, in seconds.
TICK = 1.0
#: What the tool gets in our place: what it is told to end with, and what it may take as a question.
ENDING = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
PASSED_ON = (*ENDING, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2)


def run(  # noqa: PLR0913, PLR0917 - a run has this many independent parts
    tool: Tool,
    argv: Sequence[str],
    to: Sequence[Output],
    timer: float | None,
    ending: Stop,
    lost: Callable[[OutputError], object],
) -> int:
    """Run a command until it ends; give its exit code as a shell would, and 0 when the timer, in seconds, ended it.

    Every output gets what it writes, and is closed. `ending` is set when the command is told to end. An output that
    takes no more is `lost`, and the others go on; without any, the command is ended.
    """
    with _started(argv, ending) as process, _timed(process, tool, timer, ending) as timed_out:
        if not process.stdout:
            raise AssertionError("a pipe was asked for")
        outputs = taking = [Background(output) for output in to]
        for data in blocks(process.stdout.fileno(), TICK):
            taking = _each(taking, methodcaller("write", data), lost)
            if not taking:
                process.stdout.close()
                _end(process, tool)
                break
        code = process.wait()
        for output in outputs:
            output.finish()
        _each(outputs, methodcaller("close"), lost)
    return 0 if timed_out.is_set() else code if code >= 0 else 128 - code


def _each(
    outputs: Sequence[Background], do: Callable[[Background], object], lost: Callable[[OutputError], object]
) -> list[Background]:
    """Do something with every output; give those that are not lost."""
    kept = []
    for output in outputs:
        try:
            do(output)
            kept.append(output)
        except OutputError as error:
            lost(error)
    return kept


def _started(argv: Sequence[str], ending: Stop) -> subprocess.Popen[bytes]:
    """Start a command that gets the signals that we get: one that comes before it has started, then."""
    early: list[int] = []
    started: list[subprocess.Popen[bytes]] = []

    def pass_on(number: int, _: object) -> None:
        if number in ENDING:
            ending.set()
        if started:
            started[0].send_signal(number)
        else:
            early.append(number)

    for number in PASSED_ON:
        if signal.getsignal(number) is not signal.SIG_IGN:  # as nohup has it
            signal.signal(number, pass_on)
    # A group of its own: the signals of a terminal reach it once, through us.
    process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, process_group=0)
    started.append(process)
    for came in early:
        process.send_signal(came)
    return process


@contextmanager
def _timed(
    process: subprocess.Popen[bytes], tool: Tool, seconds: float | None, ending: Stop
) -> Iterator[threading.Event]:
    """End a process when its time is over; the event says that it was."""
    over = threading.Event()

    def end() -> None:
        ending.set()
        if process.poll() is None:
            over.set()
            _end(process, tool)

    clock = threading.Timer(0 if seconds is None else seconds + (FLUSH if tool is TCPDUMP else 0), end)
    if seconds is not None:
        clock.start()
    try:
        yield over
    finally:
        clock.cancel()


def _end(process: subprocess.Popen[bytes], tool: Tool) -> None:
    process.send_signal(tool.end)
    try:
        process.wait(GRACE)
    except subprocess.TimeoutExpired:
        process.kill()
