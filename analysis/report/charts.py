"""What the page draws: connections that count, summed up into a few numbers per mark, however many there are."""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from analysis.groups import Groups
from analysis.names import Party
from analysis.pairs import FAILURES, rtt_ms
from analysis.timestamps import NANOSECONDS, nanoseconds, rfc3339

BINS = 72  # of the timeline
ENDS = 14  # rows and columns of the matrix; the others are one
STRIPS = 12  # pairs whose RTT is drawn
BARS = 48  # of a strip, at most
TALKERS = 12
WHISPER = 100  # who talks that many times less than the loudest is not drawn
HEAT = (1.0, 0.99, 0.9, 0.5, 1e-9)  # success rates from which a cell is the next step greener
Counts = npt.NDArray[np.int64]


def matrix(rows: pd.DataFrame) -> dict[str, Any] | None:
    """Count attempts from each source (rows) to each destination (columns), the worst first; None without attempts."""
    tried = rows[rows["outcome"] != ""]
    if tried.empty:
        return None
    bad = tried["outcome"].isin(list(FAILURES)).to_numpy()
    sources, of_source = _worst(tried["source"], bad)
    destinations, of_destination = _worst(tried["destination"], bad)
    shape = len(sources), len(destinations)
    cell = of_source * shape[1] + of_destination
    good = (tried["outcome"] == "succeeded").to_numpy()
    counts = [np.bincount(cell[mask], minlength=shape[0] * shape[1]) for mask in (good, bad, ~good & ~bad)]
    cells = [_cell(*numbers) for numbers in zip(*(count.tolist() for count in counts), strict=True)]
    lines = [cells[start : start + shape[1]] for start in range(0, len(cells), shape[1])]
    return {"destinations": destinations, "rows": list(zip(sources, lines, strict=True))}


def _worst(parties: pd.Series, bad: npt.NDArray[np.bool_]) -> tuple[list[Party | int], Counts]:
    """Give the ends with the most failures and then attempts, how many others there are, and where each row belongs."""
    codes = parties.cat.codes.to_numpy(np.int64)
    everyone = np.unique(codes)
    attempts, failed = np.bincount(codes), np.bincount(codes, weights=bad)
    order = everyone[np.lexsort((everyone, -attempts[everyone], -failed[everyone]))]
    shown: list[Party | int] = [parties.cat.categories[code] for code in order[:ENDS]]
    place = np.full(len(attempts), len(shown))
    place[order[:ENDS]] = np.arange(len(shown))
    rest = len(order) - len(shown)
    return [*shown, rest] if rest else shown, place[codes]


def _cell(good: int, bad: int, open_: int) -> dict[str, Any]:
    rate = good / (good + bad) if good + bad else None
    step = sum(rate < limit for limit in HEAT) if rate is not None else None
    return {"good": good, "bad": bad, "open": open_, "rate": rate, "step": step}


def timeline(rows: pd.DataFrame, captures: Iterable[Mapping[str, Any]]) -> dict[str, Any] | None:
    """Count attempts by outcome, in BINS equal parts of the time in which packets were seen; None without attempts."""
    tried = rows.loc[rows["outcome"] != "", ["start", "outcome"]]
    seen = [nanoseconds(capture[end]) for capture in captures for end in ("first", "last") if capture[end]]
    if tried.empty or not seen:
        return None
    first, last = min(seen), max(seen)
    width = max(last - first, NANOSECONDS) / BINS
    since = tried["start"].to_numpy(np.float64) - first  # of damaged captures: more than an int64 holds
    bins = np.clip(since // width, 0, BINS - 1).astype(np.int64)
    kinds = np.select([tried["outcome"] == "succeeded", tried["outcome"] == "undecided"], ["good", "open"], "bad")
    good, bad, open_ = (np.bincount(bins[kinds == kind], minlength=BINS).tolist() for kind in ("good", "bad", "open"))
    return {
        "attempts": list(zip(good, bad, open_, strict=True)),
        "failures": bad,
        "peak": max(map(sum, zip(good, bad, open_, strict=True))),
        "worst": max(bad),
        "ticks": [rfc3339(int(first + width * BINS * part / 4)) for part in range(5)],
        "width": width / NANOSECONDS,
    }


def strips(rows: pd.DataFrame) -> dict[str, Any] | None:
    """Give the distribution of RTT of the pairs that have most of them, on one logarithmic scale; None without any."""
    known = rows.assign(rtt=rtt_ms(rows))
    known = known.loc[(known["rtt"] > 0) & np.isfinite(known["rtt"]), ["source", "destination", "dst_port", "rtt"]]
    if known.empty:
        return None
    low, high = (np.log10(known["rtt"].quantile(share)) for share in (0.001, 0.999))
    begin, end = int(np.floor(low)), max(int(np.floor(low)) + 1, int(np.ceil(high)))
    per_decade = max(BARS // (end - begin), 1)
    bars = (end - begin) * per_decade
    place = np.clip(((np.log10(known["rtt"]) - begin) * per_decade).astype(int), 0, bars - 1).to_numpy()
    groups = Groups(known, ["source", "destination", "dst_port"])
    quantiles = {f"p{percent}": groups.quantile(known["rtt"], percent) for percent in (50, 95)}
    shown = np.argsort(-groups.counts, kind="stable")[:STRIPS]
    return {
        "pairs": [
            {
                "key": groups.keys[group],
                "n": int(groups.counts[group]),
                "bars": (np.bincount(place[groups.codes == group], minlength=bars) / groups.counts[group]).tolist(),
                **{name: float(values[group]) for name, values in quantiles.items()},
                "marks": [_share(float(values[group]), begin, end) for values in quantiles.values()],
            }
            for group in shown
        ],
        "more": len(groups.keys) - len(shown),
        "decades": [10.0**power for power in range(begin, end + 1)],
    }


def _share(rtt: float, begin: int, end: int) -> float:
    """Say where on the scale this RTT is, from 0 to 1."""
    return float(np.clip((np.log10(rtt) - begin) / (end - begin), 0, 1))


def talkers(rows: pd.DataFrame) -> dict[str, Any] | None:
    """Give who sent and received the most bytes (with IP headers), and how much all others did together."""
    if rows.empty:
        return None
    parties = rows["source"].cat.categories
    source, destination = (rows[end].cat.codes for end in ("source", "destination"))

    def add(of_source: str, of_destination: str) -> npt.NDArray[np.float64]:
        sums = [
            np.bincount(ends, rows[f"{side}_bytes"], len(parties))
            for ends, side in ((source, of_source), (destination, of_destination))
        ]
        return np.add(*sums)

    sent, received = add("orig", "resp"), add("resp", "orig")
    both = sent + received
    order = np.argsort(-both, kind="stable")
    loud = min(TALKERS, int((both * WHISPER >= both.max()).sum()))
    shown, others = order[:loud], order[loud:]
    return {
        "shown": [(parties[code], int(sent[code]), int(received[code])) for code in shown],
        "more": len(others),
        "others": int(both[others].sum()),
        "peak": int(both.max()),
    }
