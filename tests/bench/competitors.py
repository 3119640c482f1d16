"""What others do to get a table of connections from a capture: each as its users write it, in a process of its own.

    python competitors.py NAME FILE

prints what it found as JSON. It runs in the bench's own virtual environment, which has these packages.
"""

# ruff: noqa: PLC0415 - each pays for its own imports, and for no other's
# mypy: ignore-errors

import csv
import io
import json
import subprocess
import sys
from collections.abc import Callable
from typing import Any

FIELDS = (
    *("frame.time_epoch", "frame.len", "ip.src", "ip.dst", "ipv6.src", "ipv6.dst", "ip.proto", "ipv6.nxt"),
    *("tcp.srcport", "tcp.dstport", "udp.srcport", "udp.dstport", "tcp.flags", "tcp.seq_raw", "tcp.len"),
    *("tcp.stream", "udp.stream"),
    *(f"tcp.analysis.{name}" for name in ("retransmission", "out_of_order", "lost_segment", "duplicate_ack")),
)
SYN, ACK = 2, 16


def tshark(file: str) -> dict[str, int]:
    """Let tshark write 21 fields of every packet, and pandas group them."""
    import pandas as pd

    words = [word for name in FIELDS for word in ("-e", name)]
    command = ["tshark", "-n", "-r", file, "-T", "fields", "-E", "occurrence=f", *words]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        packets = pd.read_csv(process.stdout, sep="\t", names=FIELDS, low_memory=False)
    tcp = packets[packets["tcp.stream"].notna()]
    flags = tcp["tcp.flags"].map(lambda text: int(str(text), 16))
    table = (
        tcp.assign(
            syn=tcp["frame.time_epoch"].where(flags & (SYN | ACK) == SYN),
            answer=tcp["frame.time_epoch"].where(flags & (SYN | ACK) == SYN | ACK),
            again=tcp["tcp.analysis.retransmission"].notna(),
        )
        .groupby("tcp.stream")
        .agg(
            packets=("frame.len", "size"),
            bytes=("frame.len", "sum"),
            start=("frame.time_epoch", "min"),
            end=("frame.time_epoch", "max"),
            syn=("syn", "min"),
            answer=("answer", "min"),
            retransmissions=("again", "sum"),
        )
    )
    return {"packets": len(packets), "connections": len(table), "retransmissions": int(table["retransmissions"].sum())}


def pyshark(file: str) -> dict[str, int]:
    """Look at every packet of a FileCapture, and keep a dictionary of streams."""
    import pyshark as module

    streams: dict[str, list[int]] = {}
    packets = again = 0
    capture = module.FileCapture(file, keep_packets=False)
    for packet in capture:
        packets += 1
        if "TCP" in packet and "ICMP" not in packet:
            stream = streams.setdefault(packet.tcp.stream, [0, 0])
            stream[0] += 1
            stream[1] += int(packet.length)
            again += hasattr(packet.tcp, "analysis_retransmission")
    capture.close()
    return {"packets": packets, "connections": len(streams), "retransmissions": again}


def nfstream(file: str) -> dict[str, int]:
    """Let nfstream make flows that do not time out, without looking at applications."""
    from nfstream import NFStreamer

    flows = NFStreamer(
        source=file, statistical_analysis=True, n_dissections=0, idle_timeout=100_000, active_timeout=1_000_000
    ).to_pandas()
    tcp = flows[flows["protocol"] == 6]
    return {"packets": int(flows["bidirectional_packets"].sum()), "connections": len(tcp)}


def tcptrace(file: str) -> dict[str, int]:
    """Read tcptrace's table."""
    command = ["tcptrace", "-n", "-l", "--csv", file]
    output = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False).stdout
    table = "\n".join(line for line in output.splitlines() if line and not line.startswith("#"))
    rows = [row for row in csv.DictReader(io.StringIO(table), skipinitialspace=True) if row.get("first_packet")]
    again = sum(int(row[f"rexmt_data_pkts_{way}"] or 0) for row in rows for way in ("a2b", "b2a"))
    return {"connections": len(rows), "retransmissions": again}


def applications(file: str) -> dict[str, int]:
    """Let tshark go over the whole file for its DNS, TLS and HTTP messages."""
    names = ("dns.id", "dns.qry.name", "dns.flags.rcode", "tls.handshake.type", "tls.alert_message.desc")
    more = ("tls.handshake.extensions_server_name", "http.request.method", "http.response.code", "frame.time_epoch")
    command = ["tshark", "-n", "-r", file, "-Y", "dns or tls or http", "-T", "fields"]
    words = [word for name in (*names, *more) for word in ("-e", name)]
    output = subprocess.run([*command, *words], capture_output=True, check=False).stdout
    return {"packets": output.count(b"\n")}


NAMES: dict[str, Callable[[str], Any]] = {
    one.__name__: one for one in (tshark, pyshark, nfstream, tcptrace, applications)
}

if __name__ == "__main__":
    sys.stdout.write(json.dumps(NAMES[sys.argv[1]](sys.argv[2])))
