"""Captures in, tables out, and nothing else: the quickest way to connections, DNS, TLS, HTTP or packets as Parquet."""

import tempfile
from collections.abc import Collection, Mapping, Sequence
from contextlib import ExitStack
from importlib import import_module
from pathlib import Path
from threading import Thread
from typing import Any

import pyarrow as pa

from analysis.captures import Capture, find, writing
from analysis.connections import table
from analysis.kernel import Columns
from analysis.packets import Packets, Reading, read
from analysis.tables import TABLES, Writer

DISSECTED = ("dns", "tls", "http")


def extract(paths: Sequence[Path], out: Path, names: Collection[str], reading: Reading | None = None) -> list[str]:
    """Write these of the TABLES into `out`, and give sentences about what could not be read.

    Args:
        paths: capture files or directories, as `analysis.analyse.analyse` takes them.
        out: a directory; made where it is missing.
        names: some of `analysis.tables.TABLES`.
        reading: how captures are read.

    Raises:
        CaptureError: a path does not exist, cannot be read or holds no captures, or `out` cannot be written.

    """
    problems: list[str] = []
    with writing(out) as scratch, ExitStack() as stack:
        found = find(paths)
        campaign = found.plan.get("campaign", "")
        writers = {name: stack.enter_context(Writer(scratch, name, campaign)) for name in TABLES if name in names}
        for capture in found.captures:
            if not capture.tool:
                problems += _extract(capture, writers, reading)
    return problems


def _extract(capture: Capture, writers: Mapping[str, Writer], reading: Reading | None) -> list[str]:
    is_dissected = any(name in writers for name in DISSECTED)
    if is_dissected:  # pandas takes as long to import as a million packets to read: both at once
        Thread(target=import_module, args=["analysis.views"]).start()

    def write(found: Columns, counts: Sequence[int]) -> None:
        writers["packets"].add(found, capture, counts)

    with tempfile.TemporaryDirectory(prefix="snoopy-") as scratch:
        packets = read(
            capture.files,
            capture.root,
            reading=reading,
            select=Path(scratch, "selected.pcap") if is_dissected else None,
            each=write if "packets" in writers else None,
        )
        connections = table(packets.connections, packets.end(capture))
        if "connections" in writers:
            writers["connections"].add(columns(connections), capture, packets.counts)
        if is_dissected:
            _dissect(packets, connections["community_id"], writers, capture)
    return _sentences(capture, packets)


def _sentences(capture: Capture, packets: Packets) -> list[str]:
    found = [capture.problem] if capture.problem else []
    found += [f"{capture.name}: {problem}" for problem in packets.problems]
    found += [f"{name}: {reason}" for name, reason in packets.unreadable.items()]
    found += [f"{each['file']} ends in the middle of a packet" for each in packets.truncated_at]
    found += [f"{capture.name}: packets that are in no connection: {n}, {why}" for why, n in packets.skipped.items()]
    if packets.passed_over:
        found.append(f"{capture.name}: too many packets with DNS, TLS or HTTP: {packets.passed_over} were passed over")
    return found


def _dissect(packets: Packets, identities: pa.ChunkedArray, writers: Mapping[str, Writer], capture: Capture) -> None:
    from analysis.views import dissected  # noqa: PLC0415 - as above; who asks for connections alone needs no pandas

    for name, found in zip(DISSECTED, dissected(packets, packets.end(capture)), strict=True):
        if name in writers:
            writers[name].add(columns(pa.Table.from_pandas(found), identities), capture, packets.counts)


def columns(found: pa.Table, identities: pa.ChunkedArray | None = None) -> dict[str, Any]:
    """Give a table's columns by name; what happened on a connection has that one's Community ID."""
    named = dict(zip(found.column_names, found.itercolumns(), strict=True))
    if identities is not None:
        named["community_id"] = identities.take(named["connection"])
    return named
