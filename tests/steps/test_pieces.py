"""Pieces of what a tool writes: whole when put together again, each readable alone, and kept until they are stored."""

import hashlib
import os
import struct
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from steps.chunks import NotPcapError, blocks
from steps.pieces import PcapPieces, Pieces
from steps.uploads import Directory, UploadError

HEADER = struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 262_144, 1)


def record(number: int, length: int = 60) -> bytes:
    return struct.pack("<IIII", number, 0, length, length) + bytes([number % 256]) * length


class Flaky(Directory):
    """A store that fails a number of times."""

    failures = 0

    def put(self, key: str, data: bytes) -> None:
        if self.failures:
            self.failures -= 1
            raise UploadError(f"{key}: the object store answered 503: SlowDown")
        super().put(key, data)


@pytest.fixture
def store(tmp_path: Path) -> Flaky:
    return Flaky(tmp_path / "objects")


def stored(store: Directory) -> list[bytes]:
    return [path.read_bytes() for path in sorted((store.root / "out").iterdir())]


def test_text_is_cut_at_a_size(store: Flaky, tmp_path: Path) -> None:
    pieces = Pieces(store, "out/", tmp_path / "spool", size=10)
    for text in (b"abc", b"defghijklm", b"", b"nopqrstuvwxyz0123456789"):
        pieces.write(text)
    pieces.close()
    assert pieces.waiting == 4
    assert pieces.offer()
    assert stored(store) == [b"abcdefghij", b"klmnopqrst", b"uvwxyz0123", b"456789"]
    assert [file.name for file in pieces.files] == [f"00000{number}.txt" for number in (1, 2, 3, 4)]
    assert [(file.sha256, file.bytes) for file in pieces.files] == [
        (hashlib.sha256(data).hexdigest(), len(data)) for data in stored(store)
    ]
    assert not list((tmp_path / "spool").iterdir())


def test_a_piece_does_not_grow_old(store: Flaky, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("steps.pieces.AGE", 0.3)
    pieces = Pieces(store, "out/", tmp_path / "spool", size=1000)
    pieces.write(b"one")
    pieces.write(b"two")
    assert not pieces.files
    time.sleep(0.3)
    pieces.write(b"")
    assert [file.bytes for file in pieces.files] == [6]


def test_no_output_is_no_piece(store: Flaky, tmp_path: Path) -> None:
    pieces = Pieces(store, "out/", tmp_path / "spool", size=10)
    pieces.write(b"")
    pieces.close()
    assert pieces.files == []
    assert pieces.offer()


def test_what_the_store_refuses_is_kept_in_order(store: Flaky, tmp_path: Path) -> None:
    store.failures = 2
    pieces = Pieces(store, "out/", tmp_path / "spool", size=4)
    pieces.write(b"aaaabbbbcc")
    assert not pieces.offer()
    assert (pieces.waiting, pieces.refusal) == (2, "out/000001.txt: the object store answered 503: SlowDown")
    pieces.close()
    assert not pieces.offer()
    assert pieces.offer()
    assert stored(store) == [b"aaaa", b"bbbb", b"cc"]


@settings(deadline=None)
@given(
    lengths=st.lists(st.integers(0, 90), max_size=20),
    cuts=st.lists(st.integers(1, 40), min_size=1, max_size=30),
)
def test_a_pcap_is_cut_where_records_end(tmp_path_factory: Any, lengths: list[int], cuts: list[int]) -> None:
    root = tmp_path_factory.mktemp("pcap")
    records = [record(number, length) for number, length in enumerate(lengths)]
    data = HEADER + b"".join(records)
    store = Directory(root / "objects")
    pieces = PcapPieces(store, "out/", root / "spool", size=200)
    while data:
        part = cuts[len(data) % len(cuts)]
        pieces.write(data[:part])
        data = data[part:]
    pieces.close()
    assert pieces.offer()
    parts = stored(store)
    assert all(part.startswith(HEADER) and len(part) <= 200 for part in parts)
    assert b"".join(part[len(HEADER) :] for part in parts) == b"".join(records)
    assert sum(file.packets for file in pieces.files) == len(records)
    for path in (store.root / "out").iterdir():
        subprocess.run(["tcpdump", "-nr", path], check=True, capture_output=True)
    assert [file.name for file in pieces.files] == [f"{number + 1:06d}.pcap" for number in range(len(parts))]


def test_a_pcap_without_packets_is_one_piece(store: Flaky, tmp_path: Path) -> None:
    pieces = PcapPieces(store, "out/", tmp_path / "spool", size=200)
    pieces.write(HEADER[:10])
    pieces.write(HEADER[10:])
    pieces.close()
    assert pieces.offer()
    assert stored(store) == [HEADER]


def test_what_is_no_pcap_is_said(store: Flaky, tmp_path: Path) -> None:
    with pytest.raises(NotPcapError, match="no pcap's magic number"):
        PcapPieces(store, "out/", tmp_path / "spool", size=200).write(b"IP 10.0.0.1 > 10.0.0.2: ICMP")


def test_blocks_come_as_they_are_written_and_a_tick_is_an_empty_one() -> None:
    read, write = os.pipe()
    found = blocks(read, 0.01)
    os.write(write, b"abc")
    assert next(found) == b"abc"
    assert next(found) == b""
    os.write(write, b"d")
    os.close(write)
    assert list(found) == [b"d"]
    os.close(read)
