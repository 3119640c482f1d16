"""From the kernel's facts to connections, in Zeek's words: conn_state, history, attempts and how each one ended.

Rules: Zeek's conn.log (https://docs.zeek.org/en/master/scripts/base/protocols/conn/main.zeek.html); an attempt is a
TCP connection whose SYN was seen, one per 5-tuple and initial sequence number; RTT is none where a retransmitted SYN
makes it ambiguous (Karn's algorithm, RFC 6298 section 3). Nothing here imports pandas, which takes as long as reading
a million packets: whoever wants only the table has it sooner.
"""

import re
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from analysis.arrow import Array, numbers, strings, words
from analysis.community_id import ICMP, TWO_WAY, community_ids
from analysis.kernel import APPLICATIONS, KINDS, PROTOCOLS, SYN_TIMES, TUNNELS, Columns
from analysis.timestamps import NANOSECONDS

if TYPE_CHECKING:
    import pandas as pd

    from analysis.packets import Packets

GRACE = NANOSECONDS  # a SYN this close to the capture's end may be answered yet: RFC 6298's first timeout
OUTCOMES = ("succeeded", "refused", "timed_out", "unreachable", "aborted", "undecided")
RETRANSMISSIONS = {
    "plain": "retransmission",
    "fast": "fast_retransmission",
    "spurious": "spurious_retransmission",
}
TROUBLES = ("out_of_order", "lost_segment", "duplicate_ack", "keep_alive", "zero_window", "window_full")
SIDES = ("orig", "resp")
STATES = ("inactive", "syn_sent", "established", "partial", "closed", "reset")  # of an end; the kernel's
GAVE_UP = re.compile(rb"S[^HAFGIQ]*R")  # in the history: a SYN, and a RST of the same end before anything else of it
TCP, UDP = 6, 17
MILLISECOND = 1_000_000  # ns


def connections(packets: "Packets", end: int) -> "pd.DataFrame":
    """Give `table` for pandas: where a number is not known, NaN or NA.

    Args:
        packets: one capture, read.
        end: when the capture ended, ns since the epoch; what is open then is undecided, not failed.

    """
    frame: pd.DataFrame = table(packets.connections, end).to_pandas()
    return frame.astype(dict.fromkeys(("icmp_code", "vlan", "mtu"), "Int64"))


def table(facts: Columns, end: int) -> pa.Table:
    """Give one row per connection, in the order of their first packets.

    Args:
        facts: the kernel's CONNECTIONS.
        end: when the capture ended, ns since the epoch.

    Returns:
        The columns that `analysis.tables.CONNECTIONS` describes, and of those that only compare captures: isn and
        resp_isn (-1: not seen); `start` is in ns since the epoch, places (`frame`, `proof` and others) are numbers of
        frames in the capture, 0 for none.

    """
    columns = _ends(facts) | _judged(facts, end) | _sent(facts) | _times(facts) | _analysed(facts) | _around(facts)
    named = {name: values if isinstance(values, pa.Array) else numbers(values) for name, values in columns.items()}
    return pa.Table.from_arrays(list(named.values()), list(named))


def addresses(facts: Columns) -> pa.Array:
    """Give the texts that the columns src, dst, outer_src and outer_dst name by their place; the last one is empty."""
    ends = np.concatenate([[0], facts["address_ends"], facts["address_ends"][-1:]]).astype(np.int32)
    return pa.StringArray.from_buffers(len(ends) - 1, pa.py_buffer(ends), pa.py_buffer(facts["addresses"]))


def _ends(facts: Columns) -> dict[str, Any]:
    texts = addresses(facts)
    known = {number: place for place, number in enumerate(sorted(PROTOCOLS))}
    codes = np.array([known.get(number, 0) for number in range(256)])[facts["protocol"]]
    history = np.where(facts["is_flipped"], np.char.add(b"^", facts["history"]), facts["history"])
    return {
        "proto": words(tuple(PROTOCOLS[number] for number in sorted(PROTOCOLS)), codes),
        "src": texts.take(numbers(facts["src"])),
        "src_port": facts["src_port"].astype(np.int32),
        "dst": texts.take(numbers(facts["dst"])),
        "dst_port": facts["dst_port"].astype(np.int32),
        "community_id": strings(identities(facts)),
        "start": facts["start"],
        "duration_s": (facts["last"] - facts["start"]) / NANOSECONDS,
        "history": strings(history),
        "application": words(APPLICATIONS, facts["application"]),
    }


def identities(facts: Columns) -> Array:
    """Give the Community IDs; the kernel knows which of their ends is the smaller one, as the specification has it."""
    protocol, ports = facts["protocol"], (facts["src_port"], facts["dst_port"])
    one_way = [(protocol == icmp) & ~np.isin(ports[0], TWO_WAY[icmp]) for icmp in ICMP]
    is_low = (facts["originator"] == 0) | one_way[0] | one_way[1]
    ends = [np.where(is_low, facts["src"], facts["dst"]), np.where(is_low, facts["dst"], facts["src"])]
    ordered = [np.where(is_low, *ports), np.where(is_low, *reversed(ports))]
    packed = np.frombuffer(facts["address_packed"].tobytes(), np.uint8).reshape(-1, 16)
    is_v6 = facts["address_is_v6"][facts["src"]].astype(bool)
    found = np.empty(len(protocol), "S30")
    for version, width in ((~is_v6, 4), (is_v6, 16)):
        low, high = (packed[end[version]][:, -width:] for end in ends)
        found[version] = community_ids(low, ordered[0][version], high, ordered[1][version], protocol[version])
    return found


def _sent(facts: Columns) -> dict[str, Any]:
    names = [f"{side}_{what}" for side in SIDES for what in ("packets", "bytes", "payload_bytes")]
    return {name: facts[name].astype(np.int64) for name in names}


def _judged(facts: Columns, end: int) -> dict[str, Any]:
    """Say what became of each connection: conn_state, the outcome and what proves it."""
    syn, answered = facts["syn_frame"] > 0, facts["synack_frame"] > 0
    reset = facts["reset_frame"] > 0
    reset_by = np.where(reset, np.where(facts["reset_by_orig"], 1, 2), 0)
    state = _states(facts)
    rejected = facts["unreachable_frame"] > 0
    open_at_end = facts["last_syn_time"] > end - GRACE
    outcome = np.select(
        [~syn, answered, state == "REJ", state == "RSTOS0", state != "S0", rejected, open_at_end],
        ["", "succeeded", "refused", "aborted", "undecided", "unreachable", "undecided"],
        "timed_out",
    )
    proof = np.select(
        [outcome == "unreachable", answered, reset, facts["last_syn_frame"] > 0],
        [facts[name] for name in ("unreachable_frame", "synack_frame", "reset_frame", "last_syn_frame")],
        facts["frame"],
    )
    return {
        "conn_state": strings(state.astype("S")),
        "outcome": strings(outcome.astype("S")),
        "established": syn & answered & (facts["ack_frame"] > 0),
        "reset_by": words(("", *SIDES), reset_by),
        "icmp_code": numbers(facts["unreachable_code"].astype(np.int32), rejected),
        "isn": facts["isn"],
        "resp_isn": facts["resp_isn"],
        "syn_count": facts["syn_count"].astype(np.int64),
        "synack_count": facts["synack_count"].astype(np.int64),
        "syn_times_s": _syn_times(facts),
        "proof": proof,
    }


def _states(facts: Columns) -> Array:
    """Give each connection's conn_state, as Zeek's conn.log has it: by the states in which its ends were last."""
    protocol = facts["protocol"]
    orig, resp = ({name: facts[f"{side}_state"] == number for number, name in enumerate(STATES)} for side in SIDES)
    silent = {side: facts[f"{side}_packets"] == 0 for side in SIDES}
    empty = (facts["orig_payload_bytes"] == 0) & (facts["resp_payload_bytes"] == 0)
    no_orig, no_resp = orig["inactive"] | orig["partial"], resp["inactive"] | resp["partial"]
    gave_up = orig["reset"] & no_resp
    gave_up[gave_up] = [bool(GAVE_UP.match(text)) for text in facts["history"][gave_up].tolist()]
    rules = [
        (protocol == UDP, np.select([silent["orig"], silent["resp"]], ["SHR", "S0"], "SF")),
        (protocol != TCP, "OTH"),
        (resp["reset"], np.select([orig["syn_sent"] | (orig["reset"] & empty), no_orig], ["REJ", "RSTRH"], "RSTR")),
        (orig["reset"], np.select([~no_resp, gave_up], ["RSTO", "RSTOS0"], "OTH")),
        (orig["closed"] & resp["closed"], "SF"),
        (orig["closed"], np.where(no_resp, "SH", "S2")),
        (resp["closed"], np.where(no_orig, "SHR", "S3")),
        (orig["syn_sent"] & resp["inactive"], "S0"),
        (orig["established"] & resp["established"], "S1"),
    ]
    conditions, states = zip(*rules, strict=True)
    return np.select(conditions, states, "OTH")


def _syn_times(facts: Columns) -> pa.Array:
    """Give when SYNs were sent again, in seconds after the first: a list per connection."""
    times = facts["syn_times"].reshape(-1, SYN_TIMES)
    counts = np.concatenate([[0], np.cumsum((times > 0).sum(axis=1))]).astype(np.int32)
    return pa.ListArray.from_arrays(numbers(counts), numbers(times[times > 0] / 1e6))


def _ms(nanoseconds: Array, known: Array) -> pa.Array:
    return numbers(nanoseconds / MILLISECOND, known)


def _times(facts: Columns) -> dict[str, Any]:
    syn, answer, ack = (facts[f"{name}_time"] for name in ("syn", "synack", "ack"))
    clear = (facts["synack_frame"] > 0) & (facts["syns_before_answer"] == 1)
    acked = (facts["ack_frame"] > 0) & (facts["synack_count"] == 1)
    asked, replied = facts["orig_data_frame"] > 0, facts["resp_data_frame"] > 0
    begun = np.where(asked & (facts["orig_data_time"] <= facts["resp_data_time"]), facts["orig_data_time"], ack)
    times = {
        "rtt_ms": _ms(answer - syn, clear),
        "ack_rtt_ms": _ms(ack - answer, acked),
        "first_byte_ms": _ms(facts["resp_data_time"] - begun, replied & (begun > 0)),
    }
    for side in SIDES:
        count = facts[f"{side}_data_rtts"]
        times[f"{side}_data_rtts"] = count.astype(np.int64)
        times[f"{side}_data_rtt_ms"] = _ms(facts[f"{side}_data_rtt_sum"] / np.maximum(count, 1), count > 0)
        times[f"{side}_data_rtt_max_ms"] = _ms(facts[f"{side}_data_rtt_max"], count > 0)
    return times


def _analysed(facts: Columns) -> dict[str, Any]:
    """Give what TCP analysis counted, by Wireshark's words."""
    kinds = {side: facts[f"{side}_kinds"].reshape(-1, len(KINDS)).astype(np.int64) for side in SIDES}
    both = dict(zip(KINDS, (kinds["orig"] + kinds["resp"]).T, strict=True))
    again = [KINDS.index(kind) for kind in RETRANSMISSIONS.values()]
    found: dict[str, Any] = {f"retransmissions_{name}": both[kind] for name, kind in RETRANSMISSIONS.items()}
    found |= {name: both[name] for name in TROUBLES}
    for side in SIDES:
        found[f"{side}_retransmitted"] = kinds[side][:, again].sum(axis=1)
        for name in ("largest_acked", "stuck_bytes", "stuck_tries"):
            found[f"{side}_{name}"] = facts[f"{side}_{name}"].astype(np.int64)
    is_orig = facts["orig_stuck_tries"] >= facts["resp_stuck_tries"]
    stuck = np.where(is_orig, facts["orig_stuck_frame"], facts["resp_stuck_frame"])
    seen = ("reset", "retransmission", "zero_window", "window_full", "too_big", "unreachable")
    places = ["frame", *(f"{name}_frame" for name in seen)]
    return found | {name: facts[name] for name in places} | {"stuck_frame": stuck}


def _around(facts: Columns) -> dict[str, Any]:
    """Give what carried a connection's packets, and what happened to them on the way."""
    texts, inside = addresses(facts), facts["tunnel"] > 0
    last = len(texts) - 1
    outer = {name: texts.take(numbers(np.where(inside, facts[name], last))) for name in ("outer_src", "outer_dst")}
    return {
        "fragments": facts["fragments"].astype(np.int64),
        "too_big": facts["too_big"].astype(np.int64),
        "mtu": numbers(facts["mtu"].astype(np.int64), facts["mtu"] > 0),
        "vlan": numbers(facts["vlan"], facts["vlan"] >= 0),
        "tunnel": words(TUNNELS, facts["tunnel"]),
        "tunnel_id": facts["tunnel_id"].astype(np.int64),
        **outer,
    }
