"""The Parquet tables: their columns, each with unit and source, and the files that they are written to.

One row is what one capture saw: what two captures saw is there twice. docs/report.md is written from here.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from analysis.arrow import Array, numbers, strings, whole_numbers, without_empty, words
from analysis.captures import Capture
from analysis.kernel import KINDS

TIME = pa.timestamp("ns", "UTC")


class Column(NamedTuple):
    """A column: its name, Arrow's type, its unit, and what it is, with the source of the rule."""

    name: str
    type: pa.DataType
    unit: str
    text: str


def _columns(*rows: tuple[str, pa.DataType, str, str]) -> tuple[Column, ...]:
    return tuple(Column(*row) for row in rows)


INT, FLOAT, TEXT, BOOL = pa.int64(), pa.float64(), pa.string(), pa.bool_()
CAPTURE = _columns(
    ("campaign", TEXT, "", "the campaign's name"),
    ("capture", TEXT, "", "the capture that saw it, as in report.json"),
    ("target", TEXT, "", "the capture's target, NAMESPACE/POD"),
    ("interface", TEXT, "", "the capture's interface"),
)
FRAME = _columns(
    ("file", TEXT, "", "the file of its first packet"),
    ("frame", INT, "", "the frame's number there, as Wireshark counts"),
)
PROOF = _columns(
    ("proof_file", TEXT, "", "the file of the packet that decided the outcome"),
    ("proof_frame", INT, "", "the frame's number there"),
)


def _sides(name: str, kind: pa.DataType, unit: str, text: str) -> tuple[Column, ...]:
    """Describe a column of the originator's side, and one of the responder's."""
    return _columns(
        (f"orig_{name}", kind, unit, text.replace("SIDE", "the originator")),
        (f"resp_{name}", kind, unit, text.replace("SIDE", "the responder")),
    )


CONNECTIONS = (
    *CAPTURE,
    *_columns(
        ("community_id", TEXT, "", "Community ID v1 of the five-tuple (corelight/community-id-spec)"),
        (
            "src",
            TEXT,
            "",
            "address of who opened it: the SYN's sender; without one, who has a client's port, or was first",
        ),
        ("src_port", pa.int32(), "", "its port; of ICMP the message's type"),
        ("dst", TEXT, "", "address of the other end"),
        ("dst_port", pa.int32(), "", "its port; of ICMP the type of the answer, or the code (as Zeek has it)"),
        ("proto", TEXT, "", "tcp, udp, sctp or icmp"),
        ("application", TEXT, "", "dns, tls, http or http2, by its port (DNS) or its first bytes"),
        ("start", TIME, "ns, UTC", "its first packet's time"),
        ("duration_s", FLOAT, "s", "from its first to its last packet"),
        ("conn_state", TEXT, "", "Zeek's conn_state: S0 SF REJ RSTO ..."),
        ("history", TEXT, "", "Zeek's history: upper case the originator, lower case the responder"),
        ("outcome", TEXT, "", "how the attempt ended; null where no SYN was seen"),
        ("established", BOOL, "", "SYN, SYN-ACK and the ACK of that were seen (RFC 9293)"),
        ("reset_by", TEXT, "", "orig or resp: who reset it first, before both sides had closed"),
        ("icmp_code", INT, "", "code of the ICMP unreachable message that answered it (RFC 792, RFC 4443)"),
        ("isn", INT, "", "the originator's initial sequence number; -1 where it was not seen"),
        ("resp_isn", INT, "", "the responder's; -1 where it was not seen"),
        ("syn_count", INT, "packets", "SYNs of the originator, repetitions included"),
        ("syn_times_s", pa.list_(FLOAT), "s", "when SYNs were sent again, after the first; at most seven"),
        ("synack_count", INT, "packets", "SYN-ACKs of the responder, repetitions included"),
    ),
    *_sides("packets", INT, "packets", "from SIDE"),
    *_sides("bytes", INT, "bytes", "from SIDE, with IP headers, by their own length fields"),
    *_sides("payload_bytes", INT, "bytes", "of them above the headers of TCP, UDP, SCTP or ICMP"),
    *_columns(
        (
            "rtt_ms",
            FLOAT,
            "ms",
            "SYN to SYN-ACK; null where a repeated SYN makes it ambiguous (Karn, RFC 6298 section 3)",
        ),
        (
            "ack_rtt_ms",
            FLOAT,
            "ms",
            "SYN-ACK to its ACK: the round trip as the responder's side sees it; null as above",
        ),
        (
            "first_byte_ms",
            FLOAT,
            "ms",
            "first data of the originator (its ACK, where the responder speaks first) to first data of the responder",
        ),
    ),
    *_sides("data_rtts", INT, "", "round trips measured of data of SIDE"),
    *_sides(
        "data_rtt_ms",
        FLOAT,
        "ms",
        "their mean: segment of SIDE to the first ACK that covers it, never of what was sent again (Karn)",
    ),
    *_sides("data_rtt_max_ms", FLOAT, "ms", "the longest of them"),
    *_columns(
        (
            "retransmissions_plain",
            INT,
            "packets",
            "Wireshark's tcp.analysis.retransmission that is neither of the two below",
        ),
        ("retransmissions_fast", INT, "packets", "Wireshark's fast_retransmission"),
        ("retransmissions_spurious", INT, "packets", "Wireshark's spurious_retransmission"),
        ("out_of_order", INT, "packets", "Wireshark's out_of_order"),
        ("lost_segment", INT, "packets", "Wireshark's lost_segment: a gap before this packet"),
        ("duplicate_ack", INT, "packets", "Wireshark's duplicate_ack"),
        ("keep_alive", INT, "packets", "Wireshark's keep_alive"),
        ("zero_window", INT, "packets", "Wireshark's zero_window"),
        ("window_full", INT, "packets", "Wireshark's window_full"),
    ),
    *_sides("retransmitted", INT, "packets", "sent again by SIDE, of all three kinds"),
    *_sides("largest_acked", INT, "bytes", "the largest payload of one segment of SIDE that was acknowledged"),
    *_sides("stuck_bytes", INT, "bytes", "payload of the oldest segment of SIDE that nobody acknowledged; 0 for none"),
    *_sides("stuck_tries", INT, "", "how often that was sent"),
    *_columns(
        ("too_big", INT, "packets", "ICMP messages that say that a packet of it is too big (RFC 1191, RFC 4443)"),
        ("mtu", INT, "bytes", "the smallest MTU that they name"),
        ("fragments", INT, "packets", "IP fragments, first ones included"),
        ("vlan", INT, "", "the innermost 802.1Q tag of its first packet"),
        ("tunnel", TEXT, "", "what carried its first packet: vxlan, geneve, gre, ipip, 6in4, gtp or teredo"),
        ("tunnel_id", INT, "", "the network of VXLAN and Geneve, the key of GRE, the endpoint of GTP"),
        ("outer_src", TEXT, "", "the tunnel's end on the side of `src`"),
        ("outer_dst", TEXT, "", "and on the side of `dst`"),
    ),
    *FRAME,
    *PROOF,
)
PACKETS = _columns(
    ("capture", TEXT, "", "the capture that saw it, as in report.json"),
    ("file", TEXT, "", "the file that it is in"),
    ("frame", INT, "", "the frame's number there"),
    ("time", TIME, "ns, UTC", "when it was captured"),
    (
        "connection",
        pa.uint32(),
        "",
        "its connection: the row among those of the same capture in connections.parquet, from 0",
    ),
    ("is_orig", BOOL, "", "whether the connection's originator sent it, as far as that was known then"),
    ("bytes", pa.uint32(), "bytes", "by the IP header"),
    ("payload_bytes", pa.uint32(), "bytes", "above the transport's header"),
    ("ip_id", pa.uint32(), "", "IPv4's identification, or that of an IPv6 fragment (RFC 6864)"),
    ("ttl", pa.uint8(), "", "time to live, hop limit"),
    ("flags", pa.uint8(), "", "TCP's (RFC 9293 section 3.1): FIN 1, SYN 2, RST 4, PSH 8, ACK 16"),
    ("seq", pa.uint32(), "", "TCP's sequence number"),
    ("ack", pa.uint32(), "", "TCP's acknowledgement number"),
    ("window", pa.uint16(), "", "TCP's window, unscaled"),
    (
        "analysis",
        pa.uint16(),
        "",
        f"Wireshark's analysis, a bit each from the lowest: {', '.join(KINDS).replace('_', ' ')}",
    ),
    ("payload_hash", pa.uint64(), "", "FNV-1a of the first 48 bytes of the payload; 0 for none"),
)
_CLIENT_SERVER = _columns(
    ("client", TEXT, "", "address of who asked"),
    ("client_port", INT, "", "its port"),
    ("server", TEXT, "", "address of who was asked"),
    ("server_port", INT, "", "its port"),
)
_IDENTITY = _columns(("community_id", TEXT, "", "Community ID v1 of its connection"))
DNS = (
    *CAPTURE,
    *_IDENTITY,
    *_CLIENT_SERVER,
    *_columns(
        ("transport", TEXT, "", "udp or tcp"),
        ("id", INT, "", "the message's ID (RFC 1035)"),
        ("name", TEXT, "", "the first question's name, in lower case"),
        ("type", TEXT, "", "the first question's type"),
        ("asked", TIME, "ns, UTC", "when it was asked first"),
        ("tries", INT, "packets", "how often it was asked"),
        ("latency_ms", FLOAT, "ms", "first question to first answer; null without one"),
        ("rcode", TEXT, "", "the answer's code (RFC 1035, RFC 6895); null without one"),
        ("undecided", BOOL, "", "not answered, and asked in the capture's last second"),
        ("search_step", BOOL, "", "NXDOMAIN on the way through resolv.conf's search list, to a name that exists"),
    ),
    *FRAME,
    *PROOF,
)
TLS = (
    *CAPTURE,
    *_IDENTITY,
    *_CLIENT_SERVER,
    *_columns(
        ("started", TIME, "ns, UTC", "when the ClientHello was sent"),
        ("version", TEXT, "", "what the ServerHello chose (RFC 8446)"),
        ("cipher", TEXT, "", "the cipher suite that it chose, by IANA's name"),
        ("sni", TEXT, "", "the server's name that the client asked for (RFC 6066)"),
        ("alpn", TEXT, "", "the protocol that was chosen, or the first that was offered (RFC 7301)"),
        ("hello_ms", FLOAT, "ms", "ClientHello to ServerHello"),
        ("handshake_ms", FLOAT, "ms", "ClientHello to both sides' change of keys"),
        ("alert", TEXT, "", "the first alert in clear text, as RFC 8446 calls it"),
        ("alert_by", TEXT, "", "client or server: who sent it"),
        ("outcome", TEXT, "", "completed, alerted, unanswered or undecided"),
    ),
    *FRAME,
    *PROOF,
)
HTTP = (
    *CAPTURE,
    *_IDENTITY,
    *_CLIENT_SERVER,
    *_columns(
        ("requested", TIME, "ns, UTC", "when the request was sent"),
        ("version", TEXT, "", "1.0, 1.1 or 2"),
        ("method", TEXT, "", "the request's method (RFC 9110)"),
        ("host", TEXT, "", "Host, or :authority"),
        ("path", TEXT, "", "the request's path, without its query, which may hold secrets"),
        ("status", INT, "", "the response's status; 0 without one"),
        ("grpc_status", INT, "", "grpc-status of the trailers; null where there is none"),
        ("first_byte_ms", FLOAT, "ms", "request to the response's head"),
        ("stream", INT, "", "HTTP/2's stream; 0 for HTTP/1"),
        ("outcome", TEXT, "", "answered, unanswered or undecided"),
    ),
    *FRAME,
    *PROOF,
)
TABLES = {"connections": CONNECTIONS, "packets": PACKETS, "dns": DNS, "tls": TLS, "http": HTTP}
"""The tables, by the names of their files without `.parquet`."""
EMPTY = frozenset({"status"})  # of these, nothing is a value of its own


def schema(table: str) -> pa.Schema:
    """Give a table's Arrow schema; a column's unit and meaning are its metadata."""
    return pa.schema(
        pa.field(column.name, column.type, metadata={"unit": column.unit, "description": column.text})
        for column in TABLES[table]
    )


class Writer:
    """A table's file: `add` what captures saw, one after the other; it is whole when the writer is closed."""

    def __init__(self, directory: Path, table: str, campaign: str) -> None:
        self._schema, self._campaign = schema(table), campaign
        self._writer = pq.ParquetWriter(directory / f"{table}.parquet", self._schema, compression="zstd")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._writer.close()

    def add(self, found: Mapping[str, Any], capture: Capture, counts: Sequence[int]) -> None:
        """Write rows.

        Args:
            found: columns, as Arrow's or NumPy's arrays; places among them are numbers of frames in the capture.
            capture: what saw them.
            counts: the frames in each of its files; frames after them are in the next one.

        """
        if not (size := len(found["frame"])):
            return
        constants = {
            "campaign": self._campaign,
            "capture": capture.name,
            "target": capture.target_name,
            "interface": capture.interface,
        }
        columns = dict(found) | {name: words((text,), np.zeros(size, np.int8)) for name, text in constants.items()}
        for name, prefix in (("frame", ""), ("proof", "proof_")):
            if name in found:
                columns |= _places(whole_numbers(found[name]), prefix, capture.files, counts)
        arrays = [_array(columns[field.name], field.type) for field in self._schema]
        self._writer.write_table(pa.Table.from_arrays(arrays, schema=self._schema))


def _places(frames: Array, prefix: str, files: Sequence[str], counts: Sequence[int]) -> dict[str, Any]:
    """Give the files of a capture's frames, and their numbers there."""
    ends = np.cumsum([0, *counts])
    index = np.minimum(np.searchsorted(ends[1:], frames), len(files) - 1)
    return {f"{prefix}file": words(tuple(files), index), f"{prefix}frame": (frames - ends[index]).astype(np.int64)}


def _array(values: Any, kind: pa.DataType) -> pa.Array:
    """Give a column its type; an empty text is none."""
    if isinstance(values, np.ndarray) and values.dtype.kind == "S":
        values = strings(values)
    elif isinstance(values, np.ndarray):
        values = numbers(values)
    elif isinstance(values, pa.ChunkedArray):
        values = values.combine_chunks()
    if kind == TEXT:
        return without_empty(values)
    return values if values.type == kind else values.view(kind) if kind == TIME else values.cast(kind)
