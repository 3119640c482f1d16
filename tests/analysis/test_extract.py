"""Tables alone: what is written, with which types, and without waiting for pandas; and a connection's packets."""

import gzip
import json
import os
import struct
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from analysis.analyse import analyse
from analysis.arrow import numbers, strings, without_empty, words
from analysis.captures import CaptureError
from analysis.conversation import MOST
from analysis.extract import extract
from analysis.following import follow
from analysis.kernel import VXLAN_PORTS
from analysis.packets import Reading, read
from analysis.tables import TABLES, schema

CLIENT, API = "10.244.0.2", "10.244.1.3"
SECOND, MS = 1_000_000_000, 1_000_000


@pytest.fixture
def capture(wire: Any, write: Any, tmp_path: Path) -> Path:
    wire.http(0, CLIENT, 40000, API)
    wire.refused(SECOND, CLIENT, 40001, API, 81)
    wire.lookup(2 * SECOND, CLIENT, 50000, "api.example.com")
    path: Path = write(tmp_path / "a.pcap", wire.packets)
    return path


def test_every_table_has_the_documented_columns(capture: Path, tmp_path: Path) -> None:
    assert extract([capture], tmp_path / "out", list(TABLES)) == []
    rows = {}
    for table in TABLES:
        found = pq.read_table(tmp_path / "out" / f"{table}.parquet")
        assert found.schema == schema(table)
        assert all(field.metadata[b"description"] for field in found.schema)
        rows[table] = found.num_rows
    assert rows == {"connections": 3, "packets": 12, "dns": 1, "tls": 0, "http": 0}


def test_tables_say_what_the_capture_holds(capture: Path, tmp_path: Path) -> None:
    extract([capture], tmp_path, ["connections", "packets", "dns"])
    connections, packets, dns = (
        pd.read_parquet(tmp_path / f"{name}.parquet") for name in ("connections", "packets", "dns")
    )
    assert list(connections["outcome"].fillna("")) == ["succeeded", "refused", ""]
    assert list(connections["file"].unique()) == ["a.pcap"]
    assert list(connections["proof_frame"]) == [2, 10, 11]
    assert list(connections["application"].fillna("")) == ["", "", "dns"]
    assert list(packets["frame"]) == list(range(1, 13))
    assert list(packets["connection"]) == [0] * 8 + [1] * 2 + [2] * 2
    assert list(packets["is_orig"]) == [True, False, True, True, False, False, True, False, *[True, False] * 2]
    assert list(packets["payload_bytes"][:8]) == [0, 0, 0, 5, 0, 9, 0, 0]
    assert packets["payload_hash"][3] == 0xA430D84680AABD0B  # FNV-1a of b"hello"
    assert list(dns["name"]) == ["api.example.com"]
    assert list(dns["community_id"]) == [connections["community_id"][2]]


@pytest.mark.parametrize("compress", [gzip.compress, pa.Codec("zstd").compress], ids=["gzip", "zstd"])
def test_compressed_captures_are_the_same(capture: Path, tmp_path: Path, compress: Any) -> None:
    packed = tmp_path / "b.pcap.packed"
    packed.write_bytes(bytes(compress(capture.read_bytes())))
    extract([capture], tmp_path / "plain", ["connections"])
    extract([packed], tmp_path / "packed", ["connections"])
    plain, same = (pd.read_parquet(tmp_path / name / "connections.parquet") for name in ("plain", "packed"))
    names = ["capture", "file", "proof_file"]
    pd.testing.assert_frame_equal(plain.drop(columns=names), same.drop(columns=names))


def test_chunks_are_one_capture_and_frames_are_counted_in_each(wire: Any, store: Any, tmp_path: Path) -> None:
    wire.http(0, CLIENT, 40000, API)
    store.plan("client")
    store.capture("client", wire.packets[:3], wire.packets[3:5], wire.packets[5:])
    extract([store.root], tmp_path, ["packets"])
    packets = pd.read_parquet(tmp_path / "packets.parquet")
    assert [Path(file).name for file in packets["file"]] == [f"00000{n}.pcap" for n in (1, 1, 1, 2, 2, 3, 3, 3)]
    assert list(packets["frame"]) == [1, 2, 3, 1, 2, 1, 2, 3]


def test_what_could_not_be_read_is_said(wire: Any, write: Any, tmp_path: Path) -> None:
    wire.http(0, CLIENT, 40000, API)
    write(tmp_path / "cut.pcap", wire.packets, cut=3)
    (tmp_path / "bad.pcap").write_bytes(bytes.fromhex("0a0d0d0a") + bytes(40))
    packed = gzip.compress((tmp_path / "cut.pcap").read_bytes())
    (tmp_path / "early.pcap.gz").write_bytes(packed[:-12])
    assert sorted(extract([tmp_path], tmp_path / "out", ["connections"])) == [
        "bad.pcap: a section of it has no byte-order magic",
        "cut.pcap ends in the middle of a packet",
        "early.pcap.gz ends in the middle of a packet",
        "early.pcap.gz: it cannot be read to its end: it ends early",
    ]
    rows = pd.read_parquet(tmp_path / "out/connections.parquet")
    assert list(rows["capture"]) == ["cut.pcap", "early.pcap.gz"]
    assert list(rows["resp_packets"]) == [3, 3]


def test_nothing_to_read_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(CaptureError, match="no captures here"):
        extract([tmp_path], tmp_path / "out", ["connections"])
    (tmp_path / "file").touch()
    with pytest.raises(CaptureError, match="file"):
        extract([tmp_path / "file"], tmp_path / "out", ["connections"])


def test_connections_and_packets_do_not_wait_for_pandas(capture: Path, tmp_path: Path) -> None:
    code = (
        "import sys; sys.modules['pandas'] = None; from pathlib import Path; from analysis.extract import extract;"
        f"extract([Path({str(capture)!r})], Path({str(tmp_path)!r}), ['connections', 'packets'])"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    assert pq.read_metadata(tmp_path / "connections.parquet").num_rows == 3


def test_the_packets_of_a_connection(capture: Path, tmp_path: Path) -> None:
    extract([capture], tmp_path / "out", ["connections"])
    identity = pd.read_parquet(tmp_path / "out/connections.parquet")["community_id"][1]
    head, *lines = follow([capture], identity)
    assert head == f"a.pcap: {CLIENT} port 40001 → {API} port 81"
    assert [line.split()[0] for line in lines] == ["a.pcap:9", "a.pcap:10"]
    assert [line.split()[2] for line in lines] == ["→", "←"]
    assert "[RST, ACK]" in lines[1]
    assert not list(follow([capture], "1:nobody"))


def test_whose_packet_it_is_does_not_need_ports(wire: Any, write: Any, tmp_path: Path) -> None:
    for at, src, dst, kind in ((0, CLIENT, API, 8), (MS, API, CLIENT, 0)):
        wire.udp(at, src, 0, dst, 0, b"")
        wire.packets[-1] = replace(wire.packets[-1], proto=1, head=struct.pack("!BBHHH", kind, 0, 0, 1, 1))
    path = write(tmp_path / "a.pcap", wire.packets)
    extract([path], tmp_path / "out", ["connections"])
    (identity,) = pd.read_parquet(tmp_path / "out/connections.parquet")["community_id"]
    assert [line.split()[2] for line in list(follow([path], identity))[1:]] == ["→", "←"]


def test_a_connection_is_shown_in_part_and_that_is_said(wire: Any, write: Any, tmp_path: Path) -> None:
    for number in range(MOST + 7):
        wire.udp(number * MS, CLIENT, 40000, API, 9, b"data")
    path = write(tmp_path / "a.pcap", wire.packets)
    extract([path], tmp_path / "out", ["connections"])
    (identity,) = pd.read_parquet(tmp_path / "out/connections.parquet")["community_id"]
    lines = list(follow([path], identity))
    assert (len(lines), lines[-1]) == (MOST + 2, "and 7 more packets")


def test_a_file_whose_name_is_no_text(capture: Path, tmp_path: Path) -> None:
    odd = tmp_path / os.fsdecode(b"odd\xff.pcap")
    capture.rename(odd)
    extract([odd], tmp_path / "tables", ["connections"])
    assert set(pd.read_parquet(tmp_path / "tables/connections.parquet")["file"]) == {"odd\\udcff.pcap"}
    analyse([odd], tmp_path / "report")
    assert json.loads((tmp_path / "report/report.json").read_text())["captures"][0]["packets"] == 12


def test_nothing_half_done_is_left(capture: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out/connections.parquet").write_text("an older one")
    code = (
        "import resource; from pathlib import Path; from analysis.extract import extract;"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096));"
        "import signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN);"
        f"extract([Path({str(capture)!r})], Path({str(tmp_path / 'out')!r}), ['connections'])"
    )
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)
    assert "WritingError" in done.stderr
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["connections.parquet"]
    assert (tmp_path / "out/connections.parquet").read_text() == "an older one"


def test_vxlan_is_looked_for_on_the_ports_that_are_given(wire: Any, write: Any, tmp_path: Path) -> None:
    wire.http(0, CLIENT, 40000, API)
    outer = type(wire)()
    for packet in wire.packets:
        outer.udp(0, "172.18.0.2", 50000, "172.18.0.3", 4790, bytes.fromhex("0800000000002a00") + packet.frame())
    name = write(tmp_path / "a.pcap", outer.packets).name
    plain = read([name], tmp_path).connections
    inside = read([name], tmp_path, reading=Reading(vxlan_ports=(*VXLAN_PORTS, 4790))).connections
    assert (list(plain["dst_port"]), list(plain["tunnel"])) == ([4790], [0])
    assert (list(inside["dst_port"]), list(inside["tunnel"]), list(inside["tunnel_id"])) == ([80], [1], [42])


def test_only_so_many_packets_are_selected(wire: Any, write: Any, tmp_path: Path) -> None:
    for number in range(5):
        wire.lookup(number * SECOND, CLIENT, 50000 + number, "api.example.com", number=number)
    name = write(tmp_path / "a.pcap", wire.packets).name
    packets = read([name], tmp_path, reading=Reading(most_selected=3), select=tmp_path / "selected.pcap")
    assert packets.selected is not None
    assert (list(packets.selected.frames), packets.passed_over) == ([1, 2, 3], 7)


def test_arrow_arrays() -> None:
    assert strings(np.array([b"a", b"", b"abc"])).to_pylist() == ["a", "", "abc"]
    assert strings(np.array([], "S5")).to_pylist() == []
    assert words(("x", "yz"), np.array([1, 0, 1])).to_pylist() == ["yz", "x", "yz"]
    assert without_empty(strings(np.array([b"a", b""]))).to_pylist() == ["a", None]
    assert numbers(np.arange(10)[::3]).to_pylist() == [0, 3, 6, 9]
    assert numbers(np.array([1.5, 2.5]), np.array([True, False])).to_pylist() == [1.5, None]
    assert numbers(np.array([True, False] * 5)).to_pylist() == [True, False] * 5
