"""Last values: prices and progress, which are no events because only the newest counts.

Callers leave them here, the writer's thread takes them. They are bounded and may be lost; a price that changed is
also kept in the journal, from which the price history is drawn.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping
from itertools import islice
from typing import TYPE_CHECKING, Final

from dsched.scheduler.core.market import Quote
from dsched.scheduler.core.snapshot import Progress
from dsched.scheduler.core.units import HOUR, Instant, Millis
from dsched.scheduler.store.codec import encode_progress

if TYPE_CHECKING:
    from sqlite3 import Connection

WAITING_MAX: Final = 50_000  # values held for a writer that is behind: a few MiB; newer ones are then dropped
PAST_MAX: Final = 1_000  # prices of earlier days written at a time, in some milliseconds: commits go in between
JOURNAL_AGE: Final = Millis(31 * 24 * HOUR)  # market time: a month of price changes, what a weekly pattern needs
PRUNE_EVERY: Final = Millis(HOUR)  # market time between two looks for rows that are too old


class Pending:
    """Values that wait to be written. Safe from any thread."""

    def __init__(self) -> None:
        self.written = float("-inf")  # when the last ones were taken, in the taker's clock
        self._lock = threading.Lock()
        self._quotes: dict[tuple[str, int], Quote] = {}
        self._progress: dict[str, Progress] = {}
        self._past: list[tuple[str, Quote]] = []

    @property
    def waiting(self) -> bool:
        return bool(self._quotes or self._progress or self._past)

    def put_past(self, steps: Iterable[tuple[str, Quote]]) -> bool:
        """Keep prices of earlier days by pool id. True when nothing waited before."""
        with self._lock:
            first = not self.waiting
            self._past += islice(steps, max(0, WAITING_MAX - len(self._past)))
            return first and self.waiting

    def take_past(self) -> list[tuple[str, Quote]]:
        with self._lock:
            taken, self._past = self._past[:PAST_MAX], self._past[PAST_MAX:]
            return taken

    def put_quotes(self, quotes: Mapping[str, Quote]) -> bool:
        """Keep them. True when nothing waited before, so that the writer must be woken."""
        with self._lock:
            first = not self.waiting
            for pool, quote in quotes.items():
                if len(self._quotes) < WAITING_MAX:
                    self._quotes[pool, quote.at] = quote
            return first and self.waiting

    def put_progress(self, progress: Mapping[str, Progress]) -> bool:
        """Keep them. True when nothing waited before, so that the writer must be woken."""
        with self._lock:
            first = not self.waiting
            for job, last in progress.items():
                if job in self._progress or len(self._progress) < WAITING_MAX:
                    self._progress[job] = last
            return first and self.waiting

    def take(self, now: float) -> tuple[dict[tuple[str, int], Quote], dict[str, Progress]]:
        with self._lock:
            taken = self._quotes, self._progress
            self._quotes, self._progress = {}, {}
            self.written = now
            return taken


def write_past(connection: Connection, steps: Iterable[tuple[str, Quote]]) -> None:
    """Write within the caller's transaction. What is older than the journal keeps goes at its next pruning."""
    rows = [(pool, quote.at, quote.price, quote.source) for pool, quote in steps]
    connection.executemany(_PAST, rows)


def write(connection: Connection, quotes: Mapping[tuple[str, int], Quote], progress: Mapping[str, Progress]) -> None:
    """Write within the caller's transaction."""
    # By time: the journal's rule compares each price with the one before it.
    rows = sorted((at, pool, quote.price, quote.source) for (pool, at), quote in quotes.items())
    for at, pool, price, source in rows:
        connection.execute(_JOURNAL, (pool, at, price, source))
        connection.execute(_QUOTE, (pool, at, price, source))
    connection.executemany(_PROGRESS, [(job, encode_progress(last)) for job, last in progress.items()])
    if rows:
        _prune(connection, Instant(rows[-1][0]))


_JOURNAL: Final = (
    "INSERT INTO quote_journal (pool, at, price, source) SELECT ?1, ?2, ?3, ?4 "
    "WHERE NOT EXISTS (SELECT 1 FROM quote WHERE pool = ?1 AND (price = ?3 OR at > ?2)) ON CONFLICT DO NOTHING"
)
_PAST: Final = "INSERT INTO quote_journal (pool, at, price, source) VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING"
_QUOTE: Final = (
    "INSERT INTO quote (pool, at, price, source) VALUES (?1, ?2, ?3, ?4) ON CONFLICT (pool) DO UPDATE "
    "SET at = excluded.at, price = excluded.price, source = excluded.source WHERE excluded.at >= at"
)
_PROGRESS: Final = "INSERT INTO progress (key, body) VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET body = excluded.body"


def _prune(connection: Connection, now: Instant) -> None:
    """Forget changes older than JOURNAL_AGE, but of each pool the last of them: that price still held afterwards."""
    last = connection.execute("SELECT value FROM meta WHERE key = 'quotes_pruned'").fetchone()
    if last is not None and now - int(last[0]) < PRUNE_EVERY:
        return
    connection.execute(
        "DELETE FROM quote_journal WHERE at < ?1 AND at < (SELECT max(later.at) FROM quote_journal AS later "
        "WHERE later.pool = quote_journal.pool AND later.at < ?1)",
        (now - JOURNAL_AGE,),
    )
    connection.execute("INSERT OR REPLACE INTO meta (key, value) VALUES ('quotes_pruned', ?)", (str(now),))
