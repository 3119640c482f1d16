"""Where packets are: from frame numbers of a capture to a file and the frame number in it."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

Place = dict[str, Any]


class Places:
    """The files of all captures, and how many frames each of them holds.

    A capture's frames are numbered from 1 over all its files; whoever opens one of them counts from 1 in it.
    """

    def __init__(self, captures: Sequence[tuple[Sequence[str], Sequence[int]]]) -> None:
        """Take, of each capture by its number, the files in their order and the frames in each of them."""
        self._files = [list(files) for files, _ in captures]
        self._ends = [np.cumsum([0, *frames]) for _, frames in captures]

    def place(self, capture: int, frame: int) -> Place:
        """Give the place of one frame (from 1) of one capture."""
        ends = self._ends[capture]
        index = int(np.searchsorted(ends[1:], frame))
        return {"file": self._files[capture][index], "frame": int(frame - ends[index])}

    def evidence(self, rows: pd.DataFrame, column: str, limit: int) -> list[Place]:
        """Give the places of at most `limit` rows' packets, in the rows' order.

        Args:
            rows: with `capture_number`, and the frame numbers in this column; 0 where there is no such packet.
            column: such as `proof`.
            limit: how many places at most.

        """
        known = rows.loc[rows[column] > 0, ["capture_number", column]].head(limit)
        return [self.place(int(capture), int(frame)) for capture, frame in known.itertuples(index=False, name=None)]
