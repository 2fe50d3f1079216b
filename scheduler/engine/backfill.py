"""Fill the market journal with what the clouds remember of the time before our first look: 90 days of spot prices.

    <state>/journal/past/<provider>_<part>/until                  when we looked first, market ms
    <state>/journal/past/<provider>_<part>/<begin>-<end>.jsonl    what it was like before, a span to a file

The newest spans come first, since yesterday's prices say more than last month's. A span is whole or absent: written
under another name, then renamed, by a thread; after a crash or a restart the first one that is missing is asked for.
Prices are all that a cloud remembers: whether machines could be had stays unknown.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from dsched.providers.base import Auth, Invalid, Provider, ProviderError, Remembering
from dsched.scheduler.core.elastic.review import USUAL_OVER
from dsched.scheduler.core.market import Pool, Quote
from dsched.scheduler.core.message import MarketRecalled
from dsched.scheduler.core.sighting import Sight, Sighting, streaks, usuals
from dsched.scheduler.core.units import HOUR, Instant, Millis
from dsched.scheduler.engine.journal import PAST, encoded, read, spans
from dsched.scheduler.log import log

REACH: Final = Millis(90 * 24 * HOUR)  # what EC2 remembers
RECALLED: Final = Millis(4 * 24 * HOUR)  # how far back since when a pool has been up, and its usual price, matter
LEAST: Final = 0.01  # share by which a price must move to be a step of its own: less decides nothing
PAUSE_S: Final = 1.0  # between two questions: launches and lists come first
AGAIN_S: Final = (60.0, 3600.0)  # after a failure, doubling
CALL_S: Final = 120.0  # for one span: many pages
_MALFORMED: Final = (
    LookupError,
    TypeError,
    ValueError,
)  # an answer of another form than told
LINES_MAX: Final = 100_000  # of one span, the newest: 16 MiB; a week of all GPU shapes of a region has some thousand

Step = tuple[Pool, Quote]


@dataclass(slots=True)
class Backfill:
    """`told` hears, in a thread, the newest span of each part: what a history of the last day is drawn from."""

    journal: Path
    providers: Mapping[str, Provider]
    now: Callable[[], Instant]
    told: Callable[[Sequence[Step]], None]
    recalled: Callable[[MarketRecalled], None]
    left: int = 0  # spans that are still to come, as far as known
    fault: str = ""  # why the last question failed

    async def run(self) -> None:
        """Until all is there. Ends by itself; a failure costs this past and nothing else."""
        try:
            await self._rounds(await asyncio.to_thread(self._parts))
        except OSError as error:
            self.fault = str(error)
            log.warning("backfill.failed", folder=str(self.journal / PAST), error=str(error))

    async def _rounds(self, parts: list[_Part]) -> None:
        """A span of every part in each: one that fails holds up none of the others."""
        pause = AGAIN_S[0]
        first = True
        while parts := [part for part in parts if part.missing]:
            self.left = sum(len(part.missing) for part in parts)
            filled = [await self._fill(part) for part in parts]
            if any(filled):
                pause = AGAIN_S[0]
            elif any(part.missing for part in parts):
                await asyncio.sleep(pause)
                pause = min(2 * pause, AGAIN_S[1])
            if first and all(filled):
                first = False
                self.recalled(await asyncio.to_thread(recall, self.journal, self.now()))
        self.left = 0

    def _parts(self) -> list[_Part]:
        """Blocking. Raises OSError."""
        found = []
        for name, provider in self.providers.items():
            if isinstance(provider, Remembering):
                found += [_Part(provider, part, self.journal / PAST / f"{name}_{part}") for part in provider.pasts()]
        for part in found:
            part.open(self.now())
        return found

    async def _fill(self, part: _Part) -> bool:
        """The newest span that is missing."""
        begin, end = part.missing[-1]
        try:
            async with asyncio.timeout(CALL_S):
                steps = await part.provider.history(part.name, begin, end)
        except (ProviderError, TimeoutError, *_MALFORMED) as error:
            self.fault = f"{part.folder.name}: {error}" if str(error) else f"{part.folder.name}: no answer"
            log.warning("backfill.failed", part=part.folder.name, error=str(error))
            if isinstance(error, Auth | Invalid):
                part.missing.clear()  # asked again at the next start
            return False
        newest = end == part.until
        await asyncio.to_thread(part.write, begin, end, steps[-LINES_MAX:])
        part.missing.pop()
        self.fault = ""
        if newest:
            await asyncio.to_thread(self.told, steps[-LINES_MAX:])
        await asyncio.sleep(PAUSE_S)
        return True


class _Part:
    """One part of one provider's past, and what is missing of it."""

    def __init__(self, provider: Remembering, name: str, folder: Path) -> None:
        self.provider, self.name, self.folder = provider, name, folder
        self.missing: list[tuple[Instant, Instant]] = []  # oldest first
        self.until = Instant(0)

    def open(self, now: Instant) -> None:
        """Blocking. Raises OSError."""
        self.folder.mkdir(parents=True, exist_ok=True)
        first = self.folder / "until"
        try:
            until = int(first.read_text())
        except (FileNotFoundError, ValueError):
            until = int(now)
            first.write_text(f"{until}\n")
        self.until = Instant(until)
        end = Instant(min((begin for begin, _, _ in spans(self.folder)), default=until))
        while end > until - REACH:
            begin = Instant(max(until - REACH, end - self.provider.history_span))
            self.missing.insert(0, (begin, end))
            end = begin

    def write(self, begin: Instant, end: Instant, steps: Sequence[Step]) -> None:
        """Blocking. Raises OSError."""
        path = self.folder / f"{begin}-{end}.jsonl"
        rough = path.with_suffix(".part")
        rough.write_bytes(encoded(sightings(steps, end)))
        os.replace(rough, path)


def sightings(steps: Sequence[Step], end: Instant) -> list[Sighting]:
    """Steps of spot prices, in the order of time, as lines of the journal that say how long each price held."""
    found: list[Sighting] = []
    last: dict[str, tuple[int, Quote]] = {}  # pool -> its line, its price
    for pool, quote in steps:
        place, before = last.get(pool.id, (-1, quote))
        if place >= 0 and abs(quote.price - before.price) < LEAST * before.price:
            continue
        if place >= 0:
            found[place] = replace(found[place], until=quote.at)
        last[pool.id] = len(found), quote
        found.append(_line(pool, quote, end))
    return found


def _line(pool: Pool, quote: Quote, end: Instant) -> Sighting:
    return Sighting(
        at=quote.at,
        kind=Sight.QUOTE,
        pool=pool.id,
        region=pool.region,
        provider=pool.provider,
        price=quote.price,
        until=end,
    )


def recall(journal: Path, now: Instant) -> MarketRecalled:
    """What the last days in the journal say. Blocking. Raises OSError."""
    since = Instant(now - RECALLED)
    return MarketRecalled(
        streaks=streaks(read(journal, since, past=False), now=now),
        usual=usuals(read(journal, since), over=USUAL_OVER, now=now),
    )
