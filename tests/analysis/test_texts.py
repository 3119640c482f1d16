"""What tools wrote is in a report beside what was captured, and makes no target a failed one."""

import json
from pathlib import Path
from typing import Any

import pytest

from analysis.captures import find
from analysis.extract import extract
from analysis.following import follow

CLIENT, API = "10.244.0.2", "10.244.1.3"


def text(store: Any, pod: str, tool: str, *pieces: str, **record: Any) -> Path:
    """Write what a tool wrote, as a campaign keeps it."""
    folder: Path = store.capture(pod, interface=tool, **{"tool": tool, "files": [], "outcome": "captured", **record})
    content = json.loads((folder / "capture.json").read_text()) | {"interface": ""}
    (folder / "capture.json").write_text(json.dumps(content))
    for number, piece in enumerate(pieces, 1):
        (folder / f"{number:06d}.txt").write_text(piece)
    return folder


def outcomes(report: Any) -> dict[str, tuple[str, str]]:
    return {target["pod"]: (target["outcome"], target["reason"]) for target in report["targets"]}


def test_a_tools_output_is_listed_with_its_files_and_is_no_capture(wire: Any, store: Any, report: Any) -> None:
    wire.http(0, CLIENT, 40000, API)
    store.plan("client", "api")
    store.capture("client", wire.seen_at(CLIENT))
    text(store, "client", "ping", "64 bytes from", "3 packets transmitted", reason="its time was over")
    text(store, "api", "tcpdump", "\xa1\xb2\xc3\xd4")
    found = report()
    packets, *texts = found["captures"]
    assert packets["interface"] == "eth0"
    assert "tool" not in packets
    assert [(each["target"]["pod"], each["tool"], each["interface"], each["packets"]) for each in texts] == [
        ("api", "tcpdump", "", 0),
        ("client", "ping", "", 0),
    ]
    assert [(Path(file["name"]).name, file["bytes"]) for file in texts[1]["files"]] == [
        ("000001.txt", 13),
        ("000002.txt", 21),
    ]
    assert outcomes(found) == {"api": ("captured", ""), "client": ("captured", "")}
    assert {finding["code"] for finding in found["findings"]} == {"all_well"}


def test_a_campaign_of_text_alone(store: Any, report: Any, tmp_path: Path) -> None:
    store.plan("client")
    text(store, "client", "ss", "Netid State", arguments=["-t"])
    found = report()
    assert outcomes(found) == {"client": ("captured", "")}
    assert [finding["code"] for finding in found["findings"]] == ["nothing_tried"]
    assert found["findings"][0]["text"] == "What ss wrote is below; no connection was captured."
    page = (tmp_path / "out/report.html").read_text()
    assert "<code>ss -t</code>" in page
    assert "<pre>Netid State</pre>" in page
    assert "in 0 captures" in page


def test_the_beginning_of_a_text_is_in_the_report_and_harms_no_terminal_and_no_page(
    store: Any, report: Any, tmp_path: Path
) -> None:
    store.plan("client")
    text(store, "client", "ping", "<b>\x1b[31m\u009b\n", "x" * 9000)
    (entry,) = report()["captures"]
    assert entry["text"].startswith("<b>\\x1b[31m\\x9b\nxxx")
    assert 8100 < entry["text"].count("x") < 8192, "of 9000"
    assert "&lt;b&gt;\\x1b[31m" in (tmp_path / "out/report.html").read_text()


@pytest.mark.parametrize(
    ("record", "outcome", "reason"),
    [
        ({"outcome": "capture_failed", "reason": "ping ended with exit code 2: no"}, "capture_failed", "ping ended"),
        ({"outcome": "capturing"}, "capture_failed", "it was cut off"),
        ({"reason": "it was stopped"}, "captured", "it was stopped"),
    ],
)
def test_the_outcome_is_the_records(store: Any, report: Any, record: Any, outcome: str, reason: str) -> None:
    store.plan("client")
    text(store, "client", "ping", "", **record)
    ((ended, why),) = outcomes(report()).values()
    assert ended == outcome
    assert why.startswith(reason)


def test_a_file_that_is_not_what_was_written_is_a_problem(store: Any, report: Any) -> None:
    store.plan("client")
    recorded = [{"name": name, "sha256": "0", "bytes": 1, "packets": 0} for name in ("000001.txt", "000002.txt")]
    text(store, "client", "ping", "changed", files=recorded)
    problems = report()["captures"][0]["problems"]
    assert [problem.partition("ping/")[2] for problem in problems] == [
        "000001.txt is not what was captured: its SHA-256 differs from its record's",
        "000002.txt was captured and is not here",
    ]


def test_tables_and_connections_are_of_packets_alone(wire: Any, store: Any, tmp_path: Path) -> None:
    wire.http(0, CLIENT, 40000, API)
    store.plan("client")
    store.capture("client", wire.seen_at(CLIENT))
    text(store, "client", "ping", "64 bytes from")
    assert [bool(capture.tool) for capture in find([store.root]).captures] == [False, True]
    assert extract([store.root], tmp_path / "tables", ["connections"]) == []
    assert list(follow([store.root], "1:none")) == []
