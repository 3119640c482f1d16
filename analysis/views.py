"""One capture's tables: connections, DNS lookups, TLS handshakes and HTTP requests, and from where they were seen."""

import hashlib
import re
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from analysis import dns, http, tls
from analysis.captures import Capture
from analysis.connections import connections
from analysis.dissect import dissect
from analysis.packets import Packets, Reading, read, unread
from analysis.pairs import vantage
from analysis.timestamps import rfc3339

#: How much of what a tool wrote is in a report, in bytes.
TEXT = 8192
CONTROL = re.compile(r"[^\S \t\n]|[\x00-\x08\x0e-\x1f\x7f-\x9f]")


@dataclass(frozen=True)
class View:
    """What one capture shows. `packets` has its counts; of its connections, `connections` says it all."""

    capture: Capture
    packets: Packets
    connections: pd.DataFrame
    lookups: pd.DataFrame
    handshakes: pd.DataFrame
    requests: pd.DataFrame

    @property
    def files(self) -> list[dict[str, Any]]:
        """The capture's files as report.json has them."""
        return [
            {"name": name, "sha256": digest(path), "bytes": path.stat().st_size, "packets": count}
            for name, path, count in zip(self.capture.files, self.capture.paths, self.packets.counts, strict=True)
        ]


def view(number: int, capture: Capture, reading: Reading | None = None) -> View:
    """Read one capture; `number` is its place among all of them. One that cannot be analysed has that as a problem."""
    with tempfile.TemporaryDirectory(prefix="snoopy-") as scratch:
        try:
            selected = Path(scratch, "selected.pcap")
            packets = read(capture.files, capture.root, reading=reading, select=selected)
            return _view(number, capture, packets)
        except Exception as error:  # noqa: BLE001 - whatever is made of it, the report is of the others
            nothing = unread(capture.files)
            nothing.problems.append(f"it could not be analysed: {type(error).__name__}: {error}".rstrip(": ."))
            return _view(number, capture, nothing)


def _view(number: int, capture: Capture, packets: Packets) -> View:
    end = packets.end(capture)
    rows = connections(packets, end)
    lookups, handshakes, requests = dissected(packets, end)
    packets.connections = {}
    for table in (rows, lookups, handshakes, requests):
        _say_where(table, number, capture)
    return View(capture, packets, rows, lookups, handshakes, requests)


def dissected(packets: Packets, end: int) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """Give a capture's DNS lookups, TLS handshakes and HTTP requests; what could not be read is among its problems."""
    try:
        messages = dissect(packets)
        until = min(end, messages.until or end)
        found = (
            dns.lookups(messages.dns, until),
            tls.handshakes(messages.tls, until),
            http.requests(messages.http, until),
        )
    except Exception as error:  # noqa: BLE001 - whatever Wireshark makes of them, the connections are there
        packets.problems.append(f"its DNS, TLS and HTTP could not be read: {type(error).__name__}: {error}")
        packets.selected = None
        return dissected(packets, end)
    packets.problems += messages.problems
    return found


def _say_where(table: pd.DataFrame, number: int, capture: Capture) -> None:
    ends = ("client", "server") if "client" in table else ("src", "dst")
    table["vantage"] = vantage(table[ends[0]], table[ends[1]], capture.target.get("addresses", []))
    table["capture_number"] = number
    table["target"], table["interface"] = capture.target_name, capture.interface
    table["inside"] = capture.target_name if capture.is_loopback else ""
    table["scope"] = capture.target.get("uid", "") if capture.is_loopback else ""


def digest(file: Path) -> str:
    """Give a file's SHA-256, as its record has it."""
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def described(view: View) -> dict[str, Any]:
    """Give report.json's entry for one capture: what its record says, and what its packets say."""
    capture, packets, record = view.capture, view.packets, view.capture.record
    files = view.files
    entry = {
        **_place(capture),
        "files": files,
        "linktype": packets.linktype,
        "packets": packets.packets,
        "bytes": packets.bytes,
        "first": rfc3339(packets.first) if packets.first is not None else None,
        "last": rfc3339(packets.last) if packets.last is not None else None,
        **{key: record.get(key) for key in ("kernel_dropped", "interface_dropped") if record.get(key) is not None},
        "skipped": dict(sorted(packets.skipped.items())),
    }
    if packets.passed_over:
        entry["passed_over"] = packets.passed_over
    if packets.truncated_at:
        entry["truncated_at"] = packets.truncated_at
    if problems := [*filter(None, [capture.problem]), *_problems(view, files)]:
        entry["problems"] = problems
    return entry


def written(capture: Capture) -> dict[str, Any]:
    """Give report.json's entry for what a tool wrote: text, and no packets."""
    files = [
        {"name": name, "sha256": digest(path), "bytes": path.stat().st_size, "packets": 0}
        for name, path in zip(capture.files, capture.paths, strict=True)
    ]
    nothing: dict[str, Any] = {"linktype": None, "packets": 0, "bytes": 0, "first": None, "last": None, "skipped": {}}
    said = {"tool": capture.tool, "arguments": capture.record.get("arguments", []), "text": _beginning(capture)}
    entry = {**_place(capture), **said, "files": files, **nothing}
    problems = _unlike_the_record(capture, files)
    return entry | ({"problems": problems} if problems else {})


def _beginning(capture: Capture) -> str:
    """Give the first TEXT bytes of what a tool wrote; of what others sent it, control characters are made visible."""
    data = b""
    for path in capture.paths:
        with path.open("rb") as file:
            data += file.read(TEXT - len(data))
    return CONTROL.sub(lambda found: f"\\x{ord(found[0]):02x}", data.decode(errors="replace").replace("\r\n", "\n"))


def _place(capture: Capture) -> dict[str, Any]:
    if not capture.record:
        return {"name": capture.name}
    target = {key: capture.target[key] for key in ("namespace", "pod", "uid")}
    return {"name": capture.name, "target": target, "interface": capture.interface}


def _problems(view: View, files: list[dict[str, Any]]) -> list[str]:
    capture = view.capture
    problems = [f"{capture.name}: {problem}" for problem in view.packets.problems]
    problems += [f"{name}: {reason.rstrip('.')}" for name, reason in sorted(view.packets.unreadable.items())]
    return problems + _unlike_the_record(capture, files)


def _unlike_the_record(capture: Capture, files: list[dict[str, Any]]) -> list[str]:
    problems = []
    here = {Path(file["name"]).name: file for file in files}
    for recorded in capture.record.get("files", ()):
        name = recorded["name"]
        if name not in here:
            problems.append(f"{capture.name}/{name} was captured and is not here")
        elif here[name]["sha256"] != recorded["sha256"]:
            problems.append(f"{capture.name}/{name} is not what was captured: its SHA-256 differs from its record's")
    return problems
