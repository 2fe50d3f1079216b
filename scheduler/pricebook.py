"""`dsched prices import FILE`: prices from a file, for what the clouds' own lists do not tell this host.

    <state>/prices/book.json          the newest price of each place, kind and shape, and how often spot is interrupted
    <state>/journal/past/imported_*/  spot prices of zones over days, read with the market journal

A process of its own; a daemon that runs sees the new book at its next look at prices. What a cloud tells itself always
goes before: the book only fills holes, with the age that its rows have.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import sys
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

import msgspec

from dsched.providers import catalog
from dsched.scheduler.config import default_state
from dsched.scheduler.core.market import Market, Pool, Quote
from dsched.scheduler.core.units import HOUR, Instant, Millis
from dsched.scheduler.engine.backfill import sightings
from dsched.scheduler.engine.journal import FOLDER as JOURNAL
from dsched.scheduler.engine.journal import PAST, encoded
from dsched.scheduler.log import log
from dsched.scheduler.pricefile import BadFile, Bucket, Found, Row, instant, parse
from dsched.scheduler.view.say import fail

FOLDER: Final = "prices"
BOOK: Final = "book.json"
LOOK_S: Final = 5.0  # a file that was imported counts within this
HOLDS: Final = Millis(24 * HOUR)  # the last price of a table over days
BYTES_MAX: Final = 256 << 20
OK: Final = 0
FAILED: Final = 1
USAGE: Final = 2
NOT_FOUND: Final = 5


class Book(msgspec.Struct):
    rows: list[Row] = []
    buckets: list[Bucket] = []


class Imported:
    """The book as providers ask it, their port `Known`. Reads it again when it has changed."""

    def __init__(self, state: Path) -> None:
        self._path = state / FOLDER / BOOK
        self._looked, self._stamp = float("-inf"), (0, 0)
        self._rows: dict[tuple[str, ...], Row] = {}
        self._buckets: dict[tuple[str, str, str], int] = {}

    def quote(self, provider: str, region: str, zone: str, shape: str, kind: str) -> Quote | None:
        """The price of a zone, else of its region; None: nobody has imported one."""
        self._look()
        for where in (zone, "") if zone else ("",):
            if row := self._rows.get((provider, region, where, shape, kind)):
                return Quote(price=row.price, at=row.at, source=row.source)
        return None

    def buckets(self, provider: str) -> dict[tuple[str, str], int]:
        """(region, shape) -> how often spot machines are interrupted, 0..4."""
        self._look()
        return {(region, shape): n for (of, region, shape), n in self._buckets.items() if of == provider}

    def _look(self) -> None:
        if time.monotonic() - self._looked < LOOK_S:
            return
        self._looked = time.monotonic()
        try:
            found = self._path.stat()
        except OSError:
            return
        if (stamp := (found.st_mtime_ns, found.st_ino)) != self._stamp:
            self._stamp = stamp
            try:
                book = load(self._path)
            except (BadFile, OSError) as error:
                log.warning("prices.book", error=str(error))
                return
            self._rows = {_key(row): row for row in book.rows}
            self._buckets = {(one.provider, one.region, one.shape): one.bucket for one in book.buckets}


def load(path: Path) -> Book:
    """An empty one where there is none. Raises BadFile for one that cannot be read, OSError."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=Book)
    except FileNotFoundError:
        return Book()
    except msgspec.DecodeError as error:
        raise BadFile([f"{path}: no book of prices ({error}); move it away and import its files again"]) from error


def add(state: Path, found: Found) -> None:
    """Take a file's rows into the book, all at once. Raises OSError."""
    folder = state / FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    old = load(folder / BOOK)
    rows = {_key(row): row for row in old.rows}
    for row in found.rows:
        if row.at >= rows.get(_key(row), row).at:
            rows[_key(row)] = row
    buckets = {one[:3]: one for one in (*old.buckets, *found.buckets)}
    _replaced(folder / BOOK, msgspec.json.encode(Book(list(rows.values()), list(buckets.values()))))
    _remember(state / JOURNAL / PAST, found.rows)


def _remember(past: Path, rows: Iterable[Row]) -> None:
    """Spot prices of zones over days, as a part of the journal's past; the same ones twice are one part."""
    steps = sorted(
        (row.at, Pool(row.provider, row.region, row.zone, row.shape, Market.SPOT), row)
        for row in rows
        if row.kind == "spot" and row.zone
    )
    if not steps:
        return
    begin, end = steps[0][0], Instant(steps[-1][0] + HOLDS)
    told = [(pool, Quote(price=row.price, at=at, source=row.source)) for at, pool, row in steps]
    text = encoded(sightings(told, end))
    part = past / f"imported_{hashlib.sha256(text).hexdigest()[:12]}"
    part.mkdir(parents=True, exist_ok=True)
    _replaced(part / f"{begin}-{end}.jsonl", text)


def _replaced(path: Path, text: bytes) -> None:
    """Whole or not at all."""
    rough = path.with_suffix(".part")
    rough.write_bytes(text)
    os.replace(rough, path)


def _key(row: Row) -> tuple[str, ...]:
    return row.provider, row.region, row.zone, row.shape, row.kind


def chips(name: str) -> list[tuple[str, int]]:
    """The machines that have this TPU, and how many."""
    listings = catalog.tpus().listings.values()
    return [(o.shape.name, o.shape.gpus) for o in listings if o.shape.accelerator and o.shape.accelerator.name == name]


def main(argv: Sequence[str]) -> int:
    """Import one file; the exit code."""
    given = arguments().parse_args(argv)
    path: Path = given.file
    try:
        if path.stat().st_size > BYTES_MAX:
            return fail("E100", f"{path}: more than {BYTES_MAX >> 20} MiB", "split the file", USAGE)
        text = path.read_text(encoding="utf-8")
        as_of = None if given.as_of is None else instant(given.as_of)
        now = Instant(time.time_ns() // 1_000_000)
        found = parse(text, str(path), as_of=as_of, now=now, chips=chips)
        if not given.check:
            add(given.state or default_state(), found)
    except BadFile as bad:
        nothing = f"{path}: nothing was imported\n" + "\n".join(f"  {line}" for line in bad.complaints)
        return fail("E101", nothing, f"mend the file, then: dsched prices import {path}", USAGE)
    except UnicodeDecodeError as e:
        return fail("E101", f"{path}: not UTF-8 at byte {e.start}", f"iconv -t utf-8 {path}", USAGE)
    except OSError as e:
        missing = isinstance(e, FileNotFoundError)
        message = f"{e.filename or path}: {(e.strerror or str(e)).lower()}"
        if missing:
            return fail("E404", message, "", NOT_FOUND)
        return fail("E500", message, "run it as the user of the daemon", FAILED)
    except ValueError as e:
        return fail("E100", f"--as-of: {e}", "", USAGE)
    done = "would be imported" if given.check else "imported"
    sys.stdout.write(f"{path}: {len(found.rows)} prices and {len(found.buckets)} interruption rates {done}\n")
    return OK


def arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="dsched prices import", description="Take prices from a CSV file.")
    parser.add_argument("file", type=Path, metavar="FILE")
    parser.add_argument("--as-of", metavar="DATE", default=None, help="how old rows without a date are")
    parser.add_argument("--check", action="store_true", help="read the file, import nothing")
    parser.add_argument("--state", type=Path, default=None, help="state directory (default: DSCHED_STATE)")
    return parser


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
