"""Captures in, report out: what `snoopy analyse` and the join step do."""

import json
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from analysis.captures import CONNECTIONS, PAGE, REPORT, Capture, CaptureError, find
from analysis.report import html
from analysis.summary import summarise
from analysis.views import view

WORKERS = 4  # captures read at once; each holds one capture's packets
BIG = 1 << 27  # bytes of the captures that may be read at once: a packet takes up to ten times its bytes in memory
COLUMNS = (  # of connections.parquet; `analysis.connections.connections` says what they mean
    *("campaign", "capture", "target", "interface"),
    *("community_id", "src", "src_port", "dst", "dst_port", "proto", "start", "duration_s", "conn_state", "history"),
    *(f"{end}_{what}" for end in ("orig", "resp") for what in ("packets", "bytes", "payload_bytes")),
    *("syn_count", "rtt_ms", "retransmissions_plain", "retransmissions_fast", "retransmissions_spurious"),
    *("out_of_order", "lost_segment", "duplicate_ack", "keep_alive", "zero_window"),
    *("reset_by", "icmp_code", "outcome", "file", "frame", "proof_file", "proof_frame"),
)


def analyse(paths: Sequence[Path], out: Path, *, reported: str | None = None) -> dict[str, Any]:
    """Write report.json, report.html and connections.parquet into `out`, and give report.json's content.

    Args:
        paths: capture files, or directories: in one, every folder with a capture.json is one capture (its numbered
            chunks are one stream of packets), plan.json is the plan, other pcap files are captures of their own.
        out: a directory; made where it is missing.
        reported: when the campaign's report was made, RFC 3339; shown in report.html only, because report.json
            says the same whenever it is made.

    Raises:
        CaptureError: a path does not exist, cannot be read or holds no captures, `out` cannot be written, or tshark
            is not installed.

    """
    try:
        return _analyse(paths, out, reported)
    except OSError as error:
        raise CaptureError(f"{error.filename or out}: {error.strerror or error}") from None


def _analyse(paths: Sequence[Path], out: Path, reported: str | None) -> dict[str, Any]:
    found = find(paths)
    captured = [capture for capture in found.captures if not capture.is_iperf]
    with ThreadPoolExecutor(workers(captured)) as pool:  # tshark does the work, in a process of its own
        views = list(pool.map(view, range(len(captured)), captured))
    report, counted = summarise(found, views)
    out.mkdir(parents=True, exist_ok=True)
    text = json.dumps(report, ensure_ascii=False, indent=1, allow_nan=False)
    (out / REPORT).write_text(text + "\n", encoding="utf-8")
    (out / PAGE).write_text(html(report, counted, reported), encoding="utf-8")
    _write(out / CONNECTIONS, [each.connections for each in views], report["campaign"].get("name", ""))
    return report


def workers(captures: Sequence[Capture]) -> int:
    """Say how many captures to read at once: as many as there are cores, and one where they are big."""
    biggest = max((sum(path.stat().st_size for path in capture.paths) for capture in captures), default=0)
    return max(1, min(WORKERS, os.cpu_count() or 1, BIG // max(biggest, 1)))


def _write(file: Path, tables: Sequence[pd.DataFrame], campaign: str) -> None:
    """Write one row per connection and capture: what two captures saw is there twice, as each of them saw it."""
    rows = pd.concat(tables or [pd.DataFrame(columns=COLUMNS)], ignore_index=True).assign(campaign=campaign)
    texts = ("target", "interface", "reset_by", "outcome")
    rows = rows.assign(
        start=pd.to_datetime(rows["start"], utc=True, unit="ns"),
        **{name: rows[name].mask(rows[name] == "") for name in texts},
    )
    table = pa.Table.from_pandas(rows[list(COLUMNS)], preserve_index=False)
    pq.write_table(table.replace_schema_metadata(), file, compression="zstd")
