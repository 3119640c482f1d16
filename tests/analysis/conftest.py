"""A small network on paper: packets of known conversations, written as the pcap files that their pods would capture."""

import ipaddress
import json
import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from analysis.analyse import analyse
from analysis.timestamps import rfc3339

START = 1_767_225_600_000_000_000  # 2026-01-01T00:00:00Z
SECOND = 1_000_000_000
MS = 1_000_000
FIN, SYN, RST, ACK = 1, 2, 4, 16
ETHER = bytes.fromhex("020000000001020000000002")
CLIENT, API, WEB, SERVICE, DNS = "10.244.0.2", "10.244.1.3", "10.244.1.4", "10.96.0.80", "10.96.0.10"


@dataclass(frozen=True)
class Packet:
    """One IP packet; `body` is what follows the IP header."""

    time: int
    src: str
    dst: str
    proto: int
    sport: int
    dport: int
    head: bytes  # the transport header after its ports
    payload: bytes = b""

    def ip(self) -> bytes:
        ports = b"" if self.proto in {1, 58} else struct.pack("!HH", self.sport, self.dport)
        body = ports + self.head + self.payload
        src, dst = ipaddress.ip_address(self.src), ipaddress.ip_address(self.dst)
        if src.version == 6:
            return struct.pack("!IHBB", 6 << 28, len(body), self.proto, 64) + src.packed + dst.packed + body
        head = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(body), 1, 0x4000, 64, self.proto, 0)
        return head + src.packed + dst.packed + body

    def frame(self) -> bytes:
        return ETHER + (b"\x86\xdd" if ":" in self.src else b"\x08\x00") + self.ip()


def write(path: Path, packets: Sequence[Packet], *, cut: int = 0) -> Path:
    """Write a pcap file with nanoseconds; `cut` leaves away that many bytes of its end."""
    data = struct.pack("<IHHiIII", 0xA1B23C4D, 2, 4, 0, 0, 262144, 1)
    for packet in packets:
        frame = packet.frame()
        data += struct.pack("<IIII", *divmod(packet.time, SECOND), len(frame), len(frame)) + frame
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data[: len(data) - cut])
    return path


@dataclass
class Wire:
    """Conversations, one after the other; every method says what truth it adds."""

    packets: list[Packet] = field(default_factory=list)

    def tcp(
        self,
        at: int,
        src: str,
        sport: int,
        dst: str,
        dport: int,
        flags: int,
        seq: int,
        ack: int = 0,
        data: bytes = b"",
        *,
        window: int = 64240,
    ) -> Packet:
        head = struct.pack("!IIBBHHH", seq % 2**32, ack % 2**32, 0x50, flags, window, 0, 0)
        packet = Packet(START + at, src, dst, 6, sport, dport, head, data)
        self.packets.append(packet)
        return packet

    def udp(self, at: int, src: str, sport: int, dst: str, dport: int, data: bytes) -> Packet:
        packet = Packet(START + at, src, dst, 17, sport, dport, struct.pack("!HH", 8 + len(data), 0), data)
        self.packets.append(packet)
        return packet

    def sctp(self, at: int, src: str, sport: int, dst: str, dport: int) -> None:
        """An INIT chunk that nobody answers."""
        chunk = struct.pack("!BBHIIHHI", 1, 0, 20, 1, 65536, 1, 1, 1)
        self.packets.append(Packet(START + at, src, dst, 132, sport, dport, struct.pack("!II", 0, 0) + chunk))

    def http(
        self, at: int, client: str, port: int, server: str, dport: int = 80, *, isn: int = 1000, rtt: int = 2 * MS
    ) -> None:
        """S F: SYN, SYN-ACK after `rtt`, 5 bytes up, 9 bytes down, both FINs: 8 packets, ShADadFf."""
        up, down = (client, port, server, dport), (server, dport, client, port)
        there = isn + 5_000_000
        self.tcp(at, *up, SYN, isn)
        self.tcp(at + rtt, *down, SYN | ACK, there, isn + 1)
        self.tcp(at + rtt + MS, *up, ACK, isn + 1, there + 1)
        self.tcp(at + rtt + 2 * MS, *up, ACK, isn + 1, there + 1, b"hello")
        self.tcp(at + rtt + 3 * MS, *down, ACK, there + 1, isn + 6)
        self.tcp(at + rtt + 4 * MS, *down, ACK, there + 1, isn + 6, b"hi, there")
        self.tcp(at + rtt + 5 * MS, *up, FIN | ACK, isn + 6, there + 10)
        self.tcp(at + rtt + 6 * MS, *down, FIN | ACK, there + 10, isn + 7)

    def refused(
        self, at: int, client: str, port: int, server: str, dport: int, *, isn: int = 2000, tries: int = 1
    ) -> None:
        """REJ: every SYN, with the same ISN, answered by a reset."""
        for n in range(tries):
            self.tcp(at + n * SECOND, client, port, server, dport, SYN, isn)
            self.tcp(at + n * SECOND + MS, server, dport, client, port, RST | ACK, 0, isn + 1)

    def silent(
        self, at: int, client: str, port: int, server: str, dport: int, *, isn: int = 3000, tries: int = 3
    ) -> None:
        """S0: SYNs after 0, 1, 3, 7 .. s, never answered."""
        for n in range(tries):
            self.tcp(at + (2**n - 1) * SECOND, client, port, server, dport, SYN, isn)

    def unreachable(
        self,
        at: int,
        client: str,
        port: int,
        server: str,
        dport: int,
        *,
        code: int = 13,
        isn: int = 4000,
        quoted: int = 20,
    ) -> None:
        """S0, and an ICMP (or ICMPv6) unreachable that quotes its SYN: that many bytes of its TCP header."""
        syn = self.tcp(at, client, port, server, dport, SYN, isn)
        v6 = ":" in client
        message = struct.pack("!BBHI", 1 if v6 else 3, code, 0, 0) + syn.ip()[: (40 if v6 else 20) + quoted]
        self.packets.append(Packet(START + at + MS, server, client, 58 if v6 else 1, 0, 0, message))

    def lookup(
        self, at: int, client: str, port: int, name: str, rcode: int | None = 0, *, number: int = 7, server: str = DNS
    ) -> None:
        """Ask for an A record; answered after 3 ms, unless rcode is None."""
        labels = b"".join(bytes([len(label)]) + label.encode() for label in name.split("."))
        question = labels + b"\0" + struct.pack("!HH", 1, 1)
        self.udp(at, client, port, server, 53, struct.pack("!HHHHHH", number, 0x0100, 1, 0, 0, 0) + question)
        if rcode is not None:
            answer = b"" if rcode else b"\xc0\x0c" + struct.pack("!HHIH", 1, 1, 30, 4) + bytes([10, 0, 0, 1])
            head = struct.pack("!HHHHHH", number, 0x8180 | rcode, 1, 0 if rcode else 1, 0, 0)
            self.udp(at + 3 * MS, server, 53, client, port, head + question + answer)

    def quiet(self, at: int) -> None:
        """Let time pass: a packet that is no attempt, so that what came before is decided."""
        self.udp(at, CLIENT, 40000, "10.244.9.9", 9999, b"tick")

    def seen_at(self, *addresses: str) -> list[Packet]:
        """Give the packets that these addresses send or receive, in order of time."""
        seen = [packet for packet in self.packets if packet.src in addresses or packet.dst in addresses]
        return sorted(seen, key=lambda packet: packet.time)


def translated(
    packets: Sequence[Packet], old: str, old_port: int, new: str, new_port: int, delay: int = MS // 2
) -> list[Packet]:
    """Give what the server's pod sees of connections to a service: the other address and port, a little later."""
    seen = []
    for packet in packets:
        changed = replace(packet, time=packet.time + delay)
        if (packet.dst, packet.dport) == (old, old_port):
            seen.append(replace(changed, dst=new, dport=new_port))
        elif (packet.src, packet.sport) == (old, old_port):
            seen.append(replace(changed, src=new, sport=new_port))
    return seen


def masqueraded(packets: Sequence[Packet], old: str, new: str, delay: int = MS // 2) -> list[Packet]:
    """Give what a server sees of connections whose client's address and port are translated on the way."""
    seen = []
    for packet in packets:
        changed = replace(packet, time=packet.time + delay)
        if packet.src == old:
            seen.append(replace(changed, src=new, sport=packet.sport - 7000))
        elif packet.dst == old:
            seen.append(replace(changed, dst=new, dport=packet.dport - 7000))
    return seen


NODES = {"node-1": "172.18.0.2", "node-2": "172.18.0.3"}


def target(pod: str, address: str, node: str = "node-1") -> dict[str, Any]:
    uid = str(sha256(pod.encode()).hexdigest())
    return {
        "namespace": "demo",
        "pod": pod,
        "uid": f"{uid[:8]}-{uid[8:12]}-4000-8000-{uid[12:24]}",
        "node": node,
        "addresses": [address],
        "node_addresses": [NODES[node]],
        "owner": "",
        "labels": {"app": pod},
    }


PODS = {"client": target("client", CLIENT), "api": target("api", API, "node-2"), "web": target("web", WEB, "node-2")}


@dataclass
class Store:
    """A campaign as it lies in the object store."""

    root: Path

    def plan(self, *pods: str, left_out: Sequence[Mapping[str, str]] = (), **asked: Any) -> None:
        plan = {
            "schema": "snoopy.plan/v1",
            "campaign": "demo-1",
            "namespace": "snoopy-operator",
            "submitted": rfc3339(START - 5 * SECOND),
            "input": {"namespaces": ["demo"], "selector": "app", "duration": "30s", **asked},
            "targets": [PODS[pod] for pod in pods],
            "left_out": list(left_out),
            "services": [
                {
                    "namespace": "demo",
                    "name": "web",
                    "addresses": [SERVICE],
                    "ports": [80],
                    "endpoints": [{"address": WEB, "pod": "web"}],
                },
                {"namespace": "kube-system", "name": "kube-dns", "addresses": [DNS], "ports": [53], "endpoints": []},
            ],
        }
        path = self.root / "reports/snoopy-operator/demo-1/plan.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(plan))

    def capture(self, pod: str, *chunks: Sequence[Packet], interface: str = "eth0", **record: Any) -> Path:
        """Write a capture's chunks and its record, of which `record` replaces parts.

        The pod that captures was told its target's name, UID and node, and knows no more of it.
        """
        told = {key: PODS[pod][key] for key in ("namespace", "pod", "uid", "node")}
        about = {**told, "addresses": [], "node_addresses": [], "owner": "", "labels": {}}
        folder = self.root / f"pcaps/snoopy-operator/demo-1/demo_{pod}_{about['uid'][:8]}_{interface}"
        folder.mkdir(parents=True, exist_ok=True)
        files = []
        for number, packets in enumerate(chunks, 1):
            path = write(folder / f"{number:06}.pcap", packets)
            digest = sha256(path.read_bytes()).hexdigest()
            files.append({"name": path.name, "sha256": digest, "bytes": path.stat().st_size, "packets": len(packets)})
        content = {
            "schema": "snoopy.capture/v1",
            "target": about,
            "interface": interface,
            "tool": "tcpdump",
            "arguments": [],
            "outcome": "captured" if any(chunks) else "no_traffic",
            "reason": "",
            "files": files,
            "packets": sum(map(len, chunks)),
            "listening": rfc3339(START - SECOND),
            "ended": rfc3339(START + 30 * SECOND),
            "kernel_dropped": 0,
            "interface_dropped": 0,
        }
        (folder / "capture.json").write_text(json.dumps(content | record))
        return folder


@pytest.fixture(name="write")
def writer() -> Callable[..., Path]:
    return write


@pytest.fixture(name="translated")
def translator() -> Callable[..., list[Packet]]:
    return translated


@pytest.fixture(name="masqueraded")
def masquerade() -> Callable[..., list[Packet]]:
    return masqueraded


@pytest.fixture
def report(store: "Store", tmp_path: Path) -> Callable[..., dict[str, Any]]:
    return lambda **options: analyse([store.root], tmp_path / "out", **options)


@pytest.fixture
def wire() -> Wire:
    return Wire()


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")
