"""Handshakes that OpenSSL made in this process, put into TCP segments: what is said of them, and of those that fail."""

import ssl
import subprocess
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from analysis import tls
from analysis.dissect import table
from tests.analysis.dialogue import MS, SECOND, Dialogue, client_hello, pcap, tables

VERSIONS = {  # and the only cipher that is to be agreed on, as OpenSSL and as the RFCs call it
    "TLS 1.0": (ssl.TLSVersion.TLSv1, "ECDHE-RSA-AES128-SHA", "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA"),
    "TLS 1.1": (ssl.TLSVersion.TLSv1_1, "ECDHE-RSA-AES256-SHA", "TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA"),
    "TLS 1.2": (ssl.TLSVersion.TLSv1_2, "ECDHE-RSA-CHACHA20-POLY1305", "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256"),
    "TLS 1.3": (ssl.TLSVersion.TLSv1_3, "ALL", "TLS_AES_256_GCM_SHA384"),
}
NAME = "shop.example.com"

pytestmark = pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a key and a certificate for NAME, signed by itself."""
    folder = tmp_path_factory.mktemp("tls")
    key, signed, both = (folder / name for name in ("key.pem", "certificate.pem", "both.pem"))
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", f"/CN={NAME}"]
    command += ["-addext", f"subjectAltName=DNS:{NAME}", "-keyout", str(key), "-out", str(signed)]
    subprocess.run(command, check=True, capture_output=True)
    both.write_text(key.read_text() + signed.read_text())
    return both


class Peers:
    """A client and a server of TLS in this process; `curve` is the only one that the server accepts."""

    def __init__(self, certificate: Path, version: str, *, trusted: bool = True, curve: str = "") -> None:
        limit, cipher, _ = VERSIONS[version]
        client, server = ssl.create_default_context(), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        server.load_cert_chain(certificate)
        server.minimum_version = ssl.TLSVersion.TLSv1
        client.minimum_version = client.maximum_version = limit
        if trusted:
            client.load_verify_locations(certificate)
        if curve:
            server.set_ecdh_curve(curve)
        for context in (client, server):
            context.set_ciphers(f"{cipher}:@SECLEVEL=0")
            context.set_alpn_protocols(["h2", "http/1.1"] if context is client else ["http/1.1"])
        inward, outward, there, back = self.pipes = [ssl.MemoryBIO() for _ in range(4)]
        self.client = client.wrap_bio(inward, outward, server_hostname=NAME)
        self.server = server.wrap_bio(there, back, server_side=True)

    def step(self, *, from_client: bool) -> bytes:
        """Let one side go on with its handshake, and give what it sends."""
        inward, outward, there, back = self.pipes
        with suppress(ssl.SSLError):  # it wants to hear more, or refuses: what it sends says so
            (self.client if from_client else self.server).do_handshake()
        sent = (outward if from_client else back).read()
        (there if from_client else inward).write(sent)
        return sent

    def talk(self, dialogue: Dialogue, steps: int = 4, size: int = 1400) -> None:
        """Put the handshake's first steps on the wire."""
        for number in range(steps):
            side = number % 2 == 0
            dialogue.say(self.step(from_client=side), from_client=side, size=size)

    def data(self) -> bytes:
        """Give what a client sends with the new keys."""
        self.client.write(b"a secret")
        return self.pipes[1].read()


@pytest.fixture
def look(wire: Any, tmp_path: Path) -> Callable[..., list[dict[str, Any]]]:
    def handshakes(snaplen: int = 262144, end: int | None = None) -> list[dict[str, Any]]:
        found = tables(pcap(tmp_path / "a.pcap", wire.packets, snaplen), tmp_path, end)
        assert found.messages.problems == ()
        return found.handshakes.to_dict("records")

    return handshakes


def outcome(row: dict[str, Any]) -> tuple[str, str, str]:
    return row["outcome"], row["alert"], row["alert_by"]


@pytest.mark.parametrize("size", [1400, 90], ids=["whole", "in small segments"])
@pytest.mark.parametrize("version", VERSIONS)
def test_a_completed_handshake(wire: Any, look: Any, certificate: Path, version: str, size: int) -> None:
    dialogue = Dialogue(wire, 443)
    peers = Peers(certificate, version)
    ends = []
    for number in range(4):
        side = number % 2 == 0
        ends += dialogue.say(peers.step(from_client=side), from_client=side, size=size)[-1:]
    hello, answer, client_done, server_done = ends[0], ends[1], ends[2], (ends[3:] or ends[2:])[-1]
    (row,) = look()
    done = client_done if version == "TLS 1.3" else server_done
    assert (row["version"], row["cipher"]) == (version, VERSIONS[version][2])
    assert (row["sni"], row["alpn"]) == (NAME, "h2" if version == "TLS 1.3" else "http/1.1")
    assert outcome(row) == ("completed", "", "")
    assert (row["client"], row["client_port"], row["server_port"]) == ("10.244.0.2", 40000, 443)
    assert (row["started"], row["frame"]) == (hello.time, wire.packets.index(hello) + 1)
    proof = wire.packets[row["proof"] - 1]  # of small segments, the one that ends ChangeCipherSpec
    assert proof is done or (size < len(done.payload) + len(proof.payload) and proof.sport == done.sport)
    assert row["handshake_ms"] == (proof.time - hello.time) / MS
    assert 0 < row["hello_ms"] <= (answer.time - hello.time) / MS


@pytest.mark.parametrize("version", ["TLS 1.2", "TLS 1.3"])
def test_a_certificate_that_the_client_refuses(wire: Any, look: Any, certificate: Path, version: str) -> None:
    Peers(certificate, version, trusted=False).talk(Dialogue(wire, 443))
    (row,) = look()
    assert outcome(row) == ("alerted", "unknown_ca", "client")
    assert (row["version"], row["proof"]) == (version, len(wire.packets))
    assert pd.isna(row["handshake_ms"])


def test_a_version_that_the_server_refuses(wire: Any, look: Any, certificate: Path) -> None:
    peers = Peers(certificate, "TLS 1.1")
    peers.server.context.minimum_version = ssl.TLSVersion.TLSv1_2
    peers.server = peers.server.context.wrap_bio(*peers.pipes[2:], server_side=True)
    peers.talk(Dialogue(wire, 443), steps=2)
    (row,) = look()
    assert outcome(row) == ("alerted", "protocol_version", "server")
    assert (row["version"], row["cipher"], row["proof"]) == ("", "", 4)
    assert pd.isna(row["hello_ms"])


def test_an_encrypted_alert_is_no_finished(wire: Any, look: Any, certificate: Path) -> None:
    dialogue = Dialogue(wire, 443)
    Peers(certificate, "TLS 1.3").talk(dialogue, steps=2)
    dialogue.ask(bytes.fromhex("1403030001011703030013") + bytes(19))
    (row,) = look()
    assert outcome(row) == ("alerted", "", "client")
    assert row["proof"] == len(wire.packets)


@pytest.mark.parametrize("steps", [1, 2], ids=["after the client's hello", "after the server's"])
def test_one_that_stops(wire: Any, look: Any, certificate: Path, steps: int) -> None:
    Peers(certificate, "TLS 1.2").talk(Dialogue(wire, 443), steps)
    last = wire.packets[-1].time
    ((row,), (later,)) = look(end=last + SECOND - MS), look(end=last + SECOND)
    assert (outcome(row), outcome(later)) == (("undecided", "", ""), ("unanswered", "", ""))
    assert (row["version"], row["frame"], row["proof"]) == ("TLS 1.2" if steps > 1 else "", 3, len(wire.packets))


def test_a_hello_sent_again_is_one_handshake(wire: Any, look: Any, certificate: Path) -> None:
    dialogue = Dialogue(wire, 443)
    peers = Peers(certificate, "TLS 1.3")
    hello = peers.step(from_client=True)
    for again in range(2):
        wire.tcp((10 + again) * MS, *dialogue.ends, 16, 1001, 5_001_001, hello)
    dialogue.sequence[True] += len(hello)
    dialogue.at = 20 * MS
    for side in (False, True):
        dialogue.say(peers.step(from_client=side), from_client=side)
    (row,) = look()
    assert (row["outcome"], row["frame"], row["started"]) == ("completed", 3, wire.packets[2].time)


def test_a_retried_hello_counts_from_the_first(wire: Any, look: Any, certificate: Path) -> None:
    peers = Peers(certificate, "TLS 1.3", curve="secp521r1")
    peers.talk(Dialogue(wire, 443), steps=6, size=9000)  # the hello of OpenSSL 3.5 is longer than a usual segment
    (row,) = look()
    assert (row["outcome"], row["version"]) == ("completed", "TLS 1.3")
    assert (row["hello_ms"], row["frame"]) == (1.0, 3)
    assert row["handshake_ms"] == (wire.packets[row["proof"] - 1].time - wire.packets[2].time) / MS
    assert wire.packets[row["proof"] - 1].sport == 40000


def test_a_second_connection_from_the_same_port(wire: Any, look: Any, certificate: Path) -> None:
    for number, isn in enumerate((9_000_000, 1000)):
        Peers(certificate, "TLS 1.3").talk(Dialogue(wire, 443, at=number * SECOND, isn=isn))
    assert [(row["connection"], row["outcome"]) for row in look()] == [(0, "completed"), (1, "completed")]


@pytest.mark.parametrize(("snaplen", "expected"), [(60, []), (300, ["completed"])], ids=["the hello", "the rest"])
def test_packets_that_were_cut(wire: Any, look: Any, certificate: Path, snaplen: int, expected: list[str]) -> None:
    dialogue = Dialogue(wire, 443)
    peers = Peers(certificate, "TLS 1.2")
    peers.talk(dialogue)
    dialogue.ask(peers.data())
    assert [row["outcome"] for row in look(snaplen)] == expected  # Wireshark 4.0 reads no half hello, 4.4 does


def test_only_one_direction_was_captured(wire: Any, look: Any, certificate: Path) -> None:
    Peers(certificate, "TLS 1.2").talk(Dialogue(wire, 443))
    wire.packets = [packet for packet in wire.packets if packet.dport == 443]
    (row,) = look()
    assert (row["outcome"], row["version"], row["sni"]) == ("undecided", "", NAME)


@pytest.mark.parametrize(
    ("sent", "said"),
    [
        ("\x1b[31mred", r"\x1b[31mred"),
        ("\x7f\x00\x08", r"\x7f"),  # Wireshark ends a text at NUL
        ("good.example\x1fevil", r"good.example\x1fevil"),
        ("good.example\fevil", r"good.example\fevil"),
        ("good.example\tevil\nevil", r"good.example\tevil\nevil"),
    ],
)
def test_a_name_that_would_control_a_terminal(wire: Any, look: Any, sent: str, said: str) -> None:
    Dialogue(wire, 443).ask(client_hello(sent))
    assert [row["sni"] for row in look()] == [said]


@pytest.mark.parametrize(
    ("number", "expected"), [("0x0300", "SSL 3.0"), ("0x7f17", "TLS 1.3 draft 23"), ("0x0304", "TLS 1.3"), ("0", "")]
)
def test_versions(number: str, expected: str) -> None:
    values = ["22", "", "90", "2", "0x0303", number, "", "", "", ""]
    assert list(tls.messages(values)) == [("server_hello", expected, "", "", "", "")]


@pytest.mark.parametrize(
    ("numbers", "expected"),
    [
        ("0x1301", "TLS_AES_128_GCM_SHA256"),
        ("4865", "TLS_AES_128_GCM_SHA256"),
        ("0x1301\x1f0xc02f", "TLS_AES_128_GCM_SHA256,TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256"),
        ("0x0a0a", "Reserved (GREASE)"),
        ("0xdead", "0xdead"),
        ("", ""),
    ],
)
def test_ciphers(numbers: str, expected: str) -> None:
    values = ["22", "", "90", "2", "0x0303", "", "", "", numbers, ""]
    assert list(tls.messages(values)) == [("server_hello", "TLS 1.2", expected, "", "", "")]


@pytest.mark.parametrize(
    ("numbers", "expected"),
    [
        ("40", ["handshake_failure"]),
        ("0x28", ["handshake_failure"]),
        ("70\x1f0", ["protocol_version", "close_notify"]),
        ("200", ["200"]),
        ("", []),
    ],
)
def test_alerts(numbers: str, expected: list[str]) -> None:
    values = ["21", "", "2", "", "", "", "", "", "", numbers]
    assert list(tls.messages(values)) == [("alert", "", "", "", "", name) for name in expected]


def test_no_messages_are_no_handshakes() -> None:
    assert list(tls.handshakes(table("tls", ()), 0)) == list(tls.HANDSHAKE)
