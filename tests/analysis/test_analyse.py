"""A campaign's captures, as they lie in the object store, against the report they must give."""

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from analysis import tshark
from analysis.analyse import analyse
from analysis.captures import CaptureError
from analysis.findings.capturing import PACKETS
from analysis.tables import TABLES
from analysis.timestamps import rfc3339
from steps.campaign_input import CampaignInput

CLIENT, API, WEB, SERVICE, DNS = "10.244.0.2", "10.244.1.3", "10.244.1.4", "10.96.0.80", "10.96.0.10"
START, SECOND, MS = 1_767_225_600_000_000_000, 1_000_000_000, 1_000_000
NOTHING = {"refused": 0, "timed_out": 0, "unreachable": 0, "aborted": 0, "undecided": 0}


def pair(report: dict[str, Any], destination: str, port: int) -> dict[str, Any]:
    (found,) = (
        p for p in report["pairs"] if (p["destination"]["name"], p["destination"]["port"]) == (destination, port)
    )
    return found


def codes(report: dict[str, Any]) -> list[str]:
    return [finding["code"] for finding in report["findings"]]


def test_two_vantages_of_one_connection_are_one(wire: Any, store: Any, report: Any) -> None:
    wire.http(0, CLIENT, 40000, API)
    wire.refused(SECOND, CLIENT, 40001, API, 81, tries=2)
    wire.udp(2 * SECOND, CLIENT, 40002, API, 9, b"ping")
    store.plan("client", "api")
    store.capture("client", wire.seen_at(CLIENT))
    store.capture("api", wire.seen_at(API))
    found = report()
    assert pair(found, "demo/api", 80)["connections"] == {
        "total": 1,
        "attempts": 1,
        "succeeded": 1,
        **NOTHING,
        "success_rate": 1.0,
    }
    assert pair(found, "demo/api", 80)["packets"] == 8
    assert pair(found, "demo/api", 81)["connections"]["refused"] == 1
    assert pair(found, "demo/api", 9)["connections"] == {"total": 1}
    assert len(found["pairs"]) == 3
    assert found["translations"] == []


def test_rtt_is_the_client_s_and_without_it_what_the_server_s_answer_took(wire: Any, store: Any, report: Any) -> None:
    wire.http(0, CLIENT, 40000, API, rtt=2 * MS)
    store.plan("client", "api")
    store.capture("api", wire.seen_at(API))
    assert pair(report(), "demo/api", 80)["rtt_ms"] == {"n": 1, "p50": 1.0, "p95": 1.0, "p99": 1.0, "max": 1.0}
    store.capture("client", wire.seen_at(CLIENT))
    assert pair(report(), "demo/api", 80)["rtt_ms"] == {"n": 1, "p50": 2.0, "p95": 2.0, "p99": 2.0, "max": 2.0}


def test_through_a_service_the_client_s_view_counts(wire: Any, store: Any, report: Any, translated: Any) -> None:
    for port in (40000, 40001):
        wire.http(0, CLIENT, port, SERVICE, isn=port)
    wire.refused(SECOND, CLIENT, 40002, SERVICE, 80)
    wire.http(SECOND, CLIENT, 40003, WEB, 8080, isn=5)  # straight to the pod: another pair
    store.plan("client", "web")
    store.capture("client", wire.seen_at(CLIENT))
    store.capture("web", translated(wire.seen_at(SERVICE), SERVICE, 80, WEB, 8080) + wire.seen_at(WEB))
    found = report()
    assert pair(found, "demo/web", 80)["connections"]["attempts"] == 3
    assert pair(found, "demo/web", 80)["destination"]["kind"] == "service"
    assert pair(found, "demo/web", 8080)["connections"]["attempts"] == 1
    assert found["translations"] == [
        {
            "client": {"kind": "pod", "name": "demo/client", "address": CLIENT},
            "protocol": "tcp",
            "service": "demo/web",
            "client_view": {"kind": "service", "name": "demo/web", "address": SERVICE, "port": 80},
            "server_view": {"kind": "pod", "name": "demo/web", "address": WEB, "port": 8080},
            "connections": 3,
        }
    ]


def test_a_scan_is_not_taken_for_translation(wire: Any, store: Any, report: Any) -> None:
    for server in (API, WEB):  # as nmap does: one source port and one ISN for all
        wire.refused(0, CLIENT, 40000, server, 81, isn=7)
    store.plan("client", "api", "web")
    store.capture("client", wire.seen_at(CLIENT))
    store.capture("api", wire.seen_at(API))
    store.capture("web", wire.seen_at(WEB))
    found = report()
    assert [p["connections"]["attempts"] for p in found["pairs"]] == [1, 1]
    assert found["translations"] == []


def test_loopback_is_a_capture_of_its_own(wire: Any, store: Any, report: Any) -> None:
    wire.http(0, "127.0.0.1", 40000, "127.0.0.1", 9000)
    store.plan("client", "api")
    store.capture("client", [], outcome="no_traffic")
    store.capture("client", wire.seen_at("127.0.0.1"), interface="lo")
    store.capture("api", wire.seen_at("127.0.0.1"), interface="lo")  # the very same packets, in another pod
    found = report()
    ends = [(p["source"]["name"], p["destination"]["name"], p["connections"]["attempts"]) for p in found["pairs"]]
    assert ends == [("demo/api", "demo/api", 1), ("demo/client", "demo/client", 1)]
    assert [target["outcome"] for target in found["targets"]] == ["captured", "captured"]


def test_timeouts_say_whether_they_arrived(wire: Any, store: Any, report: Any) -> None:
    wire.silent(0, CLIENT, 40000, API, 81)
    wire.silent(0, CLIENT, 40001, WEB, 82)
    wire.silent(0, CLIENT, 40002, "203.0.113.9", 83)
    store.plan("client", "api", "web")
    store.capture("client", wire.seen_at(CLIENT))
    store.capture("api", wire.seen_at(API))
    store.capture("web", [])
    texts = {f["text"].split(":")[0]: f["text"] for f in report()["findings"] if f["code"] == "connection_timed_out"}
    assert "though 1 arrived there" in texts["demo/client to demo/api port 81"]
    assert "and none arrived there" in texts["demo/client to demo/web port 82"]
    assert "arrived" not in texts["demo/client to 203.0.113.9 port 83"]


def test_targets_have_the_worst_of_their_captures_outcomes(wire: Any, store: Any, report: Any) -> None:
    wire.http(0, CLIENT, 40000, API)
    store.plan("client", "api", "web", left_out=[{"namespace": "demo", "pod": "job-1", "reason": "phase Succeeded"}])
    store.capture("client", wire.seen_at(CLIENT), outcome="capturing", ended=None)
    store.capture("client", [], interface="lo")
    store.capture("api", wire.seen_at(API), outcome="pod_deleted", reason="the pod was deleted after 12 s")
    found = report()
    assert [(t["pod"], t["outcome"]) for t in found["targets"]] == [
        ("api", "pod_deleted"),
        ("client", "capture_failed"),
        ("web", "missing"),
    ]
    assert "cut off" in found["targets"][1]["reason"]
    assert "uploaded chunks are included" in found["targets"][1]["reason"]
    assert codes(found) == ["capture_failed", "target_missing", "pod_deleted", "left_out"]
    assert pair(found, "demo/api", 80)["connections"]["succeeded"] == 1
    assert found["left_out"] == [{"namespace": "demo", "pod": "job-1", "reason": "phase Succeeded"}]


def test_as_many_packets_as_were_asked_for_are_no_finding(wire: Any, store: Any, report: Any) -> None:
    assert CampaignInput.model_fields["packets"].default == PACKETS
    wire.http(0, CLIENT, 40000, API)
    store.capture("client", wire.seen_at(CLIENT), reason=f"it reached its limit of {PACKETS} packets")
    store.capture("api", wire.seen_at(API), reason="it reached its limit of 7 packets")
    shortened = {}
    for packets in (PACKETS, 7):
        store.plan("client", "api", packets=packets)
        shortened[packets] = [each["text"] for each in report()["findings"] if each["code"] == "capture_shortened"]
    assert [len(texts) for texts in shortened.values()] == [2, 1]
    assert shortened[7] == [
        f"demo/client was not captured for the whole time: it reached its limit of {PACKETS} packets."
    ]


def test_a_plan_without_any_capture_is_reported(store: Any, report: Any) -> None:
    store.plan("client")
    found = report()
    assert [(t["pod"], t["outcome"]) for t in found["targets"]] == [("client", "missing")]
    assert (found["captures"], found["pairs"]) == ([], [])


def test_chunks_are_one_stream(wire: Any, store: Any, report: Any) -> None:
    wire.http(0, CLIENT, 40000, API)
    wire.refused(SECOND, CLIENT, 40001, API, 81)
    packets = wire.seen_at(CLIENT)
    store.plan("client", "api")
    folder = store.capture("client", packets[:2], packets[2:5], packets[5:])
    found = report()
    assert pair(found, "demo/api", 80)["connections"]["succeeded"] == 1
    (refused,) = (f for f in found["findings"] if f["code"] == "connection_refused")
    assert refused["evidence"] == [{"file": f"{folder.relative_to(store.root)}/000003.pcap", "frame": 5}]
    (capture,) = found["captures"]
    assert [file["packets"] for file in capture["files"]] == [2, 3, 5]
    assert capture["packets"] == 10


def test_chunks_follow_each_other_whatever_their_times_say(wire: Any, store: Any, report: Any) -> None:
    wire.refused(0, CLIENT, 40001, API, 81)
    wire.http(SECOND, CLIENT, 40000, API)
    store.plan("client", "api")
    folder = store.capture("client", wire.packets[2:], wire.packets[:2])
    _, refused = report()["findings"]  # the first: demo/api has no capture
    assert refused["evidence"] == [{"file": f"{folder.relative_to(store.root)}/000002.pcap", "frame": 2}]


@pytest.mark.parametrize("late", ["client", "api"])
def test_a_capture_that_began_later_adds_no_connection(wire: Any, store: Any, report: Any, late: str) -> None:
    wire.http(0, CLIENT, 40000, API)
    store.plan("client", "api")
    for pod in ("client", "api"):
        store.capture(pod, wire.packets[3:] if pod == late else wire.packets)
    (found,) = report()["pairs"]
    assert found["connections"] == {"total": 1, "attempts": 1, "succeeded": 1, **NOTHING, "success_rate": 1.0}


def test_a_chunk_that_is_cut_does_not_end_the_capture(wire: Any, store: Any, report: Any, write: Any) -> None:
    wire.http(0, CLIENT, 40000, API)
    packets = wire.seen_at(CLIENT)
    store.plan("client")
    folder = store.capture("client", packets[:4], packets[4:])
    write(folder / "000001.pcap", packets[:4], cut=3)
    (capture,) = (found := report())["captures"]
    name = f"{folder.relative_to(store.root)}/000001.pcap"
    assert capture["truncated_at"] == [{"file": name, "frame": 3}]
    assert capture["packets"] == 7
    assert "capture_truncated" in codes(found)
    assert "is not what was captured" in capture["problems"][0]  # its SHA-256 is not its record's


def test_damage_is_said_and_hides_nothing(wire: Any, store: Any, report: Any, write: Any) -> None:
    wire.http(0, CLIENT, 40000, API)
    store.plan("client", "api")
    folder = store.capture("client", wire.seen_at(CLIENT)[:4], wire.seen_at(CLIENT)[4:])
    (folder / "000002.pcap").unlink()
    (folder / "000003.pcap").write_bytes(b"no capture at all")
    record = store.capture("api", []) / "capture.json"
    record.write_text(record.read_text()[:99])
    write(store.root / "empty.pcap", [])
    (store.root / "nothing.pcap").touch()
    found = report()
    problems = {
        capture["name"].rpartition("/")[2].split("_")[-1]: capture.get("problems", []) for capture in found["captures"]
    }
    assert problems["empty.pcap"] == problems["nothing.pcap"] == []
    said = " ".join(problem for capture in found["captures"] for problem in capture.get("problems", []))
    assert "000002.pcap was captured and is not here" in said
    assert "000003.pcap: it is neither pcap nor pcapng" in said
    assert "capture.json cannot be read" in said
    assert pair(found, "demo/api", 80)["connections"]["succeeded"] == 1


def test_kernel_drops_are_a_warning(wire: Any, store: Any, report: Any) -> None:
    wire.http(0, CLIENT, 40000, API)
    store.plan("client")
    store.capture("client", wire.seen_at(CLIENT), kernel_dropped=12)
    found = report()
    assert found["captures"][0]["kernel_dropped"] == 12
    (finding,) = found["findings"]
    assert (finding["severity"], finding["code"]) == ("warning", "kernel_dropped")
    assert "12 of 20 packets" in finding["text"]


def test_everything_worked_is_said_too(wire: Any, store: Any, report: Any) -> None:
    wire.http(0, CLIENT, 40000, API)
    wire.lookup(SECOND, CLIENT, 50000, "api.demo.svc.cluster.local")
    store.plan("client")
    store.capture("client", wire.seen_at(CLIENT))
    (finding,) = report()["findings"]
    assert (finding["severity"], finding["code"]) == ("info", "all_well")
    assert "1 connection succeeded and 1 DNS lookup answered" in finding["text"]


def test_dns(wire: Any, store: Any, report: Any, translated: Any) -> None:
    for number, (name, rcode) in enumerate(
        [
            ("web.demo.svc.cluster.local", 3),
            ("web.svc.cluster.local", 3),
            ("web", 0),
            ("gone.example.com", 3),
            ("broken.example.com", 2),
            ("slow.example.com", None),
        ]
    ):
        wire.lookup(number * 20 * MS, CLIENT, 50000 + number, name, rcode, number=number)
    wire.lookup(SECOND, CLIENT, 50005, "slow.example.com", None, number=5)  # asked again: the same lookup
    store.plan("client", "api")
    store.capture("client", wire.seen_at(CLIENT))
    store.capture("api", translated(wire.seen_at(DNS), DNS, 53, API, 5353))  # the name server's own pod
    found = report()
    (entry,) = found["dns"]
    assert entry["destination"] == {"kind": "service", "name": "kube-system/kube-dns", "address": DNS, "port": 53}
    assert (entry["lookups"], entry["questions"], entry["answered"], entry["unanswered"]) == (6, 7, 5, 1)
    assert entry["search_steps"] == 2
    assert entry["rcodes"] == {"NOERROR": 1, "NXDOMAIN": 3, "SERVFAIL": 1}
    assert entry["latency_ms"]["p50"] == 3.0
    failed = [f["text"] for f in found["findings"] if f["code"].startswith("dns_")]
    assert failed == [
        "demo/client: 1 of 6 DNS lookups ended in NXDOMAIN: gone.example.com.",
        "demo/client: 1 of 6 DNS lookups ended in SERVFAIL: broken.example.com.",
        "demo/client: 1 DNS lookup had no answer from kube-system/kube-dns: slow.example.com.",
    ]


def test_iperf3(store: Any, report: Any) -> None:
    store.plan("client", "api")
    folder = store.capture("client", interface="iperf3", tool="iperf3", outcome="captured")
    bad = store.capture("api", interface="iperf3", tool="iperf3", outcome="captured")
    start = {
        "connected": [{"local_host": CLIENT, "local_port": 4, "remote_host": API, "remote_port": 5201}],
        "test_start": {"protocol": "TCP"},
    }
    end = {
        "sum_sent": {"seconds": 2.0, "bits_per_second": 2e9, "retransmits": 3},
        "sum_received": {"seconds": 2.01, "bits_per_second": 1.9e9},
    }
    (folder / "iperf3.json").write_text(
        json.dumps({"start": start, "intervals": [{"sum": {"start": 0, "bits_per_second": 2e9}}], "end": end})
    )
    (bad / "iperf3.json").write_text(json.dumps({"error": "unable to connect to server: Connection refused"}))
    found = report()
    failed, run = found["iperf"]
    assert (run["client"]["name"], run["server"]["name"], run["server"]["port"]) == ("demo/client", "demo/api", 5201)
    assert (run["interval_s"], run["bits_per_second"], run["retransmits"]) == (2.01, 1_900_000_000, 3)
    assert failed["error"] == "unable to connect to server: Connection refused"
    assert "iperf_failed" in codes(found)
    assert found["captures"] == []


def test_an_iperf3_server_has_one_result_per_test_and_last_words(store: Any, report: Any) -> None:
    store.plan("api")
    folder = store.capture("api", interface="iperf3", tool="iperf3", outcome="captured")
    ends = {"local_host": API, "local_port": 5201, "remote_host": CLIENT, "remote_port": 4}
    test = {
        "start": {"connected": [ends], "accepted_connection": {}, "test_start": {"protocol": "UDP"}},
        "intervals": [{"sum": {"start": 0, "bits_per_second": 1e6}}],
        "end": {"sum": {"seconds": 1.0, "bits_per_second": 1e6}},
    }
    last = {"intervals": [], "error": "interrupt - the server has terminated"}
    (folder / "iperf3.json").write_text("\n".join(map(json.dumps, (test, test, last))))
    runs = report()["iperf"]
    assert [(run["client"]["name"], run["server"]["port"], run["protocol"]) for run in runs] == [
        (CLIENT, 5201, "udp"),
        (CLIENT, 5201, "udp"),
    ]


def test_phases_and_times(wire: Any, store: Any, report: Any, tmp_path: Path) -> None:
    wire.http(0, CLIENT, 40000, API)
    store.plan("client")
    store.capture("client", wire.seen_at(CLIENT))
    found = report(reported=rfc3339(START + 40 * SECOND))
    assert found["phases"] == {"submit_to_listening_s": 4.0, "capture_s": 31.0}
    assert found["campaign"]["started"] == "2025-12-31T23:59:55.000000000Z"
    assert found["campaign"]["ended"] == "2026-01-01T00:00:30.000000000Z"
    assert (found["captures"][0]["first"], found["captures"][0]["last"]) == (
        "2026-01-01T00:00:00.000000000Z",
        "2026-01-01T00:00:00.008000000Z",
    )
    assert "from the last packet to this report" in (tmp_path / "out/report.html").read_text()


def test_the_same_captures_give_the_same_bytes_anywhere(wire: Any, store: Any, tmp_path: Path) -> None:
    wire.http(0, CLIENT, 40000, API)
    wire.silent(0, CLIENT, 40001, API, 81)
    wire.lookup(SECOND, CLIENT, 50000, "a.example.com", 3)
    store.plan("client", "api")
    store.capture("client", wire.seen_at(CLIENT))
    store.capture("api", wire.seen_at(API))
    moved = tmp_path / "elsewhere" / "deep"
    shutil.copytree(store.root, moved)
    analyse([store.root], tmp_path / "one", reported=rfc3339(START + 50 * SECOND))
    analyse([moved], tmp_path / "two", reported=rfc3339(START + 99 * SECOND))
    for name in ("report.json", "connections.parquet"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


def test_connections_parquet_has_what_each_capture_saw(wire: Any, store: Any, report: Any, tmp_path: Path) -> None:
    wire.http(0, CLIENT, 40000, API)
    wire.unreachable(SECOND, CLIENT, 40001, API, 81)
    store.plan("client", "api")
    store.capture("client", wire.seen_at(CLIENT))
    store.capture("api", wire.seen_at(API))
    report()
    table = pq.read_table(tmp_path / "out/connections.parquet")
    assert table.column_names == [column.name for column in TABLES["connections"]]
    rows = [row for row in table.to_pylist() if row["proto"] == "tcp"]
    assert [row["target"] for row in rows] == ["demo/api", "demo/api", "demo/client", "demo/client"]
    assert [row["outcome"] for row in rows] == ["succeeded", "unreachable"] * 2
    assert {row["icmp_code"] for row in rows} == {None, 13}
    assert {row["campaign"] for row in rows} == {"demo-1"}
    assert str(rows[0]["start"]) == "2026-01-01 00:00:00+00:00"


def test_single_files_without_a_campaign(wire: Any, tmp_path: Path, write: Any) -> None:
    wire.http(0, CLIENT, 40000, API)
    one, two = write(tmp_path / "a/one.pcap", wire.packets), write(tmp_path / "b/two.pcap", wire.packets)
    found = analyse([one, two], tmp_path / "out")
    assert "name" not in found["campaign"]
    assert [capture["name"] for capture in found["captures"]] == ["a/one.pcap", "b/two.pcap"]
    assert (found["targets"], len(found["pairs"])) == ([], 1)
    assert found["pairs"][0]["connections"]["attempts"] == 1


def test_what_cannot_be_analysed_is_one_sentence(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with pytest.raises(CaptureError, match="gone: no such file or directory"):
        analyse([tmp_path / "gone"], out)
    (tmp_path / "empty").mkdir()
    with pytest.raises(CaptureError, match="empty: no captures here"):
        analyse([tmp_path / "empty"], out)


def test_without_tshark_all_but_its_part_is_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wire: Any, write: Any
) -> None:
    wire.http(0, CLIENT, 40000, API)
    wire.lookup(SECOND, CLIENT, 50000, "web.demo.svc.cluster.local")
    monkeypatch.setitem(os.environ, "PATH", str(tmp_path))
    tshark.version.cache_clear()
    found = analyse([write(tmp_path / "a.pcap", wire.packets)], tmp_path / "out")
    assert "tshark" not in found["campaign"]["versions"]
    assert pair(found, API, 80)["connections"]["succeeded"] == 1
    assert found["dns"] == []
    (said,) = (finding for finding in found["findings"] if finding["code"] == "capture_unreadable")
    assert "tshark, Wireshark's command line, is not installed here" in said["text"]


def test_two_plans_are_two_campaigns(store: Any, tmp_path: Path) -> None:
    store.plan("client")
    shutil.copytree(store.root / "reports", store.root / "more")
    with pytest.raises(CaptureError, match="two campaigns"):
        analyse([store.root], tmp_path / "out")
