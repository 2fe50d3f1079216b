"""Events to many readers: in order, bounded, and told when some were lost."""

from __future__ import annotations

import pytest

from dsched.scheduler.api.broadcast import BACKLOG_MAX, Broadcast
from dsched.scheduler.api.ports import Closed, Committed, Lagged
from dsched.scheduler.core.event import Event
from dsched.scheduler.core.units import Instant, Moment

EVENT = Event(kind="job.submitted", at=Moment(Instant(1), Instant(1)))


def batch(first: int, last: int) -> list[Committed]:
    return [(seq, EVENT) for seq in range(first, last + 1)]


async def test_a_subscriber_hears_all_that_follows_in_order() -> None:
    source = Broadcast(last_seq=4)
    live = source.subscribe()
    source.publish(batch(5, 6))
    source.publish(batch(7, 7))
    assert [seq for seq, _ in await live.next()] == [5, 6, 7]
    source.publish(batch(8, 8))
    assert [seq for seq, _ in await live.next()] == [8]
    assert source.last_seq == 8


async def test_a_subscriber_that_sleeps_is_told_that_it_lost_events() -> None:
    source = Broadcast()
    slow, quick = source.subscribe(), source.subscribe()
    source.publish(batch(1, BACKLOG_MAX))
    await quick.next()
    source.publish(batch(BACKLOG_MAX + 1, BACKLOG_MAX + 1))
    with pytest.raises(Lagged):
        await slow.next()
    assert [seq for seq, _ in await quick.next()] == [BACKLOG_MAX + 1]


async def test_the_end_comes_after_the_last_event() -> None:
    source = Broadcast()
    live = source.subscribe()
    source.publish(batch(1, 2))
    source.close()
    assert [seq for seq, _ in await live.next()] == [1, 2]
    with pytest.raises(Closed):
        await live.next()
    with pytest.raises(Closed):
        await source.subscribe().next()
