"""What happens on the wire: connections of every state, outcome and trouble, look-ups and pings."""

import struct
from collections.abc import Callable, Sequence
from typing import Any

from tests.analysis.traffic import ACK, FIN, MS, RST, SECOND, START, SYN, Row, Tcp, Traffic

HISTORIES = {  # of connections without trouble
    "SF": "ShADadFf", "S0": "S", "REJ": "Sr", "RSTO": "ShADadR", "RSTR": "ShADadr", "RSTOS0": "SR", "S1": "ShADad",
    "S2": "ShADadF", "S3": "ShADadf", "SH": "SADF", "SHR": "^hdf", "RSTRH": "^hr", "OTH": "DadA",
}  # fmt: skip
TROUBLES: tuple[Callable[[Tcp], object], ...] = (
    Tcp.timeout, Tcp.fast, Tcp.spurious, Tcp.out_of_order, Tcp.missing, Tcp.keep_alive, Tcp.zero_window,
    Tcp.window_full, Tcp.offloaded, Tcp.stuck,
)  # fmt: skip

OPEN = ("SF", "S1", "S2", "S3", "RSTO", "RSTR")  # the handshake is complete
OUTCOMES = {"S0": "timed_out", "REJ": "refused", "RSTOS0": "aborted", "SH": "undecided"}


def connection(
    wire: Traffic, state: str, at: int, *troubles: Callable[[Tcp], object], tries: int = 1, **options: Any
) -> Tcp:
    """Make a TCP connection that ends in that state of Zeek's; the options are the row's."""
    tcp = Tcp(wire, at, conn_state=state, outcome=OUTCOMES.get(state, ""), **options)
    tcp.row.history = HISTORIES[state]
    if state in OPEN:
        tcp.handshake(tries)
    elif state in OUTCOMES:
        tcp.syn(tries)
    else:
        tcp.next[True] += 1
        tcp.row.isn = -1 if state == "OTH" else tcp.row.isn
    if state in {*OPEN, "OTH"}:
        tcp.exchange()
    for trouble in troubles:
        tcp.row.history = ""
        trouble(tcp)
    return finish(tcp, state)


def finish(tcp: Tcp, state: str) -> Tcp:
    """Send what leads to that state after the handshake and the data."""
    if state in {"SF", "S2", "S3"}:
        tcp.close(*{"SF": (True, False), "S2": (True,), "S3": (False,)}[state])
    elif state == "SH":
        tcp.send(True, ACK, ack=1)
        tcp.data(True, 300, ack=1)
        tcp.row.counts.update(orig_stuck_bytes=300, orig_stuck_tries=1)
        tcp.send(True, FIN | ACK, ack=1)
    elif state in {"SHR", "RSTRH"}:
        tcp.send(False, SYN | ACK)
        tcp.row.counts["synack_count"] = 1
        if state == "SHR":
            tcp.data(False, 300)
            tcp.row.counts.update(resp_stuck_bytes=300, resp_stuck_tries=1)
        tcp.send(False, ACK | (FIN if state == "SHR" else RST))
    elif state in {"RSTO", "RSTOS0"}:
        tcp.send(True, RST)
    elif state in {"RSTR", "REJ"}:
        tcp.send(False, RST | ACK)
    tcp.row.reset_by = {"RSTO": "orig", "RSTOS0": "orig", "RSTR": "resp", "REJ": "resp", "RSTRH": "resp"}.get(state, "")
    return tcp


def lookup(wire: Traffic, at: int, rcode: int | None = 0) -> Row:
    """Ask a DNS server for an address; None is no answer."""
    answered = rcode is not None
    row = wire.row("udp", 53, conn_state="SF" if answered else "S0", history="Dd" if answered else "D")
    number = len(wire.rows)
    question = b"\4host\7example\0" + struct.pack("!HH", 1, 1)
    wire.udp(row, True, at, struct.pack("!6H", number % 65536, 0x0100, 1, 0, 0, 0) + question)
    if rcode is not None:
        answer = b"" if rcode else b"\xc0\x0c" + struct.pack("!HHIH4B", 1, 1, 30, 4, 10, 0, 0, 1)
        head = struct.pack("!6H", number % 65536, 0x8180 | rcode, 1, not rcode, 0, 0)
        wire.udp(row, False, at + 3 * MS, head + question + answer)
    return row


def unreachable(wire: Traffic, at: int, **options: Any) -> Row:
    """A SYN that a router answers: destination unreachable, administratively prohibited."""
    tcp = Tcp(wire, at, conn_state="S0", outcome="unreachable", history="S", **options)
    tcp.row.icmp_code = wire.complain(tcp.syn(), tcp.at + MS, (3, 1), (13, 1))
    return tcp.row


def ping(wire: Traffic, at: int, version: int = 4) -> Row:
    row = wire.row("icmp", 0, version=version)
    row.src_port, row.dst_port = (128, 129) if version == 6 else (8, 0)
    wire.icmp(row, True, at, row.src_port, 0, 1, b"ping" * 14)
    wire.icmp(row, False, at + MS, row.dst_port, 0, 1, b"ping" * 14)
    return row


def fragmented(wire: Traffic, at: int, version: int = 4) -> Row:
    """Send a datagram in three IP fragments, of which only the first has the ports."""
    row = wire.row("udp", 9000, version=version, conn_state="S0")
    datagram = struct.pack("!HHHH", row.src_port, 9000, 8 + 2000, 0) + bytes(2000)
    for offset, end in ((0, 800), (800, 1600), (1600, 2008)):
        part, more = datagram[offset:end], end < len(datagram)
        head = struct.pack("!BBHI", 17, 0, offset | more, 99) if version == 6 else b""
        packet = wire.send(row, True, at, 44 if version == 6 else 17, head + part, len(part) - 8 * (not offset))
        if version == 4:
            packet.ip = packet.ip[:6] + struct.pack("!H", more << 13 | offset // 8) + packet.ip[8:]
        at += MS
    row.counts["fragments"] = 3
    return row


def every_kind(seed: int = 1, versions: Sequence[int] = (4, 6)) -> Traffic:
    """Make every state, outcome and trouble, in each of the IP versions, within 20 seconds."""
    wire = Traffic(seed, versions)
    for version in versions:
        at = iter(range(START + version, START + 12 * SECOND, 50 * MS))
        for state in HISTORIES:
            connection(wire, state, next(at), version=version)
            connection(wire, state, next(at), version=version)
        for trouble in TROUBLES:
            connection(wire, "S1", next(at), trouble, version=version)
        connection(wire, "S1", next(at), *TROUBLES, version=version)
        connection(wire, "S1", next(at), lambda tcp: tcp.stuck(1400), version=version)
        for state in ("SF", "S0", "REJ"):
            connection(wire, state, next(at), tries=3, version=version)
        again = connection(wire, "SF", next(at), version=version).row
        reused = Tcp(wire, next(at) + SECOND, version=version)  # the same ports once more, with a new sequence number
        reused.row.src, reused.row.src_port, reused.row.dst = again.src, again.src_port, again.dst
        reused.row.conn_state = "S1"
        reused.handshake().exchange()
        unreachable(wire, next(at), version=version)
        ping(wire, next(at), version)
        fragmented(wire, next(at), version)
        for rcode in (0, 3, None):
            lookup(wire, next(at), rcode)
    connection(
        wire, "S0", START + 30 * SECOND
    ).row.outcome = "undecided"  # the capture ends before an answer could come
    return wire
