"""A tool as a campaign's step, on real network namespaces: its text is printed and stored live, and recorded."""

import hashlib
import json
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any, Self

import pytest

from analysis.timestamps import nanoseconds
from steps.campaign_input import campaign_input
from steps.capture import capture_target, record_failure
from steps.namespaces import NetworkNamespace, NoProcessError
from steps.plan import CaptureRecord, Target
from steps.uploads import Directory, UploadError
from tests.steps.serving import PREFIX, Server
from tests.waiting import eventually

TARGET = Target(namespace="shop", pod="server", uid="0123456789", node="here")
CLIENT = "10.77.0.1"
SNOOPY = [sys.executable, "-m", "workflows.cli"]


def ended(record: CaptureRecord) -> tuple[str, str]:
    return record.outcome, record.reason


class Run:
    """A tool in the server's network, in the background; leaving the block waits for it."""

    def __init__(self, tmp_path: Path, host: Any, tool: str, arguments: str = "", **asked: str) -> None:
        self.stop, self.records, self.root = threading.Event(), list[CaptureRecord](), tmp_path / "objects"
        self.store: Any = Directory(self.root)
        asked = {"pods": "server", "tool": tool, "arguments": arguments, **asked}
        self._thread = threading.Thread(
            target=lambda: self.records.extend(
                capture_target(
                    TARGET,
                    NetworkNamespace(Path("/run/netns", host.name)),
                    campaign_input(asked),
                    uploads=self.store,
                    prefix="pcaps/ns/campaign/",
                    spool=tmp_path / "spool",
                    stop=self.stop,
                )
            )
        )

    def folder(self, what: str) -> Path:
        return self.root / f"pcaps/ns/campaign/shop_server_01234567_{what}"

    def text(self, what: str) -> str:
        return "".join(path.read_text() for path in sorted(self.folder(what).glob("*.txt")))

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._thread.join(40)
        assert not self._thread.is_alive()


def test_what_a_tool_says_is_printed_stored_and_recorded(tmp_path: Path, hosts: Any, capfdbinary: Any) -> None:
    with Run(tmp_path, hosts[1], "ping", f"-c 3 -i 0.1 {CLIENT}") as run:
        eventually("capture.json is there", (run.folder("ping") / "capture.json").exists)
        begun = json.loads((run.folder("ping") / "capture.json").read_text())
    (record,) = run.records
    text = run.text("ping")
    assert "3 packets transmitted, 3 received" in text
    assert capfdbinary.readouterr().out.decode() == text
    assert (begun["outcome"], begun["tool"], begun["interface"]) == ("capturing", "ping", "")
    assert (ended(record), record.exit_code, record.packets) == (("captured", ""), 0, 0)
    assert (record.tool, record.arguments) == ("ping", ["-c", "3", "-i", "0.1", CLIENT])
    assert [(file.name, file.bytes, file.sha256, file.packets) for file in record.files] == [
        ("000001.txt", len(text), hashlib.sha256(text.encode()).hexdigest(), 0)
    ]
    assert begun["listening"] == record.listening < record.ended
    stored = json.loads((run.folder("ping") / "capture.json").read_text())
    assert stored == record.model_dump(mode="json", by_alias=True)


@pytest.mark.parametrize(
    ("tool", "arguments", "said"),
    [
        ("ss", "-s", "Total:"),
        ("nstat", "-z", "IcmpInMsgs"),
        ("ip", "-br addr", "10.77.0.2/24"),
        ("tc", "qdisc", "noqueue"),
        ("ethtool", "-i eth0", "driver: veth"),
        ("traceroute", f"-n {CLIENT}", f" 1  {CLIENT}"),
    ],
)
def test_every_tool(tmp_path: Path, hosts: Any, tool: str, arguments: str, said: str) -> None:
    with Run(tmp_path, hosts[1], tool, arguments) as run:
        pass
    assert ended(run.records[0]) == ("captured", "")
    assert said in run.text(tool)


def test_iperf(tmp_path: Path, hosts: Any) -> None:
    client, server = hosts
    with Run(tmp_path, server, "iperf", "-s", duration="3s") as run:
        server.listens(5001)
        client.run("iperf", "-c", server.address, "-t", "1", "-b", "1M")
    assert ended(run.records[0]) == ("captured", "its time was over")
    assert "Server listening" in run.text("iperf")
    assert "bits/sec" in run.text("iperf")


def test_tcpdump_with_arguments_prints_text_and_loses_none_of_it(tmp_path: Path, hosts: Any) -> None:
    client, server = hosts
    begun = time.monotonic()
    with Run(tmp_path, server, "tcpdump", "-n -i eth0 icmp", duration="2500ms") as run:
        time.sleep(1)
        client.run("ping", "-q", "-c", "9", "-i", "0.1", server.address)  # until just before the end
    assert time.monotonic() - begun > 3.5
    (record,) = run.records
    assert ended(record) == ("captured", "its time was over")
    assert record.linktype is None
    text = run.text("tcpdump")
    assert text.count("ICMP echo request") == text.count("ICMP echo reply") == 9
    assert "18 packets captured" in text


def test_a_tool_runs_while_packets_are_captured(tmp_path: Path, hosts: Any) -> None:
    asked = {"filter": "icmp", "duration": "3s"}
    with Run(tmp_path, hosts[1], "tcpdump+ping", f"-c 4 -i 0.1 {CLIENT}", **asked) as run:
        pass
    capture, ping = run.records
    assert (capture.tool, capture.interface, capture.packets) == ("tcpdump", "eth0", 8)
    assert (ping.tool, ping.interface, ended(ping)) == ("ping", "", ("captured", ""))
    assert nanoseconds(capture.first) > nanoseconds(ping.listening) > nanoseconds(capture.listening)


def test_a_piece_goes_up_when_it_is_old_enough(tmp_path: Path, hosts: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("steps.pieces.AGE", 0.5)
    with Run(tmp_path, hosts[1], "ping", f"-i 0.1 {CLIENT}", duration="1h") as run:
        eventually("000003.txt is there", (run.folder("ping") / "000003.txt").exists)
        run.stop.set()
    (record,) = run.records
    assert ended(record) == ("captured", "it was stopped")
    assert [file.name for file in record.files] == sorted(path.name for path in run.folder("ping").glob("*.txt"))
    assert "packets transmitted" in run.text("ping")  # it sums up when it is told to end


def test_bytes_are_never_exceeded(tmp_path: Path, hosts: Any, capfdbinary: Any) -> None:
    with Run(tmp_path, hosts[1], "ping", f"-i 0.01 {CLIENT}", bytes="2048", duration="1h") as run:
        pass
    (record,) = run.records
    assert ended(record) == ("captured", "it reached its limit of 2KiB")
    assert sum(file.bytes for file in record.files) == len(run.text("ping")) == 2048
    assert len(capfdbinary.readouterr().out) == 2048


def test_a_tool_that_fails_says_why(tmp_path: Path, hosts: Any) -> None:
    with Run(tmp_path, hosts[1], "ip", "link show eth9") as run:
        pass
    (record,) = run.records
    assert ended(record) == ("capture_failed", 'ip ended with exit code 1: Device "eth9" does not exist.')
    assert record.exit_code == 1


def test_a_tool_that_is_not_installed_says_so(tmp_path: Path, hosts: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/nsenter").symlink_to("/usr/bin/nsenter")
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    with Run(tmp_path, hosts[1], "ethtool", "eth0") as run:
        pass
    (record,) = run.records
    assert record.outcome == "capture_failed"
    assert "failed to execute ethtool: No such file or directory" in record.reason


def test_a_tool_that_does_not_end_is_made_to(
    tmp_path: Path, hosts: Any, instead: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("steps.toolrun.GRACE", 0.5)
    instead("nstat", "trap '' TERM INT\necho begun\nwhile :; do read nothing </dev/zero; done")
    with Run(tmp_path, hosts[1], "nstat", duration="500ms") as run:
        pass
    (record,) = run.records
    assert (ended(record), record.exit_code) == (("captured", "its time was over"), -9)
    assert run.text("nstat") == "begun\n"


def test_a_pod_that_goes_leaves_what_the_tool_said(tmp_path: Path, hosts: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    there = threading.Event()
    there.set()
    monkeypatch.setattr(NetworkNamespace, "alive", lambda _: there.is_set())
    monkeypatch.setattr("steps.pieces.AGE", 0.3)
    with Run(tmp_path, hosts[1], "ping", f"-i 0.1 {CLIENT}", duration="1h") as run:
        eventually("000001.txt is there", (run.folder("ping") / "000001.txt").exists)
        there.clear()
    (record,) = run.records
    assert ended(record) == (
        "pod_deleted",
        "the pod was deleted while ping ran; what it said until then is here",
    )
    assert "icmp_seq=2" in run.text("ping")


class Flaky(Directory):
    """An object store that fails a number of times."""

    failures = 0

    def put(self, key: str, data: bytes) -> None:
        if key.endswith(".txt") and self.failures:
            self.failures -= 1
            raise UploadError(f"{key}: the object store answered 503: SlowDown")
        super().put(key, data)


@pytest.mark.parametrize("failures", [2, 1000])
def test_what_the_store_refuses_is_offered_again(
    tmp_path: Path, hosts: Any, monkeypatch: pytest.MonkeyPatch, failures: int
) -> None:
    monkeypatch.setattr("steps.uploads.PATIENCE", 3)
    run = Run(tmp_path, hosts[1], "ss", "-s")
    run.store = Flaky(run.root)
    run.store.failures = failures
    with run:
        pass
    (record,) = run.records
    if failures == 2:
        assert ended(record) == ("captured", "")
        assert "Total:" in run.text("ss")
    else:
        assert record.outcome == "upload_failed"
        assert record.reason.startswith(
            "1 of 1 files could not be uploaded: pcaps/ns/campaign/shop_server_01234567_ss/"
        )
        assert "Total:" in (tmp_path / "spool/ss/000001.txt").read_text()


def test_a_data_endpoint_gets_everything_too(tmp_path: Path, hosts: Any) -> None:
    client, server = hosts
    with Server(tmp_path) as endpoint:
        asked = {"filter": "icmp", "duration": "3s", "loopback": "true", "destination": endpoint.address}
        with Run(tmp_path, server, "tcpdump+ping", f"-c 4 -i 0.1 {CLIENT}", **asked) as run:
            time.sleep(1)
            server.run("ping", "-q", "-c", "2", "-i", "0.1", "127.0.0.1")
        with client.serve(5201, "iperf3", "-s", "-1"):
            result = Run(tmp_path / "iperf3", server, "iperf3", f"-c {CLIENT} -t 1 -b 1M", **asked)
            with result:
                pass
        assert endpoint.stop() == 0
    sent = {
        (folder.parent.name, folder.name.partition("_")[2].rpartition(".")[0]): folder
        for folder in (endpoint.store / PREFIX).glob("*/*")
    }
    eth0, lo, ping = (
        sent.pop(("shop_server" + suffix, f"campaign_{what}"))
        for suffix, what in (("", "eth0"), ("_lo", "lo"), ("_ping", "ping"))
    )
    ((pod, session),) = sent  # of a campaign with nothing else
    assert (pod, session) == ("shop_server", "campaign_iperf3")
    for what, theirs in (("eth0", eth0), ("lo", lo)):
        assert (theirs / "000001.pcap").read_bytes() == (run.folder(what) / "000001.pcap").read_bytes()
    assert (ping / "000001.txt").read_text() == run.text("ping")
    (iperf3,) = sent.values()
    assert (iperf3 / "000001.txt").read_bytes() == (result.folder("iperf3") / "iperf3.json").read_bytes()


@pytest.mark.parametrize("where", ["tls", "silent"])
def test_a_dead_endpoint_costs_no_file_and_no_time(
    tmp_path: Path, hosts: Any, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    monkeypatch.setattr("steps.uploads.LAST_PATIENCE", 1)
    monkeypatch.setattr("steps.pieces.AGE", 0.3)
    monkeypatch.setattr("steps.interface.CHUNK_AGE", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        silent = f"127.0.0.1:{listening.getsockname()[1]}"
        asked = {
            "filter": "icmp",
            "duration": "1h",
            "destination": {"tls": "tls://127.0.0.1:1", "silent": silent}[where],
        }
        with Run(tmp_path, hosts[1], "tcpdump+ping", f"-i 0.1 {CLIENT}", **asked) as run:
            eventually("000003.txt is there", (run.folder("ping") / "000003.txt").exists)
            eventually("000003.pcap is there", (run.folder("eth0") / "000003.pcap").exists)
            run.stop.set()
            stopped = time.monotonic()
    assert time.monotonic() - stopped < 6
    reason = {
        "tls": "/etc/snoopy/endpoint-tls/ca.crt: cannot be read: No such file or directory",
        "silent": "it gave no answer in time",
    }[where]
    for record, what in zip(run.records, ("eth0", "ping"), strict=True):
        files = [file.name for file in record.files]
        assert len(files) >= 3
        assert sorted(path.name for path in run.folder(what).iterdir()) == [*files, "capture.json"]
        assert ended(record) == ("upload_failed", record.reason)
        assert record.reason.startswith(
            f"it was stopped; the object store has it all, but {len(files)} of {len(files)} files did not reach the "
            f"data endpoint: {reason}"
        )
        stored = json.loads((run.folder(what) / "capture.json").read_text())
        assert stored == record.model_dump(mode="json", by_alias=True)


def test_pieces_that_wait_do_not_delay_the_record(tmp_path: Path, hosts: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    class Slow(Directory):
        """A store that takes a second for a piece."""

        def put(self, key: str, data: bytes) -> None:
            if key.endswith(".txt"):
                time.sleep(1)
            super().put(key, data)

    monkeypatch.setattr("steps.uploads.LAST_PATIENCE", 1)
    monkeypatch.setattr("steps.pieces.AGE", 0.1)
    run = Run(tmp_path, hosts[1], "ping", f"-i 0.05 {CLIENT}", duration="1h")
    run.store = Slow(run.root)
    with run:
        time.sleep(2)
        run.stop.set()
        stopped = time.monotonic()
    assert time.monotonic() - stopped < 5
    (record,) = run.records
    assert len(record.files) > 8
    assert record.outcome == "upload_failed"
    assert record.reason.endswith("files could not be uploaded: there was no time left")


def test_a_target_that_cannot_be_entered_leaves_a_record_for_its_tool(tmp_path: Path) -> None:
    asked = campaign_input({"pods": "server", "tool": "tcpdump+ss", "loopback": "true"})
    record_failure(TARGET, asked, NoProcessError("it has no process"), uploads=Directory(tmp_path), prefix="p/")
    records = [json.loads(path.read_text()) for path in sorted(tmp_path.rglob("capture.json"))]
    assert [(each["tool"], each["interface"], each["outcome"]) for each in records] == [
        ("tcpdump", "eth0", "pod_deleted"),
        ("tcpdump", "lo", "pod_deleted"),
        ("ss", "", "pod_deleted"),
    ]


@pytest.mark.parametrize("tool", ["ping", "tcpdump+ping"])
def test_a_campaign_with_a_tool_from_the_command_to_its_report(tmp_path: Path, hosts: Any, tool: str) -> None:
    server = hosts[1]
    words = ["--tool", tool, "--arguments", f"-c 2 -i 0.1 {CLIENT}", "--duration", "3s", "--filter", "icmp"]
    done = subprocess.run(
        [*SNOOPY, "run", "--local", f"netns:{server.name}", *words, "--out", tmp_path / "out"],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert "2 packets transmitted, 2 received" in done.stdout
    report = json.loads((tmp_path / "out/report.json").read_text())
    *packets, ping = report["captures"]
    assert [(capture["interface"], capture["packets"]) for capture in packets] == [("eth0", 4)] * tool.count("tcpdump")
    assert ping["tool"] == "ping"
    (file,) = ping["files"]
    assert "2 packets transmitted, 2 received" in (tmp_path / "out" / file["name"]).read_text()
    assert [(target["outcome"], target["reason"]) for target in report["targets"]] == [("captured", "")]
    assert {finding["severity"] for finding in report["findings"]} == {"info"}
