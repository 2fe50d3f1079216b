"""The slack-MDP policy: slack is the only scarce resource, and the tables give its price.

Running burns the time left and keeps the slack, idling burns both, a launch burns its changeover of slack. Each option
is valued by what a run there costs until it is interrupted, and what the rest costs from there. Idling and on-demand
are valued by one consistent look-ahead: wait a while, then launch the very option that could be had now, valued by the
same rule. (Valuing them by the market as a whole puts off the launch for ever.)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from dsched.scheduler.core.deadline import hazard
from dsched.scheduler.core.deadline.chronicle import APART
from dsched.scheduler.core.deadline.hazard import DOWN_LAW, HOUR
from dsched.scheduler.core.deadline.look import Look, Runs
from dsched.scheduler.core.deadline.outlook import Outlook
from dsched.scheduler.core.deadline.view import DOWN, IDLE, ON_DEMAND, SPOT, Batch, Bools, Choices, Floats, Ints

HUNCH: Final = 0.5  # chance that a zone which nobody has looked at is up
FAILS: Final = 120.0  # s until a launch there is seen to fail
SLACK_STEP: Final = 1800.0  # s of slack whose worth tells its price
ROOMY: Final = 1.6  # time left over work left from which on the dear spot tier can wait for the cheap one
WAITS: Final = np.array([1.0, 2.0, 4.0]) * 600.0  # s to wait before the launch, in the look-ahead


@dataclass(frozen=True, slots=True, kw_only=True)
class SlackPolicy:
    """The rule. `stickiness`: a running option is left for a gain of this share of an on-demand changeover."""

    stickiness: float = 0.3

    @property
    def name(self) -> str:
        return "slack"

    def choose(self, batch: Batch) -> Choices:
        """Values and targets for a batch that carries an outlook."""
        return _Choice(batch, batch.outlook, self.stickiness).made()


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


class _Choice:
    """One evaluation of a batch: J jobs, O options."""

    def __init__(self, batch: Batch, outlook: Outlook, stickiness: float) -> None:
        self.b, self.o = batch, outlook
        self.look = Look(batch, outlook)
        self.rows: Ints = np.arange(len(batch.now))
        self.time: Floats = batch.deadline - batch.now  # R
        self.runs: Bools = batch.running != IDLE
        self.own: Bools = np.arange(batch.price.shape[1]) == batch.running[:, None]
        self.delay: Floats = np.where(self.own, batch.warm_in[:, None], batch.changeover)
        self.egress: Floats = np.where(self.own, 0.0, batch.egress)
        stays = batch.usable & (batch.market != SPOT) & ((batch.up != DOWN) | self.own)  # nobody takes it back
        on_demand = stays & (batch.market == ON_DEMAND)
        self.on_spot: Bools = (self.own & ~on_demand).any(axis=1)
        self.margin: Floats = np.where(self.runs, stickiness * outlook.on_demand * outlook.changeover / HOUR, 0.0)
        fair = self.look.member.any(axis=0)  # nobody tries zones too dear for any tier on a hunch, nor leaves spot so
        self.unseen: Bools = self.look.unseen & fair & ~self.on_spot[:, None]
        self.open: Bools = self.look.up | self.unseen | (stays & ~on_demand)
        self.fixed = self._fixed(on_demand)

    def made(self) -> Choices:
        b = self.b
        cost = np.full(b.price.shape, np.inf)
        job, option = np.nonzero(self.open)
        if len(job):
            runs = Runs(
                job=job,
                option=option,
                delay=self.delay[job, option],
                age=b.age[job, option],
                time=self.time[job],
                left=b.left[job],
            )
            cost[job, option] = self.egress[job, option] + self.look.run(runs, self.look.hop(job, option))
        idle, held = np.full(len(self.rows), np.inf), np.full(len(self.rows), np.inf)
        off = np.flatnonzero(~self.on_spot)
        if len(off):
            idle[off], held[off] = self._ahead(off, np.where(self.unseen[off], np.inf, cost[off]))
        cost[self.rows, self.fixed.option] = np.where(self.fixed.any, held, np.inf)
        if self.unseen.any():
            self._discount(cost, idle)
        return self._pick(cost, idle)

    def _discount(self, cost: Floats, idle: Floats) -> None:
        """Value tries of unseen zones, in place: a failed one costs a little slack and leaves the best of the rest.

        Waiting is worth no more than trying after a step: nothing is learned by it, for no look need ever come.
        """
        some, hour = self.unseen.any(axis=1), self._slack_price()
        rest = np.where(self.unseen, np.inf, cost).min(axis=1)
        rest = np.where(np.isfinite(rest), rest, idle)
        lost = np.where(self.runs, 0.0, hour * FAILS / HOUR)
        tried = HUNCH * cost + (1.0 - HUNCH) * (rest + lost)[:, None]
        np.copyto(cost, tried, where=self.unseen)
        best = np.where(self.unseen, cost, np.inf).min(axis=1)
        np.copyto(idle, best + hour * WAITS[0] / HOUR, where=some)

    def _slack_price(self) -> Floats:
        """[J] dollars per hour of slack, right after an interruption, by what half an hour less of it would cost."""
        time = np.stack([self.time, np.maximum(self.time - SLACK_STEP, 0.0)])
        worth = self.look.after(time, np.maximum(time - self.b.left, 0.0))
        return np.asarray(np.maximum(worth[1] - worth[0], 0.0) * HOUR / SLACK_STEP)

    def _fixed(self, on_demand: Bools) -> _Fixed:
        b = self.b
        forever = b.price * (self.delay + b.left[:, None] / b.speed) / HOUR + self.egress
        forever = np.where(on_demand, forever, np.inf)
        option = forever.argmin(axis=1)
        at = (self.rows, option)
        some = np.isfinite(forever[at])
        return _Fixed(option, some, self.delay[at], self.egress[at], b.price[at], b.speed[at], forever[at])

    def _ahead(self, job: Ints, cost: Floats) -> tuple[Floats, Floats]:
        """Values of idling and of on-demand, [2, K], for these jobs by a consistent look-ahead over each of WAITS."""
        b, fixed, count = self.b, self.fixed, len(WAITS)
        best = cost.argmin(axis=1)
        can = np.isfinite(cost.min(axis=1))
        span = WAITS[:, None]  # [W, K] below
        done = np.maximum(span - fixed.delay[job], 0.0) * fixed.speed[job]
        left = np.stack([np.broadcast_to(b.left[job], done.shape), np.maximum(b.left[job] - done, 0.0)])  # [2, W, K]
        time = np.broadcast_to(self.time[job] - span, left.shape)
        spent = np.minimum(span, fixed.delay[job] + b.left[job] / fixed.speed[job])
        paid = np.stack([np.zeros(spent.shape), fixed.egress[job] + fixed.price[job] * spent / HOUR])
        lose, wait = self._lost(job, best, time, time - left)
        lasts = hazard.lasting(b.age[job, best], span, b.hazard[job, best])
        many = np.tile(job, 2 * count), np.tile(best, 2 * count)
        if can.any():
            runs = Runs(
                job=many[0],
                option=many[1],
                delay=b.changeover[many],
                age=(b.age[job, best] + np.broadcast_to(span, left.shape)).ravel(),
                time=time.ravel(),
                left=left.ravel(),
            )
            hop = np.tile(self.look.hop(job, best), (1, 2 * count, 1))
            later = (self.look.run(runs, hop) + b.egress[many]).reshape(left.shape)
            later = self._or_cheaper(job, best, later, time, left)
            tries = np.minimum((paid + lasts * later + (1 - lasts) * lose).min(axis=1), paid[:, 0] + wait[:, 0])
        else:
            tries = np.full((2, len(job)), np.inf)
        out = np.where(can, tries, paid[:, 0] + lose[:, 0])
        out[1] = np.minimum(out[1], fixed.forever[job])
        return out[0], out[1]

    def _or_cheaper(self, job: Ints, best: Ints, later: Floats, time: Floats, left: Floats) -> Floats:
        """[2, W, K] `later`, mixed with what a cheaper zone would cost that is down now and may come up in the wait.

        Of several the one that went down last, which is the likeliest to be back. Without this a job pays for the dear
        tier as soon as the cheap one is gone, with all the slack in the world. With little slack it is left alone: what
        is up now is worth more then than tables without a dear tier believe.
        """
        b = self.b
        spot = b.usable[job] & (b.market[job] == SPOT) & (b.up[job] == DOWN)
        roomy = self.time[job] >= ROOMY * b.left[job]
        cheaper = spot & (b.price[job] * APART < b.price[job, best][:, None]) & roomy[:, None]
        age = np.where(cheaper, b.age[job], np.inf)
        some = np.flatnonzero(np.isfinite(age.min(axis=1)))
        if not len(some):
            return later
        zone, who = age[some].argmin(axis=1), job[some]
        shape = (*later.shape[:2], len(some))
        many = np.tile(who, 2 * len(WAITS)), np.tile(zone, 2 * len(WAITS))
        runs = Runs(
            job=many[0],
            option=many[1],
            delay=b.changeover[many],
            age=np.zeros(many[0].shape),
            time=time[..., some].ravel(),
            left=left[..., some].ravel(),
        )
        hop = np.tile(self.look.hop(who, zone), (1, 2 * len(WAITS), 1))
        there = (self.look.run(runs, hop) + b.egress[many]).reshape(shape)
        back = 1.0 - hazard.lasting(b.age[who, zone], WAITS[:, None], self.o.tiers.down[0], DOWN_LAW)
        out = later.copy()
        out[..., some] += back * np.minimum(there - later[..., some], 0.0)
        return out

    def _lost(self, job: Ints, best: Ints, time: Floats, slack: Floats) -> tuple[Floats, Floats]:
        """[2, W, K] what is left to pay after each wait if the best option is lost then, or none is up at all.

        And the same for waiting for a tier that is down now (inf: there is none).
        """
        hop = self.look.hop_after(job, best, WAITS)  # [Q, K, W]
        lose, wait = np.empty(time.shape), np.empty(time.shape)
        tables = (self.o.tiers.idle, self.o.tiers.held)
        never = np.where(self.look.tier_up[:, job], np.inf, 0.0)
        for w in range(len(WAITS)):
            for mode in range(2):
                every = self.look.outage(tables[mode], WAITS[w], hop[:, :, w], time[mode, w], slack[mode, w], job)
                lose[mode, w], wait[mode, w] = every.min(axis=0), (every + never).min(axis=0)
        return lose, wait

    def _pick(self, cost: Floats, idle: Floats) -> Choices:
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
            slack_price=self._slack_price(),
            revisit=b.now + b.grain,
            net=np.zeros(len(idle), bool),
        )
