"""From a pod's UID to its network namespace, through the host's /proc: any runtime, no socket, no hostPID.

The cgroup of every process of a pod names the pod's UID, with `-` (cgroupfs) or `_` (systemd) between its parts.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

HOST_PROC = Path("/host/proc")


class NamespaceError(Exception):
    """There is no network namespace to enter; the message is one sentence, `exit_code` tells the cases apart."""

    exit_code = 1


class NoSuchPodError(NamespaceError):
    """The pod does not exist: it is gone, or its name is wrong."""

    exit_code = 3


class NoProcessError(NamespaceError):
    """The pod exists, but none of its processes runs on this node."""

    exit_code = 4


class HostNetworkError(NamespaceError):
    """The pod has no network namespace of its own: capturing there would show the whole node."""

    exit_code = 5


@dataclass(frozen=True)
class NetworkNamespace:
    """A network namespace, and the processes that keep it alive.

    `path` is what nsenter takes; `mark` is the text in /proc/PID/cgroup that makes a process one of the target's
    (empty: the namespace lives for as long as `path` exists).
    """

    path: Path
    mark: str = ""
    proc: Path = HOST_PROC

    def alive(self) -> bool:
        """Tell whether the target still has a process here."""
        if not self.mark:
            return self.path.exists()
        return _marked(self.path.parents[1], self.mark) or any(_processes(self.mark, self.proc))

    def enter(self, *command: str) -> list[str]:
        """Give the command line that runs the command inside; nsenter becomes the command, so signals reach it."""
        return ["nsenter", f"--net={self.path}", "--", *command]


def of_pod(uid: str, name: str, proc: Path = HOST_PROC) -> NetworkNamespace:
    """Find the network namespace of the pod with this UID; `name` is for messages.

    Raises:
        NoProcessError: no process of the pod runs on this node.
        HostNetworkError: the pod uses the node's own network.

    """
    host = _identity(proc / "1")
    marks = (f"pod{uid}", f"pod{uid.replace('-', '_')}")
    found = [each for mark in marks for each in _namespaces(mark, proc)]
    # A runtime's own helper may be in the pod's cgroup and on the node's network: CRI-O's conmon.
    inside = next((each for each in found if _identity(each.path.parents[1]) != host), None)
    if inside:
        return inside
    if found:
        raise HostNetworkError(f"pod {name} uses its node's network: it has no network namespace to capture in")
    raise NoProcessError(f"pod {name} (uid {uid}) has no process on this node: it ended, or runs on another node")


def of_container(container: str, proc: Path = HOST_PROC) -> NetworkNamespace:
    """Find the network namespace of the container whose ID begins so, whatever runs it.

    Raises:
        NoProcessError: no process of the container runs here.

    """
    if re.fullmatch("[0-9a-f]{6,64}", container):
        for inside in _namespaces(container, proc):
            return inside
    raise NoProcessError("no container here has an ID that begins so, in six or more hexadecimal digits")


def _namespaces(mark: str, proc: Path) -> Iterator[NetworkNamespace]:
    """Give the network namespaces of marked processes; one that is just ending has none."""
    for process in _processes(mark, proc):
        if _identity(process):
            yield NetworkNamespace(process / "ns/net", mark, proc)


def _identity(process: Path) -> object:
    """Give what two processes of one network share: None of one that ended, like nothing else what may not be read."""
    try:
        return (process / "ns/net").readlink()
    except PermissionError:
        return object()
    except OSError:
        return None


def _processes(mark: str, proc: Path) -> Iterator[Path]:
    """Find processes by their cgroup, the lowest number first: most often pause, which lives as long as the pod."""
    numbers = sorted(int(entry.name) for entry in proc.iterdir() if entry.name.isdigit())
    return (proc / str(pid) for pid in numbers if _marked(proc / str(pid), mark))


def _marked(process: Path, mark: str) -> bool:
    try:
        return mark in (process / "cgroup").read_text()
    except OSError:  # the process has ended
        return False
