"""Reading what is durable: read-only connections, apart from the writer, safe from any thread.

Every call blocks for a file read; from the event loop go through `asyncio.to_thread`. A reader sees what was
acknowledged before its call, or later.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from queue import LifoQueue
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from dsched.scheduler.core.event import Event
from dsched.scheduler.core.market import Quote
from dsched.scheduler.core.snapshot import Attempt, Decision, Job, LedgerEntry
from dsched.scheduler.core.state import JobState
from dsched.scheduler.core.units import HOUR, Instant, MicroUsdPerHour, Millis
from dsched.scheduler.store.codec import Record, decode_event, decode_row
from dsched.scheduler.store.database import open_reader
from dsched.scheduler.store.errors import AmbiguousName

if TYPE_CHECKING:
    from sqlite3 import Connection

READERS: Final = 4  # open connections; a fifth thread waits for one of them
PAGE_MAX: Final = 1_000  # rows of one page; a larger wish is cut to it
_NOBODY: Final[Mapping[str, Job]] = MappingProxyType({})
JOBS_MAX: Final = 10_000  # and of jobs, which programs ask for as a whole: a tenth of a second
LEDGER_MAX: Final = 100_000  # entries of one bill: about 40 MiB of rows
NAMESAKES_MAX: Final = 5  # ids that an ambiguous name shows, the newest
DAY: Final = Millis(24 * HOUR)

_OF_JOB: Final = "job = ? AND job <> ''"  # in the words of the index, or all of the log is read
_RECORD: Final = "seq, wall, market, kind, job, node, why, body"
_CHANGES: Final = (
    "SELECT at, price FROM quote_journal WHERE pool = ?1 AND at >= coalesce("
    "(SELECT max(at) FROM quote_journal WHERE pool = ?1 AND at <= ?2), ?2) ORDER BY at"
)


class Logged(NamedTuple):
    """An event with its place in the log. Its changes are left out: they are for the fold, not for people."""

    seq: int
    event: Event


class Queries:
    """Reads from the database file that a writer keeps."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._idle: LifoQueue[Connection | None] = LifoQueue()
        for _ in range(READERS):
            self._idle.put(None)  # opened when it is first needed

    def close(self) -> None:
        """Close the connections once their readers are done. A later call opens new ones."""
        for connection in [self._idle.get() for _ in range(READERS)]:
            if connection is not None:
                connection.close()
            self._idle.put(None)

    @contextmanager
    def connection(self) -> Iterator[Connection]:
        """One of the connections, for as long as the block lasts."""
        connection = self._idle.get()
        try:
            if connection is None:
                connection = open_reader(self.path)
            yield connection
        finally:
            self._idle.put(connection)

    def _all(self, sql: str, values: Sequence[object] = ()) -> list[tuple[Any, ...]]:
        with self.connection() as connection:
            return connection.execute(sql, values).fetchall()

    def _rows(self, table: str, rest: str, values: Sequence[object]) -> list[Any]:
        found = self._all(f"SELECT body FROM {table} {rest}", values)  # noqa: S608
        return [decode_row(table, body) for (body,) in found]

    def row(self, table: str, key: str) -> Any | None:
        """One row of a projection: also what left the working set."""
        return next(iter(self._rows(table, "WHERE key = ?", (key,))), None)

    def meta(self, key: str) -> str | None:
        return next((value for (value,) in self._all("SELECT value FROM meta WHERE key = ?", (key,))), None)

    def seq(self) -> int:
        """The place of the last event, 0 before the first."""
        return int(self._all("SELECT coalesce(max(seq), 0) FROM event")[0][0])

    def events(self, after: int = 0, *, limit: int = 200, job: str = "") -> list[Logged]:
        """Events after this seq, oldest first."""
        where, values = (f"AND {_OF_JOB} ", [job]) if job else ("", [])
        sql = f"SELECT {_RECORD} FROM event WHERE seq > ? {where}ORDER BY seq LIMIT ?"  # noqa: S608
        return [_logged(row) for row in self._all(sql, (after, *values, _page(limit)))]

    def last_events(self, *, limit: int = 200, job: str = "") -> list[Logged]:
        """The newest events, oldest first."""
        where, values = (f"WHERE {_OF_JOB} ", [job]) if job else ("", [])
        sql = f"SELECT {_RECORD} FROM event {where}ORDER BY seq DESC LIMIT ?"  # noqa: S608
        return [_logged(row) for row in reversed(self._all(sql, (*values, _page(limit))))]

    def jobs(
        self,
        *,
        states: Collection[JobState] = (),
        user: str = "",
        name: str = "",
        after: str = "",
        first: str = "",
        limit: int = 50,
        known: Mapping[str, Job] = _NOBODY,
    ) -> list[Job]:
        """A page by submission: what follows job `after`, without it the newest. Empty filters match all.

        `first`: "oldest" begins with the first job ever, "dearest" is by what was booked. What `known` has is taken
        from there: it is newer, and ten thousand rows take a tenth of a second to decode.
        """
        where, values = _matching(states, user, name, after)
        forward = bool(after) or first == "oldest"
        by = "json_extract(body, '$.spent') DESC" if first == "dearest" else f"rowid {'' if forward else 'DESC'}"
        sql = f"SELECT key, body FROM job {where} ORDER BY {by} LIMIT ?"  # noqa: S608
        rows = self._all(sql, (*values, min(limit, JOBS_MAX)))
        page = [known.get(key) or decode_row("job", body) for key, body in rows]
        return page if forward or first == "dearest" else page[::-1]

    def page_of_jobs(
        self,
        *,
        states: Collection[JobState] = (),
        user: str = "",
        after: str = "",
        first: str = "",
        limit: int = 50,
        known: Mapping[str, Job] = _NOBODY,
    ) -> tuple[list[Job], int]:
        """`jobs`, and how many more match."""
        page = self.jobs(states=states, user=user, after=after, first=first, limit=limit, known=known)
        if len(page) < min(limit, JOBS_MAX):
            return page, 0
        where, values = _matching(states, user, "", after)
        return page, self._all(f"SELECT count(*) FROM job {where}", values)[0][0] - len(page)  # noqa: S608

    def job(self, ref: str) -> Job | None:
        """The job with this id, or the only one with this name. Raises AmbiguousName when several share it."""
        found: Job | None = self.row("job", ref)
        if found is not None:
            return found
        named: list[Job] = self._rows("job", "WHERE name = ? ORDER BY rowid DESC LIMIT ?", (ref, NAMESAKES_MAX))
        if len(named) > 1:
            raise AmbiguousName(ref, [job.id for job in named])
        return named[0] if named else None

    def job_with_key(self, key: str) -> Job | None:
        """The job that this idempotency key made, however long ago it ended."""
        return next(iter(self._rows("job", "WHERE idempotency = ? AND idempotency <> ''", (key,))), None)

    def decisions(self, job: str, *, limit: int = PAGE_MAX) -> list[Decision]:
        """The newest decisions about a job, oldest first."""
        return self._rows("decision", "WHERE job = ? ORDER BY rowid DESC LIMIT ?", (job, _page(limit)))[::-1]

    def attempts(self, job: str) -> list[Attempt]:
        """The newest attempts of a job, oldest first."""
        return self._rows("attempt", "WHERE job = ? ORDER BY generation DESC LIMIT ?", (job, PAGE_MAX))[::-1]

    def ledger(
        self, *, job: str = "", node: str = "", budget: str = "", since: Instant = Instant(0)
    ) -> list[LedgerEntry]:
        """Entries that start at `since` or later, by start."""
        where = ["start >= ?"]
        values: list[object] = [since]
        for column, wanted in (("job", job), ("node", node), ("budget", budget)):
            if wanted:
                where.append(f"{column} = ?")
                values.append(wanted)
        rest = f"WHERE {' AND '.join(where)} ORDER BY start, rowid LIMIT ?"
        return self._rows("ledger", rest, (*values, LEDGER_MAX))

    def quotes(self) -> dict[str, Quote]:
        """The last known price of each pool."""
        return {
            pool: Quote(price=price, at=at, source=source)
            for pool, at, price, source in self._all("SELECT pool, at, price, source FROM quote")
        }

    def history(
        self, pools: Iterable[str], *, now: Instant, span: Millis = DAY, buckets: int = 24
    ) -> dict[str, list[MicroUsdPerHour | None]]:
        """The price in force at the end of each part of `span`, oldest first; None before the first price."""
        ends = [Instant(now - span + span * part // buckets) for part in range(1, buckets + 1)]
        with self.connection() as connection:
            return {pool: _steps(connection, pool, Instant(now - span), ends) for pool in pools}


def _matching(states: Collection[JobState], user: str, name: str, after: str) -> tuple[str, list[object]]:
    """The WHERE of these filters, with its values."""
    where: list[str] = []
    values: list[object] = []
    if states:
        where.append(f"state IN ({', '.join('?' * len(states))})")
        values += [str(state) for state in states]
    for column, wanted in (("user", user), ("name", name)):
        if wanted:
            where.append(f"{column} = ?")
            values.append(wanted)
    if after:
        where.append("rowid > (SELECT rowid FROM job WHERE key = ?)")
        values.append(after)
    return f"WHERE {' AND '.join(where)}" if where else "", values


def _steps(connection: Connection, pool: str, start: Instant, ends: Sequence[Instant]) -> list[MicroUsdPerHour | None]:
    """A price holds until the next one; the one that holds at `start` is from before it."""
    changes = connection.execute(_CHANGES, (pool, start)).fetchall()
    found: list[MicroUsdPerHour | None] = []
    price: MicroUsdPerHour | None = None
    following = iter([*changes, (None, None)])
    at, coming = next(following)
    for end in ends:
        while at is not None and at <= end:
            price = coming
            at, coming = next(following)
        found.append(price)
    return found


def _logged(row: tuple[Any, ...]) -> Logged:
    return Logged(row[0], decode_event(Record._make((*row[1:], ())), changes=False))


def _page(limit: int) -> int:
    return max(0, min(limit, PAGE_MAX))
