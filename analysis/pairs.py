"""Who talks to whom, and how well: every connection counted once, whoever saw it, by ordered pair.

A connection between two captured pods is in both captures; what its originator saw counts. Through a service, the
client's view (pod -> service) counts, and the server's (pod -> pod) is its translation: the same client address,
client port and initial sequence number. Where the client's address was translated on the way (masquerading), the
initial sequence numbers of both ends tell.
"""

from collections.abc import Collection, Iterable
from typing import Any

import numpy as np
import pandas as pd

from analysis.connections import OUTCOMES, RETRANSMISSIONS, TROUBLES
from analysis.names import Names
from analysis.timestamps import NANOSECONDS

ORIGIN, UNKNOWN, RESPONDER = range(3)  # where a connection was seen: the best vantage first
CLIENT = ["scope", "proto", "src", "src_port"]
CLOCKS = 3 * NANOSECONDS  # two nodes' clocks differ by less
FAILURES = tuple(outcome for outcome in OUTCOMES if outcome not in {"succeeded", "undecided"})


def vantage(src: pd.Series, dst: pd.Series, addresses: Collection[str]) -> np.ndarray:
    """Say for each connection whether a capture at these addresses is its originator's, its responder's or neither."""
    return np.select([src.isin(addresses), dst.isin(addresses)], [ORIGIN, RESPONDER], UNKNOWN)


def best_view(rows: pd.DataFrame, key: list[str]) -> pd.Series:
    """Say which rows to keep of those that several captures have of the same key: the best vantage's."""
    order = rows["vantage"] * (rows["capture_number"].max() + 1) + rows["capture_number"]
    best: pd.Series = order.groupby([rows[name] for name in key]).transform("min") == order
    return best


def counted(connections: pd.DataFrame, names: Names) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Count every connection once.

    Args:
        connections: all captures' connections, with their `vantage`, `capture_number`, and `scope`: loopback
            connections are the target's own, and compared with no other capture's.
        names: tells which addresses are backends of which services.

    Returns:
        The connections that count, with `arrived` (the responder's capture has it too); and the translations: the
        client's view beside the server's (`_server`), one row per connection.

    """
    key = ["scope", "community_id", "isn"]
    arrived = connections.loc[connections["vantage"] == RESPONDER, [*CLIENT, "isn"]].drop_duplicates()
    connections = connections.merge(arrived.assign(arrived=True), how="left", on=[*CLIENT, "isn"])
    connections["arrived"] = connections["arrived"].eq(other=True)
    rows = connections[best_view(connections, key)]
    half = (rows["proto"] == "tcp") & (rows["isn"] < 0)  # its beginning was not seen here; perhaps it was elsewhere
    whole = rows.loc[~half, ["scope", "community_id", "capture_number"]].drop_duplicates()
    double = rows[half].reset_index().merge(whole, on=["scope", "community_id"], suffixes=("", "_whole"))
    rows = rows.drop(double.loc[double["capture_number"] != double["capture_number_whole"], "index"].unique())
    translations = _translations(rows, names)
    rows.loc[translations["index"].unique(), "arrived"] = True
    return rows.drop(translations["index_server"].unique()), translations


def _translations(rows: pd.DataFrame, names: Names) -> pd.DataFrame:
    """Give the pairs of connections, one its client's view and the other (`_server`) its server's, that are one."""
    numbered = rows.reset_index()
    client, server = (numbered[numbered["vantage"] == side] for side in (ORIGIN, RESPONDER))
    both = client.merge(server, on=CLIENT, suffixes=("", "_server"))
    both = both[(both["dst"] != both["dst_server"]) | (both["dst_port"] != both["dst_port_server"])]
    same = (both["isn"] == both["isn_server"]) & (both["isn"] >= 0)
    unsure = (both["isn"] < 0) | (both["isn_server"] < 0)
    other = both["capture_number"] != both["capture_number_server"]
    direct = both[other & (same | (unsure & _is_backend(both, names)))].drop_duplicates("index_server")
    direct = direct.assign(src_server=direct["src"])
    free = client[~client["arrived"] & ~client["index"].isin(direct["index"])]
    return pd.concat([direct, _masqueraded(free, server[~server["index"].isin(direct["index_server"])], names)])


def _masqueraded(client: pd.DataFrame, server: pd.DataFrame, names: Names) -> pd.DataFrame:
    """Find the connections whose server saw another address than the client's, of views that are nothing else's.

    The initial sequence number was the client's choice of 2^32, and the server's answer has one, too; a scanner that
    uses one for everything, unanswered, is left alone.
    """
    numbers = ["isn", "resp_isn"]
    known = [side[(side["proto"] == "tcp") & (side["isn"] >= 0)] for side in (client, server)]
    client, server = (side.drop_duplicates(numbers, keep=False) for side in known)
    both = client.merge(server, on=["scope", "proto", "isn"], suffixes=("", "_server"))
    answers = both[["resp_isn", "resp_isn_server"]]
    same = (answers["resp_isn"] == answers["resp_isn_server"]) | (answers.min(axis=1) < 0)
    direct = (both["dst"] == both["dst_server"]) & (both["dst_port"] == both["dst_port_server"])
    begin, end = both["start"] - CLOCKS, both["start"] + (both["duration_s"] * NANOSECONDS).astype("int64") + CLOCKS
    then = (both["start_server"] >= begin) & (both["start_server"] <= end)
    other = both["capture_number"] != both["capture_number_server"]
    both = both[same & (direct | _is_backend(both, names)) & then & other]
    return both[~both.duplicated("index", keep=False) & ~both.duplicated("index_server", keep=False)]


def _is_backend(both: pd.DataFrame, names: Names) -> np.ndarray:
    return np.array([names.is_backend(a, b) for a, b in zip(both["dst"], both["dst_server"], strict=True)], dtype=bool)


def described_translations(translations: pd.DataFrame, names: Names) -> list[dict[str, Any]]:
    """Give report.json's translations: what clients called (a service, by name) and what answered, how often."""
    ends = ["src", "src_server", "proto", "dst", "dst_port", "dst_server", "dst_port_server"]
    described = []
    for (src, seen, proto, dst, port, server, server_port), group in groups(translations, *ends):
        called = names.party(dst)
        described.append(
            {
                "client": names.party(src).json(),
                **({"client_seen_as": names.party(seen).json()} if seen != src else {}),
                "protocol": proto,
                "service": called.name if called.kind == "service" else None,
                "client_view": called.json(int(port)),
                "server_view": names.party(server).json(int(server_port)),
                "connections": len(group),
            }
        )
    return described


def named(rows: pd.DataFrame, source: str, destination: str, names: Names) -> pd.DataFrame:
    """Add who has the addresses of these two columns: `source` and `destination`."""
    parties = {
        name: [names.party(*end) for end in zip(rows[column], rows["inside"], strict=True)]
        for name, column in (("source", source), ("destination", destination))
    }
    return rows.assign(**{name: pd.Series(of, rows.index, dtype=object) for name, of in parties.items()})


def groups(rows: pd.DataFrame, *columns: str) -> Iterable[tuple[Any, pd.DataFrame]]:
    """Group rows, in the order of what they are grouped by."""
    return rows.groupby(list(columns), sort=True)


def pairs(rows: pd.DataFrame, names: Names) -> list[dict[str, Any]]:
    """Give report.json's pairs, from connections that `counted` gave."""
    by_pair = groups(named(rows, "src", "dst", names), "source", "destination", "dst_port", "proto")
    return [
        {
            "source": source.json(),
            "destination": destination.json(int(port)),
            "protocol": proto,
            **_measured(group, proto),
        }
        for (source, destination, port, proto), group in by_pair
    ]


def _measured(group: pd.DataFrame, proto: str) -> dict[str, Any]:
    measured: dict[str, Any] = {
        "connections": {"total": len(group)},
        "bytes": int((group["orig_bytes"] + group["resp_bytes"]).sum()),
        "packets": int((group["orig_packets"] + group["resp_packets"]).sum()),
    }
    if proto == "tcp":
        measured["connections"] |= attempts(group["outcome"])
        client = group[group["vantage"] != RESPONDER]  # a server sees how fast it answers, not the network
        measured["rtt_ms"] = percentiles(client["rtt_ms"])
        kinds = {**{name: f"retransmissions_{name}" for name in RETRANSMISSIONS}, **{name: name for name in TROUBLES}}
        measured["retransmissions"] = {name: int(group[column].sum()) for name, column in kinds.items()}
    return measured


def attempts(outcomes: pd.Series) -> dict[str, Any]:
    """Count outcomes; success_rate = succeeded / (succeeded + failed), absent when nothing was decided."""
    counts = {outcome: int((outcomes == outcome).sum()) for outcome in OUTCOMES}
    decided = counts["succeeded"] + sum(counts[failure] for failure in FAILURES)
    rate = {"success_rate": round(counts["succeeded"] / decided, 6)} if decided else {}
    return {"attempts": sum(counts.values()), **counts, **rate}


def percentiles(values: pd.Series) -> dict[str, Any]:
    """Give n and, when there are any, p50, p95, p99 and max: values that were measured (nearest rank), none between."""
    known = np.sort(values.dropna().to_numpy())
    if not len(known):
        return {"n": 0}
    ranks = {f"p{p}": known[max(0, int(np.ceil(p / 100 * len(known))) - 1)] for p in (50, 95, 99)}
    return {"n": len(known)} | {name: round(float(value), 6) for name, value in (ranks | {"max": known[-1]}).items()}
