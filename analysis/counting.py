"""Every connection counted once, whoever saw it, and under whatever addresses.

A connection between two captured pods is in both captures; what its originator saw counts. Through a service, the
client's view (pod -> service) counts, and the server's (pod -> pod) is its translation: the same client address,
client port and initial sequence number. Where the client's address was translated on the way (masquerading), the
initial sequence numbers of both ends tell.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from analysis.names import Names
from analysis.pairs import ORIGIN, RESPONDER
from analysis.timestamps import NANOSECONDS

CLOCKS = 3 * NANOSECONDS  # two nodes' clocks differ by less
CLIENT = ["scope", "proto", "src", "src_port"]
IDENTITY = (  # what tells one connection from another; all the matching looks at
    *("scope", "community_id", "isn", "resp_isn", "proto", "src", "src_port", "dst", "dst_port"),
    *("vantage", "capture_number", "start", "duration_s"),
)
Mask = npt.NDArray[np.bool_]


def identities(tables: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Give all captures' connections in one table, of IDENTITY only, with texts as categories: they compare fast."""
    every = pd.concat([table[list(IDENTITY)] for table in tables], ignore_index=True)
    addresses = pd.CategoricalDtype(pd.unique(pd.concat([every["src"], every["dst"]])))
    every["community_id"] = pd.factorize(every["community_id"])[0]
    return every.astype({"src": addresses, "dst": addresses, "proto": "category", "scope": "category"})


def counted(every: pd.DataFrame, names: Names) -> tuple[Mask, Mask, pd.DataFrame]:
    """Count every connection once.

    Args:
        every: all captures' connections, as `identities` gives them: their `vantage`, `capture_number`, and `scope`
            (loopback connections are the target's own, and compared with no other capture's) among them.
        names: tells which addresses are backends of which services.

    Returns:
        Of each connection whether it counts, and whether it `arrived` (the responder's capture has it too); and the
        translations: the client's view beside the server's (`_server`), one row per connection.

    """
    at_responder = (every["vantage"] == RESPONDER).to_numpy()
    same = every.groupby([*CLIENT, "isn"], observed=True).ngroup().to_numpy()
    arrived = np.bincount(same, weights=at_responder, minlength=1)[same] > 0
    counts = best_view(every, ["scope", "community_id", "isn"])
    half = counts & ((every["proto"] == "tcp") & (every["isn"] < 0)).to_numpy()  # its beginning was seen elsewhere?
    flow = ["scope", "community_id"]
    whole = every.loc[counts & ~half, [*flow, "capture_number"]].drop_duplicates()
    double = every.loc[half, [*flow, "capture_number"]].reset_index().merge(whole, on=flow, suffixes=("", "_whole"))
    counts[double.loc[double["capture_number"] != double["capture_number_whole"], "index"].unique()] = False
    translations = _translations(every[counts].assign(arrived=arrived[counts]), names)
    arrived[translations["index"]] = True
    counts[translations["index_server"]] = False
    return counts, arrived, translations


def best_view(rows: pd.DataFrame, key: list[str]) -> Mask:
    """Say which rows to keep of those that several captures have of the same key: the best vantage's."""
    order = rows["vantage"] * (rows["capture_number"].max() + 1) + rows["capture_number"]
    best = order.groupby([rows[name] for name in key], observed=True).transform("min") == order
    return np.array(best, dtype=bool)


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


def _is_backend(both: pd.DataFrame, names: Names) -> Mask:
    """Say of each pair of connections whether the client's destination is a service, and the server's its backend."""
    ends = both[["dst", "dst_server"]].drop_duplicates().astype("str")
    backends = {end for end in ends.itertuples(index=False, name=None) if names.is_backend(*end)}
    chosen = np.zeros(len(both), dtype=bool)
    for service, backend in sorted(backends):
        chosen |= ((both["dst"] == service) & (both["dst_server"] == backend)).to_numpy()
    return chosen


def translated(translations: pd.DataFrame, names: Names) -> list[dict[str, Any]]:
    """Give report.json's translations: what clients called (a service, by name) and what answered, how often."""
    ends = ["src", "src_server", "proto", "dst", "dst_port", "dst_server", "dst_port_server"]
    texts = dict.fromkeys(("src", "src_server", "proto", "dst", "dst_server"), "str")
    connections = translations.groupby(ends, observed=True).size().reset_index(name="connections").astype(texts)
    described = []
    for src, seen, proto, dst, port, server, server_port, count in connections.sort_values(ends).itertuples(
        index=False, name=None
    ):
        called = names.party(dst)
        described.append(
            {
                "client": names.party(src).json(),
                **({"client_seen_as": names.party(seen).json()} if seen != src else {}),
                "protocol": proto,
                "service": called.name if called.kind == "service" else None,
                "client_view": called.json(int(port)),
                "server_view": names.party(server).json(int(server_port)),
                "connections": int(count),
            }
        )
    return described
