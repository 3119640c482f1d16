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
    routes = _routes(client, server, names)
    server = server.add_suffix("_server")
    called = server.merge(routes, on="dst_server")
    parts = [
        _elsewhere(client[client["isn"] >= 0], server[server["isn_server"] >= 0], [*CLIENT, "isn"]),
        _elsewhere(client[client["isn"] < 0], called[called["isn_server"] >= 0], [*CLIENT, "dst"]),
        _elsewhere(client, called[called["isn_server"] < 0], [*CLIENT, "dst"]),
    ]
    direct = pd.concat(parts).drop_duplicates("index_server")
    free = client[~client["arrived"] & ~client["index"].isin(direct["index"])]
    rest = server[~server["index_server"].isin(direct["index_server"])]
    return pd.concat([direct, _masqueraded(free, rest, routes)])


def _routes(client: pd.DataFrame, server: pd.DataFrame, names: Names) -> pd.DataFrame:
    """Give the services that clients called (`service_server`: how a server was called), and their backends."""
    services = [each for each in client["dst"].unique() if names.party(each).kind == "service"]
    backends = server["dst"].unique()
    ends = [(service, each) for service in services for each in backends if names.is_backend(service, each)]
    return pd.DataFrame(ends, columns=["service_server", "dst_server"]).astype(client["dst"].dtype)


def _elsewhere(client: pd.DataFrame, server: pd.DataFrame, key: list[str]) -> pd.DataFrame:
    """Match every server's view with the first of the clients' views that has its key, and another destination.

    One of the first two destinations is another: no more are looked at, or the views of a scanner that sends all from
    one port would be multiplied.
    """
    two = client.drop_duplicates([*key, "dst_port", "dst"]).groupby(key, observed=True).head(2)
    both = _merged(two, server, key)
    both = both[(both["dst"] != both["dst_server"]) | (both["dst_port"] != both["dst_port_server"])]
    return both.drop_duplicates("index_server")


def _merged(client: pd.DataFrame, server: pd.DataFrame, key: list[str]) -> pd.DataFrame:
    """Pair the views that have the same key; a server's `dst` is there what it was called by."""
    called = {"dst": "service"}
    return client.merge(server, left_on=key, right_on=[f"{called.get(name, name)}_server" for name in key])


def _masqueraded(client: pd.DataFrame, server: pd.DataFrame, routes: pd.DataFrame) -> pd.DataFrame:
    """Find the connections whose server saw another address than the client's, of views that are nothing else's.

    The initial sequence number was the client's choice of 2^32, and the server's answer has one, too; a scanner that
    uses one for everything, unanswered, is left alone.
    """
    client = client[(client["proto"] == "tcp") & (client["isn"] >= 0)]
    server = server[(server["proto_server"] == "tcp") & (server["isn_server"] >= 0)]
    client = client.drop_duplicates(["isn", "resp_isn"], keep=False)
    server = server.drop_duplicates(["isn_server", "resp_isn_server"], keep=False)
    asked, heard = client["resp_isn"] < 0, server["resp_isn_server"] < 0  # no answer was seen: one of each number
    begun = ["scope", "proto", "isn"]
    parts = [
        _merged(client, server, [*begun, "resp_isn"]),
        _merged(client[asked], server[~heard], begun),
        _merged(client[~asked], server[heard], begun),
    ]
    both = pd.concat(parts)
    direct = (both["dst"] == both["dst_server"]) & (both["dst_port"] == both["dst_port_server"])
    later = both["start_server"].astype("float64") - both["start"].astype("float64")
    then = later.between(-CLOCKS, both["duration_s"] * NANOSECONDS + CLOCKS)
    other = both["capture_number"] != both["capture_number_server"]
    both = both[(direct | _is_routed(both, routes)) & then & other]
    return both[~both.duplicated("index", keep=False) & ~both.duplicated("index_server", keep=False)]


def _is_routed(both: pd.DataFrame, routes: pd.DataFrame) -> Mask:
    """Say of each pair of connections whether the client's destination is a service, and the server's its backend."""
    pairs, known = (
        table[service].cat.codes.to_numpy(np.int64) << 32 | table["dst_server"].cat.codes.to_numpy(np.int64)
        for table, service in ((both, "dst"), (routes, "service_server"))
    )
    return np.isin(pairs, known)


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
