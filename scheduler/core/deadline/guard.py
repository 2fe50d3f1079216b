"""The deadline promise, and its single owner: no answer of a policy may make the deadline unreachable.

The rule is the safety net of "Can't Be Late" (Wu et al., NSDI 2024): with work w left and changeover delay d, a job
that does not run goes to on-demand while w + 2d still fits before the deadline (a spot try that dies must leave d),
and a running spot is left only if even w + d would not fit afterwards. Here the options differ in speed, delay and
price, and nobody looks again for up to a grain. What is kept true at every look, as long as there is a sure option
(on-demand or reserved; its launches succeed within `retry`):

    the job runs on a sure option and ends there in time, or
    some sure option would still end in time if it were launched now.

So each wish is judged by what it leaves after one grain in the worst case, in which it gave no progress.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from dsched.scheduler.core.deadline.cheapest import HOUR, at_running, cost_to_finish, is_running, least, sure
from dsched.scheduler.core.deadline.view import DOWN, IDLE, SPOT, Batch, Bools, Choices, DeadlinePolicy, Floats, Ints

EARLY = 1e-6  # s: rounding of sums is no delay


@dataclass(frozen=True, slots=True)
class _Stand:
    """How the jobs of a batch stand towards their deadlines."""

    left: Floats  # [J] s until the deadline
    ends: Floats  # [J, O] s until the work is done there, if it is launched (or goes on) now and is never interrupted
    sure: Bools  # [J, O]
    first: Ints  # [J] the sure option that ends first; IDLE: there is none
    need: Floats  # [J] s that the sure option in reserve needs, launched afresh; inf: there is none
    delay: Floats  # [J] the changeover in that
    running: Bools  # [J, O]


@dataclass(frozen=True, slots=True)
class Guarded:
    """`inner` within the net. `margin`: s that a failing launch may cost before it is seen to fail.

    `stretch`: how many times its stated length a changeover may take; the promise holds for that. `retry`: s from the
    first try to launch sure capacity until one succeeds, somewhere; the promise holds for that too.
    """

    inner: DeadlinePolicy
    margin: float = 0.0
    stretch: float = 1.0
    retry: float = 0.0

    @property
    def name(self) -> str:
        return self.inner.name

    def choose(self, batch: Batch) -> Choices:
        wish = self.inner.choose(batch)
        stand = self._stand(batch)
        want = _legal(batch, wish.target)
        safe = self._safe(batch, stand, want)
        stays = self._stays(batch, stand) & (batch.running >= 0)
        target = np.where(safe, want, np.where(stays, batch.running, rescue(batch, stand)))
        target = np.where(np.isfinite(stand.need), target, want)  # without a sure option there is nothing to promise
        revisit = np.minimum(wish.revisit, self._looks_again(batch, stand, target))
        return replace(wish, target=target, revisit=revisit, net=wish.net | (target != want))

    def _looks_again(self, batch: Batch, stand: _Stand, target: Ints) -> Floats:
        """[J] market s by which the net must judge again; inf: nothing but an interruption can endanger the promise."""
        rows, column = np.arange(len(target)), np.maximum(target, 0)
        speed, fastest = at_running(batch, batch.speed), np.where(stand.sure, batch.speed, 0.0).max(axis=1)
        ends = stand.sure[rows, column] & (stand.ends[rows, column] <= stand.left + EARLY)
        calm = ends | ((target == batch.running) & _gains(batch) & (speed >= fastest))
        spare = stand.left - stand.need - stand.delay  # s of idling before the net would end it
        idles = np.where(np.isfinite(spare), np.maximum(spare, batch.grain), np.inf)
        return batch.now + np.where(target == IDLE, idles, np.where(calm, np.inf, batch.grain))

    def _stand(self, batch: Batch) -> _Stand:
        running, calm = is_running(batch), sure(batch)
        launch, work = self._launch(batch), batch.left[:, None] / batch.speed
        ends = work + np.where(running, batch.warm_in[:, None], launch)
        afresh = np.where(calm, work + launch, np.inf)
        left = batch.deadline - batch.now
        rows, kept = np.arange(len(batch.now)), reserve(batch, afresh, left)
        return _Stand(
            left=left,
            ends=ends,
            sure=calm,
            first=least(np.where(calm, ends, np.inf)),
            need=afresh[rows, kept],
            delay=launch[rows, kept],
            running=running,
        )

    def _launch(self, batch: Batch) -> Floats:
        """[J, O] s from the first try until there is progress, at worst."""
        return batch.changeover * self.stretch + np.where(batch.market != SPOT, self.retry, 0.0)

    def _safe(self, batch: Batch, stand: _Stand, want: Ints) -> Bools:
        """[J] whether the promise outlives the wish."""
        rows, column = np.arange(len(want)), np.maximum(want, 0)
        after = stand.left - batch.grain + EARLY
        idles = stand.need + stand.delay <= after
        unseen = np.maximum(batch.grain, self.margin)  # s until a launch that fails is known to have failed
        tries = stand.need + self._launch(batch)[rows, column] <= stand.left - unseen + EARLY
        ends = stand.sure[rows, column] & (stand.ends[rows, column] <= stand.left + EARLY)
        return np.where(
            want == IDLE,
            idles,
            np.where(want == batch.running, self._stays(batch, stand), tries | ends),
        )

    def _stays(self, batch: Batch, stand: _Stand) -> Bools:
        """[J] whether the job may go on where it runs for another grain. A warm one that is fast enough always may."""
        speed = at_running(batch, batch.speed)
        gains, done = _gains(batch), np.where(batch.warm_in <= EARLY, speed * batch.grain, 0.0)
        redone = np.where(gains, 0.0, done)[:, None] * self.stretch  # of that, should the job be interrupted then
        later = np.maximum(batch.left - done, 0.0)[:, None] / batch.speed + self._launch(batch) + redone
        rescued = np.where(stand.sure & ~stand.running, later, np.inf).min(axis=1) <= stand.left - batch.grain + EARLY
        here = at_running(batch, stand.ends)
        ends_here = (at_running(batch, stand.sure.astype(np.float64)) > 0) & (here <= stand.left + EARLY)
        fastest = np.where(stand.sure, batch.speed, 0.0).max(axis=1)
        lost = (stand.need - self.retry > stand.left + EARLY) & (
            here <= stand.need
        )  # even if a launch succeeds at once
        stays: Bools = (gains & (speed >= fastest)) | rescued | ends_here | lost
        return stays


def _gains(batch: Batch) -> Bools:
    """[J] whether time brings a running job nearer to its end. What is not proved an interruption may take back."""
    warm: Bools = batch.warm_in <= EARLY
    return warm if batch.proved is None else warm & batch.proved


def reserve(batch: Batch, afresh: Floats, left: Floats) -> Ints:
    """[J] the sure option that the net holds ready: the cheapest of those that end in time, and as soon as the first.

    `afresh` [J, O]: s that each needs, launched now; inf: it is not sure. Reckoning with the one that ends first would
    wait until no other is left, and pay its price. As soon is within a look; what is sooner within that counts by the
    hour what the first one costs. Later ones are for the policy to choose: holding them ready would cost it its slack.
    Where none ends in time any more it is the first.
    """
    rows, first = np.arange(len(left)), afresh.argmin(axis=1)
    soonest = np.where(np.isfinite(afresh[rows, first]), afresh[rows, first], 0.0)[:, None]
    fits = (afresh <= left[:, None] + EARLY) & (afresh <= soonest + batch.grain)
    later = np.where(fits, afresh - soonest, 0.0)
    cheapest = least(np.where(fits, cost_to_finish(batch) + batch.price[rows, first][:, None] * later / HOUR, np.inf))
    return np.where(cheapest == IDLE, first, cheapest)


def _legal(batch: Batch, target: Ints) -> Ints:
    """[J] the wish, or staying where the wish is no option that can be had."""
    count = batch.price.shape[1]
    named = (target >= 0) & (target < count)
    column = np.where(named, target, 0)
    rows = np.arange(len(target))
    open_ = named & batch.usable[rows, column] & (batch.up[rows, column] != DOWN)
    return np.where((target == IDLE) | (target == batch.running) | open_, target, batch.running)


def rescue(batch: Batch, stand: _Stand) -> Ints:
    """[J] the cheapest sure option that ends in time, the one that it runs on first; else the one that ends first."""
    in_time = stand.sure & (stand.ends <= stand.left[:, None] + EARLY)
    cheapest = least(np.where(in_time, cost_to_finish(batch), np.inf))
    here = (stand.running & in_time).any(axis=1)
    return np.where(here, batch.running, np.where(cheapest >= 0, cheapest, stand.first))


def guarded(policy: DeadlinePolicy, *, margin: float = 0.0, stretch: float = 1.0, retry: float = 0.0) -> DeadlinePolicy:
    """The policy with the deadline promise around it. See `Guarded` for the margins."""
    return Guarded(policy, margin, stretch, retry)
