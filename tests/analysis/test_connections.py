"""Connections against conversations that the test itself wrote: conn_state, history, outcome, RTT."""

import struct
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from analysis.connections import connections
from analysis.packets import read

CLIENT, API = "10.244.0.2", "10.244.1.3"
SECOND, MS = 1_000_000_000, 1_000_000
FIN, SYN, RST, ACK = 1, 2, 4, 16


@pytest.fixture
def seen(wire: Any, write: Any, tmp_path: Path) -> Any:
    """Read what is on the wire, and give its connections to or from one of a connection's ports."""

    def look(*, end: int | None = None) -> pd.DataFrame:
        packets = read([write(tmp_path / "a.pcap", sorted(wire.packets, key=lambda p: p.time)).name], tmp_path)
        return connections(packets, packets.last if end is None else end)

    return look


def test_a_whole_connection(wire: Any, seen: Any) -> None:
    wire.http(0, CLIENT, 40000, API, rtt=2_345_678)
    (row,) = seen().to_dict("records")
    assert (row["src"], row["src_port"], row["dst"], row["dst_port"]) == (CLIENT, 40000, API, 80)
    assert (row["conn_state"], row["history"], row["outcome"]) == ("SF", "ShADadFf", "succeeded")
    assert row["rtt_ms"] == 2.345678
    assert (row["orig_packets"], row["resp_packets"]) == (4, 4)
    assert (row["orig_bytes"], row["resp_bytes"]) == (4 * 40 + 5, 4 * 40 + 9)
    assert (row["orig_payload_bytes"], row["resp_payload_bytes"]) == (5, 9)
    assert row["duration_s"] == pytest.approx((2_345_678 + 6 * MS) / SECOND, abs=1e-9)
    assert (row["syn_count"], row["isn"], row["reset_by"]) == (1, 1000, "")


def test_a_refused_syn_sent_again_is_one_attempt(wire: Any, seen: Any) -> None:
    wire.refused(0, CLIENT, 40000, API, 81, tries=3)
    (row,) = seen().to_dict("records")
    assert (row["conn_state"], row["outcome"], row["reset_by"]) == ("REJ", "refused", "resp")
    assert (row["syn_count"], row["history"]) == (3, "Sr")
    assert row["proof"] == 2


def test_another_isn_is_another_attempt(wire: Any, seen: Any) -> None:
    wire.refused(0, CLIENT, 40000, API, 81, isn=5)
    wire.refused(SECOND, CLIENT, 40000, API, 81, isn=600_000)
    assert list(seen()["isn"]) == [5, 600_000]


def test_no_answer_is_a_timeout_with_its_last_syn_as_proof(wire: Any, seen: Any) -> None:
    wire.silent(0, CLIENT, 40000, API, 81, tries=3)
    wire.quiet(4 * SECOND)
    row = seen().iloc[0]
    assert (row["conn_state"], row["history"], row["outcome"]) == ("S0", "S", "timed_out")
    assert (row["syn_count"], row["proof"], row["retransmissions_plain"]) == (3, 3, 2)


@pytest.mark.parametrize(("after", "outcome"), [(SECOND - MS, "undecided"), (SECOND, "timed_out")])
def test_a_syn_in_the_last_second_is_undecided(wire: Any, seen: Any, after: int, outcome: str) -> None:
    wire.silent(0, CLIENT, 40000, API, 81, tries=1)
    assert list(seen(end=wire.packets[0].time + after)["outcome"]) == [outcome]


@pytest.mark.parametrize("quoted", [20, 8], ids=["the whole header", "8 bytes of it"])
@pytest.mark.parametrize("addresses", [(CLIENT, API), ("fd00::2", "fd00:1::3")], ids=["v4", "v6"])
def test_icmp_unreachable_belongs_to_the_syn_it_quotes(wire: Any, seen: Any, addresses: Any, quoted: int) -> None:
    client, server = addresses
    wire.unreachable(0, client, 40000, server, 81, code=1, quoted=quoted)
    wire.silent(MS, client, 40001, server, 81, tries=1)
    wire.quiet(5 * SECOND)
    rejected, silent = (row for row in seen().to_dict("records") if row["proto"] == "tcp")
    assert (rejected["outcome"], rejected["icmp_code"], rejected["conn_state"]) == ("unreachable", 1, "S0")
    in_order = sorted(wire.packets, key=lambda packet: packet.time)
    assert in_order[rejected["proof"] - 1].proto in {1, 58}
    assert silent["outcome"] == "timed_out"
    assert pd.isna(silent["icmp_code"])


def test_icmp_unreachable_is_found_behind_extension_headers(wire: Any, seen: Any) -> None:
    client, server = "fd00::2", "fd00:1::3"
    syn = wire.tcp(0, client, 40000, server, 81, SYN, 4000).ip()
    options = bytes([6, 0, 1, 4, 0, 0, 0, 0])  # destination options that hold padding, then TCP
    quoted = syn[:6] + bytes([60]) + syn[7:40] + options + syn[40:]
    wire.udp(MS, server, 0, client, 0, b"")
    wire.packets[-1] = replace(wire.packets[-1], proto=58, head=struct.pack("!BBHI", 1, 1, 0, 0) + quoted)
    wire.quiet(5 * SECOND)
    (row,) = (row for row in seen().to_dict("records") if row["proto"] == "tcp")
    assert (row["outcome"], row["icmp_code"], row["unreachable_frame"]) == ("unreachable", 1, 2)


def test_icmp_unreachable_belongs_to_the_echo_it_quotes(wire: Any, seen: Any) -> None:
    icmp(wire, 0, CLIENT, API, 8)
    quoted = wire.packets[0].ip()
    wire.udp(MS, "10.244.0.1", 0, CLIENT, 0, b"")
    wire.packets[-1] = replace(wire.packets[-1], proto=1, head=struct.pack("!BBHI", 3, 1, 0, 0) + quoted)
    rows = {(row["src"], row["dst"]): row for row in seen().to_dict("records")}
    assert rows[CLIENT, API]["icmp_code"] == 1
    assert pd.isna(rows["10.244.0.1", CLIENT]["icmp_code"])


def test_reset_by_the_client_before_an_answer_is_aborted(wire: Any, seen: Any) -> None:
    wire.silent(0, CLIENT, 40000, API, 81, tries=1)
    wire.tcp(200 * MS, CLIENT, 40000, API, 81, RST, 3001)
    (row,) = seen().to_dict("records")
    assert (row["conn_state"], row["outcome"], row["reset_by"], row["history"]) == ("RSTOS0", "aborted", "orig", "SR")


@pytest.mark.parametrize(("sender", "expected"), [(0, ("RSTO", "ShADR", "orig")), (1, ("RSTR", "ShADr", "resp"))])
def test_reset_of_an_open_connection(wire: Any, seen: Any, sender: int, expected: tuple[str, ...]) -> None:
    wire.http(0, CLIENT, 40000, API)
    wire.packets = wire.packets[:4]
    ends = [(CLIENT, 40000, API, 80), (API, 80, CLIENT, 40000)]
    wire.tcp(100 * MS, *ends[sender], RST, [1006, 5_001_001][sender])
    (row,) = seen().to_dict("records")
    assert (row["conn_state"], row["history"], row["reset_by"]) == expected
    assert row["outcome"] == "succeeded"


def test_reset_after_both_fins_changes_nothing(wire: Any, seen: Any) -> None:
    wire.http(0, CLIENT, 40000, API)
    wire.tcp(100 * MS, CLIENT, 40000, API, 80, RST, 1007)
    (row,) = seen().to_dict("records")
    assert (row["conn_state"], row["reset_by"]) == ("SF", "")


@pytest.mark.parametrize(("kept", "state"), [(3, "S1"), (7, "S2")])
def test_open_connections(wire: Any, seen: Any, kept: int, state: str) -> None:
    wire.http(0, CLIENT, 40000, API)
    wire.packets = wire.packets[:kept]
    (row,) = seen().to_dict("records")
    assert (row["conn_state"], row["outcome"]) == (state, "succeeded")


def test_a_connection_that_was_open_before_is_no_attempt(wire: Any, seen: Any) -> None:
    wire.http(0, CLIENT, 40000, API)
    wire.packets = wire.packets[4:6]  # the server's packets only: by its port, it is the responder
    (row,) = seen().to_dict("records")
    assert (row["src"], row["dst"]) == (CLIENT, API)
    assert (row["conn_state"], row["outcome"], row["history"], row["isn"]) == ("OTH", "", "^ad", -1)


def test_rtt_is_ambiguous_after_a_second_syn(wire: Any, seen: Any) -> None:
    wire.tcp(0, CLIENT, 40000, API, 80, SYN, 1000)
    wire.tcp(SECOND, CLIENT, 40000, API, 80, SYN, 1000)
    wire.tcp(SECOND + MS, API, 80, CLIENT, 40000, SYN | ACK, 9000, 1001)
    (row,) = seen().to_dict("records")
    assert row["outcome"] == "succeeded"
    assert pd.isna(row["rtt_ms"])


def test_retransmitted_data_is_counted_by_kind(wire: Any, seen: Any) -> None:
    wire.http(0, CLIENT, 40000, API)
    again = wire.packets[3]
    wire.packets = wire.packets[:4]
    wire.tcp(500 * MS, CLIENT, 40000, API, 80, ACK, 1001, 5_001_001, again.payload)
    (row,) = seen().to_dict("records")
    assert (row["retransmissions_plain"], row["retransmissions_fast"], row["retransmissions_spurious"]) == (1, 0, 0)
    assert row["history"] == "ShADT"


def test_udp_and_sctp_are_conversations_without_attempts(wire: Any, seen: Any) -> None:
    wire.udp(0, CLIENT, 40000, API, 9, b"ping")
    wire.udp(MS, API, 9, CLIENT, 40000, b"pong!")
    wire.udp(2 * MS, CLIENT, 40001, API, 9, b"alone")
    wire.sctp(3 * MS, CLIENT, 40002, API, 5000)
    rows = seen().to_dict("records")
    assert [(row["proto"], row["conn_state"], row["outcome"]) for row in rows] == [
        ("udp", "SF", ""),
        ("udp", "S0", ""),
        ("sctp", "OTH", ""),
    ]
    assert (rows[0]["orig_payload_bytes"], rows[0]["resp_payload_bytes"]) == (4, 5)


def test_no_packets_are_no_connections(seen: Any) -> None:
    assert seen(end=0).empty


def icmp(wire: Any, at: int, src: str, dst: str, kind: int, code: int = 0) -> None:
    body = struct.pack("!BBHHH", kind, code, 0, 1, 1)
    example = wire.udp(at, src, 0, dst, 0, b"")
    wire.packets[-1] = replace(example, proto=58 if ":" in src else 1, head=body)


@pytest.mark.parametrize(
    ("ends", "expected"),
    [  # the baseline of corelight/community-id-spec
        (("tcp", "128.232.110.120", 34855, "66.35.250.204", 80), "1:LQU9qZlK+B5F3KDmev6m5PMibrg="),
        (("udp", "192.168.1.52", 54585, "8.8.8.8", 53), "1:d/FP5EW3wiY1vCndhwleRRKHowQ="),
        (("sctp", "192.168.170.8", 7, "192.168.170.56", 80), "1:jQgCxbku+pNGw8WPbEc/TS/uTpQ="),
        (("icmp", "192.168.0.89", 8, "192.168.0.1", 0), "1:X0snYXpgwiv9TZtqg64sgzUn6Dk="),
    ],
)
@pytest.mark.parametrize("is_back", [False, True])
def test_community_id_is_the_specification_s(wire: Any, seen: Any, ends: Any, expected: str, is_back: bool) -> None:
    proto, *there = ends
    there = there[2:] + there[:2] if is_back else there
    match proto:
        case "tcp":
            wire.tcp(0, *there, ACK, 1)
        case "udp":
            wire.udp(0, *there, b"data")
        case "sctp":
            wire.sctp(0, *there)
        case _:
            icmp(wire, 0, there[0], there[2], there[1])
    assert list(seen()["community_id"]) == [expected]


@pytest.mark.parametrize(("ask", "answer", "addresses"), [(8, 0, (CLIENT, API)), (128, 129, ("fd00::2", "fd00::3"))])
@pytest.mark.parametrize("is_begun", [True, False], ids=["", "the answer alone"])
def test_an_echo_and_its_answer_are_one_connection(
    wire: Any, seen: Any, ask: int, answer: int, addresses: tuple[str, str], is_begun: bool
) -> None:
    client, server = addresses
    if is_begun:
        icmp(wire, 0, client, server, ask)
    icmp(wire, MS, server, client, answer)
    (row,) = seen().to_dict("records")
    assert (row["src"], row["src_port"], row["dst"], row["dst_port"]) == (client, ask, server, answer)
    assert (row["proto"], row["orig_packets"], row["resp_packets"], row["conn_state"]) == ("icmp", is_begun, 1, "OTH")
