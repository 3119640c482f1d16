"""Findings about established TCP connections: resets, retransmissions, full windows, segments that never arrive."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd

from analysis.findings.attempts import PAIR, between
from analysis.findings.kinds import EVIDENCE, Finding, figure, finding, listed, many, told
from analysis.groups import Groups
from analysis.places import Places
from analysis.thresholds import Thresholds

COLUMNS = [  # all that is looked at here
    *(*PAIR, "capture_number", "established", "reset_by", "history", "duration_s", "too_big", "mtu"),
    *(f"{end}_{what}" for end in ("orig", "resp") for what in ("packets", "payload_bytes", "retransmitted")),
    *(f"{end}_{what}" for end in ("orig", "resp") for what in ("stuck_bytes", "stuck_tries", "largest_acked")),
    *(f"retransmissions_{kind}" for kind in ("plain", "fast", "spurious")),
    *("zero_window", "window_full", "reset_frame", "retransmission_frame", "zero_window_frame", "stuck_frame"),
    *("too_big_frame", "window_full_frame", "syn_count", "synack_count"),
]
HANDSHAKES = ["syn_count", "synack_count"]  # of the originator, of the responder
SIDES = {"orig": ("source", "client"), "resp": ("destination", "server")}


def findings(connections: pd.DataFrame, places: Places, thresholds: Thresholds) -> Iterator[Finding]:
    """Find what went wrong in TCP connections that count, after their handshake."""
    tcp = connections.loc[connections["proto"] == "tcp", COLUMNS]
    tcp = tcp.assign(**_marks(tcp, thresholds))
    groups = Groups(tcp, PAIR)
    yield from _reset(groups, places, thresholds)
    yield from _black_holes(groups, places)
    yield from _stalled(groups, places)
    for end in SIDES:
        yield from _sent_again(groups, end, places, thresholds)
    yield from _windows(groups, places, thresholds)


def _marks(tcp: pd.DataFrame, thresholds: Thresholds) -> dict[str, Any]:
    """Say of each connection whether it was reset mid-stream, hangs at large segments (`hole`), or hangs at all."""
    data = tcp["orig_payload_bytes"] + tcp["resp_payload_bytes"] > 0
    torn = tcp["established"] & data & (tcp["reset_by"] != "")
    finished = tcp.loc[torn, "history"].str.contains("F", case=False, regex=False)
    stuck, hole = (pd.Series(data=False, index=tcp.index) for _ in range(2))
    for end in SIDES:
        size, largest = tcp[f"{end}_stuck_bytes"], tcp[f"{end}_largest_acked"]
        hangs = tcp[f"{end}_stuck_tries"] >= thresholds.stuck_tries
        stuck |= hangs & (size > 0)
        hole |= hangs & (size > largest) & (size > thresholds.stuck_bytes)
    return {"torn": torn & ~finished.reindex(tcp.index, fill_value=False), "hole": hole, "hangs": stuck & ~hole}


def _reset(groups: Groups, places: Places, thresholds: Thresholds) -> Iterator[Finding]:
    counts = groups.total(groups.rows["torn"])

    def tell(group: int) -> Finding:
        every = groups.of(group)
        rows = every[every["torn"]]
        by = [f"{n} by the {name}" for end, (_, name) in SIDES.items() if (n := int((rows["reset_by"] == end).sum()))]
        data = figure(float((rows["orig_payload_bytes"] + rows["resp_payload_bytes"]).median()))
        text = (
            f"{between(groups.keys[group])}: {len(rows)} of {many(len(every), 'connection')} "
            f"{'was' if len(every) == 1 else 'were'} reset mid-stream, "
            f"{' and '.join(by)}, after {figure(float(rows['duration_s'].median()))} s and {data} bytes of data "
            "(medians): a process ended or gave up, or a firewall, NAT or load balancer forgot the connection."
        )
        return finding("connection_reset", text, places.evidence(rows, "reset_frame", EVIDENCE))

    return told("connection_reset", np.where(counts >= thresholds.reset_connections, counts, 0), tell)


def _black_holes(groups: Groups, places: Places) -> Iterator[Finding]:
    """Find paths that swallow large packets (RFC 2923): a segment larger than all that passed is never acknowledged."""

    def tell(group: int) -> Finding:
        rows = groups.of(group)
        rows = rows[rows["hole"]]
        messages = int(rows["too_big"].sum())
        said = (
            f"{many(messages, 'ICMP message')} said that they are too big{_mtu(rows)}, and the sender went on: it does "
            "not get them or ignores them"
            if messages
            else "no ICMP message said that they are too big: something filters it, or the link drops them silently"
        )
        text = (
            f"{between(groups.keys[group])}: {many(len(rows), 'connection')} hung at large segments: {_stuck(rows)}; "
            f"{said}. It is an MTU black hole: lower the MTU or clamp the MSS, and let ICMP fragmentation needed "
            "(IPv6: packet too big) pass."
        )
        evidence = places.evidence(rows, "stuck_frame", EVIDENCE - 2) + places.evidence(rows, "too_big_frame", 2)
        return finding("mtu_black_hole", text, evidence)

    return told("mtu_black_hole", groups.total(groups.rows["hole"]), tell)


def _mtu(rows: pd.DataFrame) -> str:
    smallest = rows["mtu"].min()
    return "" if pd.isna(smallest) else f" for an MTU of {int(smallest)}"


def _stalled(groups: Groups, places: Places) -> Iterator[Finding]:
    def tell(group: int) -> Finding:
        every = groups.of(group)
        rows = every[every["hangs"]]
        text = (
            f"{between(groups.keys[group])}: {len(rows)} of {many(len(every), 'connection')} hung: {_stuck(rows)}: the "
            "other side is gone, or nothing gets through any more."
        )
        return finding("connection_stalled", text, places.evidence(rows, "stuck_frame", EVIDENCE))

    return told("connection_stalled", groups.total(groups.rows["hangs"]), tell)


def _stuck(rows: pd.DataFrame) -> str:
    """Say what the sides sent again and again, and what passed."""
    said = []
    for end, (_, name) in SIDES.items():
        some = rows[rows[f"{end}_stuck_tries"] > 1]
        if len(some):
            sizes = sorted({int(size) for size in some[f"{end}_stuck_bytes"]}, reverse=True)
            was = "were" if len(sizes) > 1 else "was"
            passed = int(some[f"{end}_largest_acked"].max())
            largest = f"while up to {passed} bytes passed" if passed else "and nothing before it was acknowledged"
            said.append(
                f"the {name}'s {listed('segment', sizes).replace(' ', ' of ', 1)} bytes {was} sent up to "
                f"{int(some[f'{end}_stuck_tries'].max())} times and never acknowledged, {largest}"
            )
    return "; ".join(said)


def _sent_again(groups: Groups, end: str, places: Places, thresholds: Thresholds) -> Iterator[Finding]:
    handshakes = groups.rows[HANDSHAKES].sub(1).clip(lower=0)  # sent again, they are the attempt's trouble
    beyond = (groups.rows[f"{end}_retransmitted"] - handshakes[HANDSHAKES[end != "orig"]]).clip(lower=0)
    again, packets = groups.total(beyond), groups.total(groups.rows[f"{end}_packets"])
    share = 100 * again / np.maximum(packets, 1)
    many_again = (share > thresholds.retransmission_percent) & (again >= thresholds.retransmission_packets)

    def tell(group: int) -> Finding:
        rows, (source, destination, port) = groups.of(group), groups.keys[group]
        sender = source if end == "orig" else destination
        kinds = {kind: int(rows[f"retransmissions_{kind}"].sum()) for kind in ("plain", "fast", "spurious")}
        kinds["plain"] = max(0, kinds["plain"] - int(handshakes.loc[rows.index].to_numpy().sum()))
        both = f" (both directions: {', '.join(f'{count} {kind}' for kind, count in kinds.items() if count)})"
        text = (
            f"{between((source, destination, port))}: {again[group]} of {packets[group]} packets from {sender.name} "
            f"were sent again, {figure(share[group])} %, more than {thresholds.retransmission_percent:g} %"
            f"{both if any(kinds.values()) else ''}: packets or their ACKs are lost, or acknowledged too late."
        )
        mine, theirs = (f"{side}_retransmitted" for side in (end, *SIDES.keys() - {end}))
        worst = rows[rows[mine] > 0].assign(other=rows[theirs] > 0)  # whose first retransmission is surely the sender's
        worst = worst.sort_values(["other", mine], ascending=[True, False], kind="stable")
        return finding("retransmissions", text, places.evidence(worst, "retransmission_frame", EVIDENCE))

    return told("retransmissions", np.where(many_again, again, 0), tell)


def _windows(groups: Groups, places: Places, thresholds: Thresholds) -> Iterator[Finding]:
    zero, full = (groups.total(groups.rows[kind]) for kind in ("zero_window", "window_full"))
    slow = (zero >= thresholds.zero_window_packets) | (full >= thresholds.window_full_packets)

    def tell(group: int) -> Finding:
        rows = groups.of(group)
        rows = rows[rows["zero_window"] + rows["window_full"] > 0].nlargest(EVIDENCE, ["zero_window", "window_full"])
        letters = set("".join(rows["history"])) & {"W", "w"}  # Zeek's: who announced a zero window
        who = " and ".join(name for letter, (_, name) in zip("Ww", SIDES.values(), strict=True) if letter in letters)
        counts = {"zero": int(zero[group]), "full": int(full[group])}
        said = " and ".join(f"{kind} {many(count, 'time')}" for kind, count in counts.items() if count)
        why = f": the {who or 'receiver'} reads more slowly than the other side sends"
        if not zero[group]:
            why = ", never zero: the sender had to wait, for the window is small or its receiver reads slowly"
        frame = "zero_window_frame" if zero[group] else "window_full_frame"
        text = f"{between(groups.keys[group])}: a window was {said}{why}."
        return finding("zero_window", text, places.evidence(rows, frame, EVIDENCE))

    return told("zero_window", np.where(slow, zero + full, 0), tell)
