"""The messages in selected packets: none is lost, doubled or put to another connection, and Wireshark may fail."""

import os
import struct
import subprocess
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from analysis import tshark
from analysis.dissect import dissect
from analysis.dns import RCODES
from analysis.packets import Reading, read
from analysis.tls import HELLOS
from tests.analysis.dialogue import MS, SECOND, Dialogue, Tables, client_hello, pcap, replace_tshark, tables

PCAPS = Path(os.environ.get("SNOOPY_PCAPS", "../shared/pcaps"))
CAPTURES = (
    *("mercury/emix.pcap", "ndpi/alexa-app.pcapng", "ndpi/dns_ambiguous_names.pcap", "ndpi/weibo.pcap"),
    *("nfstream/webex.pcap", "pcapplusplus/example2.pcap", "pcapplusplus/many_interfaces-1.pcapng"),
    *("suricata/http-mime-truncated_input.pcap", "suricata/http2-range.pcap", "suricata/vxlan.pcap"),
    *("suricata/tls-alpn-log-detect-02_input.pcap", "suricata/tls_DER-incomplete-content.pcap"),
    *("zeek/206_example_b.pcap", "zeek/encrypted.pcap", "zeek/handshake-reorder.pcap", "zeek/wikipedia.pcap"),
    *("zeek/pppoe-over-qinq.pcap", "zeek/geneve-vxlan-dns-truncated.pcap", "zeek/missing-syn.pcap"),
)
WHOLE = (
    "http.desegment_headers:FALSE",
    "http.desegment_body:FALSE",
    "ip.defragment:FALSE",
)  # a message where it begins
GET = b"GET / HTTP/1.1\r\nHost: shop.example.com\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"


@pytest.fixture
def look(wire: Any, tmp_path: Path) -> Callable[[], Tables]:
    return lambda: tables(pcap(tmp_path / "a.pcap", wire.packets), tmp_path)


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    return lambda script: replace_tshark(tmp_path, monkeypatch, script)


def test_messages_say_where_they_are_from(wire: Any, look: Any) -> None:
    wire.quiet(0)
    dialogue = Dialogue(wire, 8080, at=MS, client="fd00::2", server="fd00::3")
    (asked,) = dialogue.ask(GET)
    wire.lookup(10 * MS, "10.244.0.2", 50000, "a.example.com")
    found = look().messages
    row = found.http.iloc[0].to_dict()
    assert (row["time"], row["frame"], row["connection"], row["transport"]) == (asked.time, 4, 1, "tcp")
    assert (row["src"], row["src_port"], row["dst"], row["dst_port"]) == ("fd00::2", 40000, "fd00::3", 8080)
    assert list(found.dns["frame"]) == [5, 6]
    assert list(found.dns["connection"]) == [2, 2]
    assert list(found.dns["src"]) == ["10.244.0.2", "10.96.0.10"]
    assert (found.problems, found.until) == ((), None)


@pytest.mark.parametrize("port", [443, 80, 9000])
def test_different_applications_on_one_port(wire: Any, look: Any, port: int) -> None:
    preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes.fromhex("000000040000000000")
    for number, first in enumerate((GET, client_hello("shop.example.com"), preface)):
        dialogue = Dialogue(wire, port, port=40000 + number, at=number * SECOND)
        dialogue.ask(first)
        if first == GET:
            dialogue.answer(OK)
    dialogue.ask(bytes.fromhex("000003010500000001828684"))  # HEADERS: GET http /
    dialogue.answer(bytes.fromhex("00000101050000000189"))  # :status 204
    found = look()
    assert list(found.requests["version"]) == ["1.1", "2"]
    assert list(found.requests["status"]) == [200, 204]
    assert list(found.handshakes["sni"]) == ["shop.example.com"]


def test_headers_before_tcp(wire: Any, look: Any) -> None:
    dialogue = Dialogue(wire, 9000, client="fd00::2", server="fd00::3")
    (asked,) = dialogue.ask(GET)
    options = b"\1\4" + bytes(4)  # what a header of hop-by-hop options may hold, RFC 8200: PadN
    ports = struct.pack("!HH", asked.sport, asked.dport)
    first, second = struct.unpack("!HH", bytes([6, 0]) + options[:2])
    wire.packets[-1] = replace(asked, proto=0, sport=first, dport=second, head=options[2:] + ports + asked.head)
    (row,) = look().messages.http.to_dict("records")
    assert (row["kind"], row["src_port"], row["dst_port"]) == ("request", 40000, 9000)


def test_tshark_that_stops(wire: Any, look: Any, program: Any) -> None:
    for number in range(5):
        wire.lookup(number * 4 * SECOND, "10.244.0.2", 50000 + number, f"{number}.example.com", None)
    program('REAL "$@" | head -n 3; echo "tshark: it broke" >&2; exit 3')
    found = look()
    assert found.messages.problems == (
        "not all of its DNS, TLS and HTTP messages could be read: tshark ended with 3: it broke",
    )
    assert list(found.messages.dns["name"]) == [f"{number}.example.com" for number in range(3)]
    assert found.messages.until == wire.packets[2].time


def test_tshark_that_is_killed_in_the_middle_of_a_line(wire: Any, look: Any, program: Any) -> None:
    for number in range(2):
        wire.lookup(number * SECOND, "10.244.0.2", 50000 + number, "a.example.com", None)
    program('REAL "$@" | head -c -30; kill -KILL $$')
    found = look()
    assert found.messages.problems[0].endswith(": tshark was killed by signal 9")
    assert len(found.messages.dns) == 1


def test_without_tshark(wire: Any, look: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wire.lookup(0, "10.244.0.2", 50000, "a.example.com")
    wire.http(SECOND, "10.244.0.2", 40000, "10.244.1.3")
    monkeypatch.setenv("PATH", str(tmp_path))
    found = look()
    assert [problem.rpartition(": ")[2] for problem in found.messages.problems] == [
        "tshark, Wireshark's command line, is not installed here"
    ]
    assert len(found.packets.connections["dst_port"]) == 2
    assert found.lookups.empty
    tshark.version.cache_clear()
    with pytest.raises(tshark.StoppedError, match="is not installed here"):
        tshark.version()


def test_the_version_is_what_tshark_says(program: Any) -> None:
    program("echo 'TShark (Wireshark) 4.2.10 (Git v4.2.10).'")
    tshark.version.cache_clear()
    assert tshark.version() == "4.2.10"
    tshark.version.cache_clear()


def test_nothing_selected_needs_no_tshark(wire: Any, look: Any, program: Any) -> None:
    wire.quiet(0)
    program("exit 9")
    found = look().messages
    assert (len(found.dns), len(found.tls), len(found.http), found.problems) == (0, 0, 0, ())


def test_too_many_packets(wire: Any, tmp_path: Path) -> None:
    for number in range(5):
        wire.lookup(number * SECOND, "10.244.0.2", 50000, f"{number}.example.com", None)
    file = pcap(tmp_path / "a.pcap", wire.packets)
    reading = Reading(most_selected=3)
    found = dissect(read([file.name], tmp_path, reading=reading, select=tmp_path / "selected.pcap"))
    assert found.problems == ()
    assert found.until == wire.packets[2].time
    assert len(found.dns) == 3


def oracle(path: Path, wanted: str, *names: str) -> list[list[list[str]]]:
    """Ask tshark for the values of fields in the packets of a whole file that match a filter."""
    command = ["tshark", "-n", "-r", path, "-Y", wanted, "-T", "fields", "-E", "occurrence=a", "-E", "aggregator=\x1f"]
    command += [word for preference in WHOLE for word in ("-o", preference)]
    command += [word for name in names for word in ("-e", name)]
    output = subprocess.run(command, capture_output=True, text=True, check=False).stdout  # some files end early
    return [[value.split("\x1f") if value else [] for value in line.split("\t")] for line in output.splitlines()]


def named(codes: list[str]) -> list[str]:
    return [RCODES[int(code)] for code in codes]


@pytest.mark.skipif(not PCAPS.is_dir(), reason="SNOOPY_PCAPS names no folder of captures")
@pytest.mark.parametrize("name", CAPTURES)
def test_as_tshark_finds_them_in_the_whole_file(name: str, tmp_path: Path) -> None:
    found = tables(PCAPS / name, tmp_path).messages
    theirs: list[tuple[int, str, str]] = []
    is_lookup = "dns.qry.name && dns.flags.opcode == 0 && (udp.port == 53 || tcp.port == 53) && !icmp"
    for (frame,), names, codes in oracle(PCAPS / name, is_lookup, "frame.number", "dns.qry.name", "dns.flags.rcode"):
        theirs += [(int(frame), names[0].lower(), *(named(codes) or [""]))]
    fields = ("frame.number", "tls.handshake.type", "tls.handshake.extensions_server_name")
    for (frame,), kinds, names in oracle(PCAPS / name, "tcp && tls.handshake.type in {1, 2}", *fields):
        theirs += [(int(frame), HELLOS[kind], (names or [""])[0]) for kind in kinds if kind in HELLOS]
    fields = ("frame.number", "http.request.method", "http.request.uri", "http.response.code")
    for (frame,), methods, uris, codes in oracle(PCAPS / name, "tcp && http", *fields):
        pairs = zip(methods, uris, strict=bool(methods))  # since 4.4 a response has its request's URI
        theirs += [(int(frame), method, uri.partition("?")[0]) for method, uri in pairs]
        theirs += [(int(frame), "response", code) for code in codes]
    ours = list(found.dns[["frame", "name", "rcode"]].itertuples(index=False, name=None))
    hellos = found.tls[found.tls["kind"].isin(HELLOS.values())]
    ours += hellos[["frame", "kind", "sni"]].itertuples(index=False, name=None)
    heads = found.http[found.http["version"].isin(["1.0", "1.1", ""])]
    requests, responses = (heads[heads["kind"] == kind] for kind in ("request", "response"))
    ours += requests[["frame", "method", "path"]].itertuples(index=False, name=None)
    ours += [(row.frame, "response", str(row.status)) for row in responses.itertuples()]
    assert found.problems == ()
    assert Counter(ours) == Counter(theirs)
    assert ours


@pytest.mark.skipif(not PCAPS.is_dir(), reason="SNOOPY_PCAPS names no folder of captures")
@pytest.mark.parametrize("name", ["suricata/app-layer-protocol-exact_input.pcap", "suricata/http2-range.pcap"])
def test_http2_as_tshark_finds_it_in_the_whole_file(name: str, tmp_path: Path) -> None:
    fields = ("frame.number", "http2.headers.method", "http2.headers.path", "http2.headers.status")
    theirs: list[tuple[int, str, int]] = []
    for (frame,), methods, paths, codes in oracle(PCAPS / name, "http2.header", *fields):
        theirs += [(int(frame), path.partition("?")[0], 0) for _, path in zip(methods, paths, strict=True)]
        theirs += [(int(frame), "", int(code)) for code in codes]
    found = tables(PCAPS / name, tmp_path).messages.http
    heads = found[(found["version"] == "2") & (found["kind"] != "segment")]
    assert Counter(heads[["frame", "path", "status"]].itertuples(index=False, name=None)) == Counter(theirs)
    assert theirs
