"""Who talks to whom, and how well: report.json's tables by ordered pair, of what counts once each."""

from collections.abc import Collection
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from analysis.connections import OUTCOMES
from analysis.groups import MOST, Groups
from analysis.names import Party

ORIGIN, UNKNOWN, RESPONDER = range(3)  # where a connection was seen: the best vantage first
FAILURES = tuple(outcome for outcome in OUTCOMES if outcome not in {"succeeded", "undecided"})
TROUBLES = {  # report.json's words, and the columns that count them
    **{kind: f"retransmissions_{kind}" for kind in ("plain", "fast", "spurious")},
    **{kind: kind for kind in ("out_of_order", "lost_segment", "duplicate_ack", "keep_alive")},
    **{kind: kind for kind in ("zero_window", "window_full")},
}
ICMP = {  # messages by type; 1 to 4 are others in ICMPv6
    0: "echo reply",
    3: "destination unreachable",
    5: "redirect",
    8: "echo",
    11: "time exceeded",
    128: "echo",
    129: "echo reply",
    133: "router solicitation",
    134: "router advertisement",
    135: "neighbor solicitation",
    136: "neighbor advertisement",
    137: "redirect",
    143: "multicast listener report",
}
ICMPV6 = {1: "destination unreachable", 2: "packet too big", 3: "time exceeded", 4: "parameter problem"}
Entry = dict[str, Any]
Table = tuple[list[Entry], Entry | None]  # the entries, and the sum of those that are too many to list


def vantage(src: pd.Series, dst: pd.Series, addresses: Collection[str]) -> npt.NDArray[Any]:
    """Say for each connection whether a capture at these addresses is its originator's, its responder's or neither."""
    return np.select([src.isin(addresses), dst.isin(addresses)], [ORIGIN, RESPONDER], UNKNOWN)


def rtt_ms(rows: pd.DataFrame) -> pd.Series:
    """Give the time across the network and back, ms: SYN to SYN-ACK, and where its responder saw it SYN-ACK to ACK.

    A responder that sees its own answer follow a SYN measures itself, not the network.
    """
    return rows["rtt_ms"].where(rows["vantage"] != RESPONDER, rows["ack_rtt_ms"])


def pairs(rows: pd.DataFrame) -> Table:
    """Give report.json's pairs, from the connections that count, with their `source` and `destination`."""
    port = rows["dst_port"].where(rows["proto"] != "icmp", rows["src_port"])
    bad = rows["outcome"].isin(list(FAILURES)).to_numpy()
    groups = Groups(rows.assign(port=port), ["source", "destination", "port", "proto"], MOST, 1 + 1e9 * bad)
    data_rtt = rows["orig_data_rtt_ms"].where(rows["vantage"] != RESPONDER, rows["resp_data_rtt_ms"])
    troubles = groups.entries({name: groups.total(rows[column]) for name, column in TROUBLES.items()})
    return _listed(
        groups,
        {
            "connections": _attempts(groups),
            "bytes": groups.total(rows["orig_bytes"] + rows["resp_bytes"]),
            "packets": groups.total(rows["orig_packets"] + rows["resp_packets"]),
            "rtt_ms": groups.percentiles(rtt_ms(rows)),
            "data_rtt_ms": groups.percentiles(data_rtt),
            "first_byte_ms": groups.percentiles(rows["first_byte_ms"]),
            "retransmissions": troubles,
        },
    )


def _pair(measured: Entry, source: Party, destination: Party, port: int, proto: str = "") -> Entry:
    """Give one entry; `proto` is empty in the tables that are of one application."""
    ends: Entry = {"source": source.json(), "destination": destination.json(None if proto == "icmp" else int(port))}
    if not proto:
        return ends | measured
    ends["protocol"] = proto
    if proto == "icmp":
        name = (ICMPV6 if ":" in source.address else {}).get(port) or ICMP.get(port)
        ends["icmp"] = {"type": int(port)} | ({"name": name} if name else {})
    if proto != "tcp":
        total = {"total": measured["connections"]["total"]}
        return ends | {"connections": total, "bytes": measured["bytes"], "packets": measured["packets"]}
    return ends | measured


def _attempts(groups: Groups) -> list[Entry]:
    """Count outcomes; success_rate = succeeded / (succeeded + failed), absent when nothing was decided."""
    counts = {outcome: groups.total(groups.rows["outcome"] == outcome) for outcome in OUTCOMES}
    entries = groups.entries({"total": groups.counts, "attempts": np.sum(list(counts.values()), axis=0), **counts})
    for entry in entries:
        if decided := entry["succeeded"] + sum(entry[failure] for failure in FAILURES):
            entry["success_rate"] = round(entry["succeeded"] / decided, 6)
    return entries


def dns(lookups: pd.DataFrame) -> Table:
    """Give report.json's DNS, from the lookups that count, with their `source` and `destination`."""
    groups = Groups(lookups, ["source", "destination", "server_port"], MOST)
    silent = lookups["rcode"] == ""
    return _listed(
        groups,
        {
            "lookups": groups.counts,
            "questions": groups.total(lookups["tries"]),
            "answered": groups.total(~silent),
            "unanswered": groups.total(silent & ~lookups["undecided"]),
            "undecided": groups.total(lookups["undecided"]),
            "search_steps": groups.total(lookups["search_step"]),
            "rcodes": groups.tally(lookups["rcode"]),
            "latency_ms": groups.percentiles(lookups["latency_ms"]),
        },
    )


def tls(handshakes: pd.DataFrame) -> Table:
    """Give report.json's TLS, from the handshakes of connections that count, with `source` and `destination`."""
    groups = Groups(handshakes, ["source", "destination", "server_port"], MOST)
    outcomes = ("completed", "alerted", "unanswered", "undecided")
    return _listed(
        groups,
        {
            "handshakes": groups.counts,
            **{outcome: groups.total(handshakes["outcome"] == outcome) for outcome in outcomes},
            "versions": groups.tally(handshakes["version"]),
            "alpn": groups.tally(handshakes["alpn"]),
            "alerts": groups.tally(handshakes["alert"]),
            "hello_ms": groups.percentiles(handshakes["hello_ms"]),
            "handshake_ms": groups.percentiles(handshakes["handshake_ms"]),
        },
    )


def http(requests: pd.DataFrame) -> Table:
    """Give report.json's HTTP, from the requests of connections that count, with `source` and `destination`."""
    groups = Groups(requests, ["source", "destination", "server_port"], MOST)
    outcomes = ("answered", "unanswered", "undecided")
    known = requests["status"].astype("Int64")
    return _listed(
        groups,
        {
            "requests": groups.counts,
            **{outcome: groups.total(requests["outcome"] == outcome) for outcome in outcomes},
            "versions": groups.tally(requests["version"]),
            "methods": groups.tally(requests["method"]),
            "statuses": groups.tally(known.mask(known == 0)),
            "grpc_statuses": groups.tally(requests["grpc_status"].astype("Int64")),
            "first_byte_ms": groups.percentiles(requests["first_byte_ms"]),
        },
    )


def _listed(groups: Groups, columns: dict[str, Any]) -> Table:
    entries = groups.entries(columns)
    rest = {"pairs": groups.beyond, **entries.pop()} if groups.beyond else None
    return [_pair(entry, *key) for key, entry in zip(groups.keys, entries, strict=True)], rest
