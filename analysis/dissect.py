"""From the packets worth dissecting to tables of DNS, TLS and HTTP messages, by one run of Wireshark."""

import mmap
import shutil
import struct
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from analysis import dns, http, tls, tshark
from analysis.packets import Packets, Selected
from analysis.timestamps import NANOSECONDS

PREFERENCES = (  # of HTTP/1 the heads were selected, not the bodies: nobody is to wait for them, nor for IP fragments
    *("http.desegment_headers:FALSE", "http.desegment_body:FALSE", "ip.defragment:FALSE", "ipv6.defragment:FALSE"),
    *("tcp.desegment_tcp_streams:TRUE", "tcp.analyze_sequence_numbers:TRUE", "tcp.calculate_timestamps:FALSE"),
)
OPTIONS = (
    *(word for preference in PREFERENCES for word in ("-o", preference)),
    *("-d", "tcp.port==443,tls", "-d", "tcp.port==80,http"),
    *("--disable-protocol", "grpc"),  # a body that was cut would hide the trailers after it
)
DNS, TLS, HTTP1, HTTP2 = 1, 2, 3, 4  # Selected.applications
USUAL = {TLS: 443, HTTP1: 80, HTTP2: 80}  # ports; HTTP's dissector knows the preface of HTTP/2
CHUNK = 50_000  # messages held as tuples at once
HEADER, RECORD = 24, struct.Struct("<IIII")  # of a pcap file: seconds, nanoseconds, bytes captured, bytes on the wire
ADDRESSES = {4: (12, 16, 20), 6: (8, 24, 40)}  # where an IP header has them: source, destination, end
NUMBER, PORTS = struct.Struct("!I"), struct.Struct("!HH")
EXTENSIONS = {0: 8, 43: 8, 44: 0, 51: 4, 60: 8, 135: 8}  # of IPv6, and in how many bytes each counts its length
UDP = 17
Numbers = npt.NDArray[np.integer[Any]]
PACKET = {  # of the packet that a message ended in
    "time": "int64",  # ns since the epoch
    "frame": "int64",  # number in the capture
    "connection": "int64",  # row of the connection table
    "src": "str",
    "src_port": "int64",
    "dst": "str",
    "dst_port": "int64",
    "transport": "str",  # udp or tcp
}
COLUMNS = {
    "dns": PACKET | dns.MESSAGES,
    "tls": PACKET | tls.MESSAGES,
    "http": PACKET | http.MESSAGES,
}
FIELDS = (*dns.FIELDS, *http.FIELDS, *tls.FIELDS)
OF_DNS = slice(len(dns.FIELDS))
OF_HTTP = slice(OF_DNS.stop, OF_DNS.stop + len(http.FIELDS))
OF_TLS = slice(OF_HTTP.stop, len(FIELDS))
READERS: dict[int, tuple[str, slice, Callable[[Sequence[str]], Iterator[tuple[Any, ...]]]]] = {
    DNS: ("dns", OF_DNS, dns.messages),
    TLS: ("tls", OF_TLS, tls.messages),
    HTTP1: ("http", OF_HTTP, http.messages),
    HTTP2: ("http", OF_HTTP, http.frames),
}


@dataclass(frozen=True)
class Messages:
    """One capture's messages, with the columns COLUMNS; `problems` are sentences without their full stop.

    Where not all packets were dissected, `until` is the time of the last one that was, in ns since the epoch: that is
    the capture's end, as far as these messages are concerned.
    """

    dns: pd.DataFrame
    tls: pd.DataFrame
    http: pd.DataFrame
    problems: tuple[str, ...] = ()
    until: int | None = None


def dissect(packets: Packets) -> Messages:
    """Read the messages in the packets of one capture that were selected.

    Where tshark is not installed, or ended with an error, a problem says so, and what it read until then is there.
    """
    tables, problems, last = {name: _Table(name) for name in COLUMNS}, list[str](), 0
    with tempfile.TemporaryDirectory(prefix="snoopy-") as scratch:
        try:
            for name, row in _rows(packets, Path(scratch, "packets.pcap")):
                tables[name].add(row)
                last = row[0]
        except tshark.StoppedError as error:
            problems.append(f"not all of its DNS, TLS and HTTP messages could be read: {error}")
    found = {name: each.whole() for name, each in tables.items()}
    is_whole = not problems and not packets.passed_over
    return Messages(found["dns"], found["tls"], found["http"], tuple(problems), None if is_whole else last)


def table(name: str, rows: Iterable[Sequence[Any]]) -> pd.DataFrame:
    """Make a table of DNS, TLS or HTTP messages, with the columns COLUMNS has for them."""
    return pd.DataFrame(list(rows), columns=list(COLUMNS[name])).astype(COLUMNS[name])


class _Table:
    """One that grows by rows, few of which are held as tuples."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.parts: list[pd.DataFrame] = []
        self.rows: list[Sequence[Any]] = []

    def add(self, row: Sequence[Any]) -> None:
        self.rows.append(row)
        if len(self.rows) == CHUNK:
            self.parts.append(table(self.name, self.rows))
            self.rows = []

    def whole(self) -> pd.DataFrame:
        return pd.concat([*self.parts, table(self.name, self.rows)], ignore_index=True)


def _rows(packets: Packets, copy: Path) -> Iterator[tuple[str, tuple[Any, ...]]]:
    """Give every message, with the name of its table."""
    selected = packets.selected
    if selected is None or not len(selected.frames):
        return
    places = _separated(selected, packets.connections["dst_port"], copy)
    found = tshark.fields(copy, FIELDS, options=OPTIONS)
    numbers = zip(selected.frames.tolist(), selected.connections.tolist(), selected.applications.tolist(), strict=True)
    frame = 0
    for (time, *ends), (frame, connection, application), values in zip(places, numbers, found, strict=False):
        if application in READERS:
            name, columns, read = READERS[application]
            for message in read(values[columns]):
                yield name, (time, frame, connection, *ends, *message)
    if frame != selected.frames[-1]:
        count = np.searchsorted(selected.frames, frame, side="right")
        raise tshark.StoppedError(f"tshark read {count} of its {len(selected.frames)} packets")


def _separated(selected: Selected, server_ports: Numbers, copy: Path) -> list[tuple[int, str, int, str, int, str]]:
    """Copy the packets, each connection with addresses of its own and its application's usual port.

    To Wireshark, what has the same addresses and ports is one conversation, unless it sees another SYN, which nobody
    selects: it would take a port's second connection for retransmissions of the first, and its keys for known. And
    it would look up in a table what is spoken on which port, where the kernel has seen it.

    Returns:
        Of each packet its time, source, source port, destination, destination port and transport, before that.

    """
    shutil.copyfile(selected.path, copy)
    packets, start = [], HEADER
    ports = server_ports[selected.connections].tolist()
    rows = zip(selected.connections.tolist(), selected.applications.tolist(), ports, strict=True)
    with copy.open("r+b") as file, mmap.mmap(file.fileno(), 0) as data:
        for connection, application, server_port in rows:
            seconds, fraction, captured, _ = RECORD.unpack_from(data, start)
            start += RECORD.size
            source, destination, end = (start + place for place in ADDRESSES[data[start] >> 4])
            src, dst = data[source:destination], data[destination:end]
            NUMBER.pack_into(data, destination - NUMBER.size, 2 * connection + (src > dst))
            NUMBER.pack_into(data, end - NUMBER.size, 2 * connection + (src < dst))
            at, protocol = _transport(data, start)
            pair = PORTS.unpack_from(data, at)
            usual = USUAL.get(application, server_port)
            PORTS.pack_into(data, at, *(usual if port == server_port else port for port in pair))
            time, transport = seconds * NANOSECONDS + fraction, "udp" if protocol == UDP else "tcp"
            packets.append((time, _text(src), pair[0], _text(dst), pair[1], transport))
            start += captured
    return packets


def _transport(data: mmap.mmap, start: int) -> tuple[int, int]:
    """Say where the header after an IP header is, and of which protocol: IPv6 has others before it, RFC 8200."""
    if data[start] >> 4 == min(ADDRESSES):
        return start + (data[start] & 0xF) * 4, data[start + 9]
    protocol, at = data[start + 6], start + 40
    while protocol in EXTENSIONS:
        unit = EXTENSIONS[protocol]
        protocol, at = data[at], at + 8 + data[at + 1] * unit
    return at, protocol


@lru_cache(maxsize=1 << 16)
def _text(address: bytes) -> str:
    return str(ip_address(address))
