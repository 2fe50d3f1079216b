"""The market journal on disk: what this daemon saw of every pool, line by line, bounded and safe to cut off anywhere.

    <state>/journal/<number>.jsonl      one JSON object per sighting (core/sighting.py), oldest file first
    <state>/journal/past/*/*.jsonl      what clouds remembered of the time before (backfill.py)

It is knowledge and no promise: lines are written once a second by a thread and not synced, a full disk costs lines and
never the daemon, and a line torn by a crash is dropped when it is read. Old files go when the folder has its size.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import fields, replace
from heapq import merge
from pathlib import Path
from typing import Any, Final

import msgspec

from dsched.scheduler.core.event import Event
from dsched.scheduler.core.market import Offer
from dsched.scheduler.core.sighting import Sighting, heard, quoted, watched
from dsched.scheduler.core.snapshot import State
from dsched.scheduler.core.units import MINUTE, Instant, Millis
from dsched.scheduler.log import log

FOLDER: Final = "journal"
PAST: Final = "past"
FILE_BYTES: Final = 8 << 20  # then the next file begins
FILES: Final = 16  # 128 MiB: a month of a thousand pools whose prices move ten times a day
WATCH: Final = Millis(5 * MINUTE)  # market: half a tick of a trace, so that none goes by without word
WAITING_MAX: Final = 50_000  # lines for a disk that is behind; newer ones are dropped
_encoder: Final = msgspec.json.Encoder()
_decoder: Final = msgspec.json.Decoder(Sighting)
_DEFAULTS: Final = {f.name: f.default for f in fields(Sighting)} | {"alive": {}}


class Journal:
    """Hears the core's events and looks at its offers; `write` brings to disk what is new."""

    def __init__(self, folder: Path, *, file_bytes: int = FILE_BYTES, files: int = FILES) -> None:
        self.folder, self.dropped = folder, 0
        self._file_bytes, self._files = file_bytes, files
        self._offers: Mapping[str, Offer] = {}
        self._told: dict[str, Sighting] = {}  # pool -> its last quote, to write only what is news
        self._watched: dict[str, tuple[Instant, Instant]] = {}  # provider -> its newest quote, and when it was written
        self._waiting: list[Sighting] = []
        self._turn = asyncio.Lock()
        self._current: Path | None = None  # the file of this run: a new one, since the last may end in a torn line

    def hear(self, events: Iterable[Event]) -> None:
        for event in events:
            for sighting in heard(event):
                self.note(sighting)

    def note(self, sighting: Sighting) -> None:
        if len(self._waiting) < WAITING_MAX:
            self._waiting.append(sighting)
        else:
            self.dropped += 1

    def look(self, state: State, now: Instant) -> None:
        """Note the quotes that are news since the last look, and now and then that there were none."""
        if state.offers is not self._offers:
            self._offers = state.offers
            for offer in state.offers.values():
                self._quote(offer, now)
        for provider, newest in _newest(state.offers).items():
            seen, written = self._watched.get(provider, (Instant(-1), Instant(-WATCH)))
            if newest > seen and now - written >= WATCH:
                self._watched[provider] = newest, now
                self.note(watched(state, provider, now))

    def _quote(self, offer: Offer, now: Instant) -> None:
        told, seen = self._told.get(offer.pool.id), quoted(offer, now)
        if seen is None:
            return
        if told is None or (told.price, told.free, told.on_demand) != (seen.price, seen.free, seen.on_demand):
            self._told[offer.pool.id] = seen
            self.note(seen)

    @property
    def writing(self) -> bool:
        return self._turn.locked()

    async def write(self) -> None:
        """Bring all that was noted before to disk, in a thread; one at a time."""
        async with self._turn:
            lines, self._waiting = self._waiting, []
            try:
                if lines:
                    await asyncio.to_thread(self.append, lines)
            except OSError as error:
                self.dropped += len(lines)
                log.warning("journal.failed", folder=str(self.folder), error=str(error), lost=len(lines))

    def append(self, lines: Sequence[Sighting]) -> None:
        """Blocking. Raises OSError."""
        text = encoded(lines)
        path = self._file()
        with path.open("ab") as file:
            file.write(text)

    def _file(self) -> Path:
        current = self._current
        if current is None or (current.exists() and current.stat().st_size >= self._file_bytes):
            self.folder.mkdir(parents=True, exist_ok=True)
            known = files(self.folder)
            for old in known[: max(0, len(known) - self._files + 1)]:
                old.unlink(missing_ok=True)
            number = int(known[-1].stem) + 1 if known else 1
            current = self._current = self.folder / f"{number:08}.jsonl"
        return current


def encoded(lines: Iterable[Sighting]) -> bytes:
    return b"".join(_encoder.encode(_short(line)) + b"\n" for line in lines)


def files(folder: Path) -> list[Path]:
    """Oldest first."""
    return sorted(path for path in folder.glob("*.jsonl") if path.stem.isdigit())


def read(folder: Path, since: Instant = Instant(0), *, past: bool = True) -> Iterator[Sighting]:
    """Every whole line since then, oldest first; a folder that is missing has none. Raises OSError.

    `past`: with what clouds remembered of the time before we looked.
    """
    own = (sighting for sighting in _lines(files(folder)) if sighting.at >= since)
    parts = sorted(part for part in (folder / PAST).glob("*") if part.is_dir()) if past else []
    return merge(*(_remembered(part, since) for part in parts), own, key=lambda sighting: sighting.at)


def spans(part: Path) -> list[tuple[Instant, Instant, Path]]:
    """The times of which a part of the past is on disk, oldest first."""
    found = []
    for path in part.glob("*.jsonl"):
        begin, _, end = path.stem.partition("-")
        if begin.isdigit() and end.isdigit():
            found.append((Instant(int(begin)), Instant(int(end)), path))
    return sorted(found)


def _remembered(part: Path, since: Instant) -> Iterator[Sighting]:
    """A price that held at `since` is told as of then."""
    for sighting in _lines([path for _, end, path in spans(part) if end > since]):
        if sighting.at >= since:
            yield sighting
        elif sighting.until > since:
            yield replace(sighting, at=since)


def _lines(paths: Iterable[Path]) -> Iterator[Sighting]:
    for path in paths:
        with path.open("rb") as file:
            for line in file:
                if (sighting := _sighting(line)) is not None:
                    yield sighting


def _newest(offers: Mapping[str, Offer]) -> dict[str, Instant]:
    found: dict[str, Instant] = {}
    for offer in offers.values():
        if offer.quote is not None:
            provider = offer.pool.provider
            found[provider] = max(found.get(provider, offer.quote.at), offer.quote.at)
    return found


def _short(line: Sighting) -> dict[str, Any]:
    """Without what a kind of sighting does not need."""
    values = {name: getattr(line, name) for name in _DEFAULTS}
    return {name: value for name, value in values.items() if value != _DEFAULTS[name] or name in ("at", "kind")}


def _sighting(line: bytes) -> Sighting | None:
    """None: torn by a crash, or by somebody's hand."""
    try:
        return _decoder.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
