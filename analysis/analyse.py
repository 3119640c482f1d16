"""Captures in, report out: what `snoopy analyse` and the join step do."""

import json
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa

from analysis.captures import PAGE, REPORT, Capture, find, writing
from analysis.counting import IDENTITY
from analysis.extract import columns
from analysis.packets import Reading
from analysis.report import html
from analysis.summary import COLUMNS, summarise
from analysis.tables import Writer
from analysis.thresholds import Thresholds, thresholds
from analysis.views import View, view

WORKERS = 4  # captures read at once
KEPT = list(dict.fromkeys([*IDENTITY, *COLUMNS]))  # of the connections, what the report is made from
OF_VIEWS = {"connections": "connections", "dns": "lookups", "tls": "handshakes", "http": "requests"}


def analyse(
    paths: Sequence[Path],
    out: Path,
    *,
    reported: str | None = None,
    limits: Thresholds | None = None,
    reading: Reading | None = None,
) -> dict[str, Any]:
    """Write report.json, report.html and the tables into `out`, and give report.json's content.

    Args:
        paths: capture files, or directories: in one, every folder with a capture.json is one capture (its numbered
            chunks are one stream of packets), plan.json is the plan, other pcap files are captures of their own.
        out: a directory; made where it is missing.
        reported: when the campaign's report was made, RFC 3339; shown in report.html only, because report.json
            says the same whenever it is made.
        limits: what is worth a finding; those of the plan, or the defaults, where there are none.
        reading: how captures are read; with the plan's VXLAN ports, where there are some.

    Raises:
        CaptureError: a path does not exist, cannot be read or holds no captures, or `out` cannot be written.

    """
    with writing(out) as scratch:
        return _analyse(paths, scratch, reported, limits, reading)


def _analyse(
    paths: Sequence[Path], out: Path, reported: str | None, limits: Thresholds | None, reading: Reading | None
) -> dict[str, Any]:
    found = find(paths)
    asked = found.plan.get("input", {})
    limits = limits or thresholds(asked.get("thresholds", ()))
    if not reading and asked.get("vxlan"):
        reading = Reading(vxlan_ports=tuple(map(int, asked["vxlan"])))
    captured = [capture for capture in found.captures if not capture.tool]
    views = list(_written(captured, out, found.plan.get("campaign", ""), reading))
    report, counted = summarise(found, views, limits)
    text = json.dumps(report, ensure_ascii=False, indent=1, allow_nan=False)
    (out / REPORT).write_text(text + "\n", encoding="utf-8", errors="backslashreplace")
    page = html(report, counted, reported)
    (out / PAGE).write_text(page, encoding="utf-8", errors="backslashreplace")
    return report


def _written(captured: Sequence[Capture], out: Path, campaign: str, reading: Reading | None) -> Iterator[View]:
    """Read captures, several at once, and write the tables of each, in their order."""
    with ExitStack() as stack:
        writers = {name: stack.enter_context(Writer(out, name, campaign)) for name in OF_VIEWS}
        pool = stack.enter_context(ThreadPoolExecutor(min(WORKERS, os.cpu_count() or 1)))
        numbers = range(len(captured))
        for seen in pool.map(lambda number: view(number, captured[number], reading), numbers):
            for name, writer in writers.items():
                table = getattr(seen, OF_VIEWS[name])
                identities = pa.Table.from_pandas(seen.connections[["community_id"]]).column(0)
                found = columns(pa.Table.from_pandas(table), identities if "connection" in table else None)
                writer.add(found, seen.capture, seen.packets.counts)
            yield replace(seen, connections=seen.connections[KEPT])
