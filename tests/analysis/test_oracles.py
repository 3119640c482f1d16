"""Our connections of captures that nobody here wrote, against what Zeek's own tests and tshark say of them."""

import os
import subprocess
from collections import Counter, defaultdict
from pathlib import Path

import pandas as pd
import pytest

from analysis.connections import connections
from analysis.packets import Packets, read

PCAPS = Path(os.environ.get("SNOOPY_PCAPS", "../shared/pcaps"))
ZEEK = {  # capture: TCP and UDP rows of conn.log whose conn_state is not ours, and why
    "wikipedia.pcap": 0,
    "missing-syn.pcap": 0,
    "miss_end_data.pcap": 0,
    "q-in-q.pcap": 0,
    "xmpp-starttls.pcap": 0,
    "irc-starttls.pcap": 1,  # a RST between the two FINs: a normal end to Zeek, a reset to us
    "globus-url-copy.pcap": 1,  # both FINs are there, and Zeek calls the connection open (S1)
}
TSHARK = ("zeek/206_example_b.pcap", "nfstream/skype.pcap", "mercury/emix.pcap", "pcapplusplus/example2.pcap")

pytestmark = pytest.mark.skipif(not PCAPS.is_dir(), reason="SNOOPY_PCAPS names no folder of captures")


def look(name: str) -> tuple[Packets, pd.DataFrame]:
    packets = read([name], PCAPS)
    return packets, connections(packets.table, packets.unreachable, packets.last or 0)


@pytest.mark.parametrize("name", ZEEK)
def test_zeek(name: str) -> None:
    lines = (PCAPS / "zeek-conn-logs" / f"{name}.conn.log").read_text().splitlines()
    columns = next(line for line in lines if line.startswith("#fields")).split("\t")[1:]
    _, rows = look(f"zeek/{name}")
    ours: dict[tuple[str, frozenset[tuple[str, int]]], list[str]] = defaultdict(list)
    for row in rows.itertuples():
        ours[row.proto, frozenset({(row.src, row.src_port), (row.dst, row.dst_port)})].append(row.conn_state)
    compared = differing = 0
    for line in lines:
        values = dict(zip(columns, line.split("\t"), strict=False))
        if line.startswith("#") or values["proto"] not in {"tcp", "udp"}:
            continue
        ends = frozenset((values[f"id.{end}_h"], int(values[f"id.{end}_p"])) for end in ("orig", "resp"))
        compared += 1
        differing += values["conn_state"] != ours[values["proto"], ends].pop(0)
    assert compared
    assert differing == ZEEK[name]


@pytest.mark.parametrize("name", TSHARK)
def test_tshark(name: str) -> None:
    command = [
        "tshark",
        "-n",
        "-r",
        PCAPS / name,
        "-Y",
        "not icmp",
        "-T",
        "fields",
        "-e",
        "tcp.stream",
        "-e",
        "communityid",
    ]
    command += ["-e", "tcp.analysis.retransmission", "--enable-protocol", "communityid"]
    output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    theirs = [line.split("\t") for line in output.splitlines()]
    packets, rows = look(name)
    tcp = rows[rows["proto"] == "tcp"]
    assert len(tcp) == len({stream for stream, _, _ in theirs if stream})
    assert set(tcp["community_id"]) == {identity for stream, identity, _ in theirs if stream}
    ours = tcp[["retransmissions_plain", "retransmissions_fast", "retransmissions_spurious"]].to_numpy().sum()
    assert ours == sum(bool(again) for _, _, again in theirs)
    assert (
        len(packets.table)
        == tcp["orig_packets"].sum() + tcp["resp_packets"].sum() + (packets.table["proto"] != "tcp").sum()
    )


def test_every_packet_is_in_a_table_or_counted_as_skipped() -> None:
    reasons: Counter[str] = Counter()
    for name in (
        "mercury/emix.pcap",
        "zeek/geneve-vxlan-dns-truncated.pcap",
        "ndpi/alexa-app.pcapng",
        "tcpdump/gso-ipv4-vxlan-ipv4.pcap",
        "gopacket/test102.pcapng",  # holds blocks that are no packets
        "suricata/tls_DER-incomplete-content.pcap",  # a damaged record follows six good ones
    ):
        packets = read([name], PCAPS)
        assert len(packets.table) + len(packets.unreachable) + sum(packets.skipped.values()) == packets.packets
        assert packets.packets == sum(packets.counts) > 0
        reasons.update(packets.skipped)
    assert "tshark stopped before them" not in reasons
