"""A wire whose truth is known because its traffic is made up here: conversations, packet by packet."""

import ipaddress
import random
import struct
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

SECOND, MS = 10**9, 10**6
START = 1_767_225_600 * SECOND  # 2026-01-01T00:00:00Z
FIN, SYN, RST, PSH, ACK = 1, 2, 4, 8, 16
MSS, WINDOW = 1448, 64240
ROUTER = {4: "10.0.255.254", 6: "fd00::ffff:fffe"}


@dataclass(eq=False)
class Row:
    """The truth of one row of the connection table; spans go from packet to packet, timed as the file tells time."""

    proto: str
    src: str
    src_port: int
    dst: str
    dst_port: int
    isn: int = -1
    resp_isn: int = -1
    conn_state: str = "OTH"
    outcome: str = ""
    history: str = ""
    reset_by: str = ""
    icmp_code: int | None = None
    mtu: int | None = None
    counts: Counter[str] = field(default_factory=Counter)
    spans: dict[str, list[tuple["Packet", "Packet"]]] = field(default_factory=lambda: defaultdict(list))
    packets: list["Packet"] = field(default_factory=list)


@dataclass(eq=False)
class Packet:
    """What one side sent: an IP packet with a payload of that many bytes; `up` is towards the responder."""

    time: int
    ip: bytes
    row: Row
    up: bool
    payload: int


def ip_packet(src: str, dst: str, proto: int, body: bytes) -> bytes:
    """Put an IP header before it, without a checksum: as interfaces that add it later have captures look."""
    one, other = ipaddress.ip_address(src).packed, ipaddress.ip_address(dst).packed
    if len(one) == 16:
        return struct.pack("!IHBB", 6 << 28, len(body), proto, 64) + one + other + body
    return struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(body), 1, 0x4000, 64, proto, 0) + one + other + body


class Traffic:
    """A wire, and the truth of what went over it."""

    def __init__(self, seed: int, versions: Sequence[int] = (4, 6)) -> None:
        self.random = random.Random(seed)
        self.versions, self.rows, self.packets = versions, list[Row](), list[Packet]()

    def row(self, proto: str, port: int, **options: Any) -> Row:
        """Open a conversation between two hosts that have no other."""
        number = len(self.rows)
        version = self.versions[0] if self.random.random() < 0.9 else self.versions[-1]
        version = options.pop("version", version)
        client, server = (f"10.0.{number % 50000 // 200}.{number % 200 + 1}", f"10.0.254.{number % 7 + 1}")
        if version == 6:
            client, server = f"fd00::1:{number % 50000 + 1:x}", f"fd00::2:{number % 7 + 1}"
        return self.add(Row(proto, client, 32768 + number % 28000, server, port, **options))

    def add(self, row: Row) -> Row:
        self.rows.append(row)
        return row

    def send(self, row: Row, up: bool, at: int, proto: int, body: bytes, payload: int) -> Packet:
        """Send the body of an IP packet, and count it."""
        src, dst = (row.src, row.dst) if up else (row.dst, row.src)
        packet = Packet(at, ip_packet(src, dst, proto, body), row, up, payload)
        end = "orig" if up else "resp"
        row.counts.update({f"{end}_packets": 1, f"{end}_bytes": len(packet.ip), f"{end}_payload_bytes": payload})
        row.packets.append(packet)
        self.packets.append(packet)
        return packet

    def udp(self, row: Row, up: bool, at: int, data: bytes) -> Packet:
        ports = (row.src_port, row.dst_port) if up else (row.dst_port, row.src_port)
        return self.send(row, up, at, 17, struct.pack("!HHHH", *ports, 8 + len(data), 0) + data, len(data))

    def icmp(self, row: Row, up: bool, at: int, kind: int, code: int, rest: int, data: bytes) -> Packet:
        version = 58 if ":" in row.src else 1
        return self.send(row, up, at, version, struct.pack("!BBHI", kind, code, 0, rest) + data, len(data))

    def complain(self, about: Packet, at: int, kinds: tuple[int, int], codes: tuple[int, int], mtu: int = 0) -> int:
        """Let the router quote a packet in an ICMP or ICMPv6 message to its sender, in a row of its own."""
        six = ":" in about.row.src
        kind, code = kinds[six], codes[six]
        row = self.add(Row("icmp", ROUTER[6 if six else 4], kind, about.row.src, code))
        self.icmp(row, True, at, kind, code, mtu, about.ip[: 40 + 24 if six else 20 + 8])
        return code

    def in_order(self) -> list[Packet]:
        return sorted(self.packets, key=lambda packet: packet.time)


class Tcp:
    """One TCP connection: every method sends packets, and adds to the truth what they mean."""

    def __init__(self, wire: Traffic, at: int, port: int = 8443, **options: Any) -> None:
        self.wire, self.at = wire, at
        isn, other = wire.random.randrange(2**32), wire.random.randrange(2**32 - 5000, 2**32 + 5000)
        self.next = {True: isn, False: other}
        self.row = wire.row("tcp", port, isn=isn, **options)

    def send(
        self, up: bool, flags: int, data: bytes = b"", *, wait: int = 0, seq: int = -1, ack: int = -1,
        window: int = WINDOW, kind: str = "",
    ) -> Packet:  # fmt: skip
        """Send a segment a while after the last; `kind` is what Wireshark's rules should call it."""
        self.at += wait or self.wire.random.randrange(100_000, 900_000)
        seq = self.next[up] if seq < 0 else seq
        ack = (self.next[not up] if ack < 0 else ack) if flags & ACK else 0
        ports = (self.row.src_port, self.row.dst_port) if up else (self.row.dst_port, self.row.src_port)
        head = struct.pack("!HHIIBBHHH", *ports, seq % 2**32, ack % 2**32, 0x50, flags, window, 0, 0)
        packet = self.wire.send(self.row, up, self.at, 6, head + data, len(data))
        self.next[up] = max(self.next[up], seq + len(data) + bool(flags & (SYN | FIN)))
        if flags & SYN and not up:
            self.row.resp_isn = seq % 2**32
        if kind:
            self.row.counts[kind] += 1
        if kind.startswith("retransmissions"):
            self.row.counts["orig_retransmitted" if up else "resp_retransmitted"] += 1
        return packet

    def data(self, up: bool, size: int = MSS, content: bytes = b"", **options: Any) -> Packet:
        """Send a segment of that many bytes, that begin with the content."""
        packet = self.send(up, PSH | ACK, content.ljust(size, b"\xf5"), **options)
        self.row.spans["first_of_orig" if up else "first_of_resp"].append((packet, packet))
        return packet

    def ack(self, up: bool, *covered: Packet, **options: Any) -> Packet:
        """Send a bare ACK, the first one that covers these segments of the other side."""
        packet = self.send(up, ACK, **options)
        end = "resp" if up else "orig"
        self.row.spans[f"{end}_data_rtt"] += [(segment, packet) for segment in covered]
        sizes = [segment.payload for segment in covered]
        self.row.counts[f"{end}_largest_acked"] = max([self.row.counts[f"{end}_largest_acked"], *sizes])
        return packet

    def handshake(self, tries: int = 1) -> "Tcp":
        """SYN (again after 1, 2, 4 .. s), SYN-ACK, ACK; the round trip is known when there was one SYN only."""
        syn = self.syn(tries)
        answer = self.send(False, SYN | ACK, wait=self.wire.random.randrange(2 * MS, 9 * MS))
        if tries == 1:
            self.row.spans["rtt"].append((syn, answer))
        self.row.spans["ack_rtt"].append((answer, self.send(True, ACK)))
        self.row.counts.update(synack_count=1, established=1)
        self.row.outcome = "succeeded"
        return self

    def syn(self, tries: int = 1) -> Packet:
        first = syn = self.send(True, SYN)
        for again in range(tries - 1):
            syn = self.send(True, SYN, seq=self.row.isn, wait=SECOND << again, kind="retransmissions_plain")
            self.row.spans["syns"].append((first, syn))
        self.row.counts["syn_count"] += tries
        return syn

    def exchange(self, request: bytes = b"", response: bytes = b"", size: int = 300) -> "Tcp":
        """A request of one segment, a response of three; every segment is acknowledged."""
        self.ack(False, self.data(True, size, request))
        self.ack(True, self.data(False, MSS, response), self.data(False))
        self.ack(True, self.data(False, size))
        return self

    def close(self, *ends: bool) -> None:
        for up in ends:
            self.send(up, FIN | ACK)
        self.send(not ends[-1], ACK)

    # What goes wrong, and Wireshark's name for it: the responder sends, the originator acknowledges.

    def timeout(self) -> None:
        start = self.next[False]
        self.data(False)
        self.data(False, seq=start, wait=200 * MS, kind="retransmissions_plain")
        self.ack(True)

    def fast(self) -> None:
        self.ack(True, self.data(False))
        hole = self.next[False]
        self.data(False)
        rest = [self.data(False) for _ in range(3)]
        for _ in rest:
            self.ack(True, ack=hole, kind="duplicate_ack")
        self.data(False, seq=hole, kind="retransmissions_fast")
        self.ack(True, *rest)

    def spurious(self) -> None:
        start = self.next[False]
        self.ack(True, self.data(False))
        self.data(False, seq=start, wait=200 * MS, kind="retransmissions_spurious")
        self.ack(True, kind="duplicate_ack")

    def out_of_order(self) -> None:
        start = self.next[False]
        late = self.data(False, seq=start + MSS, kind="lost_segment")
        self.ack(True, late, self.data(False, seq=start, wait=50_000, kind="out_of_order"))

    def missing(self) -> None:
        """The first segment is lost before it is seen here: what is seen is its retransmission."""
        start = self.next[False]
        seen = self.data(False, seq=start + MSS, kind="lost_segment")
        self.ack(True, ack=start, kind="duplicate_ack")
        self.data(False, seq=start, wait=200 * MS, kind="retransmissions_plain")
        self.ack(True, seen)

    def keep_alive(self) -> None:
        self.send(True, ACK, b"\0", seq=self.next[True] - 1, wait=3 * SECOND, kind="keep_alive")
        self.ack(False)

    def zero_window(self) -> None:
        self.ack(True, self.data(False), window=0, kind="zero_window")
        self.ack(True, wait=50 * MS)

    def window_full(self) -> None:
        self.ack(True, window=2 * MSS)
        self.ack(True, self.data(False), self.data(False, kind="window_full"))

    def stuck(self, mtu: int = 0) -> None:
        """Large segments disappear, small ones pass; a router that says why names the largest packet it forwards."""
        start = self.next[True]
        first = self.data(True)
        if mtu:
            self.wire.complain(first, self.at + MS, (3, 2), (4, 0), mtu)
            self.row.counts["too_big"], self.row.mtu = 1, mtu
        for again in range(3):
            self.data(True, seq=start, wait=200 * MS << again, kind="retransmissions_plain")
        self.row.counts.update(orig_stuck_bytes=MSS, orig_stuck_tries=4)

    def offloaded(self) -> None:
        """Its length is left to the network card: the IP header says 0, as of segments that are cut up later."""
        packet = self.data(False)
        at = 4 if ":" in self.row.src else 2
        packet.ip = packet.ip[:at] + b"\0\0" + packet.ip[at + 2 :]
        self.ack(True, packet)
