"""A TCP connection on which both ends say what a test wants, and the tables that are made of such packets."""

import os
import shutil
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import pytest

from analysis import dns, http, tls
from analysis.dissect import Messages, dissect
from analysis.packets import Packets, read

SECOND, MS = 10**9, 10**6
SYN, ACK = 2, 16
SEGMENT = 1400


class Dialogue:
    """One connection on a wire (`Wire` of conftest.py); what is said takes a millisecond."""

    def __init__(
        self,
        wire: Any,
        server_port: int,
        *,
        at: int = 0,
        port: int = 40000,
        client: str = "10.244.0.2",
        server: str = "10.244.1.3",
        isn: int = 1000,
    ) -> None:
        self.wire, self.at = wire, at
        self.ends = (client, port, server, server_port)
        self.sequence = {True: isn, False: isn + 5_000_000}
        self._send(SYN, from_client=True)
        self.sequence[True] += 1
        self._send(SYN | ACK, from_client=False)
        self.sequence[False] += 1

    def _send(self, flags: int, data: bytes = b"", *, from_client: bool) -> Any:
        ends = self.ends if from_client else self.ends[2:] + self.ends[:2]
        self.at += MS
        ack = self.sequence[not from_client] if flags & ACK else 0
        return self.wire.tcp(self.at, *ends, flags, self.sequence[from_client], ack, data)

    def say(self, data: bytes, *, from_client: bool, size: int = SEGMENT) -> list[Any]:
        """Send data in segments of that size."""
        packets = []
        for start in range(0, len(data), size):
            part = data[start : start + size]
            packets.append(self._send(ACK, part, from_client=from_client))
            self.sequence[from_client] += len(part)
        return packets

    def ask(self, data: bytes) -> list[Any]:
        return self.say(data, from_client=True)

    def answer(self, data: bytes) -> list[Any]:
        return self.say(data, from_client=False)


def client_hello(name: str) -> bytes:
    """Encode one of TLS 1.2 that offers four ciphers."""
    host = name.encode()
    entry = struct.pack("!HBH", len(host) + 3, 0, len(host)) + host
    extension = struct.pack("!HH", 0, len(entry)) + entry
    body = (
        b"\3\3"
        + bytes(32)
        + b"\0\0\x08\xc0\x2b\xc0\x2c\xc0\x2f\xc0\x30\1\0"
        + struct.pack("!H", len(extension))
        + extension
    )
    return b"\x16\3\1" + struct.pack("!HBBH", len(body) + 4, 1, 0, len(body)) + body


class Tables(NamedTuple):
    """What was made of a capture."""

    packets: Packets
    messages: Messages
    lookups: pd.DataFrame
    handshakes: pd.DataFrame
    requests: pd.DataFrame


def pcap(path: Path, packets: Sequence[Any], snaplen: int = 262144) -> Path:
    """Write packets as Ethernet frames, of which no more than `snaplen` bytes were captured."""
    data = struct.pack("<IHHiIII", 0xA1B23C4D, 2, 4, 0, 0, snaplen, 1)
    for packet in sorted(packets, key=lambda each: each.time):
        frame = packet.frame()
        captured = frame[:snaplen]
        data += struct.pack("<IIII", *divmod(packet.time, SECOND), len(captured), len(frame)) + captured
    path.write_bytes(data)
    return path


def tables(file: Path, scratch: Path, end: int | None = None) -> Tables:
    """Read a capture file and dissect what the kernel selects; by default it ends 10 s after its last packet."""
    packets = read([file.name], file.parent, select=scratch / "selected.pcap")
    messages = dissect(packets)
    end = end or (packets.last or 0) + 10 * SECOND
    lookups, handshakes = dns.lookups(messages.dns, end), tls.handshakes(messages.tls, end)
    return Tables(packets, messages, lookups, handshakes, http.requests(messages.http, end))


def replace_tshark(folder: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    """Put a tshark before the real one that does something else: a shell's script, in which REAL is the real one."""
    path = folder / "bin/tshark"
    path.parent.mkdir()
    path.write_text(f"#!/bin/sh\n{script.replace('REAL', str(shutil.which('tshark')))}\n")
    path.chmod(0o755)
    monkeypatch.setenv("PATH", f"{path.parent}:{os.environ['PATH']}")
