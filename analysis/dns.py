"""DNS: what was asked, what was answered and how fast."""

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Sequence
from itertools import islice

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
    tried, exist = table[table["rcode"] == "NXDOMAIN"], table[table["rcode"] == "NOERROR"]
    pairs = list(_steps(tried["name"].unique(), set(exist["name"])))
    names = pd.DataFrame(pairs, columns=["name", "existing"], dtype="str")
    tried = tried.reset_index().merge(names, on="name").sort_values("asked")
    exist = exist[["client", "type", "name", "asked"]].rename(columns={"name": "existing"}).sort_values("asked")
    later = pd.merge_asof(
        tried,
        exist.assign(is_found=True),
        on="asked",
        by=["client", "type", "existing"],
        direction="forward",
        tolerance=SEARCH,
    )
    return pd.Series(table.index.isin(later.loc[later["is_found"].notna(), "index"]), dtype="bool")


def _steps(tried: Iterable[str], existing: Collection[str]) -> Iterator[tuple[str, str]]:
    """Pair names that do not exist with those that a resolver may have looked for when it tried them.

    It tries `web.default.svc.cluster.local`, `web.svc.cluster.local` and so on, down to `web`: the same first
    labels, and of what follows them an end.
    """
    lengths = defaultdict(set)
    for name in existing:
        lengths[name.partition(".")[0]].add(name.count(".") + 1)
    for name in tried:
        labels = name.split(".")
        for length in lengths.get(labels[0], ()):
            missing = len(labels) - length
            for first in range(1, length + 1) if missing > 0 else ():
                step = ".".join(labels[:first] + labels[first + missing :])
                if step in existing:
                    yield name, step
