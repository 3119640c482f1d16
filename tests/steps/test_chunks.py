"""Cutting a pcap: every chunk is a pcap, together they are the stream, and no limit is passed."""

import os
import struct
import subprocess
import threading
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from steps.chunks import Chunk, Chunks, NotPcapError

HEADER = struct.pack("<IHHiIII", 0xA1B23C4D, 2, 4, 0, 0, 262144, 1)


def record(length: int, second: int, fraction: int = 7) -> bytes:
    return struct.pack("<IIII", second, fraction, length, length) + bytes(length)


def cut(
    stream: bytes, directory: Path, *, until: int | None = None, size: int = 2**20, limit: int = 2**40
) -> list[Chunk]:
    """Feed a stream through a real pipe, as tcpdump would."""
    directory.mkdir(exist_ok=True)
    for old in directory.iterdir():
        old.unlink()
    receiver, sender = os.pipe()

    def feed() -> None:
        with os.fdopen(sender, "wb") as pipe:
            pipe.write(stream)

    feeder = threading.Thread(target=feed)
    feeder.start()
    try:
        chunks = Chunks(receiver, directory, size=size, seconds=60, limit=limit)
        chunks.until = until
        return list(chunks)
    finally:
        while os.read(receiver, 65536):
            pass
        os.close(receiver)
        feeder.join()


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=60)
@given(st.lists(st.integers(0, 3000), max_size=60), st.integers(4096, 9000), st.integers(24, 60_000))
def test_chunks_are_the_stream_in_pieces(tmp_path: Path, lengths: list[int], size: int, limit: int) -> None:
    records = [record(length, second) for second, length in enumerate(lengths, 1)]
    chunks = cut(HEADER + b"".join(records), tmp_path / "out", size=size, limit=limit)
    fit = 0
    while fit < len(records) and 24 + sum(map(len, records[: fit + 1])) <= limit:
        fit += 1
    bodies = [chunk.path.read_bytes() for chunk in chunks]
    assert all(
        body.startswith(HEADER) and len(body) == chunk.size <= size for body, chunk in zip(bodies, chunks, strict=True)
    )
    assert b"".join(body[24:] for body in bodies) == b"".join(records[:fit])
    assert sum(chunk.packets for chunk in chunks) == fit
    if fit:
        assert (chunks[0].first, chunks[-1].last) == (1_000_000_007, fit * 1_000_000_000 + 7)


def test_a_capture_without_packets_is_one_readable_file(tmp_path: Path) -> None:
    (chunk,) = cut(HEADER, tmp_path / "out")
    assert (chunk.path.name, chunk.packets, chunk.linktype) == ("000001.pcap", 0, 1)


def test_a_tool_that_wrote_nothing_leaves_no_chunk(tmp_path: Path) -> None:
    assert cut(b"", tmp_path / "out") == []


def test_a_record_cut_in_the_middle_is_left_out(tmp_path: Path) -> None:
    (chunk,) = cut(HEADER + record(100, 1) + record(100, 2)[:50], tmp_path / "out")
    assert chunk.packets == 1
    assert chunk.path.read_bytes() == HEADER + record(100, 1)


def test_packets_after_the_end_are_not_kept(tmp_path: Path) -> None:
    stream = HEADER + b"".join(record(10, second) for second in range(1, 9))
    (chunk,) = cut(stream, tmp_path / "out", until=5_000_000_000)
    assert chunk.packets == 4


def test_nothing_before_the_end_is_an_empty_capture(tmp_path: Path) -> None:
    (chunk,) = cut(HEADER + record(10, 9), tmp_path / "out", until=5_000_000_000)
    assert chunk.packets == 0


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize(("magic", "unit"), [(0xA1B2C3D4, 1000), (0xA1B23C4D, 1)])
def test_both_byte_orders_and_precisions(tmp_path: Path, order: str, magic: int, unit: int) -> None:
    header = struct.pack(order + "IHHiIII", magic, 2, 4, 0, 0, 65535, 113)
    stream = header + struct.pack(order + "IIII", 3, 5, 1, 1) + b"x"
    (chunk,) = cut(stream, tmp_path / "out")
    assert (chunk.linktype, chunk.first, chunk.packets) == (113, 3_000_000_000 + 5 * unit, 1)


@pytest.mark.parametrize(
    "stream", [b"tcpdump: no suitable device found", HEADER + struct.pack("<IIII", 1, 1, 2**31, 1)]
)
def test_what_is_no_pcap_is_refused(tmp_path: Path, stream: bytes) -> None:
    with pytest.raises(NotPcapError):
        cut(stream, tmp_path / "out")


def test_tcpdump_reads_every_chunk(tmp_path: Path) -> None:
    chunks = cut(HEADER + b"".join(record(1000, second) for second in range(1, 30)), tmp_path / "out", size=4096)
    assert len(chunks) == 8  # four records of 1,016 bytes fit
    for chunk in chunks:
        done = subprocess.run(["tcpdump", "-r", chunk.path, "--count"], capture_output=True, text=True, check=True)
        assert int(done.stdout.split()[0]) == chunk.packets
