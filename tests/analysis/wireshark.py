"""What Wireshark says of a capture: its streams, its remarks on TCP, its Community IDs."""

import re
import subprocess
from pathlib import Path
from typing import Any

import pandas as pd

COUNTERS = {  # of tcp.analysis, and the columns whose sum they are; tshark calls every kind a retransmission
    "retransmission": ("retransmissions_plain", "retransmissions_fast", "retransmissions_spurious"),
    "fast_retransmission": ("retransmissions_fast",),
    "spurious_retransmission": ("retransmissions_spurious",),
    **{name: (name,) for name in ("out_of_order", "lost_segment", "keep_alive", "duplicate_ack", "zero_window")},
    "window_full": ("window_full",),
}
FIELDS = ("frame.protocols", "tcp.stream", "udp.stream", "communityid", *(f"tcp.analysis.{name}" for name in COUNTERS))


def tshark(path: Path) -> list[list[str]]:
    """Give tshark's FIELDS of every frame."""
    words = [word for name in FIELDS for word in ("-e", name)]
    command = ["tshark", "-n", "-r", str(path), "--enable-protocol", "communityid", "-T", "fields", *words]
    output = subprocess.run(command, capture_output=True, text=True, check=False).stdout
    return [line.split("\t") for line in output.splitlines()]


def summary(frames: list[list[str]]) -> dict[str, Any]:
    """Count tshark's streams and its remarks on TCP; give its Community IDs of what is TCP or UDP."""
    said: dict[str, Any] = {"protocols": set(), "streams": set(), "ids": set(), **dict.fromkeys(COUNTERS, 0)}
    for protocols, stream, datagrams, identity, *remarks in frames:
        said["protocols"].update(protocols.split(":"))
        if re.search(r"\bicmp", protocols):  # what it quotes is of another packet
            continue
        said["streams"] |= {stream} - {""}
        said["ids"] |= {identity} if stream or datagrams else set()
        for name, remark in zip(COUNTERS, remarks, strict=True):
            said[name] += bool(remark)
    return said | {"protocols": sorted(said["protocols"]), "ids": sorted(said["ids"]), "streams": len(said["streams"])}


def remarks(table: pd.DataFrame) -> dict[str, int]:
    return {name: int(table[list(columns)].to_numpy().sum()) for name, columns in COUNTERS.items()}
