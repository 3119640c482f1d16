"""Read one capture: its files, plain or compressed, block by block through the kernel, as one stream of packets."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from analysis.captures import Capture
from analysis.compression import DAMAGE, Source, opened
from analysis.kernel import (
    CONNECTIONS,
    MOST_SELECTED,
    PACKETS,
    SELECTED,
    SKIPPED,
    TOTALS,
    VXLAN_PORTS,
    Columns,
    Ends,
    Kernel,
    KernelError,
)
from analysis.timestamps import nanoseconds

BLOCK = 1 << 22  # bytes read at once
LARGEST = 1 << 25  # a record is never larger
LINKTYPES = {  # Wireshark's short names; others by their number, www.tcpdump.org/linktypes.html
    0: "null",
    1: "ether",
    9: "ppp",
    12: "rawip",
    14: "rawip",
    50: "ppp",
    51: "ppp-ether",
    101: "rawip",
    104: "chdlc",
    108: "loop",
    113: "linux-sll",
    192: "ppi",
    228: "rawip4",
    229: "rawip6",
    242: "ip-ib",
    276: "linux-sll2",
}
RAW = bytes.fromhex("4d3cb2a1 0200 0400 00000000 00000000 00000400 65000000")  # a pcap header: ns, LINKTYPE_RAW
Numbers = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Reading:
    """How to read: on which UDP ports VXLAN is spoken, and how many packets to dissect at most.

    Where connections are to be followed, theirs are the packets to dissect, and no others.
    """

    vxlan_ports: tuple[int, ...] = VXLAN_PORTS
    most_selected: int = MOST_SELECTED
    follow: tuple[Ends, ...] = ()


@dataclass(frozen=True)
class Selected:
    """Packets worth dissecting, in a small pcap of bare IP packets (of tunnels the innermost), and where each is from.

    `frames` are numbers in the capture, `connections` rows of its connections, `applications` as in
    `analysis.kernel.APPLICATIONS`; `is_orig` says whose originator sent them.
    """

    path: Path
    frames: Numbers
    connections: Numbers
    applications: npt.NDArray[np.uint8]
    is_orig: npt.NDArray[np.uint8]


@dataclass
class Packets:
    """One capture, read: `connections` are the kernel's facts.

    `counts` are the frames that each of the files holds, `skipped` the packets that are in no connection, by reason;
    `truncated_at` is the last whole frame of a file that ends in the middle of the next one. `problems` are sentences
    without their full stop, about the whole; `unreadable` is by file. Of packets worth dissecting, `passed_over` were
    too many.
    """

    files: tuple[str, ...]
    counts: list[int]
    connections: Columns
    linktype: str = ""
    packets: int = 0
    bytes: int = 0
    first: int | None = None
    last: int | None = None
    skipped: dict[str, int] = field(default_factory=dict)
    unreadable: dict[str, str] = field(default_factory=dict)
    truncated_at: list[dict[str, Any]] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    selected: Selected | None = None
    passed_over: int = 0

    def end(self, capture: Capture) -> int:
        """Give when the capture ended, ns since the epoch: by its record, or with its last packet."""
        recorded = capture.record.get("ended")
        return max(nanoseconds(recorded) if recorded else 0, self.last or 0)

    def add(self, index: int, totals: Columns) -> None:
        """Count what was read of a file."""
        frames, packets, size, first, last, is_cut, link = (int(number) for number in totals["file"])
        name, lost = self.files[index], totals["lost"].tobytes().decode()
        self.counts[index] = frames
        self.packets += packets
        self.bytes += size
        if packets and first <= last:
            self.first = first if self.first is None else min(first, self.first)
            self.last = last if self.last is None else max(last, self.last)
        if link >= 0 and not self.linktype:
            self.linktype = LINKTYPES.get(link, f"linktype {link}")
        if is_cut:
            self.truncated_at.append({"file": name, "frame": frames})
        if lost:
            self.unreadable[name] = f"{lost}, after {frames} frames" if frames else lost
        self.skipped = {reason: int(n) for reason, n in zip(SKIPPED, totals["skipped"], strict=True) if n}


def unread(files: Sequence[str]) -> Packets:
    """Give what a capture is of which nothing was read yet."""
    return Packets(tuple(files), [0] * len(files), Kernel().columns(CONNECTIONS))


def read(
    files: Sequence[str],
    root: Path,
    *,
    reading: Reading | None = None,
    select: Path | None = None,
    each: Callable[[Columns, Sequence[int]], None] | None = None,
) -> Packets:
    """Read one capture: its files below `root`, in order.

    A file that cannot be read, or that ends in the middle of a packet, is reported and does not hide the others.

    Args:
        files: names relative to `root`, pcap or pcapng, gzip or zstd around them or not, in any mixture.
        root: a directory.
        reading: how.
        select: a file to write, of the packets worth dissecting: `Packets.selected`.
        each: called with the kernel's PACKETS of each block, and the frames in the files before it.

    Raises:
        OSError: a file cannot be opened.

    """
    reading = reading or Reading()
    kernel = Kernel(
        vxlan_ports=reading.vxlan_ports, most_selected=reading.most_selected if select else 0, packets=each is not None
    )
    for ends in reading.follow:
        kernel.follow(ends)
    packets = Packets(tuple(files), [0] * len(files), {})
    with ExitStack() as stack:
        selection = _Selection(stack.enter_context(select.open("wb")) if select else None)
        try:
            for index, name in enumerate(files):
                kernel.begin()
                with opened(root / name) as source:
                    for _ in _blocks(kernel, source, packets, name):
                        selection.add(kernel)
                        if each:
                            each(kernel.columns(PACKETS), packets.counts[:index])
                packets.add(index, kernel.columns(TOTALS))
            packets.connections = kernel.columns(CONNECTIONS)
        except KernelError as error:
            nothing = unread(files)
            nothing.problems.append(f"its packets could not be read: {error}")
            return nothing
    if select:
        packets.selected = selection.selected(select)
        packets.passed_over = int(kernel.columns(TOTALS)["selectable"][0]) - len(packets.selected.frames)
    return packets


def _blocks(kernel: Kernel, source: Source, packets: Packets, name: str) -> Iterator[None]:
    """Feed a file to the kernel, and pause after every block. What is left of one is put before the next."""
    buffer, filled, is_last = bytearray(BLOCK), 0, False
    while not is_last:
        try:
            more = source(memoryview(buffer)[filled:])
        except DAMAGE as error:
            packets.unreadable[name] = f"it cannot be read to its end: {str(error).partition(chr(10))[0]}"
            more = 0
        filled, is_last = filled + more, more == 0
        used = kernel.feed(buffer, filled, is_last=is_last)
        yield
        buffer[: filled - used] = buffer[used:filled]
        filled -= used
        if filled == len(buffer) and filled < LARGEST:
            buffer += bytes(len(buffer))


class _Selection:
    """The small pcap as it is written, and where its packets are from."""

    def __init__(self, file: IO[bytes] | None) -> None:
        self._file, self._parts = file, [Kernel().columns(SELECTED)]
        if file:
            file.write(RAW)

    def add(self, kernel: Kernel) -> None:
        if self._file and len((found := kernel.columns(SELECTED))["frame"]):
            self._file.write(found.pop("records").data)
            self._parts.append(found)

    def selected(self, path: Path) -> Selected:
        names = ("frame", "connection", "application", "is_orig")
        frame, connection, *rest = (np.concatenate([part[name] for part in self._parts]) for name in names)
        return Selected(path, frame, connection.astype(np.int64), *rest)
