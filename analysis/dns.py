"""DNS: what was asked, what was answered and how fast; pyshark dissects the few packets that are DNS."""

import asyncio
from asyncio.subprocess import Process
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd
from pyshark.capture.pipe_capture import PipeCapture

from analysis.stream import opened
from analysis.timestamps import NANOSECONDS
from analysis.tshark import StoppedError

FILTER = "dns and not icmp and not icmpv6"  # an ICMP error quotes a question, it does not ask it
LAYERS = "frame ip ipv6 udp tcp dns"  # what tshark writes out for pyshark: most of pyshark's cost
RCODES = {0: "NOERROR", 1: "FORMERR", 2: "SERVFAIL", 3: "NXDOMAIN", 4: "NOTIMP", 5: "REFUSED"}  # RFC 1035
TYPES = {1: "A", 2: "NS", 5: "CNAME", 6: "SOA", 12: "PTR", 15: "MX", 16: "TXT", 28: "AAAA", 33: "SRV", 65: "HTTPS"}
GRACE = NANOSECONDS  # a question this close to the capture's end may be answered yet
SEARCH = 10 * NANOSECONDS  # a resolver is through its search list within this
MESSAGES = {
    "time": "int64",  # ns since the epoch
    "is_answer": "bool",
    "client": "str",
    "client_port": "int64",
    "server": "str",
    "server_port": "int64",
    "id": "int64",
    "name": "str",
    "type": "str",
    "rcode": "str",  # empty for a question
    "frame": "int64",  # number in what was read
}
ENDS = 4  # two addresses, two ports
LOOKUP = ["client", "client_port", "server", "server_port", "id", "name", "type"]


def messages(files: Sequence[Path]) -> pd.DataFrame:
    """Give one row per DNS message in these files (`analysis.stream.opened`), with the columns MESSAGES.

    Raises:
        StoppedError: tshark ended with an error.

    """
    return table(_messages(files))


def table(rows: Iterable[dict[str, Any]]) -> pd.DataFrame:
    """Make a table of DNS messages, with the columns MESSAGES."""
    return pd.DataFrame(list(rows), columns=list(MESSAGES)).astype(MESSAGES)


def lookups(found: pd.DataFrame, end: int) -> pd.DataFrame:
    """Match questions with answers: one row per lookup, a question repeated is one lookup.

    Args:
        found: DNS messages, as `messages` gives them.
        end: when the capture ended, ns since the epoch.

    Returns:
        Columns LOOKUP, asked (ns), tries, latency_ms (first question to first answer), rcode (empty when
        unanswered), undecided (unanswered, and last asked in the capture's last second), search_step (an
        NXDOMAIN on the way through the search list of resolv.conf, to a name that exists), proof (the frame of the
        answer, or of the last question).

    """
    asked, answered = (found[found["is_answer"] == side].sort_values("time", kind="stable") for side in (False, True))
    questions = asked.groupby(LOOKUP, sort=False)
    times = {"asked": ("time", "min"), "last": ("time", "max"), "tries": ("time", "size")}
    table = questions.agg(**times, frame=("frame", "last"))
    answers = answered.drop_duplicates(LOOKUP).set_index(LOOKUP)[["time", "rcode", "frame"]]
    answers = answers.rename(columns={"frame": "frame_answer"})
    answers = answers.astype({"time": "Int64", "frame_answer": "Int64"})  # a float holds no ns since the epoch
    table = table.join(answers).reset_index()
    is_answered = table["time"].notna()
    table["latency_ms"] = (table["time"] - table["asked"]).astype("float64") / 1e6
    table["rcode"] = table["rcode"].fillna("")
    table["undecided"] = ~is_answered & (table["last"] > end - GRACE)
    table["proof"] = table["frame_answer"].where(is_answered, table["frame"]).astype("int64")
    table = table.drop(columns=["time", "last", "frame", "frame_answer"])
    table["search_step"] = pd.Series(_search_steps(table), dtype="bool")
    return table


def _search_steps(table: pd.DataFrame) -> list[bool]:
    found: dict[tuple[str, str], list[tuple[int, str]]] = {}
    columns = ["client", "type", "asked", "name"]
    for client, kind, asked, name in table.loc[table["rcode"] == "NOERROR", columns].itertuples(index=False, name=None):
        found.setdefault((client, kind), []).append((asked, name))
    return [
        rcode == "NXDOMAIN"
        and any(
            0 <= later - asked <= SEARCH and is_step(name, existing)
            for later, existing in found.get((client, kind), ())
        )
        for client, kind, asked, name, rcode in table[[*columns, "rcode"]].itertuples(index=False, name=None)
    ]


def is_step(name: str, existing: str) -> bool:
    """Say whether a resolver that looks for `existing` may have tried `name` on the way.

    It tries `web.default.svc.cluster.local`, `web.svc.cluster.local` and so on, down to `web`: the same first
    labels, and of what follows them an end.
    """
    tried, last = name.split("."), existing.split(".")
    splits = range(1, len(last) + 1) if len(last) < len(tried) else ()
    return any(tried[:n] == last[:n] and tried[n:][len(tried) - len(last) :] == last[n:] for n in splits)


class _Stream(PipeCapture):  # type: ignore[misc]  # pyshark has no types
    """One that lets tshark end by itself: pyshark kills it at the end of its output, and then calls that a crash."""

    async def _cleanup_subprocess(self, process: Process) -> None:
        if not self._eof_reached:
            process.kill()
        if await process.wait() and self._eof_reached:
            raise StoppedError(process.returncode, self._last_error_line or "")

    def close(self) -> None:
        super(PipeCapture, self).close()  # the pipe is not its own


@contextmanager
def _dissected(files: Sequence[Path]) -> Iterator[_Stream]:
    loop = asyncio.new_event_loop()  # its own: pyshark's is shared by all, and belongs to one thread
    try:
        with opened(files) as stream:
            options = {"display_filter": FILTER, "custom_parameters": ["-J", LAYERS]}
            capture = _Stream(stream.fileno(), eventloop=loop, **options)
            try:
                yield capture
            finally:
                capture.close()
    finally:
        loop.close()


def _messages(files: Sequence[Path]) -> Iterator[dict[str, Any]]:
    with _dissected(files) as capture:
        for packet in capture:
            ends: dict[str, Any] = {}
            for layer in packet.layers:  # of a tunnel, the innermost addresses
                if layer.layer_name in {"ip", "ipv6"}:
                    ends |= {"src": str(layer.src), "dst": str(layer.dst)}
                elif layer.layer_name in {"udp", "tcp"}:
                    ends |= {"src_port": int(layer.srcport), "dst_port": int(layer.dstport)}
                elif layer.layer_name == "dns" and layer.get("id") and layer.get("qry_name") and len(ends) == ENDS:
                    yield _message(packet, layer, ends)


def _message(packet: Any, layer: Any, ends: dict[str, Any]) -> dict[str, Any]:
    is_answer = str(layer.get("flags_response")) in {"1", "True"}
    client, server = ("dst", "src") if is_answer else ("src", "dst")
    kind, rcode = int(layer.get("qry_type", 0)), int(layer.get("flags_rcode", 0))
    return {
        "time": int(packet.sniff_timestamp.replace(".", "")),  # tshark writes nine decimals
        "is_answer": is_answer,
        "client": ends[client],
        "client_port": ends[f"{client}_port"],
        "server": ends[server],
        "server_port": ends[f"{server}_port"],
        "id": int(layer.id, 16),
        "name": str(layer.qry_name).lower(),
        "type": TYPES.get(kind, f"TYPE{kind}"),
        "rcode": RCODES.get(rcode, f"RCODE{rcode}") if is_answer else "",
        "frame": int(packet.number),
    }
