"""The store as the daemon holds it: one thread owns the one connection that writes.

Callers put commands into a queue; the thread takes all that wait, up to a bound, writes them in one transaction and
then resolves their futures: one sync of the disk pays for every command of the batch. So many clients cost no more
syncs than one.

Last values (quotes, progress) are no events. They wait in memory for at most a second and are written when the thread
has time; a crash loses them and nothing else.

Crash-only: after the first error nothing more is written or acknowledged, and the process should end with 75. There
is no repair in place, because the restart's path does all of it.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future
from itertools import accumulate
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Final, NamedTuple, Self

from dsched.scheduler.core.event import Event
from dsched.scheduler.core.market import Quote
from dsched.scheduler.core.snapshot import Progress, State
from dsched.scheduler.store import lastvalue, snapshot
from dsched.scheduler.store.codec import Record, encode
from dsched.scheduler.store.database import DATABASE, Hold, hold, open_writer, transaction
from dsched.scheduler.store.errors import StoreFailed
from dsched.scheduler.store.log import Log
from dsched.scheduler.store.queries import Queries

if TYPE_CHECKING:
    from sqlite3 import Connection

BATCH_MAX: Final = 512  # commands per commit: about 20 ms of work, so that nobody waits long behind a full batch
BACKLOG_MAX: Final = 65_536  # commands waiting; more means a disk that stands still
REST_S: Final = 0.2  # silence after which the thread tidies up: no burst of submissions pauses this long
LAST_VALUES_S: Final = 1.0  # how old a last value on disk may be
CHECKPOINT_PAGES: Final = 1_000  # written to the WAL and worth a checkpoint in a quiet moment: SQLite's own default
CHECKPOINT_FORCED: Final = 2_000  # and this many even when it is never quiet: 8 MiB, moved in some 12 ms
PAGES_PER_COMMIT: Final = 8  # the pages of tables and indexes that every commit touches, counted on single submissions
PAGES_PER_EVENT: Final = 2  # and what each event adds to a large commit


class _Command(NamedTuple):
    records: tuple[Record, ...] = ()
    meta: tuple[str, str] | None = None
    waiter: _Waiter | None = None
    stop: bool = False


class _Waiter(NamedTuple):
    future: asyncio.Future[int] | Future[int]
    loop: asyncio.AbstractEventLoop | None  # None: a thread waits, not a loop


class Store:
    """See the module. Made by `open`; every method but `commit` and `put_meta` may be called from any thread."""

    def __init__(
        self, path: Path, connection: Connection, held: Hold, on_failure: Callable[[StoreFailed], None]
    ) -> None:
        self.path = path
        self.queries = Queries(path)
        self.failure: StoreFailed | None = None
        self._connection = connection
        self._held = held
        self._on_failure = on_failure
        self._log = Log(connection)
        meta = dict(connection.execute("SELECT key, value FROM meta"))
        self.cluster: str = meta["cluster"]
        self.era = int(meta["era"])
        self._durable = self._log.seq
        self.commits = 0  # transactions made durable: each is one sync of the disk
        self._last = lastvalue.Pending()
        self._commands: SimpleQueue[_Command] = SimpleQueue()
        self._gate = threading.Lock()  # no command enters the queue after the failure emptied it
        self._unmoved = 0  # pages written since the last checkpoint, about
        self._thread = threading.Thread(target=self._run, name="store", daemon=True)
        self._thread.start()

    @classmethod
    def open(cls, directory: Path, *, on_failure: Callable[[StoreFailed], None] = lambda failure: None) -> Self:
        """Take the state directory and open its database, made or migrated where needed.

        `on_failure` runs in the writer's thread. Raises Locked, NewerSchema, Damaged or StoreFailed.
        """
        try:
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            held = hold(directory)
        except OSError as error:
            raise StoreFailed(directory, error.strerror or str(error)) from error
        try:
            return cls(directory / DATABASE, open_writer(directory / DATABASE), held, on_failure)
        except BaseException:
            held.release()
            raise

    @property
    def seq(self) -> int:
        """The last durable event."""
        return self._durable

    @property
    def backlog(self) -> int:
        """Commands that are not durable yet."""
        return self._commands.qsize()

    def load(self) -> State:
        """The working set as it is durable now."""
        with self.queries.connection() as connection:
            return snapshot.load(connection)

    def commit(self, events: Sequence[Event]) -> asyncio.Future[int]:
        """Write the events, all or none, in order; the future has the seq of the last one once they are durable.

        Raises TypeError for an event that could not be read again, StoreFailed after a failure; the future may raise
        it too.
        """
        return self._from_loop(_Command(records=tuple(encode(event) for event in events)))

    def put_meta(self, key: str, value: str) -> asyncio.Future[int]:
        """Remember a fact about the database itself."""
        return self._from_loop(_Command(meta=(key, value)))

    def commit_sync(self, events: Sequence[Event]) -> int:
        """`commit` for a caller that may block."""
        future: Future[int] = Future()
        self._put(_Command(records=tuple(encode(event) for event in events), waiter=_Waiter(future, None)))
        return future.result()

    def put_quotes(self, quotes: Mapping[str, Quote]) -> None:
        """Remember these prices by pool id, some time soon; changes of price also enter the journal."""
        if self._last.put_quotes(quotes):
            self._put(_Command())

    def put_past(self, steps: Iterable[tuple[str, Quote]]) -> None:
        """Prices of earlier days by pool id, as a cloud remembers them: into the journal, some time soon."""
        if self._last.put_past(steps):
            self._put(_Command())

    def put_progress(self, progress: Mapping[str, Progress]) -> None:
        """Remember the last progress by job id, some time soon."""
        if self._last.put_progress(progress):
            self._put(_Command())

    def close(self) -> None:
        """Write what waits, then close. Not needed for durability."""
        with self._gate:
            if self.failure is None:
                self.failure = StoreFailed(self.path, "the store is closed")
                self._commands.put(_Command(stop=True))
        self._thread.join()
        self.queries.close()
        self._held.release()

    def _from_loop(self, command: _Command) -> asyncio.Future[int]:
        loop = asyncio.get_running_loop()
        future: asyncio.Future[int] = loop.create_future()
        self._put(command._replace(waiter=_Waiter(future, loop)))
        return future

    def _put(self, command: _Command) -> None:
        with self._gate:
            if self.failure is not None:
                raise self.failure
            if self._commands.qsize() >= BACKLOG_MAX:
                raise StoreFailed(self.path, f"{BACKLOG_MAX} writes wait: the disk does not keep up")
            self._commands.put(command)

    # From here on: the writer's thread.

    def _run(self) -> None:
        batch: list[_Command] = []
        try:
            while not any(command.stop for command in batch):
                batch = self._take()
                _resolve(batch, self._write(batch))
                self._tidy(quiet=not batch)
            self._write_last_values()
            self._connection.close()
        except Exception as error:  # the thread's outermost loop: whatever it was, nobody may wait for ever
            self._fail(error, batch)

    def _take(self) -> list[_Command]:
        """What waits, up to a batch. Empty when nothing came for a while and there is something to tidy."""
        busy = self._unmoved >= CHECKPOINT_PAGES or self._last.waiting
        batch: list[_Command] = []
        with contextlib.suppress(Empty):
            batch.append(self._commands.get(timeout=REST_S if busy else None))
            while len(batch) < BATCH_MAX:
                batch.append(self._commands.get_nowait())
        return batch

    def _write(self, batch: Sequence[_Command]) -> list[int]:
        """Make the batch durable. Returns for each command the seq that the log had reached with it."""
        if not any(command.records or command.meta for command in batch):
            return [self._durable] * len(batch)
        reached = [*accumulate((len(command.records) for command in batch), initial=self._durable)][1:]
        with transaction(self._connection):
            self._log.write(record for command in batch for record in command.records)
            for command in batch:
                if command.meta:
                    self._connection.execute(_PUT_META, command.meta)
        self.commits += 1
        self._unmoved += PAGES_PER_COMMIT + PAGES_PER_EVENT * (self._log.seq - self._durable)
        self._durable = self._log.seq
        return reached

    def _tidy(self, *, quiet: bool) -> None:
        if self._last.waiting and time.monotonic() - self._last.written >= LAST_VALUES_S:
            self._write_last_values()
        if self._unmoved >= (CHECKPOINT_PAGES if quiet else CHECKPOINT_FORCED):
            # PASSIVE waits for no reader; what a long reader holds back is moved the next time.
            self._connection.execute("PRAGMA wal_checkpoint(PASSIVE)")
            self._unmoved = 0

    def _write_last_values(self) -> None:
        quotes, progress = self._last.take(time.monotonic())
        past = self._last.take_past()
        if quotes or progress or past:
            with transaction(self._connection):
                lastvalue.write(self._connection, quotes, progress)
                lastvalue.write_past(self._connection, past)
            self.commits += 1

    def _fail(self, error: Exception, batch: Sequence[_Command]) -> None:
        failure = StoreFailed(self.path, str(error) or type(error).__name__)
        failure.__cause__ = error
        with self._gate:
            self.failure = failure
            left = [*batch, *_drain(self._commands)]
        _resolve(left, [failure] * len(left))
        self._on_failure(failure)


_PUT_META: Final = "INSERT INTO meta (key, value) VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value"


def _drain(commands: SimpleQueue[_Command]) -> list[_Command]:
    drained: list[_Command] = []
    while not commands.empty():
        drained.append(commands.get_nowait())
    return drained


_Outcome = tuple["asyncio.Future[int] | Future[int]", "int | StoreFailed"]


def _resolve(batch: Sequence[_Command], outcomes: Sequence[int | StoreFailed]) -> None:
    """Tell everybody: one call into each event loop for the whole batch."""
    loops: dict[asyncio.AbstractEventLoop, list[_Outcome]] = {}
    for command, outcome in zip(batch, outcomes, strict=True):
        if command.waiter is None:
            continue
        future, loop = command.waiter
        if loop is None:
            _settle([(future, outcome)])
        else:
            loops.setdefault(loop, []).append((future, outcome))
    for loop, settled in loops.items():
        with contextlib.suppress(RuntimeError):  # the loop has closed: nobody waits there any more
            loop.call_soon_threadsafe(_settle, settled)


def _settle(settled: Sequence[_Outcome]) -> None:
    for future, outcome in settled:
        if future.done():  # the caller gave up waiting; the commit stands all the same
            continue
        if isinstance(outcome, StoreFailed):
            future.set_exception(outcome)
        else:
            future.set_result(outcome)
