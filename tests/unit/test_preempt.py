"""A job of higher priority takes nodes from lower ones: when nothing else is left, by whole gangs, and not for ever."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from dsched.scheduler.core.job import Spec
from dsched.scheduler.core.preempt import AGAIN, Victim, cheapest
from dsched.scheduler.core.snapshot import After
from dsched.scheduler.core.state import JobState
from dsched.scheduler.core.units import HOUR, MINUTE, Instant
from tests.support.stage import Stage, offer, spec

LONG = 15 * MINUTE


def busy(*, free: int = 0) -> tuple[Stage, str, str]:
    """Two low jobs hold all there is, and have run for a while."""
    stage = Stage(offer("a", 10.0, free=2))
    low, lower = stage.run(spec("low", retries=9)), stage.run(replace(spec("lower"), priority=-1))
    stage.offers(offer("a", 10.0, free=free))
    stage.wait(LONG)
    return stage, low, lower


def wanted(priority: int = 5, gpus: int = 8) -> Spec:
    return replace(spec("high", gpus=gpus), priority=priority)


def leave(stage: Stage, job: str) -> None:
    """Its ranks have saved and are reaped."""
    stage.exit(75, job=job, drained=True)


def test_the_lowest_job_saves_and_leaves_and_the_higher_one_runs_on_its_nodes() -> None:
    stage, low, lower = busy()
    nodes = stage.job(lower).nodes
    high = stage.submit(wanted())
    assert stage.job(lower).state is JobState.RUNNING  # it waits first whether capacity comes by itself
    stage.wait(3 * MINUTE)
    assert (stage.job(lower).state, stage.job(lower).after) == (JobState.DRAINING, After.YIELD)
    assert stage.job(low).state is JobState.RUNNING
    assert "preempted" in stage.job(lower).reason
    leave(stage, lower)
    assert stage.job(high).next_nodes + stage.job(high).nodes == nodes
    assert stage.job(lower).state is JobState.QUEUED
    assert {"job.preempts", "job.preempted"} <= set(stage.kinds())


def test_nobody_is_preempted_while_ordinary_capacity_can_be_had() -> None:
    stage, low, lower = busy()
    stage.offers(offer("a", 10.0, free=0), offer("b", 90.0, free=1))
    high = stage.submit(wanted())
    stage.wait(3 * MINUTE)
    assert stage.job(high).state is JobState.STARTING
    assert {stage.job(low).state, stage.job(lower).state} == {JobState.RUNNING}


def test_a_gang_takes_whole_gangs_and_waits_until_all_of_them_are_gone() -> None:
    stage, low, lower = busy()
    high = stage.submit(wanted(gpus=16))
    other = stage.submit(replace(spec("thief"), priority=-9))
    stage.wait(3 * MINUTE)
    leave(stage, low)
    assert stage.job(high).state is JobState.QUEUED
    assert stage.job(other).state is JobState.QUEUED  # what is free by now is kept
    leave(stage, lower)
    assert stage.job(high).state is not JobState.QUEUED
    assert len(stage.job(high).nodes + stage.job(high).next_nodes) == 2


def test_equals_are_not_preempted_nor_are_promises_broken() -> None:
    stage, low, lower = busy()
    same = stage.submit(wanted(priority=-1))
    stage.wait(3 * MINUTE)
    assert stage.job(same).state is JobState.QUEUED
    assert {stage.job(low).state, stage.job(lower).state} == {JobState.RUNNING}

    stage = Stage(offer("a", 10.0, free=1))
    promised = stage.run(replace(spec("promised"), deadline=Instant(stage.now.market + 100 * HOUR)))
    stage.offers(offer("a", 10.0, free=0))
    stage.wait(LONG)
    stage.submit(wanted())
    stage.wait(3 * MINUTE)
    assert stage.job(promised).state is JobState.RUNNING


def test_what_has_just_begun_and_what_was_preempted_often_is_left_alone() -> None:
    stage = Stage(offer("a", 10.0, free=1))
    fresh = stage.run(spec("fresh"))
    stage.offers(offer("a", 10.0, free=0))
    stage.submit(wanted())
    stage.wait(3 * MINUTE)
    assert stage.job(fresh).state is JobState.RUNNING

    stage, low, lower = busy()
    for name in (low, lower):
        stage.state.jobs[name] = replace(stage.job(name), yielded=3)
    stage.submit(wanted())
    stage.wait(3 * MINUTE)
    assert {stage.job(low).state, stage.job(lower).state} == {JobState.RUNNING}


def test_nodes_that_were_freed_in_vain_are_anybodys_again() -> None:
    stage, low, lower = busy()
    high = stage.submit(wanted(gpus=16))
    stage.wait(3 * MINUTE)
    leave(stage, lower)
    leave(stage, low)
    assert not stage.state.promised
    assert stage.job(high).state is not JobState.QUEUED


GANGS = st.lists(st.tuples(st.integers(-2, 2), st.integers(0, 9), st.integers(1, 4)), max_size=7)


@given(GANGS, st.integers(1, 9))
def test_no_set_of_victims_is_cheaper(gangs: list[tuple[int, int, int]], nodes: int) -> None:
    """Against all subsets: the lowest highest priority first, then the least loss."""
    among = [Victim(p, lost, f"j{n}", "pool", ("x",) * size) for n, (p, lost, size) in enumerate(gangs)]
    sets = [[v for n, v in enumerate(among) if mask >> n & 1] for mask in range(1, 1 << len(among))]
    enough = [
        (max(v.priority for v in s), sum(v.lost for v in s)) for s in sets if sum(len(v.nodes) for v in s) >= nodes
    ]
    found = cheapest(among, nodes, "pool")
    assert (found is None) == (not enough)
    if found is not None:
        assert (found.priority, found.lost) == min(enough)
        assert sum(len(v.nodes) for v in found.victims) >= nodes


def test_whoever_looks_in_vain_looks_again_a_minute_later_and_not_at_every_event() -> None:
    """Sixteen GPUs are wanted: the lowest two gangs would do, but one of them has just begun."""
    stage = Stage(offer("a", 10.0, free=2))
    low = stage.run(spec("low", retries=9))
    stage.wait(LONG - 4 * MINUTE)
    fresh = stage.run(spec("fresh", retries=9))
    stage.offers(offer("a", 10.0, free=0))
    high = stage.submit(wanted(gpus=16))
    stage.wait(3 * MINUTE)
    again = stage.state.delayed[high]
    assert again == stage.now.wall + AGAIN
    stage.offers(offer("a", 11.0, free=0))
    assert stage.state.delayed[high] == again
    stage.wait(AGAIN)
    assert stage.state.delayed[high] == stage.now.wall + AGAIN
    assert {stage.job(low).state, stage.job(fresh).state} == {JobState.RUNNING}
