"""Who talks to whom, and how well: every connection counted once, whoever saw it, by ordered pair.

A connection between two captured pods is in both captures; what its originator saw counts. Through a service, the
client's view (pod -> service) counts, and the server's (pod -> pod) is its translation: the same client address,
client port and initial sequence number.
"""

from collections.abc import Collection, Iterable
from typing import Any

import numpy as np
import pandas as pd

from analysis.connections import OUTCOMES, RETRANSMISSIONS, TROUBLES
from analysis.names import Names

ORIGIN, UNKNOWN, RESPONDER = range(3)  # where a connection was seen: the best vantage first
CLIENT = ["scope", "proto", "src", "src_port"]
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
    rows = connections[best_view(connections, key)]
    half = (rows["proto"] == "tcp") & (rows["isn"] < 0)  # its beginning was not seen here; perhaps it was elsewhere
    whole = rows.loc[~half, ["scope", "community_id", "capture_number"]].drop_duplicates()
    double = rows[half].reset_index().merge(whole, on=["scope", "community_id"], suffixes=("", "_whole"))
    rows = rows.drop(double.loc[double["capture_number"] != double["capture_number_whole"], "index"].unique())
    translations = _translations(rows, names)
    rows = rows.drop(translations["index_server"].unique())
    rows = rows.merge(arrived.assign(arrived=True), how="left", on=[*CLIENT, "isn"])
    rows["arrived"] = rows["arrived"].eq(other=True)
    return rows, translations


def _translations(rows: pd.DataFrame, names: Names) -> pd.DataFrame:
    columns = [*CLIENT, "dst", "dst_port", "isn", "index", "capture_number", "community_id"]
    numbered = rows.reset_index()
    client, server = (numbered.loc[numbered["vantage"] == side, columns] for side in (ORIGIN, RESPONDER))
    both = client.merge(server, on=CLIENT, suffixes=("", "_server"))
    both = both[(both["dst"] != both["dst_server"]) | (both["dst_port"] != both["dst_port_server"])]
    same = (both["isn"] == both["isn_server"]) & (both["isn"] >= 0)
    backend = [names.is_backend(a, b) for a, b in zip(both["dst"], both["dst_server"], strict=True)]
    unsure = (both["isn"] < 0) | (both["isn_server"] < 0)
    other = both["capture_number"] != both["capture_number_server"]
    return both[other & (same | (unsure & np.array(backend, dtype=bool)))].drop_duplicates("index_server")


def described_translations(translations: pd.DataFrame, names: Names) -> list[dict[str, Any]]:
    """Give report.json's translations: what clients called (a service, by name) and what answered, how often."""
    ends = ["src", "proto", "dst", "dst_port", "dst_server", "dst_port_server"]
    described = []
    for (src, proto, dst, port, server, server_port), group in groups(translations, *ends):
        called = names.party(dst)
        described.append(
            {
                "client": names.party(src).json(),
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
