"""Traffic in which one thing is wrong, against the sentence that must say so and the packets that must prove it."""

import re
import struct
import subprocess
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from analysis.findings import applications
from analysis.findings.kinds import KINDS, MOST, finding, told
from analysis.names import Names
from analysis.places import Places
from analysis.thresholds import ThresholdError, Thresholds, thresholds

CLIENT, API, WEB = "10.244.0.2", "10.244.1.3", "10.244.1.4"
SECOND, MS = 1_000_000_000, 1_000_000
FIN, SYN, RST, ACK = 1, 2, 4, 16
REPORT = (Path(__file__).parents[2] / "docs/report.md").read_text()


class Talk:
    """One TCP connection from the client to the web pod, 10 ms between any two packets."""

    def __init__(self, wire: Any, sport: int = 40000, dport: int = 80, at: int = 0) -> None:
        self.wire, self.ends, self.at = wire, (CLIENT, sport, WEB, dport), at
        self.seq = {True: 1000, False: 5_001_000}

    def send(self, up: bool, flags: int, data: bytes = b"", *, again: bool = False, **options: Any) -> None:
        client, sport, server, dport = self.ends
        ends = (client, sport, server, dport) if up else (server, dport, client, sport)
        seq = self.seq[up] - len(data) if again else self.seq[up]
        ack = self.seq[not up] if flags & ACK else 0
        self.wire.tcp(self.at, *ends, flags, seq, ack, data, **options)
        self.at += 10 * MS
        if not again:
            self.seq[up] += len(data) + bool(flags & (SYN | FIN))

    def open(self) -> "Talk":
        self.send(True, SYN)
        self.send(False, SYN | ACK)
        self.send(True, ACK)
        return self

    def exchange(self, request: bytes = b"hello", response: bytes = b"hi, there") -> "Talk":
        for up, data in ((True, request), (False, response)):
            self.send(up, ACK, data)
            self.send(not up, ACK)
        return self

    def close(self) -> None:
        self.send(True, FIN | ACK)
        self.send(False, FIN | ACK)
        self.send(True, ACK)


@pytest.fixture
def found(wire: Any, store: Any, report: Any) -> Callable[..., dict[str, Any]]:
    """Capture what the wire has, at the client (or another pod); give the one finding of this kind."""

    def find(code: str, *limits: str, pod: str = "client", address: str = CLIENT) -> dict[str, Any]:
        wire.quiet(20 * SECOND)
        store.plan(pod)
        store.capture(pod, wire.seen_at(address))
        said = [each for each in report(limits=thresholds(limits))["findings"] if each["code"] == code]
        return said[0] if len(said) == 1 else {"text": f"{len(said)} findings", "evidence": []}

    return find


@pytest.fixture
def shown(store: Any) -> Callable[..., list[str]]:
    """Ask tshark for a field of the packets that are a finding's evidence."""

    def ask(said: dict[str, Any], field: str) -> list[str]:
        values = []
        for place in said["evidence"]:
            what = ("-r", store.root / place["file"], "-Y", f"frame.number=={place['frame']}")
            output = subprocess.run(
                ["tshark", "-n", *what, "-T", "fields", "-e", field], capture_output=True, check=True
            )
            values.append(output.stdout.decode().strip())
        return values

    return ask


def test_timed_out_says_when_the_syn_was_sent_again(wire: Any, found: Any, shown: Any) -> None:
    wire.silent(0, CLIENT, 40000, "203.0.113.9", 81, tries=4)
    wire.silent(0, CLIENT, 40001, "203.0.113.9", 81, tries=2)
    said = found("connection_timed_out")
    assert "2 of 2 attempts timed out (SYN sent again after 1.0, 3.0, 7.0 s)" in said["text"]
    assert shown(said, "tcp.flags.syn") in (["1", "1"], ["True", "True"])


def test_many_sources_of_one_destination_are_one_finding(wire: Any, found: Any) -> None:
    for number in range(7):
        wire.refused(number * MS, f"10.9.0.{number}", 40000, WEB, 81, isn=number)
    said = found("connection_refused", pod="web", address=WEB)
    assert said["text"].startswith("7 addresses to demo/web port 81: 7 of 7 attempts refused")
    assert len(said["evidence"]) == 5


def test_half_open(wire: Any, found: Any, shown: Any) -> None:
    talk = Talk(wire)
    talk.send(True, SYN)
    talk.send(False, SYN | ACK)
    talk.seq[False] -= 1
    for _ in range(2):
        talk.send(False, SYN | ACK)
        talk.seq[False] -= 1
    Talk(wire, 40001, at=SECOND).open().exchange().close()
    said = found("half_open", pod="web", address=WEB)
    assert "1 of 2 attempts stayed half-open, the SYN-ACK sent up to 3 times" in said["text"]
    assert "asymmetric routes" in said["text"]
    assert shown(said, "tcp.flags") == ["0x0012"]


def test_one_syn_ack_is_not_half_open_yet(wire: Any, found: Any) -> None:
    talk = Talk(wire)
    talk.send(True, SYN)
    talk.send(False, SYN | ACK)
    assert found("half_open")["text"] == "0 findings"


def test_succeeded_at_the_second_syn(wire: Any, found: Any) -> None:
    talk = Talk(wire)
    talk.send(True, SYN)
    talk.seq[True], talk.at = 1000, SECOND
    talk.open().exchange().close()
    said = found("connect_retried")
    assert "1 of 1 attempt succeeded, but not at the first SYN (SYN sent again after 1.0 s)" in said["text"]


def test_slow_to_connect(wire: Any, found: Any, shown: Any) -> None:
    for number, rtt in enumerate([20 * MS, 900 * MS]):
        wire.http(number * 2 * SECOND, CLIENT, 40000 + number, WEB, isn=number, rtt=rtt)
    said = found("connect_slow")
    assert "1 of 2 took more than 500 ms, up to 900 ms" in said["text"]
    assert [time[:3] for time in shown(said, "frame.time_relative")] == ["2.9"]


@pytest.mark.parametrize(("after", "codes"), [(MS, []), (SECOND, ["connect_retried"])])
def test_a_syn_that_was_captured_twice_was_not_sent_again(
    wire: Any, report: Any, store: Any, after: int, codes: Any
) -> None:
    wire.tcp(0, CLIENT, 40000, WEB, 80, SYN, 1000)
    wire.http(after, CLIENT, 40000, WEB)
    store.plan("client")
    store.capture("client", wire.packets)
    assert [each["code"] for each in report()["findings"] if each["code"] == "connect_retried"] == codes


def test_syns_sent_again_are_no_retransmissions_of_data(wire: Any, report: Any, store: Any) -> None:
    for number in range(6):
        wire.silent(number * 100 * MS, CLIENT, 40000 + number, WEB, 81, tries=4, isn=number)
    wire.quiet(20 * SECOND)
    store.plan("client")
    store.capture("client", wire.packets)
    found = report()
    assert {"connection_timed_out"} == {each["code"] for each in found["findings"]}
    assert max(pair.get("retransmissions", {}).get("plain", 0) for pair in found["pairs"]) == 18


def test_reset_mid_stream(wire: Any, found: Any, shown: Any) -> None:
    talk = Talk(wire).open().exchange()
    talk.send(False, RST | ACK)
    half_closed = Talk(wire, 40001, at=SECOND).open().exchange()
    half_closed.send(True, FIN | ACK)
    half_closed.send(False, RST | ACK)
    Talk(wire, 40002, at=2 * SECOND).open().send(True, RST | ACK)  # as a probe does: no data
    said = found("connection_reset")
    assert "1 of 3 connections were reset mid-stream, 1 by the server" in said["text"]
    assert shown(said, "tcp.flags.reset") in (["1"], ["True"])
    assert "14 bytes" in said["text"]


def lossy(wire: Any) -> None:
    talk = Talk(wire).open()
    for number in range(30):
        talk.send(True, ACK, b"x" * 100)
        if number % 3 == 0:
            talk.at += 300 * MS
            talk.send(True, ACK, b"x" * 100, again=True)
        talk.send(False, ACK)
    talk.close()


def test_retransmissions_have_a_direction(wire: Any, found: Any, shown: Any) -> None:
    lossy(wire)
    said = found("retransmissions")  # 30 segments, 10 of them twice, SYN, ACK, FIN and the last ACK
    assert "10 of 44 packets from demo/client were sent again, 22.7 %, more than 1 %" in said["text"]
    assert shown(said, "tcp.analysis.retransmission") in (["1"], ["True"])


def test_what_proves_a_direction_s_retransmissions_is_of_that_direction(wire: Any, found: Any, shown: Any) -> None:
    both = Talk(wire, 40001).open().exchange()
    both.at += 300 * MS
    both.send(False, ACK, b"hi, there", again=True)  # the first one is the server's
    for _ in range(20):
        both.send(True, ACK, b"x" * 100)
        both.at += 300 * MS
        both.send(True, ACK, b"x" * 100, again=True)
        both.send(False, ACK)
    both.close()
    lossy(wire)
    said = found("retransmissions")
    assert "from demo/client were sent again" in said["text"]
    assert shown(said, "ip.src")[0] == CLIENT


@pytest.mark.parametrize("limit", ["retransmission_percent=23", "retransmission_packets=11"])
def test_thresholds_decide(wire: Any, found: Any, limit: str) -> None:
    lossy(wire)
    assert found("retransmissions", limit)["text"] == "0 findings"


def test_zero_window(wire: Any, found: Any, shown: Any) -> None:
    talk = Talk(wire).open()
    for _ in range(3):
        talk.send(True, ACK, b"x" * 500)
        talk.send(False, ACK, window=0)
        talk.at += SECOND
        talk.send(False, ACK)
    talk.close()
    said = found("zero_window")
    assert "a window was zero 3 times" in said["text"]
    assert "the server reads more slowly" in said["text"]
    assert shown(said, "tcp.window_size_value") == ["0"]


def test_a_full_window_is_not_said_to_be_zero(wire: Any, found: Any, shown: Any) -> None:
    talk = Talk(wire)
    talk.send(True, SYN)
    talk.send(False, SYN | ACK, window=1000)
    talk.send(True, ACK)
    for _ in range(20):
        talk.send(True, ACK, b"x" * 1000)
        talk.send(False, ACK, window=1000)
    talk.close()
    said = found("zero_window")
    assert "a window was full 20 times, never zero: the sender had to wait, for the window is small or" in said["text"]
    assert shown(said, "tcp.analysis.window_full") in (["1"], ["True"])
    assert shown(said, "tcp.len") == ["1000"]


def refused_datagrams(wire: Any, client: str, server: str, codes: dict[int, int]) -> None:
    """Send 20 datagrams to each of these ports, each answered by ICMP (or ICMPv6) unreachable with the port's code."""
    kind, proto = (1, 58) if ":" in client else (3, 1)
    for number in range(20):
        for port, code in codes.items():
            sent = wire.udp(number * 100 * MS, client, 50000, server, port, b"x" * 30)
            told = struct.pack("!BBHI", kind, code, 0, 0) + sent.ip()
            wire.packets.append(type(sent)(sent.time + MS, server, client, proto, 0, 0, told))


def test_refused_datagrams(wire: Any, found: Any, shown: Any) -> None:
    wire.udp(0, CLIENT, 50001, WEB, 9999, b"x")
    refused_datagrams(wire, CLIENT, WEB, {9999: 3})
    said = found("udp_unreachable")
    assert said["text"] == (
        "demo/client to demo/web port 9999: 1 of 2 UDP flows answered by ICMP port unreachable, 20 datagrams sent: "
        "nothing listens there, or a firewall rejects it."
    )
    assert said["severity"] == "error"
    assert shown(said, "icmp.code") == ["3"]


@pytest.mark.parametrize(
    ("client", "server", "words"),
    [
        ("10.9.0.1", CLIENT, "code 13, host unreachable, network unreachable"),
        ("fd00::1", "fd00::2", "code 13, no route to destination, prohibited"),
    ],
)
def test_what_refused_datagrams_is_said_in_words(wire: Any, found: Any, client: str, server: str, words: str) -> None:
    refused_datagrams(wire, client, server, {7000: 0, 7001: 1, 7002: 13})
    said = found("udp_unreachable", address=server)
    assert f"ports 7000, 7001, 7002: 3 of 3 UDP flows answered by ICMP {words}, 60 datagrams" in said["text"]
    assert said["text"].endswith("a router has no way there, or a network policy, a firewall or a router rejects it.")
    assert len(said["evidence"]) == 3


def test_refused_datagrams_are_not_nothing(wire: Any, found: Any) -> None:
    refused_datagrams(wire, CLIENT, WEB, {9999: 3})
    assert found("nothing_tried")["text"] == "0 findings"


def black_hole(wire: Any) -> None:
    talk = Talk(wire).open().exchange(response=b"x" * 536)
    for again in (False, True, True, True, True):
        talk.send(False, ACK, b"x" * 1400, again=again)
        talk.at += SECOND


def test_mtu_black_hole(wire: Any, found: Any, shown: Any) -> None:
    black_hole(wire)
    said = found("mtu_black_hole")
    assert "the server's segment of 1400 bytes was sent up to 5 times and never acknowledged" in said["text"]
    assert "while up to 536 bytes passed; no ICMP message" in said["text"]
    assert shown(said, "tcp.len") == ["1400"]


def test_mtu_black_hole_with_icmp_that_is_not_heeded(wire: Any, found: Any, shown: Any) -> None:
    black_hole(wire)
    large = wire.packets[-1]
    quote = struct.pack("!BBHHH", 3, 4, 0, 0, 1280) + large.ip()[:28]
    router = type(large)(large.time + MS, CLIENT, WEB, 1, 0, 0, quote)
    wire.packets.append(router)
    said = found("mtu_black_hole", pod="web", address=WEB)
    assert "1 ICMP message said that they are too big for an MTU of 1280" in said["text"]
    assert shown(said, "icmp.type")[-1].split(",")[0] == "3"


def test_a_small_segment_that_hangs_is_no_black_hole(wire: Any, found: Any) -> None:
    talk = Talk(wire).open().exchange()
    for again in (False, True, True, True):
        talk.send(True, ACK, b"x" * 40, again=again)
        talk.at += SECOND
    said = found("connection_stalled")
    assert "the client's segment of 40 bytes was sent up to 4 times" in said["text"]


def test_a_segment_that_hangs_where_larger_ones_passed_is_no_black_hole(wire: Any, found: Any) -> None:
    talk = Talk(wire).open().exchange(response=b"x" * 1400)
    for again in (False, True, True, True):
        talk.send(False, ACK, b"x" * 1400, again=again)
        talk.at += SECOND
    said = found("connection_stalled")
    assert "the server's segment of 1400 bytes was sent up to 4 times" in said["text"]


def test_one_direction_only(wire: Any, found: Any) -> None:
    talk = Talk(wire).open()
    for _ in range(3):
        talk.exchange()
    wire.packets = [packet for packet in wire.packets if packet.src == CLIENT]
    said = found("asymmetric_capture")
    assert "of 1 of 1 TCP connection, port 80, only one direction was seen" in said["text"]


def test_slow_dns(wire: Any, found: Any, shown: Any) -> None:
    wire.lookup(0, CLIENT, 50000, "web.demo.svc.cluster.local")
    said = found("dns_slow", "dns_slow_ms=2")
    assert "DNS lookups take long: 1 of 1 took more than 2 ms, up to 3 ms" in said["text"]
    assert shown(said, "dns.flags.response") in (["1"], ["True"])


def test_tls_alert(wire: Any, found: Any, shown: Any) -> None:
    name = b"api.example.com"
    server_name = struct.pack("!HHHBH", 0, len(name) + 5, len(name) + 3, 0, len(name)) + name
    body = b"\3\3" + bytes(32) + b"\0" + b"\0\2\x13\1" + b"\1\0" + struct.pack("!H", len(server_name)) + server_name
    hello = b"\1" + len(body).to_bytes(3, "big") + body
    talk = Talk(wire, dport=443).open()
    talk.exchange(b"\x16\3\1" + struct.pack("!H", len(hello)) + hello, b"\x15\3\3\0\2\2\x28").close()
    said = found("tls_alert")
    assert "1 of 1 TLS handshake ended in an alert, 1 × handshake_failure from the server" in said["text"]  # noqa: RUF001
    assert said["text"].endswith("the server was called api.example.com.")
    assert shown(said, "tls.alert_message.desc") == ["40"]


def test_http_errors(wire: Any, found: Any, shown: Any) -> None:
    for number, status in enumerate((200, 503)):
        talk = Talk(wire, 40000 + number, at=number * SECOND).open()
        request = f"GET /items?key=secret-{number} HTTP/1.1\r\nHost: web\r\n\r\n".encode()
        talk.exchange(request, f"HTTP/1.1 {status} So\r\nContent-Length: 0\r\n\r\n".encode()).close()
    said = found("http_errors")
    assert "1 of 2 HTTP responses failed, 50 %, more than 1 %: 1 × 503; GET web/items" in said["text"]  # noqa: RUF001
    assert "secret" not in said["text"]
    assert shown(said, "http.response.code") == ["503"]


def requests(*rows: dict[str, Any]) -> pd.DataFrame:
    """Make a table of HTTP requests from demo/client to a server, with what these rows say of them."""
    usual = {
        "client": CLIENT,
        "server": WEB,
        "server_port": 50051,
        "inside": "",
        "capture_number": 0,
        "outcome": "answered",
    }
    usual |= {"method": "POST", "host": "web", "path": "/shop.Cart/Add", "status": 200, "first_byte_ms": 5.0}
    table = pd.DataFrame([usual | {"grpc_status": 0, "frame": 1, "proof": 2} | row for row in rows])
    return Names({}, []).named(table.astype({"grpc_status": "Int64"}), "client", "server")


def test_grpc_errors_and_requests_without_a_response() -> None:
    table = requests({}, {"grpc_status": 14}, {"grpc_status": pd.NA, "status": 0, "outcome": "unanswered", "frame": 7})
    said = list(applications.of_http(table, Places([(["a.pcap"], [9])]), Thresholds()))
    assert [each["code"] for each in said] == ["grpc_errors", "http_unanswered"]
    assert "1 of 2 gRPC calls failed, 50 %, more than 1 %: 1 × 14; POST web/shop.Cart/Add" in said[0]["text"]  # noqa: RUF001
    assert said[0]["evidence"] == [{"file": "a.pcap", "frame": 2}]
    assert said[1]["evidence"] == [{"file": "a.pcap", "frame": 7}]


def test_a_request_without_a_response_is_no_response() -> None:
    nothing = {"status": 0, "outcome": "undecided", "grpc_status": pd.NA}
    table = requests({"status": 503, "grpc_status": pd.NA}, nothing)
    (said,) = applications.of_http(table, Places([(["a.pcap"], [9])]), Thresholds())
    assert "1 of 1 HTTP response failed, 100 %" in said["text"]


def test_of_one_kind_the_worst_are_told_and_the_rest_counted() -> None:
    weights = [0, *range(1, MOST + 6)]
    said = list(told("dns_slow", weights, lambda number: finding("dns_slow", f"number {number}")))
    assert [each["text"] for each in said[:2]] == [f"number {MOST + 5}", f"number {MOST + 4}"]
    assert len(said) == MOST + 1
    assert said[-1]["text"].startswith("5 more ")


def test_packets_in_no_connection_are_said(wire: Any, found: Any) -> None:
    wire.http(0, CLIENT, 40000, API)
    packet = wire.packets[0]
    wire.packets += [type(packet)(packet.time + n, CLIENT, API, 89, 0, 0, b"OSPF") for n in range(3)]
    said = found("packets_skipped")
    assert "demo/client (eth0): 3 of 12 packets are in no connection: 3 × " in said["text"]  # noqa: RUF001


def test_places_are_found_over_the_files_of_a_capture() -> None:
    places = Places([(["a"], [1]), (["b/1", "b/2", "b/3"], [3, 0, 2])])
    rows = pd.DataFrame({"capture_number": [1, 1, 1, 0, 1], "proof": [3, 4, 0, 1, 5]})
    assert places.evidence(rows, "proof", 9) == [
        {"file": "b/1", "frame": 3},
        {"file": "b/3", "frame": 1},
        {"file": "a", "frame": 1},
        {"file": "b/3", "frame": 2},
    ]
    assert len(places.evidence(rows, "proof", 2)) == 2


def rows_of(heading: str) -> list[str]:
    """Give the lines of the table below a heading of docs/report.md."""
    section = REPORT.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    return re.findall(r"^\|.*\|$", section, re.MULTILINE)[2:]


def test_every_kind_of_finding_is_documented() -> None:
    made = [
        f"| `{code}` | {kind.severity} | {kind.when} | {', '.join(f'`{name}`' for name in kind.thresholds)} |"
        for code, kind in KINDS.items()
    ]
    assert rows_of("Findings") == made


def test_every_threshold_is_documented_and_decides_on_some_finding() -> None:
    about = [(each.name, each.default, *each.metadata.values()) for each in fields(Thresholds)]
    made = [f"| `{name}` | {default:g} | {unit} | {text} | {source} |" for name, default, unit, text, source in about]
    assert rows_of("Thresholds") == made
    assert {name for kind in KINDS.values() for name in kind.thresholds} == {name for name, *_ in about}


def test_thresholds_are_read_from_texts() -> None:
    limits = thresholds(["dns_slow_ms = 2.5", "stuck_tries=9"])
    assert (limits.dns_slow_ms, limits.stuck_tries, limits.tls_slow_ms) == (2.5, 9, Thresholds().tls_slow_ms)
    assert thresholds([]) == Thresholds()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("dns_slow_ms", "write NAME=VALUE"),
        ("dns_slow=3", "no threshold 'dns_slow': there are connect_slow_ms, "),
        ("dns_slow_ms=fast", "dns_slow_ms cannot be 'fast': it takes a number that is not negative"),
        ("dns_slow_ms=-1", "not negative"),
        ("dns_slow_ms=inf", "not negative"),
        ("dns_slow_ms=nan", "not negative"),
        ("stuck_tries=2.5", "stuck_tries cannot be '2.5': it takes a whole number"),
    ],
)
def test_what_is_no_threshold_is_one_sentence(text: str, said: str) -> None:
    with pytest.raises(ThresholdError, match=re.escape(said)):
        thresholds([text])


def test_report_json_says_which_thresholds_were_used(wire: Any, store: Any, report: Any) -> None:
    wire.http(0, CLIENT, 40000, API)
    store.plan("client")
    store.capture("client", wire.seen_at(CLIENT))
    used = report(limits=thresholds(["http_slow_ms=7"]))["campaign"]["thresholds"]
    assert used == Thresholds().json() | {"http_slow_ms": 7.0}
