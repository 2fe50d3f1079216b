"""The order of a table's rows, kept true at little cost while thousands of them change.

A changed row costs one key and one comparison; the list itself is only sorted in `rebuild`, which the table calls at
most once a second. A row without a value for the sorted column stands last either way; equal ones stand in the order
of their ids.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from decimal import Decimal
from typing import Any, Generic, TypeVar

Row = TypeVar("Row")


class Order(Generic[Row]):
    """Which of `rows` are shown, and where. `rows` belongs to the caller, who tells by `touch` what changed in it."""

    def __init__(self, rows: Mapping[str, Row]) -> None:
        self.rows = rows
        self.ids: list[str] = []
        self.at: dict[str, int] = {}  # id -> index in `ids`
        self.key: Callable[[Row], Any] | None = None
        self.descending = False
        self.keep: Callable[[Row], bool] | None = None
        self._ranks: dict[str, tuple[Any, str] | None] = {}  # of the rows that are kept; None: no value

    def reset(self) -> None:
        """Everything anew: after a snapshot, another key or another filter."""
        self._ranks.clear()
        self.touch(self.rows)
        self.rebuild()

    def touch(self, ids: Iterable[str]) -> bool:
        """Note what changed; whether the order is no longer true."""
        stale = False
        for row_id in ids:
            row = self.rows.get(row_id)
            if row is None or (self.keep is not None and not self.keep(row)):
                stale |= row_id in self._ranks
                self._ranks.pop(row_id, None)
                continue
            rank = self._rank(row_id, row)
            if row_id not in self._ranks or self._ranks[row_id] != rank:
                self._ranks[row_id] = rank
                stale = True
        return stale

    def rebuild(self) -> None:
        """Sort. The last order is the start, because a nearly sorted list sorts in one pass."""
        ranks = self._ranks
        known = [i for i in self.ids if ranks.get(i) is not None]
        known += [i for i, rank in ranks.items() if rank is not None and i not in self.at]
        known.sort(key=ranks.__getitem__, reverse=self.descending)  # type: ignore[arg-type]  # one type per column
        unknown = sorted(i for i, rank in ranks.items() if rank is None) if len(known) < len(ranks) else []
        self.ids = known + unknown
        self.at = {row_id: index for index, row_id in enumerate(self.ids)}

    def _rank(self, row_id: str, row: Row) -> tuple[Any, str] | None:
        if self.key is None:
            return 0, row_id
        value = self.key(row)
        if isinstance(value, str):
            value = value.casefold()
        elif isinstance(value, Decimal):
            value = float(value)  # sorts three times as fast, and a cent's fraction decides no order
        if value is None or value != value:
            return None
        return value, row_id
