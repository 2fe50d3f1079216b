"""The engine's hands: no lease is told ahead of the disk, a call that breaks is asked again, an alarm rings once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from dsched.providers.base import Ambiguous, NodeRef
from dsched.scheduler.core.effect import CallLaunch, CallObserve, CallRenew, CallTerminate
from dsched.scheduler.core.message import ClockJumped, Launched, LaunchUnanswered, SeenNode, Submit
from dsched.scheduler.core.units import HOUR, MINUTE, Instant, Millis
from dsched.scheduler.engine import execute
from dsched.scheduler.engine.desk import Desk
from dsched.scheduler.engine.execute import Executor
from dsched.scheduler.engine.timers import Alarm
from dsched.scheduler.wire.agent import Hello, Poll, Report
from tests.support.office import HandClock
from tests.support.rig import Rig, settle
from tests.support.stage import spec


def desk_of(rig: Rig) -> Desk:
    return Desk(rig.loop, b"k" * 32, address="unix:/s", checkpoints=lambda job, _: f"file:///{job}")


async def boot(rig: Rig, desk: Desk, after: Callable[[], None] = lambda: None) -> tuple[str, str]:
    """A node with a session."""
    await rig.loop.send(Submit(spec=spec(), key="k"))
    (intent,) = rig.loop.state.intents.values()
    (node,) = intent.nodes
    machine = SeenNode(
        ref="i-1", token=intent.id, index=0, pool=intent.pool, alive=True, launched=rig.clock.now().market
    )
    await rig.loop.send(Launched(intent=intent.id, nodes=(machine,)))
    after()
    secret = desk.user_data(intent)["secret"]
    hello = Hello(node=node, secret=secret, boot="b", pid=1, cpus=1, memory_mib=1, gpus=[], running=[], metadata={})
    return node, (await desk.hello(hello))["session"]


async def test_a_renewed_lease_is_told_to_nobody_before_it_is_durable() -> None:
    clock = HandClock()
    async with Rig(clock) as rig:
        desk = desk_of(rig)
        node, session = await boot(rig, desk)
        granted = rig.loop.state.nodes[node].lease_until
        clock.move(15 * MINUTE)
        left = granted - clock.now().wall
        rig.disk.auto = False
        poll = asyncio.create_task(desk.poll(Poll(node=node, session=session, after=0, wait_ms=0)))
        await settle()
        assert rig.loop.state.nodes[node].lease_until > granted
        report = asyncio.create_task(desk.report(Report(node=node, session=session, id=1, facts=[])))
        await settle()
        assert not (poll.done() and poll.result()["lease_ms"] > left)
        assert not (report.done() and report.result()["lease_ms"] > left)
        rig.disk.sync()
        await settle()
        rig.disk.sync()
        assert (await poll)["lease_ms"] == rig.loop.policy.lease


async def test_a_lease_is_renewed_when_half_of_it_is_over_however_far_the_wall_clock_was_set_back() -> None:
    clock = HandClock()
    async with Rig(clock) as rig:
        desk = desk_of(rig)
        node, session = await boot(rig, desk)
        clock.set(-3 * HOUR)
        await rig.loop.send(ClockJumped(set_by=Millis(-3 * HOUR)))
        poll = Poll(node=node, session=session, after=0, wait_ms=0)
        clock.move(9 * MINUTE)
        assert (await desk.poll(poll))["lease_ms"] == 11 * MINUTE
        clock.move(2 * MINUTE)
        assert (await desk.poll(poll))["lease_ms"] == rig.loop.policy.lease
        assert rig.loop.state.nodes[node].lease_until == clock.now().wall + rig.loop.policy.lease


async def test_a_node_that_comes_up_late_hears_of_a_renewed_lease_at_once() -> None:
    clock = HandClock()
    async with Rig(clock) as rig:
        clock.move(MINUTE)
        desk = desk_of(rig)
        node, _ = await boot(rig, desk, after=lambda: clock.move(12 * MINUTE))
        assert rig.loop.state.nodes[node].lease_until == clock.now().wall + rig.loop.policy.lease


async def test_seats_of_nodes_that_are_gone_are_cleared_away() -> None:
    async with Rig() as rig:
        desk = desk_of(rig)
        desk._seats["gone.0"] = Any  # type: ignore[assignment]
        await boot(rig, desk)
        assert list(desk._seats) == list(rig.loop.state.nodes)


class Broken:
    """A provider that fails in ways that no contract knows."""

    name = "local"

    def __init__(self) -> None:
        self.renewals = 0

    async def launch(self, want: Any) -> list[Any]:
        raise KeyError("a bug")

    async def renew(self, refs: Sequence[NodeRef], until: Instant) -> None:
        self.renewals += 1
        if self.renewals < 3:
            raise Ambiguous("lost")


def hands(rig: Rig, **providers: Any) -> tuple[Executor, list[Any]]:
    """An executor, and what it posts."""
    told: list[Any] = []
    rig.loop.post = told.append  # type: ignore[method-assign]
    nobody: Any = None
    return Executor(rig.loop, providers, {}, nobody, nobody, nobody, desk_of(rig).user_data), told


async def test_a_launch_that_breaks_in_an_unknown_way_counts_as_unanswered() -> None:
    async with Rig() as rig:
        await rig.loop.send(Submit(spec=spec(), key="k"))
        (intent,) = rig.loop.state.intents
        executor, told = hands(rig, local=Broken())
        executor.carry([CallLaunch(intent=intent)])
        await settle()
        assert [type(message) for message in told] == [LaunchUnanswered]


async def test_a_provider_that_is_no_longer_set_up_harms_nobody() -> None:
    async with Rig() as rig:
        await rig.loop.send(Submit(spec=spec(), key="k"))
        (intent,) = rig.loop.state.intents
        executor, told = hands(rig)
        executor.carry(
            [
                CallObserve(provider="local"),
                CallTerminate(provider="local", refs=("i",)),
                CallRenew(provider="local", ref="i", until=Instant(1)),
                CallLaunch(intent=intent),
            ]
        )
        await settle()
        assert [message.why for message in told] == ["no provider local is set up"]


async def test_a_renewal_that_the_provider_did_not_hear_is_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(execute, "RENEW_AGAIN_S", 0.0)
    async with Rig() as rig:
        provider = Broken()
        executor, _ = hands(rig, local=provider)
        executor.carry([CallRenew(provider="local", ref="i", until=Instant(1))])
        await settle()
        assert provider.renewals == 3


async def test_the_same_instant_asked_for_a_thousand_times_is_kept_once() -> None:
    alarm = Alarm(lambda: None, lambda: Instant(0))
    for _ in range(1_000):
        alarm.at(Instant(60_000))
        alarm.at(Instant(59_995))
        alarm.at(Instant(30_000))
    assert len(alarm._due) == 2
