"""The slack-MDP policy: slack is the only scarce resource, and the tables give its price.

Running burns the time left and keeps the slack, idling burns both, a launch burns its changeover of slack. Each option
is valued by what a run there costs until it is interrupted, and what the rest costs from there (the outlook's `after`).
Idling and on-demand are valued by one consistent look-ahead: wait a while, then launch the very option that could be
had now, valued by the same rule. (Valuing them by the market as a whole puts off the launch for ever.)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from dsched.scheduler.core.deadline import hazard
from dsched.scheduler.core.deadline.hazard import AGES, DOWN_LAW, EDGES, HOUR, UP_LAW
from dsched.scheduler.core.deadline.outlook import Outlook
from dsched.scheduler.core.deadline.table import Singles
from dsched.scheduler.core.deadline.view import IDLE, ON_DEMAND, SPOT, UP, Batch, Bools, Choices, Floats, Ints

NEVER: Final = 1e12  # $: stands for what cannot be done

# A run is cut at these lengths (h): fine while it is young, when most interruptions come.
SPANS: Final[Floats] = np.array([0, 1 / 6, 1 / 3, 2 / 3, 1, 1.5, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 256]) * HOUR
MIDS: Final[Floats] = (SPANS[1:] + SPANS[:-1]) / 2
WAITS: Final = (1, 2, 4)  # steps to wait before the launch, in the look-ahead
FADES: Final = 1.0 * HOUR  # s in which what is up now stops telling what is up then


@dataclass(frozen=True, slots=True, kw_only=True)
class SlackPolicy:
    """The rule. `stickiness`: a running option is left for a gain of this share of an on-demand changeover."""

    stickiness: float = 0.3

    @property
    def name(self) -> str:
        return "slack"

    def choose(self, batch: Batch) -> Choices:
        """Values and targets for a batch that carries an outlook."""
        outlook: Outlook = batch.outlook
        return _Look(batch, outlook, self.stickiness).choices()


class _Look:
    """One evaluation of a batch: J jobs, O options."""

    def __init__(self, batch: Batch, outlook: Outlook, stickiness: float) -> None:
        self.b, self.o = batch, outlook
        self.rows: Ints = np.arange(len(batch.now))
        self.time: Floats = batch.deadline - batch.now  # R
        self.slack: Floats = self.time - batch.left
        self.runs: Bools = batch.running != IDLE
        here = np.maximum(batch.running, 0)
        self.market: Ints = np.where(self.runs, batch.market[self.rows, here], -1)
        self.own: Bools = np.zeros(batch.usable.shape, bool)
        self.own[self.rows[self.runs], batch.running[self.runs]] = True
        self.margin: Floats = np.where(self.runs, stickiness * outlook.on_demand * outlook.changeover / HOUR, 0.0)

    def choices(self) -> Choices:
        b = self.b
        steady = b.market == ON_DEMAND
        delay = np.where(self.own, b.warm_in[:, None], b.changeover)
        egress = np.where(self.own, 0.0, b.egress)
        open_now = b.usable & (b.up == UP) & ~steady
        self.member = (b.usable & (b.market == SPOT))[None] & (b.price[None] <= self.o.tiers.top[:, None, None])
        hop = self._hops(MIDS)
        run = self._quadrature(
            delay, b.age, self.time[:, None], b.left[:, None], b.price, b.speed, b.hazard, hop
        )
        cost = np.where(open_now, egress + run, np.inf)
        fixed = self._fixed(delay, egress)  # option [J] of on-demand and its cost-to-go
        best = np.where(self.own, np.inf, cost).argmin(axis=1)
        idle, held = self._ahead(best, fixed, cost, hop)
        cost[self.rows, fixed.option] = np.where(fixed.any, held, np.inf)
        return self._pick(cost, idle, open_now)

    def _hops(self, after: Floats) -> Floats:
        """[Q, J, O, P] the chance that another zone of the tier is up when this option is lost `after` [P] seconds.

        Zones that are up now may last until then; beyond that the tier's own record counts, the more the later.
        """
        b = self.b
        lasts = hazard.lasting(b.age[..., None], after, b.hazard[..., None])
        gone = np.where((b.up == UP)[..., None], np.log1p(-np.minimum(lasts, 0.999)), 0.0)[None] * self.member[..., None]
        others = gone.sum(axis=2, keepdims=True) - gone
        learned = np.log1p(-np.minimum(self.o.tiers.hop, 0.999))[:, None, None, None] * -np.expm1(-after / FADES)
        return -np.expm1(others + learned)

    def _quadrature(
        self,
        delay: Floats,
        age: Floats,
        time: Floats,
        left: Floats,
        price: Floats,
        speed: Floats,
        factor: Floats,
        hop: Floats,
    ) -> Floats:
        need = delay + left / speed
        cuts = np.minimum(SPANS, need[..., None])  # [..., P + 1]
        alive = hazard.lasting(age[..., None], cuts, factor[..., None])
        span, mid = np.diff(cuts), (cuts[..., 1:] + cuts[..., :-1]) / 2
        paid = price * (span * (alive[..., 1:] + alive[..., :-1])).sum(axis=-1) / 2 / HOUR
        ends = alive[..., :-1] - alive[..., 1:]
        done = np.maximum(mid - delay[..., None], 0.0) * speed[..., None]
        time_then = np.maximum(time[..., None] - mid, 0.0)
        slack_then = time_then - np.maximum(left[..., None] - done, 0.0)
        tables = self.o.tiers.idle[:, 1:3]
        rest = self._value(tables.reshape(-1, *tables.shape[2:]), time_then, slack_then)
        rest = rest.reshape(len(tables), 2, *time_then.shape)
        rest = (hop * rest[:, 0] + (1 - hop) * rest[:, 1]).min(axis=0)
        late = np.where(time - need < 0, NEVER, 0.0)
        return np.asarray(paid + (ends * rest).sum(axis=-1) + late)

    def _value(self, values: Singles, time: Floats, slack: Floats) -> Floats:
        """Tables [K, N+1, S] looked up at (time, slack), any shape: [K, ...], linear between entries."""
        grid = self.o.grid
        n = np.clip(time / grid.step, 0.0, grid.steps - 1e-3)
        s = grid.place(slack)
        n0 = n.astype(np.int64)
        s0 = np.minimum(s.astype(np.int64), len(grid.slack) - 2)
        fn, fs = n - n0, s - s0
        flat, wide = values.reshape(len(values), -1), len(grid.slack)
        at = n0 * wide + s0
        low = flat[:, at] * (1 - fs) + flat[:, at + 1] * fs
        high = flat[:, at + wide] * (1 - fs) + flat[:, at + wide + 1] * fs
        return np.where(slack < 0, NEVER, low * (1 - fn) + high * fn)

    def _fixed(self, delay: Floats, egress: Floats) -> _Fixed:
        b = self.b
        forever = b.price * (delay + b.left[:, None] / b.speed) / HOUR + egress
        forever = np.where((b.market == ON_DEMAND) & b.usable, forever, np.inf)
        option = forever.argmin(axis=1)
        at = (self.rows, option)
        return _Fixed(option, np.isfinite(forever[at]), delay[at], egress[at], b.price[at], b.speed[at], forever[at])

    def _ahead(self, best: Ints, fixed: _Fixed, cost: Floats, hop: Floats) -> tuple[Floats, Floats]:
        """[J] values of idling and of on-demand by a consistent look-ahead."""
        b, step = self.b, self.o.grid.step
        at = (self.rows, best)
        can = np.isfinite(cost[at]) & ~self.own[at] & (self.market != SPOT)
        mine = hop[:, self.rows, best]  # [Q, J, P]
        lose = [self._outages(wait * step, fixed, self._hops(np.array([wait * step]))[:, self.rows, best, 0]) for wait in WAITS]
        idle = np.where(can, lose[0][2], lose[0][0])
        held = np.where(can, lose[0][3], lose[0][1]) + self._paid(fixed, step)
        if can.any():
            for wait, (lose_i, lose_h, _, _) in zip(WAITS, lose, strict=True):
                span = wait * step
                lasts = hazard.lasting(b.age[at], span, b.hazard[at])
                done = np.maximum(span - fixed.delay, 0.0) * fixed.speed
                later_i = self._later(at, span, b.left, mine)
                later_h = self._later(at, span, np.maximum(b.left - done, 0.0), mine)
                value_i = lasts * later_i + (1 - lasts) * lose_i
                value_h = self._paid(fixed, span) + lasts * later_h + (1 - lasts) * lose_h
                idle = np.where(can, np.minimum(idle, value_i), idle)
                held = np.where(can, np.minimum(held, value_h), held)
        held = np.minimum(held, fixed.forever)
        return idle, np.where(fixed.any, held, np.inf)

    def _paid(self, fixed: _Fixed, span: float) -> Floats:
        spent = np.minimum(span, fixed.delay + self.b.left / fixed.speed)
        return np.asarray(fixed.egress + fixed.price * spent / HOUR)

    def _later(self, at: tuple[Ints, Ints], span: float, left: Floats, hop: Floats) -> Floats:
        b = self.b
        run = self._quadrature(
            b.changeover[at], b.age[at] + span, self.time - span, left, b.price[at], b.speed[at], b.hazard[at], hop
        )
        return run + b.egress[at]

    def _outages(self, span: float, fixed: _Fixed, hop: Floats) -> tuple[Floats, Floats, Floats, Floats]:
        """[J] each: idling and on-demand `span` on, if the best option is lost; and waiting for a tier that is down now."""
        b, tiers = self.b, self.o.tiers
        up = (self.member & (b.up == UP)[None]).any(axis=2)
        age = np.where(self.member & (b.up != UP)[None], b.age[None], np.inf).min(axis=2)
        age = np.where(up | ~np.isfinite(age), 0.0, age)  # [Q, J]
        back = np.where(up, hop, 1.0 - hazard.lasting(age, span, tiers.down[:, None], DOWN_LAW))
        done = np.maximum(span - fixed.delay, 0.0) * fixed.speed
        left = np.maximum(b.left - done, 0.0)
        age = np.where(up, 0.0, age + span)
        idle = self._phased(tiers.idle, up, back, age, self.time - span, self.slack - span)
        held = self._phased(tiers.held, up, back, age, self.time - span, self.time - span - left)
        gone = np.where(up, np.inf, 0.0)
        return idle.min(axis=0), held.min(axis=0), (idle + gone).min(axis=0), (held + gone).min(axis=0)

    def _phased(self, values: Singles, up: Bools, back: Floats, age: Floats, time: Floats, slack: Floats) -> Floats:
        """[Q, J] the tier's value: up with probability `back`, else down at `age`."""
        q = np.arange(len(values))[:, None]
        every = self._value(values.reshape(-1, *values.shape[2:]), time, slack).reshape(*values.shape[:2], -1)
        down = every[q, 2 + hazard.ages(age), self.rows]
        return np.asarray(back * np.where(up, every[:, 1], every[:, 0]) + (1 - back) * down)

    def _pick(self, cost: Floats, idle: Floats, open_now: Bools) -> Choices:
        b = self.b
        current = np.where(self.runs, cost[self.rows, np.maximum(b.running, 0)], idle)
        others = np.where(self.own, np.inf, cost)
        best = others.argmin(axis=1)
        value = others[self.rows, best]
        go = value < current - self.margin
        target = np.where(go, best, b.running)
        bar = np.where(go, value, current - self.margin)
        target = np.where(self.runs & (idle < bar), IDLE, target)
        return Choices(
            target=target,
            cost=cost,
            idle=idle,
            slack_price=np.zeros(len(idle)),
            revisit=b.now + b.grain,
            net=np.zeros(len(idle), bool),
        )


@dataclass(frozen=True, slots=True)
class _Fixed:
    """The on-demand option of each job, arrays [J]."""

    option: Ints
    any: Bools
    delay: Floats
    egress: Floats
    price: Floats
    speed: Floats
    forever: Floats  # $ to the end there
