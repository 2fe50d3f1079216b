"""The loop: nothing leaves before it is durable, a poisonous message hurts nobody else, a failed disk ends it."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from dsched.scheduler.core.effect import CallLaunch
from dsched.scheduler.core.message import OffersSeen, Refusal, Submit
from tests.support.rig import Rig, settle
from tests.support.stage import spec


async def test_no_answer_no_event_and_no_effect_leaves_before_the_commit_is_durable() -> None:
    async with Rig() as rig:
        rig.disk.auto = False
        asked = asyncio.create_task(rig.loop.send(Submit(spec=spec(), key="k")))
        await settle()
        assert not asked.done()
        assert (rig.published, rig.carried) == ([], [])
        rig.disk.sync()
        assert await asked == "j1"
        assert [seq for seq, _ in rig.published] == list(range(1, len(rig.published) + 1))
        assert any(isinstance(effect, CallLaunch) for effect in rig.carried)


async def test_while_one_commit_is_under_way_the_next_messages_are_handled_and_answered_in_order() -> None:
    async with Rig() as rig:
        rig.disk.auto = False
        asked = [asyncio.create_task(rig.loop.send(Submit(spec=spec(), key=f"k{n}"))) for n in range(3)]
        await settle()
        asked.append(asyncio.create_task(rig.loop.send(Submit(spec=spec(), key="later"))))
        await settle()
        assert len(rig.disk.waiting) == 2
        rig.disk.sync()
        assert [await answer for answer in asked] == ["j1", "j2", "j3", "j4"]


async def test_a_message_that_breaks_the_core_is_counted_and_the_next_one_is_served() -> None:
    async with Rig() as rig:
        poison: Any = OffersSeen(provider="local", offers=(None,))  # type: ignore[arg-type]
        with pytest.raises(AttributeError):
            await rig.loop.send(poison)
        assert rig.loop.faults == 1
        assert await rig.loop.send(Submit(spec=spec(), key="k")) == "j1"


async def test_a_refusal_reaches_the_asker_and_writes_nothing() -> None:
    async with Rig() as rig:
        seq = rig.disk.seq
        with pytest.raises(Refusal, match="none of"):
            await rig.loop.send(Submit(spec=spec(gpus=8192), key="k"))
        assert rig.disk.seq == seq


async def test_a_store_that_fails_ends_the_loop_with_its_error() -> None:
    rig = Rig()
    rig.disk.auto = False
    async with rig:
        asked = asyncio.create_task(rig.loop.send(Submit(spec=spec(), key="k")))
        await settle()
        rig.disk.waiting[0][0].set_exception(OSError("disk full"))
        with pytest.raises(BaseExceptionGroup) as group:
            await rig.task
        assert group.value.subgroup(OSError)
        asked.cancel()


async def test_a_message_that_breaks_the_core_does_not_keep_an_earlier_one_of_its_batch_from_being_placed() -> None:
    async with Rig() as rig:
        poison: Any = OffersSeen(provider="local", offers=(None,))  # type: ignore[arg-type]
        asked = asyncio.create_task(rig.loop.send(Submit(spec=spec(), key="k")))
        await asyncio.sleep(0)
        rig.loop.post(poison)
        assert await asked == "j1"
        assert rig.loop.faults == 1
        assert any(isinstance(effect, CallLaunch) for effect in rig.carried)
