"""Which captures are there: folders with a capture.json, pcap files of their own, and the plan they belong to."""

import json
import os
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from analysis.timestamps import nanoseconds

PLAN, RECORD, IPERF = "plan.json", "capture.json", "iperf3.json"
REPORT, PAGE = "report.json", "report.html"
PRODUCTS = (REPORT, PAGE, *(f"{table}.parquet" for table in ("connections", "dns", "tls", "http")))
"""The files that `analysis.analyse` writes."""
SCHEMAS = {  # and what each must have
    PLAN: ("snoopy.plan/v1", ("campaign", "namespace", "input", "submitted", "targets")),
    RECORD: ("snoopy.capture/v1", ("target",)),
}
NEEDED = {
    "targets": ("namespace", "pod", "uid"),
    "left_out": ("namespace", "pod", "reason"),
    "services": ("namespace", "name", "addresses"),
    "files": ("name", "sha256"),
}
SUFFIXES = tuple(f"{kind}{end}" for kind in (".pcap", ".pcapng", ".cap") for end in ("", ".gz", ".zst"))
MAGICS = tuple(  # pcap with µs and ns in both byte orders, pcap "modified", pcapng
    bytes.fromhex(magic)
    for magic in ("a1b2c3d4", "d4c3b2a1", "a1b23c4d", "4d3cb2a1", "a1b2cd34", "34cdb2a1", "0a0d0d0a")
)
GZIP, ZSTD = COMPRESSED = (bytes.fromhex("1f8b"), bytes.fromhex("28b52ffd"))


class CaptureError(Exception):
    """There is nothing to analyse, or nothing to analyse it with; the message is one sentence for a person."""


class WritingError(CaptureError):
    """This machine refused to read captures on, or to keep what was made of them."""


@contextmanager
def writing(out: Path) -> Iterator[Path]:
    """Give a directory in `out`, which is made where it is missing; what is written there appears in `out` at the end.

    Raises:
        CaptureError: `out` cannot be made.
        WritingError: this machine refuses something meanwhile; what was in `out` before is untouched then.

    """
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CaptureError(f"out: {str(out)!r}: {(error.strerror or 'cannot be made').lower()}") from None
    try:
        with tempfile.TemporaryDirectory(prefix=".writing-", dir=out) as scratch:
            yield Path(scratch)
            for file in Path(scratch).iterdir():
                file.replace(out / file.name)
    except OSError as error:
        raise WritingError(f"{error.filename2 or error.filename or out}: {error.strerror or error}") from None


@dataclass(frozen=True)
class Capture:
    """What one target's interface saw, or a tool there wrote: its files in the order they were written, and its record.

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
    def tool(self) -> str:
        """The tool whose output it holds; empty where it holds packets."""
        tool = str(self.record.get("tool") or "")
        return tool if tool == "iperf3" or self.record.get("interface") == "" else ""

    @property
    def is_iperf(self) -> bool:
        """Whether it holds the result of an iperf3 run."""
        return self.tool == "iperf3"


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
        CaptureError: a path does not exist, nothing below the paths is a capture, they hold several plans or a bad one.

    """
    for path in paths:
        if not path.exists():
            raise CaptureError(f"{path}: no such file or directory")
    places = [path.resolve() if path.is_dir() else path.parent.resolve() / path.name for path in paths]
    root = Path(os.path.commonpath([p if p.is_dir() else p.parent for p in places] or [Path("/")]))
    for place in places:
        if place.is_file() and not _begins_with(place, *MAGICS, *COMPRESSED):
            raise CaptureError(f"{place.name}: it is no capture: neither pcap nor pcapng, compressed or not")
    files = sorted({file for place in places for file in (place.rglob("*") if place.is_dir() else [place])})
    files = [file for file in files if file.is_file()]
    records = {file.parent: record for file in files if file.name == RECORD if (record := _read(file)) is not None}
    alone = [
        file
        for file in files
        if file.parent not in records and (file in places or _is_capture(file)) and file.name not in SCHEMAS
    ]
    plan = _plan([file for file in files if file.name == PLAN])
    planned = {target["uid"]: target for target in plan.get("targets", ())}
    captures = [_recorded(folder, root, record, planned) for folder, record in records.items()]
    captures += [Capture(_name(file, root), root, (_name(file, root),)) for file in alone]
    if not captures and not plan:
        asked = ", ".join(map(str, paths)) or "nothing was given"
        raise CaptureError(f"{asked}: no captures here, neither pcap or pcapng files nor folders with a {RECORD}")
    return Found(plan, tuple(sorted(captures, key=lambda capture: capture.name)))


def _name(path: Path, root: Path) -> str:
    return path.relative_to(root).as_posix()


def _is_capture(file: Path) -> bool:
    return file.name.endswith(SUFFIXES) or _begins_with(file, *MAGICS)


def _begins_with(file: Path, *magics: bytes) -> bool:
    with file.open("rb") as opened:
        return opened.read(4).startswith(magics)


def _recorded(folder: Path, root: Path, record: dict[str, Any] | str, planned: Mapping[str, Any]) -> Capture:
    """Make a capture of a folder; of its target the plan knows more (addresses) than the pod that captured it."""
    name = _name(folder, root)
    there = sorted(file for file in folder.iterdir() if file.is_file() and file.name != RECORD)
    files = tuple(_name(chunk, root) for chunk in there if _is_capture(chunk))
    problem = record if isinstance(record, str) else _fault(record)
    if isinstance(record, str) or problem:
        return Capture(name, root, files, problem=f"{name}/{RECORD} cannot be read: {problem}")
    target = record["target"]
    capture = Capture(name, root, files, record | {"target": target | planned.get(target["uid"], {})})
    return replace(capture, files=tuple(_name(file, root) for file in there)) if capture.tool else capture


def _fault(content: dict[str, Any]) -> str:
    """Say what the analysis lacks in a record or a plan, so that a bad one fails nothing later; empty for none."""
    parts = {name: content.get(name, ()) for name in NEEDED}
    if "target" in content:
        parts["targets"] = [content["target"]]
    try:
        for name, entries in parts.items():
            for entry in entries:
                if lacking := [key for key in NEEDED[name] if key not in entry]:
                    return f"one of its {name} has no {', '.join(lacking)}"
        for key in ("submitted", "listening", "ended"):
            if content.get(key):
                nanoseconds(content[key])
    except (ValueError, TypeError, AttributeError) as error:
        return str(error)
    return ""


def _plan(files: Iterable[Path]) -> dict[str, Any]:
    plans = {file: plan for file in files if (plan := _read(file)) is not None}
    if len(plans) > 1:
        one, other, *_ = plans
        raise CaptureError(f"{one} and {other} are two campaigns: analyse them one at a time")
    for file, plan in plans.items():
        if isinstance(plan, str) or (fault := _fault(plan)):
            raise CaptureError(f"{file}: not a plan: {plan if isinstance(plan, str) else fault}")
        return plan
    return {}


def _read(file: Path) -> dict[str, Any] | str | None:
    """Read a record or a plan: text says what is wrong with it; None, that another program wrote it."""
    schema, needed = SCHEMAS[file.name]
    text = file.read_bytes()
    try:
        content = json.loads(text)
    except ValueError as error:
        return f"it is not JSON: {error}" if b'"snoopy.' in text else None
    if not isinstance(content, dict) or not str(content.get("schema")).startswith("snoopy."):
        return None
    if content["schema"] != schema:
        return f"its schema {content['schema']!r} is not {schema}"
    lacking = [key for key in needed if key not in content]
    return f"it has no {', '.join(lacking)}" if lacking else content
