"""The published rules that a deadline policy must beat, as they are defined, for whole batches.

All are meant to stand inside `guarded`, which holds the safety net that each of them shares. Progress is work done,
time is counted from the begin of the deadline's clock; k stands for on-demand over spot price, d for the changeover.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np

from dsched.scheduler.core.deadline.cheapest import at, at_running, cheapest_spot, cheapest_sure, runs_spot, unvalued
from dsched.scheduler.core.deadline.view import IDLE, SPOT, Batch, Bools, Choices, Floats, Ints

AVOID: Final = 1e6  # $/h: taken only if there is nothing else
DONE: Final = 1e-3  # s of work that count as none


@dataclass(frozen=True, slots=True)
class OnDemand:
    """Buy on-demand (or use what is reserved) from the first moment to the last."""

    name: str = "on-demand"

    def choose(self, batch: Batch) -> Choices:
        sure = _runs_sure(batch)
        return unvalued(batch, np.where(sure, batch.running, cheapest_sure(batch)))


@dataclass(frozen=True, slots=True)
class Greedy:
    """Spot whenever there is any, else wait for the safety net. On-demand, once bought, is kept."""

    name: str = "greedy"

    def choose(self, batch: Batch) -> Choices:
        return unvalued(batch, np.where(batch.running >= 0, batch.running, cheapest_spot(batch)))


@dataclass(frozen=True, slots=True)
class TimeSliced:
    """Greedy inside `slices` equal slices of the time, each with its share of the work ("Can't Be Late")."""

    name: str = "time-sliced"
    slices: int = 8

    def choose(self, batch: Batch) -> Choices:
        span, spent = batch.deadline - batch.begun, batch.now - batch.begun
        part = (np.clip(np.floor(spent * self.slices / span + 1e-9), 0, self.slices - 1) + 1) / self.slices
        need = batch.work * part - (batch.work - batch.left)
        spot, sure = cheapest_spot(batch), cheapest_sure(batch)
        tight = need + 2 * _delay(batch, sure) > span * part - spent - batch.grain
        behind = need > DONE
        buys = behind & ((batch.running == IDLE) & tight)
        keeps = runs_spot(batch) | (_runs_sure(batch) & behind)
        return unvalued(batch, np.where(keeps, batch.running, np.where(buys, sure, spot)))


@dataclass(frozen=True, slots=True)
class UniformProgress:
    """Uniform Progress of "Can't Be Late" with its hysteresis, as its code has it, over any number of pools.

    Idle: spot if there is any, on-demand if progress lags behind work * time / deadline. On on-demand: stay until
    progress leads by 2d, and while there is no spot, even when ahead. On spot: stay until interrupted.
    `switch`: avoid the region of the last interruption, UP(S).
    """

    name: str = "up"
    switch: bool = False

    def choose(self, batch: Batch) -> Choices:
        penalty = AVOID * (batch.region == batch.lost[:, None]) if self.switch else None
        spot, sure = cheapest_spot(batch, penalty), cheapest_sure(batch)
        return unvalued(batch, _uniform(batch, spot, spot != IDLE, sure))


@dataclass(frozen=True, slots=True)
class LifetimeOracle:
    """Uniform Progress that is told how long each spot option will live: for benches only, nobody can know it.

    `life` maps market seconds [J] to the remaining life in seconds [J, O] of the options of the batch.
    """

    life: Callable[[Floats], Floats]
    name: str = "up+oracle"

    def choose(self, batch: Batch) -> Choices:
        life, sure = self.life(batch.now), cheapest_sure(batch)
        dear = _price(batch, sure)[:, None]
        fair = batch.changeover * dear / np.maximum(dear - batch.price, DONE)
        lives = life > np.where(_runs_sure(batch)[:, None], 2 * fair, fair)
        spot = cheapest_spot(batch, np.where(lives, 0.0, np.inf))
        held = _runs_sure(batch) & (spot == IDLE)
        follows = np.where(_behind(batch, 0.0) & (spot == IDLE), sure, spot)
        return unvalued(batch, np.where(runs_spot(batch) | held, batch.running, follows))


def _uniform(batch: Batch, spot: Ints, has: Bools, sure: Ints) -> Ints:
    on_sure = _runs_sure(batch)
    catching_up = _behind(batch, 2 * at_running(batch, batch.changeover), or_even=True)
    stays = runs_spot(batch) | (on_sure & (~has | catching_up))
    idle = np.where(has, spot, np.where(_behind(batch, 0.0), sure, IDLE))
    return np.where(stays, batch.running, idle)


def _behind(batch: Batch, ahead: Floats | float, *, or_even: bool = False) -> Bools:
    """[J] whether progress lags behind what uniform progress demands `ahead` seconds from now."""
    due = (batch.now - batch.begun + ahead) * batch.work / (batch.deadline - batch.begun)
    done = batch.work - batch.left
    return due - done >= 0 if or_even else done - due < 0


def _runs_sure(batch: Batch) -> Bools:
    return (batch.running >= 0) & (at_running(batch, (batch.market != SPOT).astype(np.float64)) > 0)


def _delay(batch: Batch, option: Ints) -> Floats:
    return at(batch.changeover, np.maximum(option, 0))


def _price(batch: Batch, option: Ints) -> Floats:
    return at(batch.price, np.maximum(option, 0))
