"""The rule that decides for one job: the named policy, kept from flapping, within the safety net.

    guarded( Calm( Trimmed( Resigned( Paid( named policy ) ) ) ) )

The net alone owns the deadline: whatever the others prefer, it is asked last.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache
from typing import Final

import numpy as np

from dsched.scheduler.core.deadline.cheapest import PAID, is_running, least, sure, unvalued
from dsched.scheduler.core.deadline.guard import guarded
from dsched.scheduler.core.deadline.policies import named
from dsched.scheduler.core.deadline.view import DOWN, IDLE, Batch, Choices, DeadlinePolicy, Floats, Observation
from dsched.scheduler.core.placement import Policy

FORESIGHTED: Final = frozenset({"slack"})  # policies that need an outlook
SOON: Final = "greedy"  # decides while an outlook is being made: it buys nothing dear in these seconds
BLIND: Final = "up"  # decides where none could be made: it needs no history


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """What of the job's own story the rule must heed. Stored with a decision, so that it can be made again."""

    rework: float = 0.0  # s of work that an interruption would take back at most, and a move of ours would save
    hold: bool = False  # it has moved lately, or too often: only the net moves it now
    foreseen: bool = False  # there is an outlook
    soon: bool = False  # there will be one in seconds
    going: str | None = None  # the option that it is on its way to: then the net alone judges


@dataclass(frozen=True, slots=True)
class Resigned:
    """`inner` while something that can be had ends in time; after that whatever spot there is, at once.

    Expected costs tell nothing any more then: all are the price of being late, and idling would look cheapest for ever.
    """

    inner: DeadlinePolicy

    @property
    def name(self) -> str:
        return self.inner.name

    def choose(self, batch: Batch) -> Choices:
        wish = self.inner.choose(batch)
        delay = np.where(is_running(batch), batch.warm_in[:, None], batch.changeover)
        ends = np.where(batch.usable & (batch.up != DOWN), batch.left[:, None] / batch.speed + delay, np.inf)
        late = ends.min(axis=1) > batch.deadline - batch.now
        return replace(wish, target=np.where(late, _named(SOON).choose(batch).target, wish.target))


@dataclass(frozen=True, slots=True)
class Paid:
    """`inner`, which knows two prices, spot and on-demand: but where slots are held for us, they come before both."""

    inner: DeadlinePolicy

    @property
    def name(self) -> str:
        return self.inner.name

    def choose(self, batch: Batch) -> Choices:
        wish = self.inner.choose(batch)
        slots = sure(batch) & (batch.price < PAID)
        here = (slots & is_running(batch)).any(axis=1)
        best = least(np.where(slots, batch.price / batch.speed, np.inf))
        return replace(wish, target=np.where(here, batch.running, np.where(best >= 0, best, wish.target)))


@dataclass(frozen=True, slots=True)
class Trimmed:
    """`inner` without the rework in its changeovers: a move that we choose begins with a checkpoint."""

    inner: DeadlinePolicy
    rework: float

    @property
    def name(self) -> str:
        return self.inner.name

    def choose(self, batch: Batch) -> Choices:
        return self.inner.choose(replace(batch, changeover=np.maximum(batch.changeover - self.rework, 0.0)))


@dataclass(frozen=True, slots=True)
class Calm:
    """`inner` without moves that gain too little. `margin`: share of the cost of staying that a move must save."""

    inner: DeadlinePolicy
    margin: float
    hold: bool

    @property
    def name(self) -> str:
        return self.inner.name

    def choose(self, batch: Batch) -> Choices:
        wish = self.inner.choose(batch)
        runs = (batch.running >= 0) & (wish.target != batch.running)
        stay, go = self._costs(batch, wish)
        worth = go <= stay * (1.0 - self.margin)
        keeps = runs & (np.full(len(runs), self.hold) | ~worth)
        return replace(wish, target=np.where(keeps, batch.running, wish.target))

    def _costs(self, batch: Batch, wish: Choices) -> tuple[Floats, Floats]:
        """[J] expected $ of staying and of the wish, by the policy's own values; by price where it has none."""
        rows = np.arange(len(batch.now))
        here, there = np.maximum(batch.running, 0), np.maximum(wish.target, 0)
        hours = (batch.left[:, None] / batch.speed + batch.changeover) / 3600.0
        plain = batch.price * hours + batch.egress
        staying = batch.price[rows, here] * (batch.left / batch.speed[rows, here] + batch.warm_in) / 3600.0
        valued = np.isfinite(wish.cost[rows, here])
        stay = np.where(valued, wish.cost[rows, here], staying)
        go = np.where(valued, wish.cost[rows, there], plain[rows, there])
        idles = wish.target == IDLE
        return stay, np.where(idles, np.where(np.isfinite(wish.idle), wish.idle, -np.inf), go)


@dataclass(frozen=True, slots=True)
class Going:
    """No policy of its own: the one job of the batch goes on with its move to `target`."""

    target: int
    name: str = "going"

    def choose(self, batch: Batch) -> Choices:
        return unvalued(batch, np.full(len(batch.now), self.target))


def rule_for(seen: Observation, policy: Policy, terms: Terms, scale: float) -> DeadlinePolicy:
    """The rule for what was seen. Raises ValueError where the option that the job is on its way to was not."""
    if terms.going is None:
        return rule(policy, terms, scale)
    target = [option.id for option in seen.options].index(terms.going)
    return guarded(Going(target), margin=policy.launch_fails * scale / 1000.0, stretch=policy.stretch)


def rule(policy: Policy, terms: Terms, scale: float) -> DeadlinePolicy:
    """The rule for one job now. `scale`: market ms per wall ms."""
    name = policy.deadline_policy
    if name in FORESIGHTED and not terms.foreseen:
        name = SOON if terms.soon else BLIND
    inner = _named(name)
    if name not in FORESIGHTED:
        inner = Paid(inner)
    calm = Calm(Trimmed(Resigned(inner), terms.rework), policy.move_margin, terms.hold)
    return guarded(calm, margin=policy.launch_fails * scale / 1000.0, stretch=policy.stretch)


@cache
def _named(name: str) -> DeadlinePolicy:
    return named(name)
