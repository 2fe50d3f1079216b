"""`handle` is a function of its arguments, its events are the whole change, and a failed message leaves no trace."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from copy import deepcopy
from dataclasses import fields
from random import Random
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from dsched.scheduler.core import step
from dsched.scheduler.core.draft import Draft
from dsched.scheduler.core.message import Message, Refusal
from dsched.scheduler.core.snapshot import State
from dsched.scheduler.core.step import handle
from dsched.scheduler.sim.storm.storm import Storm

SEEDS = st.integers(0, 1 << 32)
PLANNERS_NOTES = frozenset({"waiting", "blocked"})  # looking once more than needed is allowed
ROWS = ("job", "attempt", "node", "intent", "pool", "budget", "alert")
DERIVED = ("keys", "queue", "active", "moving", "limited")


class Blown(Exception):
    """The fuse."""


@contextmanager
def fuse(left: int) -> Iterator[None]:
    """The draft fails after this many doings, at the latest at its end."""
    real = {name: getattr(Draft, name) for name in ("say", "do", "learn", "set")}
    count = left

    def wrapped(name: str) -> Any:
        def doing(*args: Any, **more: Any) -> None:
            nonlocal count
            count -= 1
            if count < 0:
                raise Blown
            real[name](*args, **more)

        return doing

    def to_the_end(draft: Draft, message: Message) -> None:
        dispatch(draft, message)
        raise Blown

    dispatch = step._dispatch
    step._dispatch = to_the_end
    for name in real:
        setattr(Draft, name, wrapped(name))
    try:
        yield
    finally:
        step._dispatch = dispatch
        for name, method in real.items():
            setattr(Draft, name, method)


def picture(state: State) -> dict[str, Any]:
    """Everything that the state holds; the rows in it are immutable."""
    kept = {f.name: getattr(state, f.name) for f in fields(state) if f.name not in PLANNERS_NOTES}
    return {
        name: value.copy() if isinstance(value, dict | set) else value
        for name, value in kept.items()
        if name != "queue"
    } | {"queue": {kind: list(order) for kind, order in state.queue.items()}}


def torn(storm: Storm) -> None:
    """Every message fails a few times, at different places, before it is handled."""
    daemon, real, dice = storm.daemon, storm.daemon._handle, Random(2)

    def handled(message: Message) -> Any:
        before = picture(daemon.state)
        for left in range(dice.randrange(6)):
            with fuse(left), suppress(Blown, Refusal):
                handle(daemon.state, message, storm.now, Random(1), storm.policy, storm.terms)
            after = picture(daemon.state)
            assert {k: v for k, v in after.items() if v != before[k]} == {}, (message, left)
        return real(message)

    daemon._handle = handled  # type: ignore[method-assign]


def twice(storm: Storm) -> None:
    """Every message is handled on a copy of the state, too."""
    daemon, real = storm.daemon, storm.daemon._handle

    def handled(message: Message) -> Any:
        twin, dice = deepcopy(daemon.state), deepcopy(daemon.mind.rng)
        logged = len(storm.log)
        done = handle(twin, message, storm.now, dice, storm.policy, storm.terms)
        answer = real(message)
        assert list(done.events) == storm.log[logged:]
        assert done.answer == answer
        assert picture(twin) == picture(daemon.state)
        return answer

    daemon._handle = handled  # type: ignore[method-assign]


@settings(max_examples=8, deadline=None)
@given(SEEDS)
def test_a_message_that_fails_at_any_place_leaves_no_trace(seed: int) -> None:
    storm = Storm(seed)
    torn(storm)
    storm.blow(200)


@settings(max_examples=5, deadline=None)
@given(SEEDS)
def test_the_same_state_message_time_and_dice_give_the_same_events(seed: int) -> None:
    storm = Storm(seed)
    twice(storm)
    storm.blow(150)


@settings(max_examples=15, deadline=None)
@given(SEEDS)
def test_the_fold_of_a_storms_events_gives_its_rows_and_all_that_is_derived_from_them(seed: int) -> None:
    storm = Storm(seed)
    storm.blow(300)
    folded = State()
    for event in storm.log:
        folded.fold(event)
    for table in ROWS:
        assert folded.table(table) == storm.state.table(table), table
    for name in DERIVED:
        assert getattr(folded, name) == getattr(storm.state, name), name
