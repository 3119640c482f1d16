"""Big captures with exact truth: a crowd of conversations, written once and repeated with other times and addresses."""

import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from tests.analysis.formats import Interface, pcap
from tests.analysis.scenes import connection, finish, lookup, unreachable
from tests.analysis.traffic import MSS, SECOND, START, Packet, Tcp, Traffic

TILE = 50_000  # packets that are made one by one
SPAN = 40 * SECOND  # in which they happen
RECORD, ETHERNET = 16, 14  # bytes of their headers
MIX = {"REJ": 0.04, "S1": 0.03, "S0": 0.02, "RSTO": 0.02, "RSTR": 0.02, "RSTOS0": 0.005, "OTH": 0.005}
LOOKUPS, HTTP, TLS, UNREACHABLE, LOSSES = 0.03, 0.02, 0.02, 0.01, 0.06  # shares of the conversations


@dataclass(frozen=True)
class Made:
    """A capture, and what everybody should find in it."""

    path: Path
    packets: int
    connections: int  # of TCP
    retransmissions: int


REQUEST, RESPONSE = 300, 2 * MSS + 300  # bytes of an exchange


def record(kind: int, body: bytes) -> bytes:
    return struct.pack("!BHH", kind, 0x303, len(body)) + body


def hello(kind: int, ciphers: bytes, extensions: bytes) -> bytes:
    """Make a ClientHello (1) or ServerHello (2) of TLS 1.2 (RFC 5246)."""
    body = b"\3\3" + bytes(33) + ciphers + struct.pack("!H", len(extensions)) + extensions
    return record(22, bytes([kind]) + len(body).to_bytes(3, "big") + body)


def client_hello(name: bytes) -> bytes:
    """Name the server (RFC 6066), and fill the rest of the request (RFC 7685)."""
    server_name = struct.pack("!HHHBH", 0, len(name) + 5, len(name) + 3, 0, len(name)) + name
    ciphers = b"\0\2\xc0\x2f\1\0"
    rest = REQUEST - len(hello(1, ciphers, server_name)) - 4
    return hello(1, ciphers, server_name + struct.pack("!HH", 21, rest) + bytes(rest))


def encrypted(size: int) -> bytes:
    return record(23, bytes([0xF5]) * (size - 5))


def get(path: bytes) -> bytes:
    head = b"GET " + path + b" HTTP/1.1\r\nHost: shop\r\nCookie: "
    return head + b"x" * (REQUEST - 4 - len(head)) + b"\r\n\r\n"


def ok() -> bytes:
    head = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n"
    return head % (RESPONSE - len(head % 9999))


def crowd(seed: int, size: int = TILE) -> Traffic:
    """Make that many packets: most connections succeed, and every other outcome and the usual losses are there."""
    wire = Traffic(seed)
    chance = wire.random
    while len(wire.packets) < size - 200:
        at = START + chance.randrange(20 * SECOND)
        kind = chance.random()
        state = chance.choices([*MIX, "SF"], [*MIX.values(), 1 - sum(MIX.values())])[0]
        if kind < LOOKUPS:
            lookup(wire, at, chance.choice((0, 0, 0, 0, 3, None)))
        elif kind < LOOKUPS + HTTP:
            tcp = Tcp(wire, at, 80, conn_state="SF").handshake()
            finish(tcp.exchange(get(b"/items"), ok()).exchange(get(b"/items/7"), ok()), "SF")
        elif kind < LOOKUPS + HTTP + TLS:
            tcp = Tcp(wire, at, 443, conn_state="SF").handshake()
            answer = hello(2, b"\xc0\x2f\0", b"")
            tcp.exchange(client_hello(b"shop.example"), answer + encrypted(RESPONSE - len(answer))[:5])
            finish(tcp.exchange(encrypted(REQUEST), encrypted(RESPONSE)[:5]), "SF")
        elif kind < LOOKUPS + HTTP + TLS + UNREACHABLE:
            unreachable(wire, at)
        elif state == "S0":
            connection(wire, state, at, tries=chance.randrange(1, 5))
        else:
            troubles: list[Callable[[Tcp], object]] = [Tcp.exchange] * chance.randrange(4)
            if state in {"SF", "S1"} and chance.random() < LOSSES:
                troubles.append(chance.choice((Tcp.timeout, Tcp.fast, Tcp.missing, Tcp.out_of_order)))
            connection(wire, state, at, *troubles)
    return fill(wire, size)


def few(seed: int, size: int = TILE) -> Traffic:
    """Make that many packets of 500 connections that were open before, and stay so."""
    wire = Traffic(seed)
    talks = [connection(wire, "OTH", START + number * 1_000_000) for number in range(500)]
    while len(wire.packets) < size - 10:
        wire.random.choice(talks).exchange()
    return fill(wire, size)


def fill(wire: Traffic, size: int) -> Traffic:
    """Add lonely datagrams until there are exactly so many packets."""
    row = wire.row("udp", 9999)
    for number in range(size - len(wire.packets)):
        wire.udp(row, True, START + number, b"tick")
    return wire


def write(path: Path, wire: Traffic, size: int, *, snaplen: int = 262144, goes_on: bool = False) -> Made:
    """Write the traffic again and again until the capture has `size` packets, a multiple of the traffic's.

    Each time it is later, and of other hosts; or, where it `goes_on`, of the same ones, whose numbers continue.
    """
    packets = wire.in_order()
    file = pcap(packets, Interface(snaplen=snaplen))
    starts = np.array([0, *(end - 24 for end in file.ends[:-1])])
    data = np.frombuffer(file.data, np.uint8)[24:].copy()
    seconds = np.array([time // SECOND for time in file.times])
    move = _sequences(packets, starts, data) if goes_on else _addresses(packets, starts, data)
    times = size // len(packets)
    with path.open("wb") as out:
        out.write(file.data[:24])
        for number in range(times):
            _put(data, starts, (seconds + number * SPAN // SECOND).astype("<u4"))
            move(number)
            out.write(data.tobytes())
    repeats = 1 if goes_on else times
    counts = [sum(row.counts[f"{end}_retransmitted"] for end in ("orig", "resp")) for row in wire.rows]
    tcp = sum(row.proto == "tcp" for row in wire.rows)
    return Made(path, times * len(packets), tcp * repeats, sum(counts) * times)


def _put(data: npt.NDArray[np.uint8], at: npt.NDArray[np.int64], numbers: npt.NDArray[np.uint32]) -> None:
    data[at[:, None] + np.arange(4)] = numbers.view(np.uint8).reshape(-1, 4)


def _addresses(
    packets: Sequence[Packet], starts: npt.NDArray[np.int64], data: npt.NDArray[np.uint8]
) -> Callable[[int], None]:
    """Change the second byte of IPv4 addresses, the fourth of IPv6's: of packets, and of those that ICMP quotes."""
    places = []
    for packet, start in zip(packets, starts.tolist(), strict=True):
        six = ":" in packet.row.src
        heads = [0, 48 if six else 28] if packet.row.proto == "icmp" else [0]
        ip = start + RECORD + ETHERNET
        places += [ip + head + at for head in heads for at in ((11, 27) if six else (13, 17))]
    at = np.array(places)

    def move(number: int) -> None:
        data[at] = number

    return move


def _sequences(
    packets: Sequence[Packet], starts: npt.NDArray[np.int64], data: npt.NDArray[np.uint8]
) -> Callable[[int], None]:
    """Continue the sequence and acknowledgement numbers of TCP where they ended."""
    tcp = np.array([packet.row.proto == "tcp" for packet in packets])
    sent = [[packet.row.counts[f"{end}_payload_bytes"] for end in ("orig", "resp")] for packet in packets]
    up = np.array([packet.up for packet in packets])[tcp]
    six = np.array([":" in packet.row.src for packet in packets])[tcp]
    at = starts[tcp] + RECORD + ETHERNET + np.where(six, 40, 20) + 4
    steps = np.array(sent)[tcp]
    first = [data[at[:, None] + offset + np.arange(4)].view(">u4")[:, 0].astype(np.int64) for offset in (0, 4)]

    def move(number: int) -> None:
        for offset, base, side in ((0, first[0], 0), (4, first[1], 1)):
            step = np.where(up, steps[:, side], steps[:, 1 - side])
            _put(data, at + offset, ((base + number * step) % 2**32).astype(">u4"))

    return move
