"""Findings about opening TCP connections: refused, timed out, half-open, slow and so on; and about refused UDP."""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import pandas as pd

from analysis.findings.kinds import EVIDENCE, LISTED, Finding, finding, listed, many, slowness, told
from analysis.groups import Groups
from analysis.names import Party
from analysis.pairs import ORIGIN, rtt_ms
from analysis.places import Places
from analysis.thresholds import Thresholds

ADVICE = {
    "refused": "nothing listens there, or a firewall answers with a reset",
    "timed_out": "look for a network policy or firewall that drops, a wrong address or a host that is down",
    "unreachable": "a network policy, a firewall or a router rejects it",
    "aborted": "the client gave up before any answer came",
}
PORT = "port unreachable"
CODES = (  # of ICMP's and ICMPv6's destination unreachable (RFC 792, RFC 4443)
    {0: "network unreachable", 1: "host unreachable", 3: PORT},
    {0: "no route to destination", 1: "prohibited", 3: "address unreachable", 4: PORT},
)
SHORTEST_TIMEOUT = 0.2  # s; Linux waits no less before it sends again (TCP_RTO_MIN), and a second for a SYN
PAIR = ["source", "destination", "dst_port"]
COLUMNS = [  # all that is looked at here: rows of a million connections are not copied whole
    *(
        *PAIR,
        "capture_number",
        "vantage",
        "outcome",
        "arrived",
        "responder_captured",
        "icmp_code",
        "rtt_ms",
        "ack_rtt_ms",
    ),
    *("syn_count", "syn_times_s", "synack_count", "established", "reset_by", "proof"),
]
UDP = [*PAIR, "capture_number", "icmp_code", "orig_packets", "unreachable_frame"]


def findings(connections: pd.DataFrame, places: Places, thresholds: Thresholds) -> Iterator[Finding]:
    """Find what went wrong between a SYN and an established connection, or with UDP, in connections that count."""
    tried = connections.loc[connections["outcome"] != "", COLUMNS]
    by_source = Groups(tried[PAIR], ["source"])
    for outcome in ADVICE:
        yield from _failed(outcome, tried[tried["outcome"] == outcome], by_source, places)
    succeeded = tried["outcome"] == "succeeded"
    by_pair = Groups(tried.assign(rtt=rtt_ms(tried).where(succeeded), retried=_is_retried(tried, succeeded)), PAIR)
    yield from _half_open(by_pair, places, thresholds)
    yield from _retried(by_pair, places, thresholds)
    yield from _slow(by_pair, places, thresholds)
    yield from _udp_unreachable(connections.loc[connections["proto"] == "udp", UDP], places)


def _failed(outcome: str, failed: pd.DataFrame, by_source: Groups, places: Places) -> Iterator[Finding]:
    groups = _at_fault(failed)
    numbers = {source: number for number, (source,) in enumerate(by_source.keys)}

    def tell(group: int) -> Finding:
        these = groups.of(group)
        ends = {end: these[end].unique() for end in PAIR}
        sources = ends["source"]
        every = by_source.rows
        mine = every[every["source"].isin(sources)] if len(sources) > 1 else by_source.of(numbers[sources[0]])
        tries = mine["destination"].isin(ends["destination"]) & mine["dst_port"].isin(ends["dst_port"])
        text = _failure(_ends(these), outcome, these, int(tries.sum()))
        evidence = places.evidence(these, "proof", EVIDENCE)
        return finding(f"connection_{outcome}", f"{text}: {ADVICE[outcome]}.", evidence)

    return told(f"connection_{outcome}", groups.counts, tell)


def _udp_unreachable(flows: pd.DataFrame, places: Places) -> Iterator[Finding]:
    """Find UDP that an ICMP message answered: its application is told of an error (RFC 1122 section 4.1.3.3)."""
    groups = _at_fault(flows[flows["icmp_code"].notna()])

    def tell(group: int) -> Finding:
        these = groups.of(group)
        every = flows[np.logical_and.reduce([flows[end].isin(these[end].unique()) for end in PAIR])]
        codes = these[["destination", "icmp_code"]].drop_duplicates().itertuples(index=False, name=None)
        said = sorted({CODES[":" in party.address].get(code, f"code {code}") for party, code in codes})
        text = (
            f"{_ends(these)}: {len(these)} of {many(len(every), 'UDP flow')} answered by ICMP {listed('', said)}, "
            f"{many(int(these['orig_packets'].sum()), 'datagram')} sent: "
        )
        rejected = f"a router has no way there, or {ADVICE['unreachable']}"
        text += "nothing listens there, or a firewall rejects it" if said == [PORT] else rejected
        return finding("udp_unreachable", f"{text}.", places.evidence(these, "unreachable_frame", EVIDENCE))

    return told("udp_unreachable", groups.counts, tell)


def _at_fault(failed: pd.DataFrame) -> Groups:
    """Group failures by source and destination.

    Many sources of one destination are one group: it is at fault. So are many external destinations of one source:
    it scans, or its way out is gone.
    """
    kinds = np.array([party.kind for party in failed["destination"].cat.categories], dtype=object)
    outside = kinds[failed["destination"].cat.codes] == "external"
    failed = failed.assign(to=_crowded(failed, "destination", "source", outside))
    failed["from"] = _crowded(failed, "source", "destination", (failed["to"] >= 0).to_numpy())
    return Groups(failed, ["from", "to"])


def _ends(failed: pd.DataFrame) -> str:
    """Say between whom, and on which ports: demo/client to demo/web ports 80, 81."""
    ends = f"{_together(failed['source'])} to {_together(failed['destination'])}"
    return f"{ends} {listed('port', sorted(set(failed['dst_port'])))}"


def _crowded(rows: pd.DataFrame, end: str, other: str, among: npt.NDArray[np.bool_]) -> pd.Series:
    """Give that end of each row by number: -1 where it is one of more than are worth a finding each.

    Args:
        rows: connections.
        end: source or destination.
        other: the other end: how many different ends has it?
        among: the rows that can be part of a crowd.

    """
    codes = rows[end].cat.codes.astype("int64")
    different = codes.where(among).groupby(rows[other].cat.codes).transform("nunique")
    return codes.mask(among & (different > LISTED), -1)


def _together(parties: pd.Series) -> str:
    different: list[Party] = sorted(set(parties.unique()))
    if len(different) > 1 and all(party.kind == "external" for party in different):
        return f"{len(different)} addresses"
    if len(different) > LISTED:
        return f"{len(different)} sources ({different[0].name}, {different[1].name} ...)"
    return listed("", [party.name for party in different])


def _failure(between: str, outcome: str, failed: pd.DataFrame, attempts: int) -> str:
    text = f"{between}: {len(failed)} of {many(attempts, 'attempt')} {outcome.replace('_', ' ')}"
    if outcome == "unreachable":
        return f"{text} ({listed('ICMP code', sorted({int(code) for code in failed['icmp_code'].dropna()}))})"
    if outcome == "timed_out":
        if failed["arrived"].any():
            text += f", though {int(failed['arrived'].sum())} arrived there"
        elif failed["responder_captured"].all():
            text += ", and none arrived there"
        return f"{text} ({_tries(failed)})"
    return text


def _tries(failed: pd.DataFrame) -> str:
    """Say when the SYN was sent again, of the attempt that was sent most often (RFC 6298: 1, 3, 7 s and so on)."""
    longest = failed["syn_times_s"].iloc[int(failed["syn_count"].argmax())]
    times = [time for time in longest if time > 0]
    said = [f"{time:.1f}" if time >= 1 else f"{time:.2g}" for time in times]
    return f"SYN sent again after {', '.join(said)} s" if times else "SYN sent once"


def _half_open(by_pair: Groups, places: Places, thresholds: Thresholds) -> Iterator[Finding]:
    """Find handshakes whose last step never came (RFC 9293 section 3.5; many of them: a SYN flood, RFC 4987)."""
    tried = by_pair.rows
    is_open = (
        (tried["synack_count"] >= max(thresholds.half_open_tries, 1))
        & ~tried["established"]
        & (tried["reset_by"] == "")
    )

    def tell(group: int) -> Finding:
        every = by_pair.of(group)
        rows = every[is_open[every.index]]
        why = (
            "the client sees the SYN-ACK and does not answer: its own firewall or reverse-path filter drops it"
            if (rows["vantage"] == ORIGIN).any()
            else "the SYN-ACK does not get back, or its ACK does not get here: look for asymmetric routes, or for "
            "a SYN flood from forged addresses"
        )
        return finding(
            "half_open",
            f"{between(by_pair.keys[group])}: {len(rows)} of {many(len(every), 'attempt')} stayed half-open, the "
            f"SYN-ACK sent up to {int(rows['synack_count'].max())} times and never acknowledged: {why}.",
            places.evidence(rows, "proof", EVIDENCE),
        )

    return told("half_open", by_pair.total(is_open), tell)


def _is_retried(tried: pd.DataFrame, succeeded: pd.Series) -> pd.Series:
    """Say which attempts succeeded with a SYN that was sent again; one that comes sooner was captured twice."""
    repeated = tried.loc[succeeded & (tried["syn_count"] > 1), "syn_times_s"]
    late = [max(times, default=0) >= SHORTEST_TIMEOUT for times in repeated]
    return pd.Series(late, index=repeated.index, dtype=bool).reindex(tried.index, fill_value=False)


def _retried(by_pair: Groups, places: Places, thresholds: Thresholds) -> Iterator[Finding]:
    counts = by_pair.total(by_pair.rows["retried"])

    def tell(group: int) -> Finding:
        rows = by_pair.of(group)
        late = rows[rows["retried"]]
        text = (
            f"{between(by_pair.keys[group])}: {len(late)} of {many(len(rows), 'attempt')} succeeded, but not at the "
            f"first SYN ({_tries(late)}): SYNs or their answers are lost, or the listen queue is full."
        )
        return finding("connect_retried", text, places.evidence(late, "proof", EVIDENCE))

    return told("connect_retried", np.where(counts >= thresholds.connect_retried, counts, 0), tell)


def _slow(by_pair: Groups, places: Places, thresholds: Thresholds) -> Iterator[Finding]:
    p95 = by_pair.quantile(by_pair.rows["rtt"], 95)

    def tell(group: int) -> Finding:
        rows = by_pair.of(group)
        text = (
            f"{between(by_pair.keys[group])}: connecting takes long: "
            f"{slowness(rows['rtt'], p95[group], thresholds.connect_slow_ms)}."
        )
        late = rows[rows["rtt"] > thresholds.connect_slow_ms].nlargest(EVIDENCE, "rtt")
        return finding("connect_slow", text, places.evidence(late, "proof", EVIDENCE))

    return told("connect_slow", np.where(p95 > thresholds.connect_slow_ms, p95, 0), tell)


def between(key: tuple[Party, Party, int]) -> str:
    """Write a pair: demo/client to demo/web port 80."""
    source, destination, port = key
    return f"{source.name} to {destination.name} port {port}"
