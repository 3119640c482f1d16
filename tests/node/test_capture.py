"""The capture step on real network namespaces: what tcpdump saw is what is stored, whatever ends it."""

import json
import subprocess
import threading
import time
from pathlib import Path
from typing import Any, Self

import pytest

from analysis.timestamps import nanoseconds
from steps.campaign_input import campaign_input
from steps.capture import capture_target, interfaces
from steps.namespaces import NetworkNamespace
from steps.plan import CaptureRecord, Target
from steps.uploads import Directory, UploadError
from tests.waiting import eventually

TARGET = Target(namespace="shop", pod="server", uid="0123456789", node="here")


def namespace(host: Any) -> NetworkNamespace:
    return NetworkNamespace(Path("/run/netns", host.name))


def packets(path: Path, read_filter: str = "") -> int:
    """Count a file's packets with tcpdump itself."""
    done = subprocess.run(["tcpdump", "-r", path, "--count", read_filter], capture_output=True, text=True, check=True)
    return int(done.stdout.split()[0])


def ping(host: Any, address: str, count: int, interval: float = 0.02) -> None:
    host.run("ping", "-q", "-c", str(count), "-i", str(interval), address)


class Run:
    """A capture of the server in the background; leaving the block waits for it."""

    def __init__(self, tmp_path: Path, host: Any, uploads: Any = None, **asked: str) -> None:
        self.stop, self.records, self.root = threading.Event(), list[CaptureRecord](), tmp_path / "objects"
        self._asked = campaign_input({"pods": "server", "filter": "icmp", **asked})
        self._thread = threading.Thread(
            target=lambda: self.records.extend(
                capture_target(
                    TARGET,
                    namespace(host),
                    self._asked,
                    uploads=uploads or Directory(self.root),
                    prefix="pcaps/ns/campaign/",
                    spool=tmp_path / "spool",
                    stop=self.stop,
                )
            )
        )

    def path(self, name: str, interface: str = "eth0") -> Path:
        return self.root / f"pcaps/ns/campaign/shop_server_01234567_{interface}" / name

    def __enter__(self) -> Self:
        self._thread.start()
        begun = len(interfaces(self._asked)) or 1
        eventually(
            "it began", lambda: len(list(self.root.rglob("capture.json"))) >= begun or not self._thread.is_alive()
        )
        return self

    def __exit__(self, *_: object) -> None:
        self._thread.join(30)
        assert not self._thread.is_alive()


def test_what_crosses_the_interface_is_stored_with_a_record(tmp_path: Path, hosts: Any) -> None:
    client, server = hosts
    with Run(tmp_path, server, duration="1s") as run:
        listening = json.loads(run.path("capture.json").read_text())
        ping(client, server.address, 5)
    (record,) = run.records
    assert listening["outcome"] == "capturing"
    assert listening["listening"] < record.first < record.last < record.ended
    assert (record.outcome, record.reason, record.packets, record.kernel_dropped) == ("captured", "", 10, 0)
    assert (record.linktype, record.exit_code) == (1, 0)
    assert packets(run.path("000001.pcap")) == 10
    assert json.loads(run.path("capture.json").read_text()) == record.model_dump(mode="json", by_alias=True)
    assert not list((tmp_path / "spool").rglob("*.pcap"))


def test_loopback_is_a_second_capture(tmp_path: Path, hosts: Any) -> None:
    client, server = hosts
    with Run(tmp_path, server, duration="2s", loopback="true") as run:
        ping(client, server.address, 2)
        ping(server, "127.0.0.1", 3)
    assert [(record.interface, record.packets) for record in run.records] == [("eth0", 4), ("lo", 6)]


def test_a_stop_keeps_what_was_captured(tmp_path: Path, hosts: Any) -> None:
    client, server = hosts
    with Run(tmp_path, server, duration="1h") as run:
        ping(client, server.address, 5)
        run.stop.set()
    (record,) = run.records
    assert (record.outcome, record.reason, record.packets) == ("captured", "it was stopped", 10)
    assert packets(run.path("000001.pcap")) == 10


def test_a_number_of_packets_is_exact(tmp_path: Path, hosts: Any) -> None:
    client, server = hosts
    with Run(tmp_path, server, duration="10s", packets="7") as run:
        ping(client, server.address, 20)
    (record,) = run.records
    assert record.packets == packets(run.path("000001.pcap")) == 7
    assert record.reason == "it reached its limit of 7 packets"


def test_bytes_are_never_exceeded(tmp_path: Path, hosts: Any) -> None:
    client, server = hosts
    with Run(tmp_path, server, duration="20s", bytes="4096") as run:
        ping(client, server.address, 60)
    (record,) = run.records
    size = run.path("000001.pcap").stat().st_size
    assert 4096 - 114 < size <= 4096  # a ping is 98 bytes, its record header 16
    assert record.reason == "it reached its limit of 4KiB"


def test_no_traffic_is_said(tmp_path: Path, hosts: Any) -> None:
    with Run(tmp_path, hosts[1], duration="0.3s") as run:
        pass
    assert run.records[0].outcome == "no_traffic"


def test_the_end_is_when_the_last_packet_could_be_seen_not_when_it_was_stored(tmp_path: Path, hosts: Any) -> None:
    class Slow(Directory):
        def put(self, key: str, data: bytes) -> None:
            time.sleep(1)
            super().put(key, data)

    client, server = hosts
    with Run(tmp_path, server, uploads=Slow(tmp_path / "objects"), duration="20s", packets="4") as run:
        ping(client, server.address, 5)
    (record,) = run.records
    assert record.last
    assert record.ended
    assert nanoseconds(record.ended) - nanoseconds(record.last) < 1_500_000_000


def test_an_interface_that_does_not_exist_is_the_reason(tmp_path: Path, hosts: Any) -> None:
    with Run(tmp_path, hosts[1], interface="eth7") as run:
        pass
    (record,) = run.records
    assert record.outcome == "capture_failed"
    assert "eth7: No such device exists" in record.reason


def test_a_tcpdump_that_does_not_listen_is_given_up(
    tmp_path: Path, hosts: Any, instead: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("steps.interface.LISTENS", 1)
    instead("tcpdump", "exec sleep 60")
    with Run(tmp_path, hosts[1], duration="1h") as run:
        pass
    (record,) = run.records
    assert (record.outcome, record.reason) == ("capture_failed", "tcpdump did not listen within 1 seconds")


def test_a_pod_that_goes_leaves_what_it_had(tmp_path: Path, hosts: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    client, server = hosts
    there = threading.Event()
    there.set()
    monkeypatch.setattr(NetworkNamespace, "alive", lambda _: there.is_set())
    with Run(tmp_path, server, duration="1h") as run:
        ping(client, server.address, 5)
        time.sleep(2)  # the kernel hands packets over within a second; a pod takes longer to end
        server.run("ip", "link", "del", "eth0")
        there.clear()
    (record,) = run.records
    assert (record.outcome, record.packets) == ("pod_deleted", 10)


def test_chunks_go_up_while_the_capture_runs(tmp_path: Path, hosts: Any) -> None:
    client, server = hosts
    with Run(tmp_path, server, duration="1h", chunk="1MiB") as run:
        client.run("ping", "-q", "-c", "40", "-i", "0.01", "-s", "60000", server.address)
        deadline = time.monotonic() + 5
        while not run.path("000002.pcap").exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        while_running = sorted(path.name for path in run.path("").glob("*.pcap"))
        run.stop.set()
    (record,) = run.records
    assert while_running[:2] == ["000001.pcap", "000002.pcap"]
    assert [file.name for file in record.files] == sorted(path.name for path in run.path("").glob("*.pcap"))
    assert sum(packets(run.path(file.name)) for file in record.files) == record.packets
    assert packets(run.path("000001.pcap")) == record.files[0].packets


class Flaky(Directory):
    """An object store that fails a number of times."""

    def __init__(self, root: Path, failures: int) -> None:
        super().__init__(root)
        self.failures = failures

    def put(self, key: str, data: bytes) -> None:
        if key.endswith(".pcap") and self.failures:
            self.failures -= 1
            raise UploadError(f"{key}: the object store answered 503: SlowDown")
        super().put(key, data)


def test_a_store_that_comes_back_gets_everything(tmp_path: Path, hosts: Any) -> None:
    client, server = hosts
    with Run(tmp_path, server, uploads=Flaky(tmp_path / "objects", failures=2), duration="1s") as run:
        ping(client, server.address, 5)
    assert run.records[0].outcome == "captured"
    assert packets(run.path("000001.pcap")) == 10


def test_a_store_that_stays_away_is_said(tmp_path: Path, hosts: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("steps.uploads.PATIENCE", 1)
    client, server = hosts
    with Run(tmp_path, server, uploads=Flaky(tmp_path / "objects", failures=99), duration="1s") as run:
        ping(client, server.address, 5)
    (record,) = run.records
    assert record.outcome == "upload_failed"
    assert record.reason.startswith("1 of 1 files could not be uploaded")
    assert packets(tmp_path / "spool/eth0/000001.pcap") == 10


def test_iperf3_runs_beside_the_capture(tmp_path: Path, hosts: Any) -> None:
    client, server = hosts
    listener = server.serve(5201, "iperf3", "-s", "-1")
    arguments = f"-c {server.address} -t 1 -b 8M"
    with Run(
        tmp_path, client, duration="3s", tool="tcpdump+iperf3", arguments=arguments, filter="tcp port 5201"
    ) as run:
        pass
    listener.wait(10)
    capture, iperf = run.records
    result = json.loads(run.path("iperf3.json", "iperf3").read_text())
    assert (capture.outcome, iperf.outcome, iperf.tool) == ("captured", "captured", "iperf3")
    assert capture.first > capture.listening
    assert result["end"]["sum_sent"]["bits_per_second"] == pytest.approx(8e6, rel=0.2)


def test_iperf3_that_fails_says_why(tmp_path: Path, hosts: Any) -> None:
    with Run(tmp_path, hosts[0], tool="iperf3", arguments="-c 10.77.0.2 -t 1", filter="") as run:
        pass
    (record,) = run.records
    assert record.outcome == "capture_failed"
    assert "unable to connect to server" in record.reason


def test_iperf3_that_reaches_nobody_has_measured_nothing(tmp_path: Path, hosts: Any) -> None:
    with Run(tmp_path, hosts[0], tool="iperf3", arguments="-c 10.77.0.99 -t 1", filter="", duration="1s") as run:
        pass
    (record,) = run.records
    assert (record.outcome, record.reason) == ("capture_failed", "iperf3 measured nothing: its time was over")


def test_an_iperf3_server_keeps_the_results_of_every_client(tmp_path: Path, hosts: Any) -> None:
    client, server = hosts
    asked = {"tool": "iperf3", "arguments": "-s", "filter": "", "duration": "6s"}
    with Run(tmp_path, server, **asked) as run:
        server.listens(5201)
        for _ in range(2):
            client.run("iperf3", "-c", server.address, "-t", "1", "-b", "1M", "--connect-timeout", "3000")
    (record,) = run.records
    assert (record.outcome, record.reason) == ("captured", "its time was over")
    assert run.path("iperf3.json", "iperf3").read_text().count('"sum_received"') == 2


def test_iperf3_is_held_to_the_campaigns_bytes(tmp_path: Path, hosts: Any) -> None:
    client, server = hosts
    asked = {"tool": "iperf3", "arguments": "-s", "filter": "", "duration": "1h", "bytes": "2048"}
    with Run(tmp_path, server, **asked) as run:
        server.listens(5201)
        client.run("iperf3", "-c", server.address, "-t", "1", "-b", "1M")
    (record,) = run.records
    assert record.reason == "iperf3 measured nothing: it reached its limit of 2KiB"
    assert run.path("iperf3.json", "iperf3").stat().st_size == record.files[0].bytes == 2048


def test_an_iperf3_that_does_not_end_is_made_to(
    tmp_path: Path, hosts: Any, instead: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("steps.toolrun.GRACE", 0.5)
    instead("iperf3", "trap '' TERM INT\nwhile :; do read nothing </dev/zero; done")
    with Run(tmp_path, hosts[1], tool="iperf3", arguments="-s", filter="", duration="500ms") as run:
        pass
    (record,) = run.records
    assert (record.exit_code, record.reason) == (-9, "iperf3 measured nothing: its time was over")


def test_a_pod_that_goes_ends_its_iperf3(tmp_path: Path, hosts: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    there = threading.Event()
    there.set()
    monkeypatch.setattr(NetworkNamespace, "alive", lambda _: there.is_set())
    with Run(tmp_path, hosts[1], tool="iperf3", arguments="-s", filter="", duration="1h") as run:
        hosts[1].listens(5201)
        there.clear()
    (record,) = run.records
    assert (record.outcome, record.reason) == ("pod_deleted", "the pod was deleted while iperf3 ran")
