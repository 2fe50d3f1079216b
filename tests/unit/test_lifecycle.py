"""A job's way through the core: placed whole, drained with its work, tried again, or ended with the reason."""

from __future__ import annotations

from dataclasses import replace

import pytest

from dsched.scheduler.core.effect import CallLaunch, CallTerminate, TellCheckpoint, TellStart, TellStop
from dsched.scheduler.core.job import Checkpointing
from dsched.scheduler.core.market import Market, Offer
from dsched.scheduler.core.message import (
    Action,
    AgentHello,
    Group,
    LaunchUnanswered,
    Refusal,
    RefusedBy,
    RenewLease,
    Restarted,
    Submit,
)
from dsched.scheduler.core.snapshot import After
from dsched.scheduler.core.state import JobState, NodeState
from dsched.scheduler.core.units import Millis, usd
from tests.support.stage import Stage, offer, pool, spec

CHEAP, DEAR = "us-east-1a", "us-west-2b"


def stage() -> Stage:
    return Stage(offer(CHEAP, 20.0), offer(DEAR, 30.0), offer(CHEAP, 98.32, market=Market.ON_DEMAND))


def test_a_job_is_placed_on_the_cheapest_offer_and_the_intent_is_written_before_the_call() -> None:
    s = stage()
    job = s.submit()
    assert s.job(job).state is JobState.STARTING
    (call,) = s.asked(CallLaunch)
    assert s.state.intents[call.intent].pool == pool(CHEAP)
    assert [n.state for n in s.state.nodes.values()] == [NodeState.REQUESTED]
    assert "job.placed" in s.kinds()


def test_the_same_key_makes_one_job() -> None:
    s = stage()
    assert s.submit(key="once") == s.submit(key="once")
    assert len(s.state.jobs) == 1


def test_ranks_start_only_when_the_whole_gang_is_up() -> None:
    s = stage()
    s.submit(spec(gpus=16))
    first, second = s.launch()
    s.hello(first)
    assert not s.asked(TellStart)
    s.hello(second)
    assert sorted(order.node for order in s.asked(TellStart)) == sorted([first, second])
    assert s.job().generation == 1


def test_a_job_whose_ranks_all_end_with_0_succeeds_and_its_node_stays_idle_for_the_next() -> None:
    s = stage()
    job = s.run()
    s.exit(0)
    assert s.job(job).state is JobState.SUCCEEDED
    s.submit()
    assert not s.asked(CallLaunch)
    assert [order.job for order in s.asked(TellStart)] == ["j2"]


def test_a_refused_launch_cools_the_pool_down_and_tries_another_pool() -> None:
    s = stage()
    s.submit()
    s.refuse()
    s.wait(1_000)
    (call,) = s.asked(CallLaunch)
    assert s.state.intents[call.intent].pool == pool(DEAR)


def test_at_a_notice_a_replacement_is_asked_for_at_once_but_starts_only_when_the_old_ranks_are_reaped() -> None:
    s = stage()
    s.run()
    (old,) = s.job().nodes
    s.notice(old)
    assert s.job().state is JobState.DRAINING
    (call,) = s.asked(CallLaunch)
    assert s.state.intents[call.intent].pool == pool(DEAR)
    s.hello(*s.launch(call.intent))
    assert not s.asked(TellStart)
    s.exit(75, drained=True)
    assert len(s.asked(TellStart)) == 1
    assert (s.job().generation, s.job().interruptions, s.job().strikes) == (2, 1, 0)


def test_after_a_kill_without_notice_the_next_generation_waits_for_the_providers_proof() -> None:
    s = stage()
    s.run()
    (old,) = s.job().nodes
    s.list()  # the machine is missing from one list: that proves nothing
    assert s.job().state is JobState.RUNNING
    s.kill(old)
    assert s.job().interruptions == 1
    (call,) = s.asked(CallLaunch)
    assert s.state.intents[call.intent].pool == pool(DEAR)
    s.hello(*s.launch(call.intent))
    assert s.job().generation == 2


def test_a_lost_node_of_a_gang_stops_the_others_and_the_gang_starts_again_whole() -> None:
    s = stage()
    s.run(spec(gpus=16))
    first, second = s.job().nodes
    s.kill(first)
    assert [order.node for order in s.asked(TellStop)] == [second]
    assert s.job().generation == 1
    s.exit(75, drained=True, nodes=[second])
    assert s.job().state is JobState.STARTING
    assert len(s.job().next_nodes) == 2
    assert {s.state.nodes[n].pool for n in s.job().next_nodes} == {pool(DEAR)}


def test_a_crashing_job_is_tried_again_on_its_node_after_a_growing_wait_and_stopped_at_the_fifth_strike() -> None:
    s = stage()
    s.run()
    for strike in range(1, 5):
        s.exit(1, tail="Traceback\nValueError: no")
        assert s.job().state is JobState.STARTING, strike
        assert s.job().strikes == strike
        s.wait(61_000)
        assert len(s.asked(TellStart)) == 1
    s.exit(1, tail="Traceback\nValueError: no")
    assert s.job().state is JobState.FAILED
    assert s.job().reason.startswith("crash loop: 5 ends in a row without a newer checkpoint, last exit 1: ValueError")


def test_a_newer_checkpoint_forgives_the_strikes() -> None:
    s = stage()
    s.run()
    for step in range(1, 8):
        s.saved(step * 10)
        s.exit(1)
        assert s.job().strikes == 1
        s.wait(61_000)


def test_exit_78_is_never_tried_again() -> None:
    s = stage()
    s.run()
    s.exit(78, tail="bad config")
    assert s.job().state is JobState.FAILED
    assert s.job().reason == "user exit 78: bad config"


def test_pause_checkpoints_first_and_resume_queues_again() -> None:
    s = stage()
    s.run()
    s.act("j1", Action.PAUSE, by="ana")
    assert s.job().state is JobState.DRAINING
    assert len(s.asked(TellStop)) == 1
    s.exit(75, drained=True)
    assert (s.job().state, s.job().reason) == (JobState.PAUSED, "paused by ana")
    s.act("j1", Action.RESUME)
    assert s.job().state is JobState.STARTING


def test_cancel_now_gives_no_grace() -> None:
    s = stage()
    s.run()
    s.act("j1", Action.CANCEL, now=True)
    assert [order.grace for order in s.asked(TellStop)] == [0]
    s.exit(-9, drained=True)
    assert s.job().state is JobState.CANCELLED


def test_an_ended_job_cannot_be_cancelled_and_nothing_changes() -> None:
    s = stage()
    s.run()
    s.exit(0)
    before = len(s.events)
    with pytest.raises(Refusal, match="j1 is succeeded: cannot cancel it now"):
        s.act("j1", Action.CANCEL)
    assert len(s.events) == before


def test_a_migration_works_on_until_its_new_gang_is_up() -> None:
    s = stage()
    s.run()
    s.act("j1", Action.MIGRATE, to=(f"local/{DEAR}",))
    assert s.job().state is JobState.RUNNING
    (call,) = s.asked(CallLaunch)
    new = s.launch(call.intent)
    assert s.job().state is JobState.RUNNING
    s.hello(*new)
    assert s.job().state is JobState.DRAINING
    s.exit(75, drained=True)
    assert s.job().nodes == tuple(new)
    assert s.job().moves == 1


def test_an_unanswered_launch_is_repeated_with_the_same_token_and_makes_no_second_intent() -> None:
    s = stage()
    s.submit()
    (call,) = s.asked(CallLaunch)
    s.tell(LaunchUnanswered(intent=call.intent, why="timeout", retry=Millis(0)))
    s.wait(5_000)
    assert [again.intent for again in s.asked(CallLaunch)] == [call.intent]
    assert len(s.state.intents) == 1


def test_a_machine_found_by_its_tag_answers_the_launch() -> None:
    s = stage()
    s.submit()
    (call,) = s.asked(CallLaunch)
    s.tell(LaunchUnanswered(intent=call.intent, why="timeout", retry=Millis(0)))
    (node,) = s.state.nodes.values()
    s.list(s.seen(node))
    assert not s.state.intents
    assert "intent.found" in s.kinds()


def test_a_machine_that_no_row_claims_is_ended_every_time_it_is_seen() -> None:
    s = stage()
    s.submit()
    (node,) = s.state.nodes.values()
    stranger = s.seen(node)
    s.refuse()
    for _ in range(3):
        s.list(stranger)
        assert [c.refs for c in s.asked(CallTerminate)] == [(stranger.ref,)]
        s.now = type(s.now)(s.now.wall + 10_000, s.now.market + 10_000)  # type: ignore[arg-type]


def test_after_a_restart_every_open_launch_is_asked_again() -> None:
    s = stage()
    s.submit()
    (call,) = s.asked(CallLaunch)
    s.tell(Restarted())
    assert [again.intent for again in s.asked(CallLaunch)] == [call.intent]


def test_an_agent_that_never_heard_its_start_order_gets_it_again() -> None:
    s = stage()
    s.submit()
    (node,) = s.launch()
    s.hello(node)
    s.tell(AgentHello(node=node))
    assert [(o.node, o.generation) for o in s.asked(TellStart)] == [(node, 1)]


def test_ranks_that_outlived_the_daemon_are_kept_running() -> None:
    s = stage()
    s.run()
    (node,) = s.job().nodes
    s.state.started.clear()
    s.tell(AgentHello(node=node, running=(Group(job="j1", generation=1, state="running"),)))
    assert not s.asked(TellStart)
    assert not s.asked(TellStop)
    assert s.job().state is JobState.RUNNING


def test_ranks_of_an_older_generation_are_stopped() -> None:
    s = stage()
    s.run()
    s.exit(1)
    s.wait(61_000)
    s.started()
    (node,) = s.job().nodes
    running = (
        Group(job="j1", generation=1, state="running"),
        Group(job="j1", generation=2, state="running"),
    )
    s.tell(AgentHello(node=node, running=running))
    assert [(o.generation, o.grace) for o in s.asked(TellStop)] == [(1, 0)]


def test_a_node_whose_lease_is_over_counts_as_gone_and_its_job_moves_on() -> None:
    s = stage()
    s.run()
    s.wait(s.policy.lease + s.terms.proof_margin + 1)
    assert s.job().state is not JobState.RUNNING
    assert any(e.kind == "node.gone" and e.data["by"] == "lease" for e in s.events)


def test_an_idle_node_goes_back_after_its_time() -> None:
    s = stage()
    s.run()
    s.exit(0)
    s.wait(s.terms.idle_keep)
    assert len(s.asked(CallTerminate)) == 1


def test_hardware_that_nobody_sells_is_refused_at_the_door() -> None:
    s = stage()
    with pytest.raises(Refusal) as refusal:
        s.submit(spec(gpus=8192))
    assert refusal.value.code == "E406"
    assert not s.state.jobs


def test_quota_refusals_raise_one_alert() -> None:
    s = stage()
    s.submit()
    s.refuse(RefusedBy.QUOTA, scope="account", cooldown=3_600_000)
    assert [a.severity for a in s.state.alerts.values()] == ["critical"]


def test_a_message_that_cannot_be_handled_leaves_no_trace() -> None:
    s = stage()
    s.submit()
    jobs, events = dict(s.state.jobs), len(s.events)
    with pytest.raises(Refusal):
        s.tell(Submit(spec=spec(gpus=8192), key="bad"))
    assert (s.state.jobs, len(s.events)) == (jobs, events)
    assert s.state.queue == {}


def test_max_cost_ends_in_a_checkpoint_and_a_hold() -> None:
    s = stage()
    s.run(spec(cost_max=usd(10)))
    s.wait(15 * 60_000)
    assert s.job().state is JobState.RUNNING
    s.tell(RenewLease(node=s.job().nodes[0]))
    s.wait(15 * 60_000 - 10_000)
    assert s.job().state is JobState.DRAINING
    s.exit(75, drained=True)
    assert (s.job().state, s.job().reason) == (JobState.HELD, "max_cost is spent")


def test_max_duration_counts_the_time_that_the_job_runs_and_not_its_pauses() -> None:
    s = stage()
    s.run(spec(duration_max=Millis(20 * 60_000)))
    s.wait(9 * 60_000)
    s.act("j1", Action.PAUSE)
    s.exit(75, drained=True)
    assert s.job().state is JobState.PAUSED
    s.wait(60 * 60_000)
    s.offers(offer(CHEAP, 20.0))
    s.act("j1", Action.RESUME)
    s.hello(*s.launch())
    s.started()
    s.wait(11 * 60_000)
    assert s.job().state is JobState.RUNNING
    s.wait(1)
    assert (s.job().state, s.job().after) == (JobState.DRAINING, After.CANCEL)
    assert "max_duration" in s.job().reason
    assert s.job().ran == 9 * 60_000


def risky(hazard: float) -> Offer:
    return replace(offer(CHEAP, 20.0), hazard=hazard)


def test_a_running_job_checkpoints_more_often_when_its_pool_becomes_dangerous() -> None:
    s = Stage(risky(0.01))
    s.run()
    s.offers(risky(0.0101))
    assert not s.asked(TellCheckpoint)
    s.offers(risky(1.0))
    (told,) = s.asked(TellCheckpoint)
    assert (told.job, told.generation, told.node) == ("j1", 1, s.job().nodes[0])
    s.offers(risky(1.0))
    assert not s.asked(TellCheckpoint)
    s.offers(risky(0.01))
    (calm,) = s.asked(TellCheckpoint)
    assert calm.interval > 2 * told.interval


def test_an_agent_that_calls_again_hears_the_interval_again() -> None:
    s = Stage(risky(0.01))
    s.run()
    (node,) = s.job().nodes
    s.state.intervals.clear()  # a new daemon
    s.tell(AgentHello(node=node, running=(Group(job="j1", generation=1, state="running", exits={}),)))
    assert [told.node for told in s.asked(TellCheckpoint)] == [node]
    s.tell(AgentHello(node=node, running=(Group(job="j1", generation=1, state="running", exits={}),)))
    assert [told.node for told in s.asked(TellCheckpoint)] == [node]


def test_an_interval_that_the_spec_names_is_never_changed() -> None:
    s = Stage(risky(0.01))
    s.run(spec(checkpoint=Checkpointing(every=Millis(30_000))))
    s.offers(risky(1.0))
    assert not s.asked(TellCheckpoint)
