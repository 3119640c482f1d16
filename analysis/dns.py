"""DNS: what was asked, what was answered and how fast."""

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

import numpy as np
import pandas as pd

from analysis.timestamps import NANOSECONDS
from analysis.tshark import SEPARATOR

FIELDS = (  # Wireshark's; the counts say which questions belong to which of several messages in a segment
    *("dns.id", "dns.flags.response", "dns.flags.rcode"),
    *("dns.count.queries", "dns.qry.name", "dns.qry.type"),
)
RCODES = {0: "NOERROR", 1: "FORMERR", 2: "SERVFAIL", 3: "NXDOMAIN", 4: "NOTIMP", 5: "REFUSED"}  # RFC 1035
TYPES = {1: "A", 2: "NS", 5: "CNAME", 6: "SOA", 12: "PTR", 15: "MX", 16: "TXT", 28: "AAAA", 33: "SRV", 65: "HTTPS"}
GRACE = NANOSECONDS  # a question this close to the capture's end may be answered yet
SEARCH = 10 * NANOSECONDS  # a resolver is through its search list within this
LABELS = 16  # of a name that may be such a step: whoever makes up longer ones gets no work done for them
MESSAGES = {  # beside the columns of its packet (`analysis.dissect.PACKET`)
    "is_answer": "bool",
    "id": "int64",
    "name": "str",
    "type": "str",
    "rcode": "str",  # empty for a question
}
LOOKUP = ["client", "client_port", "server", "server_port", "transport", "id", "name", "type"]


def messages(values: Sequence[str]) -> Iterator[tuple[bool, int, str, str, str]]:
    """Read the DNS messages of one packet, by their first questions: what has none is no lookup.

    Args:
        values: those of FIELDS, as `analysis.tshark.fields` gives them.

    Returns:
        The columns MESSAGES.

    """
    ids, responses, rcodes, counts, names, types = (value.split(SEPARATOR) if value else [] for value in values)
    questions, codes = zip(names, types, strict=False), iter(rcodes)
    for number, response, count in zip(ids, responses, counts, strict=False):
        is_answer = response in {"1", "True"}
        rcode = int(next(codes, "0")) if is_answer else 0
        for name, kind in list(islice(questions, int(count)))[:1]:
            text = RCODES.get(rcode, f"RCODE{rcode}") if is_answer else ""
            yield is_answer, int(number, 16), name.lower(), TYPES.get(int(kind), f"TYPE{kind}"), text


def lookups(found: pd.DataFrame, end: int) -> pd.DataFrame:
    """Match questions with answers: one row per lookup, a question repeated is one lookup.

    Args:
        found: DNS messages (`analysis.dissect.Messages.dns`).
        end: when the capture ended, ns since the epoch.

    Returns:
        Columns LOOKUP, asked (ns), tries, latency_ms (first question to first answer), rcode (empty when
        unanswered), undecided (unanswered, and last asked in the capture's last second), search_step (an
        NXDOMAIN on the way through the search list of resolv.conf, to a name that exists), frame (the first
        question's), connection (the row of its connection), proof (the frame of the answer, or of the last question).

    """
    asked, answered = (_of_side(found, is_answer=side) for side in (False, True))
    times = {"asked": ("time", "min"), "last": ("time", "max"), "tries": ("time", "size")}
    frames = {"frame": ("frame", "first"), "last_frame": ("frame", "last"), "connection": ("connection", "first")}
    table = asked.groupby(LOOKUP, sort=False).agg(**times, **frames)
    answers = answered.drop_duplicates(LOOKUP).set_index(LOOKUP)[["time", "rcode", "frame"]]
    answers = answers.rename(columns={"frame": "answer_frame"})
    answers = answers.astype({"time": "Int64", "answer_frame": "Int64"})  # a float holds no ns since the epoch
    table = table.join(answers).reset_index()
    is_answered = table["time"].notna()
    table["latency_ms"] = (table["time"] - table["asked"]).astype("float64") / 1e6
    table["rcode"] = table["rcode"].fillna("")
    table["undecided"] = ~is_answered & (table["last"] > end - GRACE)
    table["proof"] = table["answer_frame"].where(is_answered, table["last_frame"]).astype("int64")
    table = table.drop(columns=["time", "last", "last_frame", "answer_frame"])
    table["search_step"] = _search_steps(table)
    return table


def _of_side(found: pd.DataFrame, *, is_answer: bool) -> pd.DataFrame:
    """Give the questions or the answers in the order of their times; a question's sender is the client."""
    client, server = ("dst", "src") if is_answer else ("src", "dst")
    names = {client: "client", f"{client}_port": "client_port", server: "server", f"{server}_port": "server_port"}
    return found[found["is_answer"] == is_answer].sort_values("time", kind="stable").rename(columns=names)


def _search_steps(table: pd.DataFrame) -> pd.Series:
    """Say which lookups ended in NXDOMAIN, and the same client soon found a name to which they were a step."""
    columns = ["client", "type", "name", "asked"]
    tried, exist = (table.loc[table["rcode"] == rcode, columns] for rcode in ("NXDOMAIN", "NOERROR"))
    found: dict[Any, dict[str, list[int]]] = defaultdict(dict)  # when a name was asked for that exists
    for client, kind, name, asked in exist.sort_values("asked").itertuples(index=False, name=None):
        found[client, kind, name.partition(".")[0]].setdefault(name, []).append(asked)
    steps = [
        _is_step(name, asked, found.get((client, kind, name.partition(".")[0]), {}))
        for client, kind, name, asked in tried.itertuples(index=False, name=None)
    ]
    is_step = pd.Series(data=False, index=table.index)
    is_step[tried.index] = np.array(steps, dtype=bool)
    return is_step


def _is_step(name: str, asked: int, found: Mapping[str, Sequence[int]]) -> bool:
    """Say whether a resolver that tried this name then may have looked for one of these, found about that time."""
    for target in _targets(name) if found else ():
        times = found.get(target, ())
        is_first = name.startswith(f"{target}.")  # the name as it is may be tried before those with more to it
        near = bisect_left(times, asked - SEARCH if is_first else asked)
        if near < len(times) and times[near] <= asked + SEARCH:
            return True
    return False


def _targets(name: str) -> Iterator[str]:
    """Give the names that a resolver may have looked for when it tried this one.

    It tries `web.default.svc.cluster.local`, `web.svc.cluster.local` and so on, down to `web`: the same first
    labels, and of what follows them an end.
    """
    dots = [place for place, character in enumerate(name) if character == "."]
    if len(dots) >= LABELS:
        return
    for number, first in enumerate(dots, 1):
        yield name[:first]
        for last in dots[number:]:
            yield name[:first] + name[last:]
