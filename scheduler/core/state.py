"""The lives of a job, a node and an intent: one table each, and `step` is the only door.

Everything that decides which state may follow which is here and nowhere else. A pair that is absent is an error that
tells its own story.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Final, TypeVar


class JobState(StrEnum):
    QUEUED = "queued"
    HELD = "held"  # waits for approval, budget, time or another job
    STARTING = "starting"  # a placement is decided; its nodes or ranks are not up yet
    RUNNING = "running"
    DRAINING = "draining"  # checkpoint, then leave
    PAUSED = "paused"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"


class NodeState(StrEnum):
    REQUESTED = "requested"  # an intent is written; the provider has not answered
    BOOTING = "booting"  # the provider gave an id; the agent is not heard yet
    READY = "ready"  # the agent holds a lease
    DRAINING = "draining"  # no new work: noticed, or told to leave
    GONE = "gone"


class IntentState(StrEnum):
    PENDING = "pending"  # durable; the cloud has not heard of it
    SENT = "sent"
    AMBIGUOUS = "ambiguous"  # no answer: it may have happened. Never an end
    DONE = "done"
    REFUSED = "refused"


class JobFact(StrEnum):
    HOLD = "hold"
    RELEASE = "release"
    PLACE = "place"  # a plan chose where
    REFUSED = "refused"  # no capacity after all
    STARTED = "started"  # every rank runs
    NODE_LOST = "node-lost"
    CRASHED = "crashed"  # its own failure: again
    NOTICE = "notice"
    DRAIN = "drain"  # asked by us: migrate, pause, cancel, preempt, shrink
    REPLACE = "replace"  # drained, and the next placement is known
    REQUEUE = "requeue"
    PAUSE = "pause"
    RESUME = "resume"
    CANCEL = "cancel"
    SUCCEED = "succeed"
    FAIL = "fail"


class NodeFact(StrEnum):
    LAUNCHED = "launched"
    HEARD = "heard"  # the agent said hello
    NOTICE = "notice"
    DRAIN = "drain"
    GONE = "gone"


class IntentFact(StrEnum):
    SEND = "send"
    NO_ANSWER = "no-answer"
    CONFIRM = "confirm"
    REFUSE = "refuse"


TERMINAL: Final = frozenset({JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED})


class InvalidTransition(Exception):
    """A fact arrived that this state cannot take. The story is every fact so far, oldest first."""

    def __init__(self, at: StrEnum, fact: StrEnum, story: tuple[str, ...]) -> None:
        self.at, self.fact, self.story = at, fact, story
        super().__init__(f"{fact} is impossible in {at}; story: {' > '.join(story) or 'none'}")


_J, _JF = JobState, JobFact
JOB: Final[Mapping[JobState, Mapping[JobFact, JobState]]] = {
    _J.QUEUED: {_JF.PLACE: _J.STARTING, _JF.HOLD: _J.HELD, _JF.CANCEL: _J.CANCELLED, _JF.FAIL: _J.FAILED},
    _J.HELD: {_JF.RELEASE: _J.QUEUED, _JF.CANCEL: _J.CANCELLED},
    _J.STARTING: {
        _JF.STARTED: _J.RUNNING,
        _JF.REFUSED: _J.QUEUED,
        _JF.REQUEUE: _J.QUEUED,
        _JF.NOTICE: _J.DRAINING,
        _JF.DRAIN: _J.DRAINING,
        _JF.NODE_LOST: _J.STARTING,
        _JF.CRASHED: _J.STARTING,
        _JF.FAIL: _J.FAILED,
        _JF.CANCEL: _J.CANCELLED,
    },
    _J.RUNNING: {
        _JF.DRAIN: _J.DRAINING,
        _JF.NOTICE: _J.DRAINING,
        _JF.NODE_LOST: _J.STARTING,
        _JF.CRASHED: _J.STARTING,
        _JF.SUCCEED: _J.SUCCEEDED,
        _JF.FAIL: _J.FAILED,
    },
    _J.DRAINING: {
        _JF.DRAIN: _J.DRAINING,
        _JF.NOTICE: _J.DRAINING,
        _JF.REPLACE: _J.STARTING,
        _JF.REQUEUE: _J.QUEUED,
        _JF.PAUSE: _J.PAUSED,
        _JF.SUCCEED: _J.SUCCEEDED,
        _JF.FAIL: _J.FAILED,
        _JF.CANCEL: _J.CANCELLED,
    },
    _J.PAUSED: {_JF.RESUME: _J.QUEUED, _JF.CANCEL: _J.CANCELLED},
    _J.SUCCEEDED: {},
    _J.FAILED: {},
    _J.CANCELLED: {},
}

_N, _NF = NodeState, NodeFact
NODE: Final[Mapping[NodeState, Mapping[NodeFact, NodeState]]] = {
    _N.REQUESTED: {
        _NF.LAUNCHED: _N.BOOTING,
        _NF.HEARD: _N.READY,
        _NF.NOTICE: _N.DRAINING,  # the answer to its launch is still under way
        _NF.DRAIN: _N.DRAINING,
        _NF.GONE: _N.GONE,
    },
    _N.BOOTING: {
        _NF.LAUNCHED: _N.BOOTING,
        _NF.HEARD: _N.READY,
        _NF.NOTICE: _N.DRAINING,
        _NF.DRAIN: _N.DRAINING,
        _NF.GONE: _N.GONE,
    },
    _N.READY: {
        _NF.LAUNCHED: _N.READY,
        _NF.HEARD: _N.READY,
        _NF.NOTICE: _N.DRAINING,
        _NF.DRAIN: _N.DRAINING,
        _NF.GONE: _N.GONE,
    },
    _N.DRAINING: {
        _NF.LAUNCHED: _N.DRAINING,
        _NF.HEARD: _N.DRAINING,
        _NF.NOTICE: _N.DRAINING,
        _NF.DRAIN: _N.DRAINING,
        _NF.GONE: _N.GONE,
    },
    _N.GONE: {_NF.GONE: _N.GONE},
}

_I, _IF = IntentState, IntentFact
INTENT: Final[Mapping[IntentState, Mapping[IntentFact, IntentState]]] = {
    _I.PENDING: {_IF.SEND: _I.SENT},
    _I.SENT: {_IF.SEND: _I.SENT, _IF.NO_ANSWER: _I.AMBIGUOUS, _IF.CONFIRM: _I.DONE, _IF.REFUSE: _I.REFUSED},
    _I.AMBIGUOUS: {
        _IF.SEND: _I.SENT,
        _IF.NO_ANSWER: _I.AMBIGUOUS,
        _IF.CONFIRM: _I.DONE,
        _IF.REFUSE: _I.REFUSED,
    },
    _I.DONE: {},
    _I.REFUSED: {},
}

S = TypeVar("S", bound=StrEnum)
F = TypeVar("F", bound=StrEnum)


def step(table: Mapping[S, Mapping[F, S]], at: S, fact: F, story: tuple[str, ...] = ()) -> S:
    """The state that follows `at` once `fact` is known."""
    try:
        return table[at][fact]
    except KeyError:
        raise InvalidTransition(at, fact, story) from None
