"""Packets as capture files have them: formats, byte orders, clocks, link types, tunnels, and what a reader must see."""

import struct
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from tests.analysis.traffic import SECOND, Packet, ip_packet

MACS = bytes.fromhex("0242000000010242000000ff")
OUTER = ("192.0.2.1", "192.0.2.2")  # the tunnel's ends, at the originator and at the responder


class Clock(NamedTuple):
    """How an interface tells the time: in so many units a second, and seconds that the reader must add."""

    per_second: int = 10**9
    offset: int = 0

    def units(self, time: int) -> int:
        return (time - self.offset * SECOND) * self.per_second // SECOND

    def read(self, time: int) -> int:
        """Give the time that is left of it, in ns."""
        return self.units(time) * SECOND // self.per_second + self.offset * SECOND

    @property
    def resolution(self) -> int:
        """Give pcapng's if_tsresol."""
        decimal = len(str(self.per_second)) - 1
        return decimal if self.per_second == 10**decimal else 0x80 | (self.per_second.bit_length() - 1)


NANOSECONDS, MICROSECONDS = Clock(), Clock(10**6)


def ethertype(ip: bytes) -> bytes:
    return b"\x86\xdd" if ip[0] >> 4 == 6 else b"\x08\x00"


def ethernet(ip: bytes, tags: bytes = b"") -> bytes:
    return (MACS + tags + ethertype(ip) + ip).ljust(60, b"\0")  # the shortest frame that Ethernet allows


def pppoe(ip: bytes) -> bytes:
    session = struct.pack("!BBHH", 0x11, 0, 1, 2 + len(ip))
    return MACS + b"\x88\x64" + session + (b"\x00\x57" if ip[0] >> 4 == 6 else b"\x00\x21") + ip


def family(ip: bytes) -> int:
    return 30 if ip[0] >> 4 == 6 else 2


LINKS: dict[str, tuple[int, Callable[[bytes, str], bytes]]] = {  # link type, and an IP packet as its frame
    "ethernet": (1, lambda ip, _: ethernet(ip)),
    "802.1Q": (1, lambda ip, _: ethernet(ip, b"\x81\0\0\x07")),
    "QinQ": (1, lambda ip, _: ethernet(ip, b"\x88\xa8\0\x07\x81\0\0\x09")),
    "MPLS": (1, lambda ip, _: MACS + b"\x88\x47" + b"\0\x01\0\x40\0\x01\x11\x40" + ip),
    "PPPoE": (1, lambda ip, _: pppoe(ip)),
    "SLL": (113, lambda ip, _: struct.pack("!HHH8s", 0, 1, 6, MACS) + ethertype(ip) + ip),
    "SLL2": (276, lambda ip, _: ethertype(ip) + struct.pack("!HIHBB8s", 0, 2, 1, 0, 6, MACS) + ip),
    "RAW": (101, lambda ip, _: ip),
    "RAW of BSD": (12, lambda ip, _: ip),
    "IPV4": (228, lambda ip, _: ip),
    "IPV6": (229, lambda ip, _: ip),
    "NULL": (0, lambda ip, order: struct.pack(f"{order}I", family(ip)) + ip),
    "LOOP": (108, lambda ip, _: struct.pack("!I", family(ip)) + ip),
}


def udp(port: int, body: bytes) -> tuple[int, bytes]:
    return 17, struct.pack("!HHHH", 54321, port, 8 + len(body), 0) + body


TUNNELS: dict[str, tuple[str, int, Callable[[bytes], tuple[int, bytes]]]] = {  # name, id, protocol and its body
    "VXLAN": ("vxlan", 77, lambda ip: udp(4789, struct.pack("!BxxxI", 8, 77 << 8) + ethernet(ip))),
    "VXLAN of Linux": ("vxlan", 1, lambda ip: udp(8472, struct.pack("!BxxxI", 8, 1 << 8) + ethernet(ip))),
    "Geneve": (
        "geneve",
        78,
        lambda ip: udp(6081, struct.pack("!BBHIQ", 2, 0, 0x6558, 78 << 8, 1 << 16) + ethernet(ip)),
    ),
    "GRE": ("gre", 0, lambda ip: (47, b"\0\0" + ethertype(ip) + ip)),
    "GRE with a checksum, a key and a number": (
        "gre",
        79,
        lambda ip: (47, b"\xb0\0" + ethertype(ip) + struct.pack("!III", 0, 79, 5) + ip),
    ),
    "GRE of Ethernet": ("gre", 80, lambda ip: (47, b"\x20\0\x65\x58" + struct.pack("!I", 80) + ethernet(ip))),
    "GRE in UDP": ("gre", 82, lambda ip: udp(4754, b"\x20\0" + ethertype(ip) + struct.pack("!I", 82) + ip)),
    "IPIP": ("ipip", 0, lambda ip: (4, ip)),
    "6in4": ("6in4", 0, lambda ip: (41, ip)),
    "GTP-U": ("gtp", 81, lambda ip: udp(2152, struct.pack("!BBHI", 0x30, 0xFF, len(ip), 81) + ip)),
    "Teredo": ("teredo", 0, lambda ip: udp(3544, ip)),
}
VERSIONS = {"IPV4": (4,), "IPV6": (6,), "IPIP": (4,), "6in4": (6,), "Teredo": (6,)}  # what else cannot be carried


@dataclass(frozen=True)
class Interface:
    """Where packets were captured."""

    link: str = "ethernet"
    clock: Clock = NANOSECONDS
    snaplen: int = 262144
    tunnel: str = ""
    outer: tuple[str, str] = OUTER

    def frame(self, packet: Packet, order: str) -> bytes:
        ip = packet.ip
        if self.tunnel:
            ends = self.outer if packet.up else self.outer[::-1]
            ip = ip_packet(*ends, *TUNNELS[self.tunnel][2](ip))
        return LINKS[self.link][1](ip, order)


@dataclass
class File:
    """A capture file, and what a reader must find: the time and the size of each packet, and where its record ends."""

    data: bytes = b""
    times: list[int] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)
    ends: list[int] = field(default_factory=list)


def pcap(packets: Sequence[Packet], at: Interface, order: str = "<", *, modified: bool = False) -> File:
    """Write the classic format, with microseconds or nanoseconds, or as Linux 2.2 had it ("modified")."""
    magic = 0xA1B2CD34 if modified else 0xA1B23C4D if at.clock == NANOSECONDS else 0xA1B2C3D4
    head = struct.pack(f"{order}IHHiIII", magic, 2, 4, 0, 0, at.snaplen, LINKS[at.link][0])
    file, records = File(), bytearray(head)
    for packet in packets:
        frame = at.frame(packet, order)
        seen = frame[: at.snaplen]
        seconds, units = divmod(at.clock.units(packet.time), at.clock.per_second)
        records += struct.pack(f"{order}IIII", seconds, units, len(seen), len(frame))
        records += (struct.pack(f"{order}IHBx", 1, 0x800, 0) if modified else b"") + seen
        file.times.append(at.clock.read(packet.time))
        file.sizes.append(len(frame))
        file.ends.append(len(records))
    file.data = bytes(records)
    return file


def block(kind: int, body: bytes, order: str) -> bytes:
    size = 12 + -(-len(body) // 4) * 4
    return struct.pack(f"{order}II", kind, size) + body.ljust(size - 12, b"\0") + struct.pack(f"{order}I", size)


def option(code: int, value: bytes, order: str) -> bytes:
    return struct.pack(f"{order}HH", code, len(value)) + value.ljust(-(-len(value) // 4) * 4, b"\0")


def section(interfaces: Sequence[Interface], order: str) -> Iterator[bytes]:
    """Begin a section: its header, an interface each, and blocks that a reader must pass over."""
    comment, end = option(1, b"a comment", order), option(0, b"", order)
    yield block(0x0A0D0D0A, struct.pack(f"{order}IHHq", 0x1A2B3C4D, 1, 0, -1) + comment + end, order)
    for at in interfaces:
        clock = option(9, bytes([at.clock.resolution]), order) if at.clock != MICROSECONDS else b""
        clock += option(14, struct.pack(f"{order}q", at.clock.offset), order) if at.clock.offset else b""
        yield block(1, struct.pack(f"{order}HHI", LINKS[at.link][0], 0, at.snaplen) + comment + clock + end, order)
    yield block(4, struct.pack(f"{order}HH", 0, 0), order)  # names
    yield block(0x7ABC, b"of a type that nobody knows", order)


BLOCKS: dict[
    int, Callable[[str, int, int, bytes, int], bytes]
] = {  # how a packet lies in pcapng: enhanced, obsolete, and simple, which has no time
    6: lambda order, at, when, seen, size: (
        struct.pack(f"{order}IIIII", at, *divmod(when, 2**32), len(seen), size) + seen
    ),
    2: lambda order, at, when, seen, size: (
        struct.pack(f"{order}HHIIII", at, 0, *divmod(when, 2**32), len(seen), size) + seen
    ),
    3: lambda order, _at, _when, seen, size: struct.pack(f"{order}I", size) + seen,
}


def pcapng(packets: Sequence[Packet], *sections: tuple[str, Sequence[Interface]], kinds: Sequence[int] = (6,)) -> File:
    """Write the newer format: each section, of its own byte order, has its share of the packets, by turns everywhere.

    Args:
        packets: in order.
        sections: byte order and interfaces; a packet goes to one that can carry it.
        kinds: of blocks.

    """
    file, records = File(), bytearray()
    share = -(-len(packets) // len(sections))
    for number, (order, interfaces) in enumerate(sections):
        records += b"".join(section(interfaces, order))
        for turn, packet in enumerate(packets[number * share : (number + 1) * share]):
            able = [n for n, at in enumerate(interfaces) if packet.ip[0] >> 4 in VERSIONS.get(at.link, (4, 6))]
            index = able[turn % len(able)]
            at = interfaces[index]
            frame = at.frame(packet, order)
            kind = kinds[turn % len(kinds)]
            body = BLOCKS[kind](order, index, at.clock.units(packet.time), frame[: at.snaplen], len(frame))
            records += block(kind, body, order)
            file.times.append((file.times or [0])[-1] if kind == 3 else at.clock.read(packet.time))
            file.sizes.append(len(frame))
            file.ends.append(len(records))
    file.data = bytes(records)
    return file
