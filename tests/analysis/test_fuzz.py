"""Whatever a file holds, it is read to an end: no crash, no hang, no memory for lengths that it only claims.

Every file is read by a process of its own with bounded memory and time, so that an abort is seen. SNOOPY_FUZZ=20 tries
20 times as many files, other ones each time.
"""

import gzip
import io
import json
import multiprocessing
import os
import random
import re
import resource
import struct
import tempfile
import traceback
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.analysis.formats import BLOCKS, LINKS, TUNNELS, Interface, block, option, pcap
from tests.analysis.mutations import EFFORT, mutated
from tests.analysis.variants import VARIANTS, traffic

PCAPS = Path(os.environ.get("SNOOPY_PCAPS", "../shared/pcaps"))
MEMORY = 256 << 20  # bytes, above what the imports took
PATIENCE = 20  # seconds for a file; the slowest here needs two

Survives = Callable[..., int]


def read(root: Path, names: list[str]) -> int:
    """Read a capture, see that its counts add up, and give how many packets it has."""
    from analysis.connections import connections  # noqa: PLC0415 - in the process that reads
    from analysis.packets import read  # noqa: PLC0415

    packets = read(names, root, select=root / "selected.pcap")
    table = connections(packets, packets.last or 0)
    in_connections = int(table[["orig_packets", "resp_packets"]].to_numpy().sum())
    assert in_connections + sum(packets.skipped.values()) == packets.packets <= sum(packets.counts)
    assert table["frame"].between(1, sum(packets.counts)).all()
    assert (table[["duration_s", "orig_payload_bytes", "resp_payload_bytes"]] >= 0).all(axis=None)
    assert not [problem for problem in packets.problems if "kernel" in problem]
    assert packets.selected is not None
    assert len(packets.selected.frames) == len(packets.selected.connections) <= packets.packets
    assert len(table) > max(packets.selected.connections, default=-1)
    return packets.packets


def report(root: Path, names: list[str]) -> int:
    """Report on files as captures of their own, see that the report is whole, and give how many packets they have."""
    from analysis.analyse import analyse  # noqa: PLC0415 - as above

    with tempfile.TemporaryDirectory() as out:
        told = analyse([root / name for name in names], Path(out))
        written = json.loads(Path(out, "report.json").read_text(encoding="utf-8"))
        page = Path(out, "report.html").read_text(encoding="utf-8")
    assert len(written["captures"]) == len(names)
    assert page.rstrip().endswith("</html>")
    return sum(capture["packets"] for capture in told["captures"])


def serve(pipe: Connection, work: Callable[[Path, list[str]], int]) -> None:
    """Do the work on all files that come through the pipe; answer with what it gives, or with what went wrong."""
    limit = None
    while (files := pipe.recv()) is not None:
        with tempfile.TemporaryDirectory() as folder:
            for name, data in files.items():
                (Path(folder) / name).write_bytes(data)
            try:
                pipe.send(work(Path(folder), list(files)))
            except Exception:  # noqa: BLE001 - the test says which
                pipe.send(traceback.format_exc())
        if limit is None:  # everything is imported now
            limit = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize() + MEMORY
            resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


@contextmanager
def surviving(work: Callable[[Path, list[str]], int]) -> Iterator[Callable[[dict[str, bytes]], int]]:
    """Give what has work done on files, by name, and fails the test when that ends in any other way."""
    context = multiprocessing.get_context("spawn")
    children: list[tuple[Connection, multiprocessing.process.BaseProcess]] = []

    def begin() -> None:
        ours, theirs = context.Pipe()
        child = context.Process(target=serve, args=(theirs, work), daemon=True)
        child.start()
        theirs.close()
        children.append((ours, child))
        assert survive({"0.pcap": VARIANTS["pcap"].write(traffic().in_order()[:40]).data}) == 40

    def survive(files: dict[str, bytes]) -> int:
        if not children or not children[-1][1].is_alive():
            begin()
        pipe, child = children[-1]
        pipe.send(files)
        if not pipe.poll(PATIENCE):
            child.kill()
            pytest.fail("it hangs")
        try:
            answer = pipe.recv()
        except EOFError:
            child.join()
            pytest.fail(f"it crashed: exit code {child.exitcode}")
        assert isinstance(answer, int), answer
        return answer

    begin()
    yield survive
    pipe, child = children[-1]
    pipe.send(None)
    child.join(PATIENCE)


@pytest.fixture(scope="module")
def survives() -> Iterator[Survives]:
    """Give what reads files as the chunks of one capture."""
    with surviving(read) as survive:
        yield lambda *files: survive({f"{number}.pcap": data for number, data in enumerate(files)})


@pytest.fixture(scope="module")
def reported() -> Iterator[Callable[[dict[str, bytes]], int]]:
    """Give what reports on files, by name."""
    with surviving(report) as survive:
        yield survive


def fuzzed(examples: int) -> settings:
    return settings(max_examples=examples * EFFORT, deadline=None, derandomize=EFFORT == 1, database=None)


@given(st.sampled_from(sorted(VARIANTS)), st.integers(0, 400), st.integers(0, 2**32), st.integers(1, 30))
@fuzzed(700)
def test_damaged_captures_of_every_format(survives: Survives, name: str, start: int, seed: int, times: int) -> None:
    packets = traffic(VARIANTS[name].versions).in_order()[start:][:25]
    survives(mutated(VARIANTS[name].write(packets).data, seed, times))


@given(st.sampled_from(sorted(LINKS)), st.sampled_from(["", *TUNNELS]), st.integers(0, 2**32), st.integers(1, 5))
@fuzzed(700)
def test_damaged_packets_in_sound_records(survives: Survives, link: str, tunnel: str, seed: int, times: int) -> None:
    """Every packet is counted, whatever is in it."""
    packets = traffic().in_order()[seed % 800 :][:20]
    frames = [
        mutated(Interface(link, tunnel=tunnel).frame(packet, "<"), seed + packet.time, times) for packet in packets
    ]
    records = b"".join(struct.pack("<IIII", n, 0, len(frame), len(frame)) + frame for n, frame in enumerate(frames))
    head = struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, LINKS[link][0])
    assert survives(head + records) == len(frames)


@given(st.integers(0, 300), st.lists(st.tuples(st.binary(max_size=120), st.integers(0, 2**16)), max_size=20))
@fuzzed(300)
def test_random_packets_of_every_link_type(survives: Survives, link: int, frames: list[tuple[bytes, int]]) -> None:
    records = b"".join(struct.pack(">IIII", 1, 2, len(frame), wire) + frame for frame, wire in frames)
    assert survives(struct.pack(">IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, link) + records) == len(frames)


MAGIC = (
    "d4c3b2a1",
    "a1b2c3d4",
    "4d3cb2a1",
    "a1b23c4d",
    "34cdb2a1",
    "0a0d0d0a1c0000004d3c2b1a",
    "1f8b08",
    "28b52ffd",
    "",
)


@given(st.sampled_from(MAGIC), st.binary(max_size=400), st.binary(max_size=400))
@fuzzed(300)
def test_random_files(survives: Survives, magic: str, content: bytes, other: bytes) -> None:
    survives(bytes.fromhex(magic) + content, other)


@given(st.sampled_from(["gzip", "zstd"]), st.integers(0, 2**32), st.integers(1, 10))
@fuzzed(200)
def test_damaged_compressed_captures(survives: Survives, kind: str, seed: int, times: int) -> None:
    data = VARIANTS["pcap"].write(traffic().in_order()[:200]).data
    packed = gzip.compress(data) if kind == "gzip" else bytes(pa.compress(data, codec="zstd", asbytes=True))
    survives(mutated(packed, seed, times))


HEADER = pcap([], Interface()).data
SECTION = bytes.fromhex("0a0d0d0a1c0000004d3c2b1a01000000ffffffffffffffff1c000000")
LENGTHS = {
    "a packet of 4 GiB": HEADER + struct.pack("<IIII", 1, 0, 0xFFFFFFFF, 0xFFFFFFFF),
    "a packet of 256 KiB that is not there": HEADER + struct.pack("<IIII", 1, 0, 0x40000, 0x40000),
    "a block of 4 GiB": SECTION + struct.pack("<II", 6, 0xFFFFFFFC),
    "a block of 16 MiB that is not there": SECTION + struct.pack("<II", 6, 1 << 24),
    "a block of nothing": SECTION + struct.pack("<II", 6, 0),
    "a million interfaces": SECTION + struct.pack("<IIHHII", 1, 20, 1, 0, 0, 20) * 1_000_000,
    "a million sections": SECTION * 1_000_000,
}


@pytest.mark.parametrize("name", LENGTHS)
def test_lengths_and_counts_that_are_only_claimed(survives: Survives, name: str) -> None:
    assert survives(LENGTHS[name]) == 0


def zeros(size: int, pack: str) -> bytes:
    """Compress a capture that goes on with zeros: packets of no bytes."""
    if pack == "gzip":
        packed = io.BytesIO()
        with gzip.GzipFile(fileobj=packed, mode="wb", compresslevel=1) as file:
            file.write(HEADER)
            for _ in range(size >> 20):
                file.write(bytes(1 << 20))
        return packed.getvalue()
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, "zstd") as stream:
        stream.write(HEADER)
        for _ in range(size >> 20):
            stream.write(bytes(1 << 20))
    return bytes(sink.getvalue())


@pytest.mark.parametrize("pack", ["gzip", "zstd"])
def test_a_small_file_that_expands_to_half_a_gibibyte(survives: Survives, pack: str) -> None:
    assert survives(zeros(512 << 20, pack)) == (512 << 20) // 16


def test_gzip_in_a_hundred_thousand_members(survives: Survives) -> None:
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    nothing = packer.compress(b"") + packer.flush()
    assert survives(gzip.compress(HEADER) + nothing * 100_000 + gzip.compress(bytes(160))) == 10


NAMES = (
    *("\x1b]0;title\x07.pcap", "<img src=x onerror=alert(1)>", "{{ 7 * 7 }}&quot;'\"`.pcap", "a\nerror: b.pcap"),
    *("\udcff.pcap", "\u202efacp.pcap", "report.json", "connections.parquet", "-w", "%s%n\\.pcap", "n" * 250),
)
CLOCK = st.tuples(
    st.sampled_from([0, 3, 6, 9, 12, 18, 19, 20, 127, 128, 148, 190, 191, 192, 255]) | st.integers(0, 255),
    st.sampled_from([0, -(2**63), 2**63 - 1, 2**33, -(2**33)]) | st.integers(-(2**63), 2**63 - 1),
    st.sampled_from([0, 2**63 - 1, 2**64 - 1, 10**18, 10**15]) | st.integers(0, 2**64 - 1),
    st.sampled_from([1, 10**3, 10**9, 2**40, 2**61, 2**64 - 1]),
)


def dated(frames: list[bytes], resolution: int, offset: int, first: int, step: int) -> bytes:
    """Write a pcapng file of an interface with this if_tsresol and if_tsoffset, and packets so many units apart."""
    clock = option(9, bytes([resolution]), "<") + option(14, struct.pack("<q", offset), "<") + option(0, b"", "<")
    blocks = [block(1, struct.pack("<HHI", 1, 0, 0) + clock, "<")]
    for number, frame in enumerate(frames):
        time = (first + number * step) % 2**64
        blocks.append(block(6, BLOCKS[6]("<", 0, time, frame, len(frame)), "<"))
    return SECTION + b"".join(blocks)


@pytest.mark.parametrize("name", NAMES)
@given(clock=CLOCK, start=st.integers(0, 700), seed=st.integers(0, 2**32), times=st.integers(0, 20))
@fuzzed(3)
def test_reports_on_damaged_captures_at_odd_times_with_odd_names(
    reported: Callable[[dict[str, bytes]], int],
    name: str,
    clock: tuple[int, int, int, int],
    start: int,
    seed: int,
    times: int,
) -> None:
    packets = traffic().in_order()[start:][:25]
    sound = dated([Interface().frame(packet, "<") for packet in packets], *clock)
    damaged = VARIANTS["pcap"].write(packets).data
    reported({name: sound, "other.pcap": damaged[:4] + mutated(damaged[4:], seed, times)})


@pytest.mark.skipif(not PCAPS.is_dir(), reason="SNOOPY_PCAPS names no folder of captures")
def test_damaged_captures_of_others(survives: Survives) -> None:
    files = sorted(path for path in PCAPS.rglob("*") if re.search(r"\.p?cap(ng)?(\.gz)?$", path.name))
    chance = random.Random(None if EFFORT > 1 else 1)
    for path in files * EFFORT:
        data = path.read_bytes()[:200_000]
        survives(mutated(data, chance.randrange(2**32), 1 + len(data) // chance.choice((100, 1000, 10_000))))
