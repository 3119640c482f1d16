"""The connection table is exact, every count and time: in every format, link type, tunnel, compression and cut."""

import gzip
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pytest

from analysis.connections import connections
from analysis.packets import Packets, read
from tests.analysis.formats import File, Interface
from tests.analysis.traffic import SECOND, Packet, Row, Traffic
from tests.analysis.variants import VARIANTS, sections, traffic

SIDES = ("packets", "bytes", "payload_bytes", "retransmitted", "largest_acked", "stuck_bytes", "stuck_tries")
COUNTS = (
    *(f"{end}_{what}" for end in ("orig", "resp") for what in SIDES),
    *(f"retransmissions_{kind}" for kind in ("plain", "fast", "spurious")),
    *("out_of_order", "lost_segment", "duplicate_ack", "keep_alive", "zero_window", "window_full"),
    *("syn_count", "synack_count", "established", "too_big", "fragments"),
)
NAMES = ("proto", "src", "src_port", "dst", "dst_port", "isn")  # which row it is
SAID = ("conn_state", "outcome", "reset_by", "icmp_code", "mtu", "resp_isn")


def look(root: Path, **files: bytes) -> tuple[Packets, pd.DataFrame]:
    """Read files as one capture."""
    names = []
    for name, data in files.items():
        names.append(name.replace("_", "."))
        (root / names[-1]).write_bytes(data)
    packets = read(names, root)
    return packets, connections(packets, packets.last or 0)


def truth(row: Row, time: Callable[[Packet], int], number: Callable[[Packet], int]) -> dict[str, Any]:
    """Give what the table must say of a row: times in ns."""
    spans = {name: [time(end) - time(start) for start, end in pairs] for name, pairs in row.spans.items()}
    said: dict[str, Any] = {name: getattr(row, name) for name in (*NAMES, *SAID)}
    said |= {name: row.counts[name] for name in COUNTS}
    said |= {name: spans.get(name, [None])[0] for name in ("rtt", "ack_rtt")}
    first = [row.spans[f"first_of_{end}"][:1] for end in ("orig", "resp")]
    said["first_byte"] = time(first[1][0][0]) - time(first[0][0][0]) if all(first) else None
    for end in ("orig", "resp"):
        trips = spans.get(f"{end}_data_rtt", [])
        said[f"{end}_data_rtts"] = len(trips)
        said[f"{end}_data_rtt"] = round(sum(trips) / len(trips)) if trips else None
        said[f"{end}_data_rtt_max"] = max(trips, default=None)
    said["syn_times"] = [span // 1000 for span in spans.get("syns", [])]
    said["start"], said["frame"] = time(row.packets[0]), number(row.packets[0])
    said["duration"] = time(row.packets[-1]) - said["start"]
    return said | ({"history": row.history} if row.history else {})


def seen(row: dict[Any, Any]) -> dict[str, Any]:
    """Give what a row of the table says: times in ns, None for no value."""
    syn_times = [round(after * 10**6) for after in row.pop("syn_times_s")]
    said = {name: None if pd.isna(value) else value for name, value in row.items()} | {"syn_times": syn_times}
    for name in [name for name in said if name.endswith(("_ms", "_s"))]:
        short, unit = (name[:-3], 10**6) if name.endswith("_ms") else (name[:-2], SECOND)
        said[short] = None if said[name] is None else round(said[name] * unit)
    return said


def key(said: dict[str, Any]) -> tuple[Any, ...]:
    return tuple(said[name] for name in NAMES)


def differences(
    wire: Traffic, file: File, table: pd.DataFrame, columns: Sequence[tuple[str, object]] = ()
) -> list[str]:
    """Compare a table with the truth; a line for each value that differs and each row that is missing or too many."""
    place = {packet: index for index, packet in enumerate(wire.in_order())}
    right = [truth(row, lambda p: file.times[place[p]], lambda p: place[p] + 1) | dict(columns) for row in wire.rows]
    rows = {key(said): said for said in map(seen, table.to_dict("records"))}
    found = [f"no row {key(said)}" for said in right if key(said) not in rows]
    found += [f"a row too many {one}" for one in rows.keys() - {key(said) for said in right}]
    return found + [
        f"{said['conn_state']} {key(said)} {name}: {value} and not {rows[key(said)][name]}"
        for said in right
        if key(said) in rows
        for name, value in said.items()
        if rows[key(said)][name] != value
    ]


@pytest.mark.parametrize("name", VARIANTS)
def test_every_count_and_every_time(name: str, tmp_path: Path) -> None:
    variant = VARIANTS[name]
    wire = traffic(variant.versions)
    file = variant.write(wire.in_order())
    packets, table = look(tmp_path, a_pcap=file.data)
    assert (packets.packets, packets.bytes) == (len(file.times), sum(file.sizes))
    assert (packets.first, packets.last) == (min(file.times), max(file.times))
    assert (dict(packets.skipped), packets.problems, packets.unreadable, packets.truncated_at) == ({}, [], {}, [])
    assert differences(wire, file, table, variant.columns) == []


def compressed(data: bytes, kind: str) -> bytes:
    if kind == "gzip":
        return gzip.compress(data[:5000]) + gzip.compress(data[5000:])  # of several members, as parallel gzip writes
    return bytes(pa.compress(data, codec="zstd", asbytes=True)) if kind == "zstd" else data


@pytest.mark.parametrize("kinds", [("", "", ""), ("gzip",), ("zstd",), ("gzip", "", "zstd")], ids=str)
@pytest.mark.parametrize("name", ["pcap of microseconds, big-endian", "pcapng of many link types"])
def test_chunks_and_compressed_files_are_one_capture(name: str, kinds: Sequence[str], tmp_path: Path) -> None:
    wire = traffic()
    ordered = wire.in_order()
    share = -(-len(ordered) // len(kinds))
    whole, files = File(), {}
    for number, kind in enumerate(kinds):
        chunk = VARIANTS[name].write(ordered[number * share : (number + 1) * share])
        files[f"{number}_pcap"] = compressed(chunk.data, kind)
        whole.times += chunk.times
    packets, table = look(tmp_path, **files)
    assert packets.counts == [len(ordered[n * share : (n + 1) * share]) for n in range(len(kinds))]
    assert differences(wire, whole, table) == []


@pytest.mark.parametrize("name", ["pcap", "modified pcap, big-endian", "pcapng", "pcapng, big-endian"])
@pytest.mark.parametrize("kind", ["", "gzip", "zstd"])
@pytest.mark.parametrize("beyond", [1, 13, 50])
def test_what_is_before_a_cut_is_exact(name: str, kind: str, beyond: int, tmp_path: Path) -> None:
    """A file that ends that many bytes into its 601st record is like one that has 600, but for the remark."""
    ordered = traffic().in_order()
    file = VARIANTS[name].write(ordered)
    cut = compressed(file.data[: file.ends[599] + beyond], kind)
    packets, table = look(tmp_path, cut_pcap=cut)
    _, whole = look(tmp_path, whole_pcap=VARIANTS[name].write(ordered[:600]).data)
    assert packets.truncated_at == [{"file": "cut.pcap", "frame": 600}]
    pd.testing.assert_frame_equal(table, whole)
    assert (packets.packets, packets.last) == (600, max(file.times[:600]))


def test_a_cut_compressed_file_is_read_as_far_as_it_goes(tmp_path: Path) -> None:
    file = VARIANTS["pcap"].write(traffic().in_order())
    cut = gzip.compress(file.data)[:-9000]
    left = zlib.decompressobj(wbits=31).decompress(cut)
    whole = sum(end <= len(left) for end in file.ends)
    packets, _ = look(tmp_path, cut_pcap=cut)
    assert 0 < whole < len(file.ends)
    assert (packets.packets, packets.last) == (whole, max(file.times[:whole]))
    assert [cut["frame"] for cut in packets.truncated_at] == [whole]


def test_simple_packet_blocks_have_no_time(tmp_path: Path) -> None:
    wire = traffic()
    packets, table = look(tmp_path, simple_pcapng=sections(("<", [Interface()]), kinds=(3,))(wire.in_order()).data)
    assert (packets.packets, packets.first, packets.last) == (len(wire.packets), 0, 0)
    truths = sorted((row.proto, row.src, row.src_port, row.isn, row.counts["resp_bytes"]) for row in wire.rows)
    columns = table[["proto", "src", "src_port", "isn", "resp_bytes"]]
    assert sorted(columns.itertuples(index=False, name=None)) == truths
