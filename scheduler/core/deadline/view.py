"""What a deadline policy sees and what it answers.

One job is an `Observation` in and a `Decision` out. Inside, policies work on a `Batch`: the same facts as arrays over
jobs [J] and options [O], so that a simulator may ask for hundreds of jobs at once and the daemon for one, through the
same code. Estimates are floats: seconds of market time, dollars, dollars per hour. Money that is really spent stays in
the ledger's integers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray

from dsched.scheduler.core.market import Market

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

IDLE: Final = -1  # instead of an option's index: run nowhere

SPOT, ON_DEMAND, RESERVED = 0, 1, 2
CODE: Final = {Market.SPOT: SPOT, Market.ON_DEMAND: ON_DEMAND, Market.RESERVED: RESERVED}

UP, DOWN, UNKNOWN = 1, 0, -1


@dataclass(frozen=True, slots=True, kw_only=True)
class Option:
    """One way to run the whole gang: a pool, a size, a layout."""

    id: str
    region: str
    market: Market
    price: float  # $/h of the gang now; reserved: the marginal price, 0 when it is sunk
    speed: float = 1.0  # reference seconds of work done in a second
    up: bool | None = None  # can be had now; None: not seen since `age`
    age: float = 0.0  # s in that state, as far as anybody saw
    hazard: float = 1.0  # factor on the age law of its interruptions (hazard.py)
    changeover: float = 0.0  # s from the launch to the first new step: provision, restore, expected rework
    egress: float = 0.0  # $ to bring the job's checkpoint there


@dataclass(frozen=True, slots=True, kw_only=True)
class JobView:
    """One job as its policy sees it."""

    work: float  # s of work at the reference speed, all of it
    left: float  # of that
    begun: float  # market s: when the clock of its deadline started
    deadline: float  # market s
    running: str | None = None  # the option that it runs on
    warm_in: float = 0.0  # s until the running option makes progress; 0: it does
    lost: str | None = None  # the region whose option was interrupted last
    proved: bool = True  # it tells its progress; else an interruption may take back all that `left` counts as done


@dataclass(frozen=True, slots=True, kw_only=True)
class Observation:
    """One moment of one job. `outlook` is what a worker foresaw from the market's history; None: nothing yet."""

    now: float  # market s
    grain: float  # s until the policy is asked again at the latest, whatever `revisit_at` it asks for
    options: Sequence[Option]
    job: JobView
    outlook: Any = None  # deadline.outlook.Outlook; opaque to the other policies


@dataclass(frozen=True, slots=True, kw_only=True)
class Explain:
    """Why: enough to draw, to store, and to ask what would have to change for another choice."""

    policy: str
    slack: float  # s: deadline - now - work left at the reference speed - what is left of a changeover
    slack_price: float  # $ per hour of slack; nan where the policy has no such notion
    costs: dict[str, float]  # expected $ to the end by option id, and "" for idling; inf: not possible
    net: bool  # the safety net decided, not the policy


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """Where the job should be now: `target` is an option's id, or None for nowhere. The one it runs on means stay."""

    target: str | None
    revisit_at: float  # market s
    why: Explain


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """Moments of many jobs that share an outlook and a grain. Arrays are [J] or [J, O]; padding has `usable` False."""

    now: Floats
    work: Floats
    left: Floats
    begun: Floats
    deadline: Floats
    running: Ints  # option, or IDLE
    warm_in: Floats
    lost: Ints  # region of the last interruption; -1: none
    grain: float
    usable: Bools
    up: Ints  # UP, DOWN, UNKNOWN
    age: Floats
    price: Floats
    speed: Floats
    hazard: Floats
    changeover: Floats
    egress: Floats
    market: Ints  # SPOT, ON_DEMAND, RESERVED
    region: Ints
    outlook: Any = None
    proved: Bools | None = None  # [J]; None: all are


@dataclass(frozen=True, slots=True, kw_only=True)
class Choices:
    """What a policy answers for a batch: arrays [J] or [J, O]."""

    target: Ints  # option, or IDLE
    cost: Floats  # [J, O] expected $ to the end; inf: not possible now; nan: this policy does not value options
    idle: Floats  # [J] the same for idling until the next look
    slack_price: Floats  # [J] $ per hour
    revisit: Floats  # [J] market s
    net: Bools  # [J] the safety net decided


class DeadlinePolicy(Protocol):
    """A rule for where jobs run, as a pure function of what is seen."""

    @property
    def name(self) -> str: ...

    def choose(self, batch: Batch) -> Choices: ...
