"""From tshark's fields to columns: what each frame's innermost packet is, or the packet that an ICMP error quotes."""

from functools import cache
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

from analysis.timestamps import NANOSECONDS

KINDS = (  # what Wireshark's TCP analysis says of a packet, from the most special: a packet is of the first kind
    "spurious_retransmission",
    "fast_retransmission",
    "retransmission",
    "out_of_order",
    "lost_segment",
    "keep_alive",
    "duplicate_ack",
    "zero_window",
)
TRANSPORTS = ("tcp", "udp", "sctp")
FIELDS = (
    *("frame.number", "frame.time_epoch", "frame.len", "frame.protocols"),
    *("ip.src", "ip.dst", "ip.len", "ip.frag_offset", "ipv6.src", "ipv6.dst", "ipv6.plen"),
    *(f"{transport}.{end}port" for transport in TRANSPORTS for end in ("src", "dst")),
    *("udp.length", "tcp.stream", "tcp.flags", "tcp.seq", "tcp.seq_raw", "tcp.ack_raw", "tcp.len"),
    *("icmp.type", "icmp.code", "icmpv6.type", "icmpv6.code"),
    *(f"tcp.analysis.{kind}" for kind in KINDS),
)
TEXTS = ("frame.time_epoch", "frame.protocols", "ip.src", "ip.dst", "ipv6.src", "ipv6.dst", "tcp.flags")
Numbers = npt.NDArray[np.int64]
LAST_SECOND = 2**63 // NANOSECONDS - 1
ETHERNET = 14  # bytes of its header
UNREACHABLE = {"icmp": 3, "icmpv6": 1}  # RFC 792, RFC 4443
ENDS = {"proto": "str", "src": "str", "src_port": "int32", "dst": "str", "dst_port": "int32"}
COLUMNS: dict[str, Any] = {
    "frame": "int32",  # number in the capture, from 1
    "time": "int64",  # ns since the epoch
    **ENDS,
    "bytes": "int32",  # by the IP header
    "payload": "int32",  # bytes above the transport header
    "stream": "int32",  # TCP's, by tshark; -1 for others
    "flags": "int32",
    "seq": "int64",
    "ack": "int64",
    "kind": pd.CategoricalDtype(["", *KINDS]),
    "dns": "bool",
}
QUOTES = {  # an ICMP "unreachable", and the packet that it answers
    "frame": "int64",
    "time": "int64",
    **ENDS,
    "seq": "int64",
    "code": "int32",
}


class Layers(NamedTuple):
    """What Wireshark's list of a frame's protocols says: the innermost network and transport layers."""

    network: str
    transport: str
    icmp: str  # icmp or icmpv6; network and transport are then those of the packet that it quotes
    dns: bool


@cache
def layers(protocols: str) -> Layers:
    """Read `eth:ethertype:ip:udp:vxlan:eth:ethertype:ip:tcp`: of a tunnel, the innermost flow is the flow."""
    names = protocols.split(":")
    icmp = next((name for name in names if name in UNREACHABLE), "")
    if icmp and names[-1] == icmp:  # an echo or the like: it quotes nothing
        return Layers("ip", "", icmp, dns=False)
    network = next((name for name in reversed(names) if name in {"ip", "ipv6"}), "")
    transport = next((name for name in reversed(names) if name in TRANSPORTS), "")
    return Layers(network, transport, icmp, dns="dns" in names and not icmp)


def _innermost(column: pd.Series) -> pd.Series:
    """Give the last of a field's values: a tunnel's inner packet, or the packet that an ICMP error quotes."""
    return column.str.rpartition(",")[2] if column.str.contains(",", regex=False).any() else column


def _numbers(column: pd.Series, base: int = 10) -> Numbers:
    """Give the innermost value of a field as a number, -1 where there is none."""
    if pd.api.types.is_numeric_dtype(column):
        return np.asarray(column.fillna(-1), dtype=np.int64)
    codes, texts = pd.factorize(_innermost(column.fillna("")).replace("", "-1"))
    return np.array([int(text, base) for text in texts], dtype=np.int64)[codes]


def _times(column: pd.Series) -> Numbers:
    """Give ns since the epoch; a damaged time after 2262, which they cannot say, is taken back to that year."""
    parts = column.fillna("0").str.partition(".")
    seconds = pd.to_numeric(parts[0]).clip(0, LAST_SECOND).to_numpy(dtype=np.int64)
    fraction: Numbers = pd.to_numeric(parts[2].replace("", "0")).to_numpy(dtype=np.int64)
    return np.asarray(seconds * NANOSECONDS + fraction)


def _common(text: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Give what rows and quotes share, addresses and ports of the innermost packet; and the layers."""
    codes, protocols = pd.factorize(text["frame.protocols"].fillna(""))
    layer = pd.DataFrame([layers(path) for path in protocols], columns=Layers._fields)
    layer = layer.iloc[codes].reset_index(drop=True)
    is_v6 = layer["network"] == "ipv6"
    common = pd.DataFrame({"frame": text["frame.number"], "time": _times(text["frame.time_epoch"])})
    common["proto"] = layer["transport"]
    for end in ("src", "dst"):
        common[end] = _innermost(text[f"ipv6.{end}"]).where(is_v6, _innermost(text[f"ip.{end}"]))
        common[f"{end}_port"] = _by_transport(layer, {name: f"{name}.{end}port" for name in TRANSPORTS}, text)
    return common, layer


def _by_transport(layer: pd.DataFrame, fields: dict[str, str], text: pd.DataFrame) -> Numbers:
    return np.select(
        [layer["transport"] == name for name in fields], [_numbers(text[field]) for field in fields.values()], -1
    )


class Frames(NamedTuple):
    """Some frames of a capture: the TCP, UDP and SCTP packets among them (COLUMNS), and the ICMP errors (QUOTES).

    Of all frames: `times`, `lengths` on the wire, and the `reasons` why they are in neither table, empty if they are.
    """

    packets: pd.DataFrame
    quotes: pd.DataFrame
    times: pd.Series
    lengths: Numbers
    reasons: pd.Series


def frames(text: pd.DataFrame) -> Frames:
    """Read FIELDS, a row per frame."""
    text = text.reset_index(drop=True)
    common, layer = _common(text)
    is_tcp, is_v6 = (layer["transport"] == "tcp").to_numpy(), (layer["network"] == "ipv6").to_numpy()
    fixed = np.where(is_v6, 40, 0)  # what an IPv6 packet's length leaves out
    by_header = np.where(is_v6, _numbers(text["ipv6.plen"]), _numbers(text["ip.len"])) + fixed
    on_wire = _numbers(text["frame.len"]).clip(0)
    offloaded = by_header == fixed  # a length of 0: longer than the field can say, to be cut into segments later
    size = np.where(offloaded, on_wire - ETHERNET, by_header)
    payload = _by_transport(layer, {"tcp": "tcp.len", "udp": "udp.length"}, text)
    sctp = size - np.where(is_v6, 40, 20) - 12
    rows = common.assign(
        bytes=size,
        payload=np.select([is_tcp, layer["transport"] == "udp"], [payload, payload - 8], sctp).clip(0),
        stream=np.where(is_tcp, _numbers(text["tcp.stream"]), -1),
        flags=_numbers(text["tcp.flags"], base=16),
        seq=_numbers(text["tcp.seq_raw"]),
        ack=_numbers(text["tcp.ack_raw"]),
        kind=np.select([text[f"tcp.analysis.{kind}"].notna() for kind in KINDS], KINDS, ""),
        dns=layer["dns"],
    )
    is_flow = (layer["icmp"] == "") & (common["src_port"] >= 0) & (common["dst_port"] >= 0) & (size >= 0)
    reasons = _reasons(text, layer, is_flow | _is_unreachable(text, common, layer))
    flows = rows.loc[is_flow, list(COLUMNS)].astype(COLUMNS)
    return Frames(flows, _quotes(text, common, layer), common["time"], on_wire, reasons)


def _reasons(text: pd.DataFrame, layer: pd.DataFrame, used: pd.Series) -> pd.Series:
    """Say of each frame why it is in no table; empty where it is in one."""
    fragment = (_numbers(text["ip.frag_offset"]) > 0) | text["frame.protocols"].str.contains("fraghdr", na=False)
    rules = [
        (used, ""),
        (layer["icmp"] != "", "ICMP other than unreachable"),
        (layer["network"] == "", "not IP"),
        (layer["transport"] != "", "headers cut short"),
        (fragment, "IP fragment after the first"),
    ]
    conditions, reasons = zip(*rules, strict=True)
    return pd.Series(np.select(conditions, reasons, "IP without TCP, UDP or SCTP"))


def _is_unreachable(text: pd.DataFrame, common: pd.DataFrame, layer: pd.DataFrame) -> pd.Series:
    is_kind = pd.Series(data=False, index=layer.index)
    for icmp, number in UNREACHABLE.items():
        is_kind |= (layer["icmp"] == icmp) & (_numbers(text[f"{icmp}.type"]) == number)
    return is_kind & (common["src_port"] >= 0) & (common["dst_port"] >= 0)


def _quotes(text: pd.DataFrame, common: pd.DataFrame, layer: pd.DataFrame) -> pd.DataFrame:
    """Give the ICMP unreachable messages among the frames, with the packet that each answers."""
    is_v6 = layer["icmp"] == "icmpv6"
    quotes = common.assign(
        code=np.where(is_v6, _numbers(text["icmpv6.code"]), _numbers(text["icmp.code"])),
        seq=_numbers(text["tcp.seq"]),  # a quoted packet has no relative numbers, and this is the raw one
    )
    return quotes.loc[_is_unreachable(text, common, layer), list(QUOTES)].astype(QUOTES)
