"""Counts, sums and percentiles of many groups of rows at once: a Python loop over a million rows takes minutes."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

MOST = 10_000  # groups that a table of report.json names; what is beyond them is summed up
PERCENTILES = (50, 95, 99)
Values = npt.NDArray[Any]


class Groups:
    """Rows, grouped: `keys` are in order. Groups beyond `most` are taken together: they are the last, without a key.

    Args:
        rows: to be grouped.
        by: the columns that say which belong together.
        most: how many groups to keep, of which those with the highest sum of `weight` are kept.
        weight: one number per row.

    """

    def __init__(
        self, rows: pd.DataFrame, by: Sequence[str], most: int | None = None, weight: Values | None = None
    ) -> None:
        self.rows = rows
        columns = [
            rows[name].cat.codes if hasattr(rows[name], "cat") else rows[name] for name in by
        ]  # parties: by rank
        codes = rows.groupby(columns, sort=True).ngroup().to_numpy(np.int64)
        size = int(codes.max()) + 1 if len(codes) else 0
        self.beyond = max(0, size - most) if most else 0
        if self.beyond:
            heaviest = np.argsort(-np.bincount(codes, weights=weight, minlength=size), kind="stable")[:most]
            new = np.full(size, len(heaviest))
            new[np.sort(heaviest)] = np.arange(len(heaviest))
            codes, size = new[codes], len(heaviest) + 1
        self.codes, self.size = codes, size
        self._order = np.argsort(codes, kind="stable")
        self.counts = np.bincount(codes, minlength=size)
        self._ends = np.cumsum(self.counts)
        named = size - bool(self.beyond)
        first = rows.iloc[self._order[(self._ends - self.counts)[:named]]]
        self.keys: list[tuple[Any, ...]] = list(zip(*(first[name] for name in by), strict=True))

    def of(self, group: int) -> pd.DataFrame:
        """Give one group's rows."""
        end = self._ends[group]
        return self.rows.iloc[self._order[end - self.counts[group] : end]]

    def total(self, values: Any) -> npt.NDArray[np.int64]:
        """Add up whole numbers, or count what is true."""
        return np.bincount(self.codes, weights=np.asarray(values, dtype=float), minlength=self.size).astype(np.int64)

    def tally(self, values: pd.Series) -> list[dict[str, int]]:
        """Count how often each value occurs in each group, in the order of the values; empty texts and nulls do not."""
        codes, names = pd.factorize(values, sort=True)
        known = (codes >= 0) & (np.asarray(names, dtype=object)[codes] != "") if len(names) else np.zeros(0, bool)
        pairs, counts = np.unique(self.codes[known] * max(len(names), 1) + codes[known], return_counts=True)
        found: list[dict[str, int]] = [{} for _ in range(self.size)]
        for pair, count in zip(pairs.tolist(), counts.tolist(), strict=True):
            found[pair // len(names)][str(names[pair % len(names)])] = count
        return found

    def quantile(self, values: Any, percent: float) -> npt.NDArray[np.float64]:
        """Give each group's percentile (nearest rank: a value that was measured); NaN where there is none."""
        measured, starts, counts = self._sorted(values)
        rank = starts + np.maximum(np.ceil(percent / 100 * counts), 1).astype(np.int64) - 1
        return np.where(counts, np.append(measured, np.nan)[np.where(counts, rank, -1)], np.nan)

    def percentiles(self, values: Any) -> list[dict[str, Any]]:
        """Give each group's n and, where there are any, p50, p95, p99 and max."""
        measured, starts, counts = self._sorted(values)
        table = {f"p{p}": np.maximum(np.ceil(p / 100 * counts), 1).astype(np.int64) - 1 for p in PERCENTILES}
        table["max"] = counts - 1
        found = [{"n": count} for count in counts.tolist()]
        some = np.flatnonzero(counts)
        for name, rank in table.items():
            for group, value in zip(some.tolist(), measured[(starts + rank)[some]].tolist(), strict=True):
                found[group][name] = round(value, 6)
        return found

    def _sorted(self, values: Any) -> tuple[Values, Values, Values]:
        """Give the values that are known, by group and size; where each group's begin, and how many it has."""
        array = np.asarray(values, dtype=float)
        known = ~np.isnan(array)
        array, codes = array[known], self.codes[known]
        counts = np.bincount(codes, minlength=self.size)
        return array[np.lexsort((array, codes))], np.cumsum(counts) - counts, counts

    def entries(self, columns: Mapping[str, Sequence[Any] | Values]) -> list[dict[str, Any]]:
        """Give one dict per group, with these names, of lists that have a value per group."""
        lists = [column.tolist() if isinstance(column, np.ndarray) else column for column in columns.values()]
        return [dict(zip(columns, values, strict=True)) for values in zip(*lists, strict=True)]
