"""Captures in many pieces, damaged or in part unreadable: nothing hides, nothing is claimed of what was not seen."""

import json
import resource
import shutil
import struct
from pathlib import Path
from typing import Any

import pytest

from analysis.analyse import analyse
from analysis.captures import PRODUCTS, CaptureError
from analysis.packets import Reading
from analysis.timestamps import rfc3339

CLIENT, API, WEB = "10.244.0.2", "10.244.1.3", "10.244.1.4"
START, SECOND, MS = 1_767_225_600_000_000_000, 1_000_000_000, 1_000_000


@pytest.fixture
def tshark(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Put a tshark before the real one that does something else (shell) where it is asked for fields."""
    real = shutil.which("tshark")

    def instead(shell: str) -> Path:
        program, log = tmp_path / "bin/tshark", tmp_path / "starts"
        program.parent.mkdir()
        of_fields = f'case "$*" in *fields*) {shell};; esac; ' if shell else ""
        program.write_text(f'#!/bin/sh\necho "$*" >> {log}\n{of_fields}exec {real} "$@"\n'.replace("REAL", str(real)))
        program.chmod(0o755)
        monkeypatch.setenv("PATH", str(program.parent), prepend=":")
        return log

    return instead


def of(report: dict[str, Any], code: str) -> list[str]:
    return [finding["text"] for finding in report["findings"] if finding["code"] == code]


def test_more_chunks_than_files_may_be_open(wire: Any, store: Any, report: Any) -> None:
    for number in range(25):
        wire.http(number * 100 * MS, CLIENT, 40000 + number, API)
    store.plan("client")
    store.capture("client", *([packet] for packet in wire.packets))
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (100, limits[1]))
    try:
        found = report()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    assert [pair["connections"]["succeeded"] for pair in found["pairs"]] == [25]
    assert (found["captures"][0]["packets"], found["captures"][0]["skipped"]) == (200, {})


def test_a_tshark_that_stops_is_an_error(wire: Any, store: Any, report: Any, tshark: Any) -> None:
    wire.http(0, CLIENT, 40000, API)
    for number in range(4):
        wire.lookup(number * SECOND, CLIENT, 50000 + number, "api.example.com", number=number)
    store.plan("client")
    folder = store.capture("client", wire.packets)
    tshark('REAL "$@" | head -n 5; echo "tshark: it broke" >&2; exit 3')
    found = report()
    name = folder.relative_to(store.root)
    assert of(found, "capture_unreadable") == [
        f"{name}: not all of its DNS, TLS and HTTP messages could be read: tshark ended with 3: it broke."
    ]
    assert of(found, "all_well") == []
    assert [pair["connections"]["total"] for pair in found["pairs"]] == [1, 4]
    assert [(entry["lookups"], entry["answered"], entry["unanswered"]) for entry in found["dns"]] == [(3, 2, 0)]


def test_packets_that_tshark_keeps_to_itself_are_an_error(wire: Any, store: Any, report: Any, tshark: Any) -> None:
    wire.lookup(0, CLIENT, 50000, "api.example.com")
    wire.lookup(0, CLIENT, 50001, "web.example.com")
    store.plan("client")
    store.capture("client", wire.packets)
    tshark('REAL "$@" | head -n 3; exit 0')
    assert "tshark read 3 of its 4 packets" in of(report(), "capture_unreadable")[0]


def test_packets_that_are_too_many_to_dissect_are_a_warning(wire: Any, store: Any, report: Any) -> None:
    for number in range(4):
        wire.lookup(number * SECOND, CLIENT, 50000 + number, "api.example.com", number=number)
    store.plan("client")
    store.capture("client", wire.packets)
    found = report(reading=Reading(most_selected=5))
    assert found["captures"][0]["passed_over"] == 3
    assert "3 packets with DNS, TLS or HTTP" in of(found, "packets_passed_over")[0]
    assert of(found, "capture_unreadable") == []
    assert [(entry["lookups"], entry["unanswered"], entry["undecided"]) for entry in found["dns"]] == [(3, 0, 1)]


def test_whatever_tshark_says_the_rest_of_the_report_is_there(
    wire: Any, store: Any, report: Any, tshark: Any, tmp_path: Path
) -> None:
    wire.http(0, CLIENT, 40000, API)
    wire.lookup(0, CLIENT, 50000, "api.example.com")
    store.plan("client", "api")
    folder = store.capture("client", wire.packets)
    tshark(r'printf "noon\tnoon\tnoon\n"; exit 0')
    found = report()
    texts = of(found, "capture_unreadable")
    assert texts
    assert all(text.startswith(f"{folder.relative_to(store.root)}: ") and "DNS" in text for text in texts)
    assert sum(pair["connections"]["total"] for pair in found["pairs"]) == 2
    assert [(target["pod"], target["outcome"]) for target in found["targets"]] == [
        ("api", "missing"),
        ("client", "captured"),
    ]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == sorted(PRODUCTS)


def test_files_of_different_formats_are_one_capture(wire: Any, store: Any, report: Any) -> None:
    wire.http(0, CLIENT, 40000, API)
    store.plan("client")
    folder = store.capture("client", wire.packets[:4], wire.packets[4:6], wire.packets[6:])
    middle = folder / "000002.pcap"
    middle.write_bytes(struct.pack("<I", 0xA1B2C3D4) + middle.read_bytes()[4:])  # whole, with times in µs
    found = report()
    assert found["captures"][0]["packets"] == 8
    assert found["pairs"][0]["packets"] == 8
    assert of(found, "all_well") == []  # the SHA-256 differs from the record's


def test_empty_frames(store: Any, report: Any, wire: Any) -> None:
    wire.http(0, CLIENT, 40000, API)
    store.plan("client")
    folder = store.capture("client", wire.packets, [])
    record = struct.pack("<IIII", START // SECOND, 0, 0, 0)
    (folder / "000001.pcap").write_bytes((folder / "000001.pcap").read_bytes() + record)
    (folder / "000002.pcap").write_bytes((folder / "000002.pcap").read_bytes() + record)
    found = report()
    assert found["captures"][0]["packets"] == 10
    assert found["captures"][0]["skipped"] == {"headers cut short": 2}
    assert found["pairs"][0]["packets"] == 8


@pytest.mark.parametrize(
    "record",
    [
        {"outcome": "pod_deleted"},
        {"outcome": "upload_failed"},
        {"kernel_dropped": 1},
        {"kernel_dropped": None},
        {"interface_dropped": 1},
        {"listening": rfc3339(START - SECOND // 2)},
        {"ended": rfc3339(START + SECOND // 2)},
    ],
    ids=str,
)
def test_an_incomplete_capture_does_not_say_that_nothing_arrived(
    wire: Any, store: Any, report: Any, record: dict[str, Any]
) -> None:
    wire.silent(0, CLIENT, 40000, WEB, 82)
    store.plan("client", "web")
    store.capture("client", wire.packets)
    store.capture("web", [])
    assert "none arrived there" in of(report(), "connection_timed_out")[0]
    store.capture("web", [], **record)
    assert "arrived" not in of(report(), "connection_timed_out")[0]


def test_a_damaged_capture_does_not_say_that_nothing_arrived(wire: Any, store: Any, report: Any, write: Any) -> None:
    wire.silent(0, CLIENT, 40000, WEB, 82)
    wire.http(0, API, 40000, WEB)
    store.plan("client", "web")
    store.capture("client", wire.seen_at(CLIENT))
    folder = store.capture("web", wire.seen_at(API))
    write(folder / "000001.pcap", wire.seen_at(API), cut=3)
    assert "arrived" not in of(report(), "connection_timed_out")[0]


def test_a_question_asked_again_at_the_end_is_undecided(wire: Any, store: Any, report: Any) -> None:
    wire.lookup(0, CLIENT, 50000, "slow.example.com", None)
    wire.lookup(29 * SECOND + SECOND // 2, CLIENT, 50000, "slow.example.com", None)
    store.plan("client")
    store.capture("client", wire.packets)
    (entry,) = report()["dns"]
    assert (entry["questions"], entry["unanswered"], entry["undecided"]) == (2, 0, 1)


def test_dns_is_read_once_per_capture_and_proven_where_it_is(
    wire: Any, store: Any, report: Any, write: Any, tshark: Any
) -> None:
    for number in range(6):
        wire.lookup(number * SECOND, CLIENT, 50000 + number, f"no-{number}.example.com", 3, number=number)
    ticks = type(wire)()
    ticks.quiet(0)
    chunks = [chunk for packet in wire.packets for chunk in ([packet], ticks.packets * 2)]
    store.plan("client")
    folder = store.capture("client", *chunks)
    write(folder / "000023.pcap", [*chunks[22], *chunks[22]], cut=3)
    log = tshark("")
    (finding,) = (found := [each for each in report()["findings"] if each["code"] == "dns_failed"])
    assert len(found) == 1
    assert [(Path(place["file"]).name, place["frame"]) for place in finding["evidence"]] == [
        (f"{number:06}.pcap", 1) for number in (3, 7, 11, 15, 19)
    ]
    starts = [line for line in log.read_bytes().splitlines() if b" -r " in line]
    assert len(starts) == 1


def test_files_of_other_programs_are_ignored(wire: Any, store: Any, report: Any, write: Any) -> None:
    wire.http(0, CLIENT, 40000, API)
    store.plan("client")
    store.capture("client", wire.packets)
    (store.root / "terraform").mkdir()
    for number, content in enumerate((b"PK\3\4\xff", b"[]", b'{"format_version": "1.2"}')):
        folder = store.root / f"terraform/{number}"
        folder.mkdir()
        (folder / "plan.json").write_bytes(content)
        (folder / "capture.json").write_bytes(content)
        write(folder / "other.pcap", [])
    found = report()
    assert found["campaign"]["name"] == "demo-1"
    assert [capture["name"] for capture in found["captures"]][1:] == [f"terraform/{n}/other.pcap" for n in range(3)]
    assert [capture.get("problems") for capture in found["captures"]] == [None] * 4


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"schema": "snoopy.plan/v2"}, "its schema 'snoopy.plan/v2' is not snoopy.plan/v1"),
        ({"targets": [{"namespace": "demo", "pod": "client"}]}, "one of its targets has no uid"),
        ({"services": [{"name": "web"}]}, "one of its services has no namespace, addresses"),
        ({"submitted": "today"}, "not a plan: .*'today"),
    ],
    ids=str,
)
def test_a_bad_plan_is_one_sentence(store: Any, report: Any, change: dict[str, Any], sentence: str) -> None:
    store.plan("client")
    (path,) = store.root.rglob("plan.json")
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(CaptureError, match=sentence):
        report()


def test_a_record_of_another_version_is_said(wire: Any, store: Any, report: Any) -> None:
    wire.http(0, CLIENT, 40000, API)
    store.plan("client")
    store.capture("client", wire.packets, schema="snoopy.capture/v2")
    found = report()
    assert "capture.json cannot be read: its schema 'snoopy.capture/v2'" in of(found, "capture_unreadable")[0]
    assert found["captures"][0]["packets"] == 8


def test_where_no_report_can_be_written_is_one_sentence(wire: Any, tmp_path: Path, write: Any) -> None:
    file = write(tmp_path / "a.pcap", wire.packets)
    with pytest.raises(CaptureError, match=r"out: '.*a.pcap/out': not a directory"):
        analyse([file], file / "out")
