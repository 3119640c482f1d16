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
from analysis.timestamps import NANOSECONDS

Numbers = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]

FIN, SYN, RST, ACK = 1, 2, 4, 16
EPHEMERAL = 32768  # where Linux's client ports begin (net.ipv4.ip_local_port_range)
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
        Columns proto, src (who opened it), src_port, dst, dst_port, community_id, isn, start (ns), duration_s,
        conn_state, history, orig_ and resp_ packets, bytes (IP) and payload_bytes, syn_count, rtt_ms,
        retransmissions_ by kind, the other TCP troubles, reset_by, icmp_code, outcome (empty unless it is an
        attempt), and frames of the capture: the first one, and the `proof` of the outcome.

    """
    seen = _Conversations(packets)
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


class _Conversations:
    """Packets as arrays, with the connection of each (`number`) and whether its originator sent it (`up`)."""

    def __init__(self, packets: pd.DataFrame) -> None:
        codes, self.addresses = pd.factorize(np.concatenate([packets["src"], packets["dst"]]).astype(object))
        src, dst = np.split(codes.astype(np.int64), 2)
        src_port, dst_port = packets["src_port"].to_numpy(np.int64), packets["dst_port"].to_numpy(np.int64)
        self.proto, self.kind = packets["proto"].to_numpy(object), packets["kind"].to_numpy(object)
        self.time, self.frame = packets["time"].to_numpy(np.int64), packets["frame"].to_numpy(np.int64)
        self.seq, self.ack = packets["seq"].to_numpy(np.int64), packets["ack"].to_numpy(np.int64)
        self.payload = packets["payload"].to_numpy(np.int64)
        self.tcp = self.proto == "tcp"
        self.flags = np.where(self.tcp, packets["flags"].to_numpy(np.int64), 0)
        self.every = np.ones(len(packets), dtype=bool)
        sender, receiver = src << 16 | src_port, dst << 16 | dst_port
        # TCP by tshark's stream, which a SYN with another initial sequence number begins; others by their ends
        ends = pd.DataFrame(
            {
                "proto": self.proto,
                "low": np.minimum(sender, receiver),
                "high": np.maximum(sender, receiver),
                "stream": packets["stream"].to_numpy(),
            }
        )
        self.number = ends.groupby(list(ends), sort=False).ngroup().to_numpy(np.int64)
        self.size = int(self.number.max(initial=-1)) + 1
        self._orient(sender, receiver, src_port, dst_port)

    def _orient(self, sender: Numbers, receiver: Numbers, src_port: Numbers, dst_port: Numbers) -> None:
        """Find who opened each connection: the SYN's sender; the SYN-ACK's receiver; else by the ports.

        Of a conversation that began before the capture did, the end with a client's port is taken to have opened
        it where the other end's port is no client's; otherwise the one that is seen first.
        """
        syn, answer = self.has(SYN, without=ACK), self.has(SYN | ACK)
        chosen = self.first(self.every)
        for better in (answer, syn):
            row = self.first(better)
            chosen = np.where(row < len(self.number), row, chosen)
        by_port = ~syn[chosen] & ~answer[chosen] & (src_port[chosen] < EPHEMERAL) & (dst_port[chosen] >= EPHEMERAL)
        swap = answer[chosen] | by_port
        self.flipped = swap & (chosen == self.first(self.every))
        self.opener = np.where(swap, receiver[chosen], sender[chosen])
        self.responder = np.where(swap, sender[chosen], receiver[chosen])
        self.up = sender == self.opener[self.number]

    def opened(self) -> pd.DataFrame:
        """Give each connection's protocol and ends."""
        table = pd.DataFrame({"proto": self.proto[self.first(self.every)]}, dtype="str")
        for name, end in (("src", self.opener), ("dst", self.responder)):
            table[name] = pd.Series(self.addresses[end >> 16], dtype="str")
            table[f"{name}_port"] = end & 0xFFFF
        return table

    def has(self, flags: int, without: int = 0) -> Mask:
        """Say which packets are TCP's with all of these flags, and none of those without."""
        matching: Mask = (self.flags & (flags | without) == flags) & self.tcp
        return matching

    def count(self, mask: Mask) -> Numbers:
        return np.bincount(self.number[mask], minlength=self.size)

    def total(self, mask: Mask, values: pd.Series) -> Numbers:
        sums = np.bincount(self.number[mask], values.to_numpy()[mask], minlength=self.size)
        return sums.astype(np.int64)

    def first(self, mask: Mask) -> Numbers:
        """Give the row of each connection's first packet in the mask; the number of rows where there is none."""
        rows = np.full(self.size, len(self.number))
        found = np.flatnonzero(mask)[::-1]
        rows[self.number[found]] = found
        return rows

    def last(self, mask: Mask) -> Numbers:
        """Give the row of each connection's last packet in the mask; -1 where there is none."""
        rows = np.full(self.size, -1)
        found = np.flatnonzero(mask)
        rows[self.number[found]] = found
        return rows


def _at(values: npt.NDArray[Any], rows: Numbers, default: object) -> npt.NDArray[Any]:
    """Give the values of these rows, and the default for the row (-1, or past the end) that stands for none."""
    return np.append(values, np.array([default], dtype=values.dtype))[rows]


def _judge(table: pd.DataFrame, seen: _Conversations, unreachable: pd.DataFrame, end: int) -> None:
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
    seen: _Conversations, syn: Mask, answered: Mask, fins: Sequence[Mask], reset_by: npt.NDArray[Any]
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


def _histories(seen: _Conversations) -> list[str]:
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
