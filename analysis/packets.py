"""From one capture's files to a table of its packets.

This module is the only one that knows how packets are read; everything behind it works on its tables.
"""

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from analysis import dns, tshark
from analysis.frames import COLUMNS, FIELDS, QUOTES, TEXTS, Frames, Numbers, frames
from analysis.stream import header, whole


@dataclass
class Packets:
    """One capture, read: `table` has a row per TCP, UDP or SCTP packet, `unreachable` one per ICMP unreachable.

    `counts` are the packets that each of the files holds, `skipped` those that are in neither table, by reason;
    `truncated_at` is the last whole packet of a file that ends in the middle of the next one. `messages` has a row
    per DNS message. `problems` are sentences without their full stop, about the whole; `unreadable` is by file.
    """

    table: pd.DataFrame
    unreachable: pd.DataFrame
    messages: pd.DataFrame
    files: tuple[str, ...]
    counts: list[int]
    linktype: str = ""
    packets: int = 0
    bytes: int = 0
    first: int | None = None
    last: int | None = None
    skipped: dict[str, int] = field(default_factory=dict)
    unreadable: dict[str, str] = field(default_factory=dict)
    truncated_at: list[dict[str, Any]] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    def tally(self, seen: Frames) -> None:
        """Count frames, whatever they hold."""
        first, last = int(seen.times.min()), int(seen.times.max())
        self.packets += len(seen.times)
        self.bytes += int(seen.lengths.sum())
        self.first = first if self.first is None else min(first, self.first)
        self.last = last if self.last is None else max(last, self.last)
        for reason, count in seen.reasons[seen.reasons != ""].value_counts().items():
            self.skipped[str(reason)] = self.skipped.get(str(reason), 0) + int(count)

    def places(self, frames: pd.Series) -> tuple[Numbers, Numbers]:
        """Give the index of the file, and the frame number in it, of frame numbers of the capture."""
        numbers = frames.to_numpy(dtype=np.int64)
        ends = np.cumsum([0, *self.counts])
        index = np.searchsorted(ends[1:], numbers)
        return index, numbers - ends[index]


def unread(files: Sequence[str]) -> Packets:
    """Give what a capture is of which nothing was read yet."""
    return Packets(_table([], COLUMNS), _table([], QUOTES), dns.table([]), tuple(files), [0] * len(files))


def read(files: Sequence[str], root: Path) -> Packets:
    """Read one capture: its files below `root`, in order, as one stream of packets.

    A file that cannot be read, or that ends in the middle of a packet, is reported and does not hide the others.

    Raises:
        CaptureError: tshark is not installed.

    """
    packets = unread(files)
    seen: list[Frames] = []
    with tempfile.TemporaryDirectory(prefix="snoopy-") as scratch:
        readable = _readable(packets, root, Path(scratch))
        try:
            for chunk in tshark.fields(list(readable.values()), FIELDS, TEXTS) if readable else ():
                some = frames(chunk)
                packets.tally(some)
                seen.append(some)
        except tshark.StoppedError as error:
            packets.problems.append(f"not all of its packets could be read: {error}")
        packets.table = _table([some.packets for some in seen], COLUMNS)
        packets.unreachable = _table([some.quotes for some in seen], QUOTES)
        del seen
        _settle(packets)
        _read_dns(packets, readable)
    return packets


def _settle(packets: Packets) -> None:
    """Compare what tshark gave with what capinfos counted."""
    missing = sum(packets.counts) - packets.packets
    if missing > 0:
        packets.skipped["tshark stopped before them"] = missing
        if not packets.problems:
            packets.problems.append(f"tshark read {packets.packets} of its {sum(packets.counts)} packets")
    elif missing:  # some blocks of pcapng files are no packets: tshark numbers them, capinfos does not count them
        packets.counts[-1] -= missing


def _read_dns(packets: Packets, readable: Mapping[str, Path]) -> None:
    """Dissect the files that hold DNS messages; their frames are numbered in the capture then, as others are."""
    holding = np.unique(packets.places(packets.table.loc[packets.table["dns"], "frame"])[0])
    if not len(holding):
        return
    try:
        found = dns.messages([readable[packets.files[index]] for index in holding])
    except tshark.StoppedError as error:
        packets.problems.append(f"its DNS messages could not be read: {error}")
        return
    counts = np.array(packets.counts)
    here, everywhere = np.cumsum([0, *counts[holding]]), np.cumsum([0, *counts])
    place = np.searchsorted(here[1:], found["frame"])
    packets.messages = found.assign(frame=found["frame"] - here[place] + everywhere[holding[place]])


def _readable(packets: Packets, root: Path, scratch: Path) -> dict[str, Path]:
    """Give the files that hold packets, and where to read them, after counting what is in all of them."""
    readable: dict[str, Path] = {}
    head = b""
    found = tshark.contents([root / name for name in packets.files])
    for index, (name, content) in enumerate(zip(packets.files, found, strict=True)):
        packets.linktype = packets.linktype or content.linktype
        if content.error:
            packets.unreadable[name] = content.error
        if content.is_cut:
            packets.truncated_at.append({"file": name, "frame": content.packets})
        if not content.packets:
            continue
        if readable and not head == header(root / name) != b"":
            packets.unreadable[name] = "it is no pcap file like those before it, and was left out"
            continue
        packets.counts[index] = content.packets
        head = head or header(root / name)
        is_damaged = content.is_cut or content.error
        readable[name] = whole(root / name, content.packets, scratch) if is_damaged else root / name
    return readable


def _table(parts: list[pd.DataFrame], columns: Mapping[str, Any]) -> pd.DataFrame:
    empty = pd.DataFrame({name: pd.Series(dtype=dtype) for name, dtype in columns.items()})
    return pd.concat([part for part in parts if len(part)] or [empty], ignore_index=True)
