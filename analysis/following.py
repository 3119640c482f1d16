"""From a Community ID to the packets of its connection, in every capture that saw it."""

import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from analysis.captures import Capture, CaptureError, find
from analysis.connections import addresses, identities
from analysis.conversation import MOST, conversation
from analysis.kernel import Columns, Ends
from analysis.packets import Reading, read
from analysis.places import Places
from analysis.tshark import StoppedError


def follow(paths: Sequence[Path], identity: str, reading: Reading | None = None) -> Iterator[str]:
    """Give a line for each packet of the connections with this Community ID, after a line that names the capture.

    Every packet has its place, which is the file and Wireshark's number of the frame there.

    Raises:
        CaptureError: a path does not exist or holds no captures, or tshark cannot read on.

    """
    for capture in find(paths).captures:
        if capture.tool:
            continue
        found = _ends(read(capture.files, capture.root, reading=reading).connections, identity)
        if found:
            ends = found[0]
            about = f"{ends.src} port {ends.src_port} → {ends.dst} port {ends.dst_port}"
            yield f"{capture.target_name or capture.name}: {about}"
            yield from _lines(capture, found, reading)


def _ends(facts: Columns, identity: str) -> list[Ends]:
    texts = addresses(facts)
    rows = np.flatnonzero(identities(facts) == identity.encode())
    places = [(int(facts["src"][row]), int(facts["dst"][row])) for row in rows]
    names = [(texts[src].as_py(), texts[dst].as_py()) for src, dst in places]
    return [
        Ends(src, int(facts["src_port"][row]), dst, int(facts["dst_port"][row]), int(facts["protocol"][row]))
        for row, (src, dst) in zip(rows, names, strict=True)
    ]


def _lines(capture: Capture, found: Sequence[Ends], reading: Reading | None) -> Iterator[str]:
    with tempfile.TemporaryDirectory(prefix="snoopy-") as scratch:
        selected = Path(scratch, "selected.pcap")
        following = replace(reading or Reading(), follow=tuple(dict.fromkeys(found)), most_selected=MOST)
        packets = read(capture.files, capture.root, reading=following, select=selected)
        places = Places([(packets.files, packets.counts)])

        def place(frame: int) -> str:
            where = places.place(0, frame)
            return f"{where['file']}:{where['frame']}"

        try:
            yield from map(str, conversation(packets, place))
        except StoppedError as error:
            raise CaptureError(f"{capture.name}: not all of its packets could be shown: {error}") from None
        if packets.passed_over:
            yield f"and {packets.passed_over} more packets"
