"""The market journal as traces: what was seen is known, and nothing else."""

from __future__ import annotations

from typing import Any

import pytest

from dsched.scheduler.core.sighting import Sight, Sighting
from dsched.scheduler.core.trace import GAP, traces
from dsched.scheduler.core.units import Instant, Millis, price

A = "aws/use1-az1/p5.48xlarge/spot"
B = "aws/use1-az2/p5.48xlarge/spot"


def at(ticks: float) -> Instant:
    return Instant(round(ticks * GAP))


def quote(ticks: float, free: int | None, dollars: float = 10.0, pool: str = A) -> Sighting:
    return Sighting(
        at=at(ticks),
        kind=Sight.QUOTE,
        pool=pool,
        region="us-east-1",
        provider="aws",
        price=price(dollars),
        on_demand=price(98.32),
        free=free,
    )


def watch(ticks: float, ours: int = 0) -> Sighting:
    return Sighting(at=at(ticks), kind=Sight.WATCH, provider="aws", alive={A: ours})


def tried(ticks: float, kind: Sight, count: int = 1) -> Sighting:
    return Sighting(at=at(ticks), kind=kind, pool=A, count=count)


def counts(*seen: Sighting, end: float) -> list[int | None]:
    (trace,) = traces(seen, begin=at(0), end=at(end))
    return unrolled(trace)


def unrolled(trace: dict[str, Any]) -> list[int | None]:
    return [count for count, ticks in trace["counts_rle"] for _ in range(ticks)]


def test_a_pool_that_tells_what_is_free_is_known_while_it_answers() -> None:
    assert counts(quote(0.1, 4), watch(1), watch(2), quote(2.5, 0), end=7) == [4, 4, 0, 0, None, None, None]


def test_a_pool_that_tells_nothing_is_known_only_where_we_tried() -> None:
    seen = counts(quote(0.1, None), tried(1.2, Sight.REFUSED), tried(3.5, Sight.SOLD), watch(4.5, ours=1), end=6)
    assert seen == [None, 0, None, 1, 1, 1]


def test_an_interruption_is_down_and_then_unknown() -> None:
    assert counts(quote(0, None), tried(0.5, Sight.SOLD), tried(2.5, Sight.TAKEN), end=5) == [1, 1, 0, None, None]


def test_a_refused_gang_leaves_room_for_a_smaller_one() -> None:
    assert counts(quote(0, None), tried(0.5, Sight.REFUSED, 8), end=1) == [7]


def test_our_own_machines_count_with_what_is_free() -> None:
    assert counts(quote(0, 3), tried(0.5, Sight.SOLD), quote(0.6, 2), watch(1.5, ours=1), end=3) == [3, 3, 3]


def test_a_price_is_null_when_nobody_confirmed_it() -> None:
    (trace,) = traces([quote(0, 1, 10.0), quote(1.5, 1, 12.5)], begin=at(0), end=at(6))
    assert trace["spot_price_series"] == [10.0, 12.5, 12.5, None, None, None]
    assert trace["od_price"] == 98.32


def test_what_was_seen_before_the_beginning_sets_the_scene() -> None:
    (trace,) = traces([quote(0, 5), tried(0.5, Sight.REFUSED), watch(1.5)], begin=at(1), end=at(3))
    assert unrolled(trace) == [5, 5]


def test_each_pool_has_its_own_trace_and_begins_when_it_was_first_seen() -> None:
    one, two = traces([quote(0, 1), quote(2.5, 2, pool=B), watch(3)], begin=at(0), end=at(4))
    assert (len(unrolled(one)), len(unrolled(two))) == (4, 2)
    assert two["start"] == at(2)


def test_a_clock_that_jumped_by_years_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match="clock jumped"):
        traces([quote(0, 1), quote(10**7, 1)])


def test_a_finer_gap_gives_more_ticks() -> None:
    (trace,) = traces([quote(0, 1), watch(0.9)], gap=Millis(60_000), begin=at(0), end=at(1))
    assert unrolled(trace) == [1] * 10
    assert trace["gap_seconds"] == 60
