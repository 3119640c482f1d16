"""Which captures are there: folders with a capture.json, pcap files of their own, and the plan they belong to."""

import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from analysis.timestamps import nanoseconds

PLAN, RECORD, IPERF = "plan.json", "capture.json", "iperf3.json"
SUFFIXES = (".pcap", ".pcapng", ".cap", ".pcap.gz", ".pcapng.gz")
MAGICS = {  # pcap with µs and ns in both byte orders, pcap "modified", pcapng
    bytes.fromhex(magic)
    for magic in ("a1b2c3d4", "d4c3b2a1", "a1b23c4d", "4d3cb2a1", "a1b2cd34", "34cdb2a1", "0a0d0d0a")
}


class CaptureError(Exception):
    """There is nothing to analyse, or nothing to analyse it with; the message is one sentence for a person."""


@dataclass(frozen=True)
class Capture:
    """What one target's interface saw: its files in the order they were written, and its record.

    `name` is its folder or file, relative to what was asked for, and so are `files` below `root`. A pcap file
    that nobody recorded has an empty record; `problem` says what is wrong with a record that cannot be read.
    """

    name: str
    root: Path
    files: tuple[str, ...]
    record: dict[str, Any] = field(default_factory=dict)
    problem: str = ""

    @property
    def paths(self) -> tuple[Path, ...]:
        """Where its files are on this machine."""
        return tuple(self.root / name for name in self.files)

    @property
    def target(self) -> dict[str, Any]:
        """The target as its record has it; empty for a capture without a record."""
        return dict(self.record.get("target") or {})

    @property
    def target_name(self) -> str:
        """namespace/pod; empty for a capture without a record."""
        return f"{self.target['namespace']}/{self.target['pod']}" if self.target else ""

    @property
    def interface(self) -> str:
        """The interface it was captured on, where that is known."""
        return str(self.record.get("interface", ""))

    @property
    def is_loopback(self) -> bool:
        """Whether its packets never left the pod."""
        return self.interface == "lo"

    @property
    def is_iperf(self) -> bool:
        """Whether it holds the result of an iperf3 run instead of packets."""
        return self.record.get("tool") == "iperf3"


@dataclass(frozen=True)
class Found:
    """What was found: the plan (empty without a campaign) and the captures, in the order of their names."""

    plan: dict[str, Any]
    captures: tuple[Capture, ...]


def find(paths: Sequence[Path]) -> Found:
    """Find the plan and the captures among files and directories.

    Names are relative to the directory given (or to what all paths have in common), so that the same captures in
    another place give the same report.

    Raises:
        CaptureError: a path does not exist, nothing below the paths is a capture, or they hold several plans.

    """
    for path in paths:
        if not path.exists():
            raise CaptureError(f"{path}: no such file or directory")
    places = [path.resolve() if path.is_dir() else path.parent.resolve() / path.name for path in paths]
    root = Path(os.path.commonpath([p if p.is_dir() else p.parent for p in places] or [Path("/")]))
    files = sorted({file for place in places for file in (place.rglob("*") if place.is_dir() else [place])})
    files = [file for file in files if file.is_file()]
    folders = {file.parent for file in files if file.name == RECORD}
    alone = [
        file
        for file in files
        if file.parent not in folders and file.name != PLAN and (file in places or _is_capture(file))
    ]
    captures = [_recorded(folder, root) for folder in folders]
    captures += [Capture(_name(file, root), root, (_name(file, root),)) for file in alone]
    plan = _plan([file for file in files if file.name == PLAN])
    if not captures and not plan:
        asked = ", ".join(map(str, paths)) or "nothing was given"
        raise CaptureError(f"{asked}: no captures here, neither pcap or pcapng files nor folders with a {RECORD}")
    return Found(plan, tuple(sorted(captures, key=lambda capture: capture.name)))


def _name(path: Path, root: Path) -> str:
    return path.relative_to(root).as_posix()


def _is_capture(file: Path) -> bool:
    if file.name.endswith(SUFFIXES):
        return True
    with file.open("rb") as opened:
        return opened.read(4) in MAGICS


def _recorded(folder: Path, root: Path) -> Capture:
    name = _name(folder, root)
    chunks = sorted(file for file in folder.iterdir() if file.is_file() and _is_capture(file))
    files = tuple(_name(chunk, root) for chunk in chunks)
    try:
        record = _json(folder / RECORD)
        _check(record)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        return Capture(name, root, files, problem=f"{name}/{RECORD} cannot be read: {error}")
    return Capture(name, root, files, record)


def _check(record: dict[str, Any]) -> None:
    """Look at what the analysis needs of a record, so that a bad one is said here and fails nothing later."""
    if not {"namespace", "pod", "uid"} <= set(record["target"]):
        raise ValueError("its target has no namespace, pod or uid")
    if not all({"name", "sha256"} <= set(file) for file in record.get("files", ())):
        raise ValueError("one of its files has no name or sha256")
    for key in ("listening", "ended"):
        if record.get(key):
            nanoseconds(record[key])


def _plan(files: Iterable[Path]) -> dict[str, Any]:
    plans = list(files)
    if len(plans) > 1:
        raise CaptureError(f"{plans[0]} and {plans[1]} are two campaigns: analyse them one at a time")
    for file in plans:
        try:
            plan = _json(file)
        except ValueError as error:
            raise CaptureError(f"{file}: not a plan: {error}") from None
        if plan.get("schema") != "snoopy.plan/v1":
            raise CaptureError(f"{file}: schema {plan.get('schema')!r} is not snoopy.plan/v1")
        if lacking := {"campaign", "namespace", "input", "submitted", "targets"} - set(plan):
            raise CaptureError(f"{file}: not a plan: it has no {', '.join(sorted(lacking))}")
        return plan
    return {}


def _json(file: Path) -> dict[str, Any]:
    content = json.loads(file.read_bytes())
    if not isinstance(content, dict):
        raise ValueError("it is not a JSON object")  # noqa: TRY004 - a fault of the file, not of a caller
    return content
