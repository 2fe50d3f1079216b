"""Clocks that are set or sleep: noticed once, also across a restart of the daemon, and no lease is over by them."""

from __future__ import annotations

from dataclasses import dataclass, replace

from dsched.scheduler.core.message import AgentHello, ClockJumped, Launched, RenewLease, SeenNode, Submit, Tick
from dsched.scheduler.core.state import NodeState
from dsched.scheduler.core.units import HOUR, MINUTE, SECOND, Instant, Millis, Moment
from dsched.scheduler.engine.clock import Anchor, Clock, Jump, Reading, clock_since, read_clocks
from tests.support.rig import Rig, settle
from tests.support.stage import Stage, offer, spec


@dataclass
class Host:
    """A computer's clocks by hand."""

    wall: int = 1_000_000_000
    boot: int = 5_000_000
    monotonic: int = 4_000_000

    def read(self) -> Reading:
        return Reading(self.wall, self.boot, self.monotonic)

    def live(self, time: int) -> None:
        self.wall += time
        self.boot += time
        self.monotonic += time

    def sleep(self, time: int) -> None:
        self.wall += time
        self.boot += time


def clock_of(host: Host, **more: object) -> Clock:
    clock = Clock(read=host.read, **more)  # type: ignore[arg-type]
    clock.now()
    return clock


def test_time_that_passes_is_no_jump() -> None:
    host = Host()
    clock = clock_of(host)
    for _ in range(100):
        host.live(HOUR)
        host.wall += 1  # the rounding of a reading, or a clock that is bent
        assert clock.now().wall == host.wall
        host.wall -= 1
    assert clock.jumped() is None


def test_a_clock_that_is_set_is_followed_and_told_once() -> None:
    host = Host()
    clock = clock_of(host)
    host.live(MINUTE)
    for by in (HOUR, -2 * HOUR):
        host.wall += by
        assert clock.now().wall == host.wall
        assert not clock.settled
        assert clock.jumped() == Jump(Millis(by), Millis(0))
        clock.now()
        assert clock.jumped() is None


def test_small_steps_count_once_they_sum_up() -> None:
    host = Host()
    clock = clock_of(host)
    for _ in range(3):
        host.wall += 400
        clock.now()
    assert clock.jumped() == Jump(Millis(1_200), Millis(0))


def test_a_suspend_is_told_apart_from_a_clock_that_was_set() -> None:
    host = Host()
    clock = clock_of(host)
    host.sleep(HOUR)
    clock.now()
    host.wall += MINUTE
    clock.now()
    assert clock.jumped() == Jump(MINUTE, HOUR)


def test_what_jumped_while_no_daemon_ran_is_noticed_at_its_start() -> None:
    host = Host()
    before = clock_of(host).anchor
    assert before is not None
    host.live(HOUR)
    assert clock_of(host, anchor=Anchor.of(before.text())).jumped() is None
    host.wall += HOUR
    assert clock_of(host, anchor=Anchor.of(before.text())).jumped() == Jump(HOUR, Millis(0))


def test_what_an_earlier_process_held_back_is_held_back_still() -> None:
    host = Host()
    before = clock_of(host)
    assert before.anchor is not None
    text = before.anchor.text(Instant(host.wall + HOUR))
    host.wall -= MINUTE
    clock = clock_since(text)
    clock.read = host.read
    clock.now()
    assert clock.jumped() == Jump(Millis(-MINUTE), Millis(0), Instant(host.wall + MINUTE + HOUR))


def test_an_anchor_of_another_boot_or_none_at_all_is_no_jump() -> None:
    for text in (None, "", "{}", "[1]", '{"boot": "x", "offset": "y", "slept": 0}', Anchor("another", 0, 0).text()):
        clock = clock_since(text)
        clock.now()
        assert clock.jumped() is None


def test_the_real_clocks_are_read_together() -> None:
    reading = read_clocks()
    assert reading.wall > reading.boot >= reading.monotonic > 0


# -- what the core makes of it ---------------------------------------------------------------------------------------


def running(wall: int = 1_000_000) -> tuple[Stage, str]:
    stage = Stage(offer("us-east-1a", 20.0))
    stage.now = Moment(Instant(wall), stage.now.market)
    stage.run()
    return stage, stage.job().nodes[0]


def test_after_a_jump_forward_a_lease_is_not_over_until_it_must_be_over_on_its_agents_clock() -> None:
    stage, node = running()
    stage.now = Moment(Instant(stage.now.wall + 3 * HOUR), stage.now.market)
    stage.tell(ClockJumped(set_by=Millis(3 * HOUR)))
    stage.wait(0)
    assert node in stage.state.nodes
    stage.wait(stage.policy.lease)
    assert node in stage.state.nodes
    stage.wait(stage.terms.proof_margin + 1)
    assert node not in stage.state.nodes
    assert stage.job().generation == 1
    assert "clock.jumped" in stage.kinds()


def test_an_agent_that_calls_after_the_jump_keeps_its_node() -> None:
    stage, node = running()
    stage.now = Moment(Instant(stage.now.wall + 3 * HOUR), stage.now.market)
    stage.tell(ClockJumped(set_by=Millis(3 * HOUR)))
    stage.wait(0)
    stage.tell(RenewLease(node=node))
    stage.wait(stage.terms.proof_margin + SECOND)
    assert stage.state.nodes[node].state is NodeState.READY
    assert stage.job().generation == 1


def test_after_a_sleep_agents_get_a_minute_to_call() -> None:
    stage, node = running()
    stage.now = Moment(Instant(stage.now.wall + HOUR), Instant(stage.now.market + HOUR))
    stage.tell(ClockJumped(slept=Millis(HOUR)))
    stage.wait(stage.terms.silent)
    assert node in stage.state.nodes
    stage.wait(stage.terms.proof_margin + 1)
    assert node not in stage.state.nodes


def test_a_clock_that_is_set_back_holds_nothing_up() -> None:
    stage, _ = running()
    stage.tell(ClockJumped(set_by=Millis(-HOUR)))
    assert stage.state.proofs_from == 0


def test_after_a_jump_back_an_agent_gets_one_grant_at_a_time_and_its_row_follows() -> None:
    far = 30 * 24 * HOUR
    stage, node = running(2 * far)
    lease = stage.policy.lease
    stage.now = Moment(Instant(stage.now.wall - far), stage.now.market)
    stage.tell(ClockJumped(set_by=Millis(-far)))
    stage.wait(lease // 2)
    assert stage.state.nodes[node].lease_until > stage.now.wall + far - lease  # its agent has not called yet
    assert stage.tell(AgentHello(node=node)) == lease
    assert stage.tell(RenewLease(node=node)) == lease
    assert stage.state.nodes[node].lease_until == stage.now.wall + lease
    stage.wait(lease + stage.terms.proof_margin + 1)
    assert node not in stage.state.nodes


def test_a_row_that_follows_a_clock_set_back_keeps_a_lease_that_was_longer_then() -> None:
    stage, node = running()
    granted = stage.policy.lease
    stage.policy = replace(stage.policy, lease=Millis(granted // 2))  # by new settings
    stage.now = Moment(Instant(stage.now.wall - HOUR), stage.now.market)
    stage.tell(ClockJumped(set_by=Millis(-HOUR)))
    stage.tell(RenewLease(node=node))
    assert stage.state.nodes[node].lease_until == stage.now.wall + granted


def test_a_clock_set_back_and_forth_moves_no_lease() -> None:
    stage, node = running()
    lease = stage.state.nodes[node].lease_until
    stage.tell(ClockJumped(set_by=Millis(-HOUR)))
    stage.tell(ClockJumped(set_by=HOUR))
    stage.tell(RenewLease(node=node))
    assert stage.state.nodes[node].lease_until == lease


def test_what_was_held_back_before_a_restart_moves_with_the_clock() -> None:
    stage, node = running()
    until = Instant(stage.now.wall + HOUR)
    stage.tell(ClockJumped(set_by=Millis(-MINUTE), held=until))
    assert stage.state.proofs_from == until - MINUTE
    stage.wait(stage.policy.lease + stage.terms.proof_margin + SECOND)
    assert node in stage.state.nodes


async def test_the_loop_hears_of_a_jump_before_it_judges_by_the_new_time() -> None:
    host = Host()
    async with Rig(Clock(read=host.read)) as rig:
        await rig.loop.send(Submit(spec=spec(), key="k"))
        (intent,) = rig.loop.state.intents.values()
        machine = SeenNode(
            ref="i-1", token=intent.id, index=0, pool=intent.pool, alive=True, launched=rig.clock.now().market
        )
        await rig.loop.send(Launched(intent=intent.id, nodes=(machine,)))
        host.wall += 3 * HOUR
        await rig.loop.send(Tick())
        await settle()
        assert list(rig.loop.state.nodes) == list(intent.nodes)
        assert [event.kind for _, event in rig.published if event.kind in ("clock.jumped", "node.gone")] == [
            "clock.jumped"
        ]
