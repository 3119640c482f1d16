"""From packets to connections, in Zeek's words: conn_state, history, attempts and how each one ended.

Rules: Zeek's conn.log (https://docs.zeek.org/en/master/scripts/base/protocols/conn/main.zeek.html); an attempt is a
TCP connection whose SYN was seen, one per 5-tuple and initial sequence number; RTT is none where a retransmitted SYN
makes it ambiguous (Karn's algorithm, RFC 6298 section 3).
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from analysis.community_id import community_id
from analysis.conversations import ACK, FIN, RST, SYN, Conversations, Mask, Numbers
from analysis.timestamps import NANOSECONDS

GRACE = NANOSECONDS  # a SYN this close to the capture's end may be answered yet: RFC 6298's first timeout
OUTCOMES = ("succeeded", "refused", "timed_out", "unreachable", "aborted", "undecided")
RETRANSMISSIONS = {
    "plain": "retransmission",
    "fast": "fast_retransmission",
    "spurious": "spurious_retransmission",
}
TROUBLES = ("out_of_order", "lost_segment", "duplicate_ack", "keep_alive", "zero_window")
TUPLE = ["proto", "src", "src_port", "dst", "dst_port"]


def connections(packets: pd.DataFrame, unreachable: pd.DataFrame, end: int) -> pd.DataFrame:
    """Give one row per connection, in the order of their first packets.

    Args:
        packets: one capture's TCP, UDP and SCTP packets (`analysis.packets.COLUMNS`), in the order captured.
        unreachable: its ICMP unreachable messages (`analysis.packets.QUOTES`).
        end: when the capture ended, ns since the epoch; what is open then is undecided, not failed.

    Returns:
        Columns proto, src (who opened it), src_port, dst, dst_port, community_id, isn and resp_isn (-1: not seen),
        start (ns), duration_s, conn_state, history, orig_ and resp_ packets, bytes (IP) and payload_bytes, syn_count,
        rtt_ms, retransmissions_ by kind, the other TCP troubles, reset_by, icmp_code, outcome (empty unless it is an
        attempt), and frames of the capture: the first one, and the `proof` of the outcome.

    """
    seen = Conversations(packets)
    table = seen.opened()
    table["community_id"] = [community_id(*row) for row in table[TUPLE].itertuples(index=False, name=None)]
    table["start"] = seen.time[seen.first(seen.every)]
    table["duration_s"] = (seen.time[seen.last(seen.every)] - table["start"]) / NANOSECONDS
    for end_name, mine in (("orig", seen.up), ("resp", ~seen.up)):
        table[f"{end_name}_packets"] = seen.count(mine)
        table[f"{end_name}_bytes"] = seen.total(mine, packets["bytes"])
        table[f"{end_name}_payload_bytes"] = seen.total(mine, packets["payload"])
    for name, kind in RETRANSMISSIONS.items():
        table[f"retransmissions_{name}"] = seen.count(seen.kind == kind)
    for kind in TROUBLES:
        table[kind] = seen.count(seen.kind == kind)
    table["history"] = _histories(seen)
    _judge(table, seen, unreachable, end)
    table["frame"] = packets["frame"].to_numpy()[seen.first(seen.every)]
    return table


def _at(values: npt.NDArray[Any], rows: Numbers, default: object) -> npt.NDArray[Any]:
    """Give the values of these rows, and the default for the row (-1, or past the end) that stands for none."""
    return np.append(values, np.array([default], dtype=values.dtype))[rows]


def _judge(table: pd.DataFrame, seen: Conversations, unreachable: pd.DataFrame, end: int) -> None:
    """Add what became of each connection: the handshake, conn_state, the outcome and what proves it."""
    none = len(seen.number)
    syns, answers = seen.has(SYN, without=ACK) & seen.up, seen.has(SYN | ACK) & ~seen.up
    syn, last_syn, answer = seen.first(syns), seen.last(syns), seen.first(answers)
    fins = [seen.first(seen.has(FIN) & mine) for mine in (seen.up, ~seen.up)]
    before_close = np.arange(none) < np.maximum(*fins)[seen.number]  # a RST after both FINs is no news
    reset = seen.first(seen.has(RST) & before_close)
    reset_by = np.where(reset < none, np.where(_at(seen.up, reset, default=False), "orig", "resp"), "")
    state = _states(seen, syn < none, answer < none, [fin < none for fin in fins], reset_by)

    table["syn_count"] = seen.count(syns)
    table["isn"] = np.where(syn < none, _at(seen.seq, syn, -1), (_at(seen.ack, answer, 0) - 1) % 2**32)
    table.loc[(syn == none) & (answer == none), "isn"] = -1
    table["resp_isn"] = _at(seen.seq, answer, -1)
    before_answer = syns & (np.arange(none) < answer[seen.number])
    clear = (answer < none) & (seen.count(before_answer) == 1)
    rtt = (_at(seen.time, answer, 0) - _at(seen.time, syn, 0)) / 1e6
    table["rtt_ms"] = np.where(clear, rtt, np.nan)
    table["conn_state"], table["reset_by"] = state, reset_by
    icmp = _icmp(table, unreachable)
    table["icmp_code"] = icmp["code"]
    rejected = icmp["code"].notna().to_numpy()
    open_at_end = _at(seen.time, last_syn, 0) > end - GRACE
    table["outcome"] = np.select(
        [syn == none, answer < none, state == "REJ", state == "RSTOS0", state != "S0", rejected, open_at_end],
        ["", "succeeded", "refused", "aborted", "undecided", "unreachable", "undecided"],
        "timed_out",
    )
    proof = np.select([answer < none, reset < none, last_syn >= 0], [answer, reset, last_syn], seen.first(seen.every))
    table["proof"] = np.where(table["outcome"] == "unreachable", icmp["frame"].fillna(0), seen.frame[proof]).astype(int)


def _states(
    seen: Conversations, syn: Mask, answered: Mask, fins: Sequence[Mask], reset_by: npt.NDArray[Any]
) -> npt.NDArray[Any]:
    """Give each connection's conn_state, as Zeek's conn.log defines them."""
    proto = seen.proto[seen.first(seen.every)]
    sent, replied = seen.count(seen.up) > 0, seen.count(~seen.up) > 0
    rules = [
        (proto == "udp", np.select([sent & replied, sent], ["SF", "S0"], "SHR")),
        (proto != "tcp", "OTH"),
        (reset_by == "resp", np.select([syn & ~answered, syn, answered], ["REJ", "RSTR", "RSTRH"], "OTH")),
        (reset_by == "orig", np.select([syn & ~replied, syn], ["RSTOS0", "RSTO"], "OTH")),
        (fins[0] & fins[1], "SF"),
        (fins[0], np.select([syn & replied, syn], ["S2", "SH"], "OTH")),
        (fins[1], np.select([syn, answered], ["S3", "SHR"], "OTH")),
        (syn & ~replied, "S0"),
        (syn & answered, "S1"),
    ]
    conditions, states = zip(*rules, strict=True)
    return np.select(conditions, states, "OTH")


def _icmp(table: pd.DataFrame, unreachable: pd.DataFrame) -> pd.DataFrame:
    """Find the first ICMP unreachable that quotes each connection's SYN, or a datagram of it: its code and frame.

    Some quote no more than 8 bytes, as RFC 792 has it: ports, and to tshark no sequence number.
    """
    quotes = unreachable.rename(columns={"seq": "isn"})
    has_isn = (quotes["proto"] == "tcp") & (quotes["isn"] >= 0)
    exact = quotes[has_isn].drop_duplicates([*TUPLE, "isn"])
    loose = quotes[~has_isn].drop_duplicates(TUPLE)
    places = ["code", "frame"]
    by_isn = table[[*TUPLE, "isn"]].merge(exact, how="left", on=[*TUPLE, "isn"])[places].astype("Int64")
    by_ends = table[TUPLE].merge(loose, how="left", on=TUPLE)[places].astype("Int64")
    return by_isn.fillna(by_ends)


def _histories(seen: Conversations) -> list[str]:
    """Give each connection's history, as Zeek's: what each side did, in the order in which it did so first.

    S SYN, H SYN-ACK, A a bare ACK, D data, F FIN, R RST, T retransmitted data, W zero window, I FIN with RST,
    Q SYN with FIN or RST; capitals are the originator's; ^ where the first packet is the responder's.
    """
    syn, fin, rst, ack = (seen.has(flag) for flag in (SYN, FIN, RST, ACK))
    several = syn.astype(int) + fin + rst > 1
    data = seen.payload > 0
    main = np.select(
        [~seen.tcp, several & fin & rst, several, syn & ack, syn, fin, rst, data, ack],
        [ord(letter) for letter in "DIQHSFRDA"],
        0,
    )
    again = np.isin(seen.kind, list(RETRANSMISSIONS.values())) & data
    extra = np.select([again, seen.kind == "zero_window"], [ord("T"), ord("W")], 0)
    letters = np.stack([extra, main], axis=1).ravel()
    rows = np.repeat(np.arange(len(main)), 2)
    letters, rows = letters[letters > 0], rows[letters > 0]
    letters = letters + np.where(seen.up[rows], 0, 32)  # lower case
    numbers = seen.number[rows]
    _, first = np.unique(numbers << 8 | letters, return_index=True)
    first = first[np.lexsort((first, numbers[first]))]
    text = letters[first].astype(np.uint8).tobytes().decode()
    lengths = np.bincount(numbers[first], minlength=seen.size)
    ends = np.cumsum(lengths)
    return [
        ("^" if flipped else "") + text[end - length : end]
        for end, length, flipped in zip(ends, lengths, seen.flipped, strict=True)
    ]
