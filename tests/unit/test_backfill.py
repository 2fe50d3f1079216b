"""What clouds remember of the time before the first start comes into the journal: newest first, once, and bounded."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from dsched.providers.base import Auth, ProviderError
from dsched.scheduler.core.market import Market, Pool, Quote
from dsched.scheduler.core.message import MarketRecalled
from dsched.scheduler.core.sighting import Sight, Sighting, usuals
from dsched.scheduler.core.trace import traces
from dsched.scheduler.core.units import HOUR, MICRO, MINUTE, Instant, Millis, price
from dsched.scheduler.engine import backfill
from dsched.scheduler.engine.backfill import REACH, Backfill, Step, sightings
from dsched.scheduler.engine.journal import Journal, read

DAY = 24 * HOUR
NOW = Instant(400 * DAY)
POOL = Pool("cloud", "east", "east-1", "p5.48xlarge", Market.SPOT)


def step(at: int, dollars: float) -> Step:
    return POOL, Quote(price=price(dollars), at=Instant(at), source="told")


class Cloud:
    """Remembers a price that is new every day: the day's number less 300, in dollars."""

    name = "cloud"
    history_span = Millis(30 * DAY)

    def __init__(self, *parts: str) -> None:
        self.parts, self.asked = parts, list[tuple[str, int, int]]()
        self.errors: dict[str, list[Exception]] = {}

    def pasts(self) -> Sequence[str]:
        return self.parts

    async def history(self, part: str, since: Instant, until: Instant) -> list[Step]:
        self.asked.append((part, since // DAY, until // DAY))
        if errors := self.errors.get(part):
            raise errors.pop(0)
        return [step(at, at / DAY - 300) for at in range(since, until, DAY)]


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backfill, "PAUSE_S", 0.0)
    monkeypatch.setattr(backfill, "AGAIN_S", (0.0, 0.0))


def filling(folder: Path, cloud: Cloud, told: list[Step], recalled: list[MarketRecalled]) -> Backfill:
    return Backfill(folder, {"cloud": cloud}, lambda: NOW, told.extend, recalled.append)  # type: ignore[dict-item]


async def test_ninety_days_come_newest_first_and_are_read_as_one_journal(tmp_path: Path) -> None:
    cloud, told, recalled = Cloud("east"), list[Step](), list[MarketRecalled]()
    journal = Journal(tmp_path)
    journal.append([Sighting(at=Instant(NOW + HOUR), kind=Sight.WATCH, provider="cloud")])
    await filling(tmp_path, cloud, told, recalled).run()
    assert cloud.asked == [("east", 370, 400), ("east", 340, 370), ("east", 310, 340)]
    found = list(read(tmp_path))
    assert [seen.at // DAY for seen in found] == [*range(310, 400), 400]
    assert [quote.at // DAY for _, quote in told] == [*range(370, 400)]  # the newest span alone
    assert 97 * MICRO < recalled[0].usual[POOL.id].price < 99 * MICRO
    assert list(read(tmp_path, past=False)) == found[-1:]


async def test_what_is_there_is_not_asked_again_and_a_crash_costs_one_span(tmp_path: Path) -> None:
    cloud = Cloud("east")
    cloud.errors["east"] = [Auth("Denied"), Auth("Denied")]
    first = filling(tmp_path, cloud, [], [])
    await first.run()
    assert "Denied" in first.fault
    await filling(tmp_path, cloud, [], []).run()
    await filling(tmp_path, cloud, [], []).run()
    assert len(cloud.asked) == 2 + 3
    torn = next((tmp_path / "past" / "cloud_east").glob("*.jsonl"))
    torn.rename(torn.with_suffix(".part"))  # died before its name was right
    again = Cloud("east")
    later = Backfill(tmp_path, {"cloud": again}, lambda: Instant(NOW + 9 * DAY), lambda _: None, lambda _: None)  # type: ignore[dict-item]
    await later.run()
    assert {until for _, _, until in again.asked} <= {340, 370, 400}  # up to where we looked ourselves, no further


async def test_one_part_that_fails_holds_up_no_other(tmp_path: Path) -> None:
    cloud = Cloud("east", "west")
    cloud.errors["east"] = [ProviderError("Down"), KeyError("SpotPrice")]
    await asyncio.wait_for(filling(tmp_path, cloud, [], []).run(), 20)
    assert [part for part, _, _ in cloud.asked[:4]] == ["east", "west", "east", "west"]
    assert len(list((tmp_path / "past").glob("*/*.jsonl"))) == 6


def test_a_price_that_hardly_moves_is_no_step_of_its_own() -> None:
    steps = [step(0, 10.0), step(HOUR, 10.05), step(2 * HOUR, 10.2), step(3 * HOUR, 10.25)]
    got = [(seen.at, seen.price, seen.until) for seen in sightings(steps, Instant(5 * HOUR))]
    assert got == [(0, price(10.0), 2 * HOUR), (2 * HOUR, price(10.2), 5 * HOUR)]


def test_remembered_prices_fill_a_trace_and_say_nothing_of_capacity(tmp_path: Path) -> None:
    past = sightings([step(0, 2.0), step(HOUR, 3.0)], Instant(2 * HOUR))
    [trace] = traces(past, begin=Instant(0), end=Instant(3 * HOUR))
    assert trace["counts_rle"] == [[None, 18]]
    assert trace["spot_price_series"] == [2.0] * 6 + [3.0] * 6 + [None] * 6


def test_a_price_that_held_when_the_reading_begins_is_told_as_of_then(tmp_path: Path) -> None:
    part = tmp_path / "past" / "cloud_east"
    part.mkdir(parents=True)
    line = {"at": 0, "kind": "quote", "pool": POOL.id, "price": 7, "until": 10 * MINUTE}
    (part / f"0-{10 * MINUTE}.jsonl").write_text(json.dumps(line) + "\n")
    assert [seen.at for seen in read(tmp_path, Instant(4 * MINUTE))] == [4 * MINUTE]
    assert list(read(tmp_path, Instant(11 * MINUTE))) == []


def test_the_usual_price_weighs_how_long_each_held() -> None:
    past = sightings([step(0, 2.0), step(100 * HOUR, 4.0)], Instant(101 * HOUR))
    got = usuals(past, over=24.0, now=Instant(101 * HOUR))[POOL.id]
    assert 2.0 * MICRO < got.price < 2.2 * MICRO
    assert REACH == 90 * DAY
