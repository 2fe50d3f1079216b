"""The utility rule of SkyNomad (arXiv 2601.06520), with the pooled age law in place of its own lifetime learner.

Every look values an hour of progress at V dollars: the on-demand price times the pace that is needed over the pace so
far. A spot option of price p whose life is expected to be L is worth V (L - d) / L - p - egress / L an hour, on-demand
V - price, idling nothing. A job moves to the best if that beats where it is by 5 % of V.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from dsched.scheduler.core.deadline import hazard
from dsched.scheduler.core.deadline.cheapest import HOUR, at_running, is_running, spots, sure, unvalued
from dsched.scheduler.core.deadline.view import IDLE, SPOT, Batch, Bools, Choices, Floats

KEEP: Final = 0.05  # of V that a move must gain per hour
LIFE_MAX: Final = 14 * 24 * HOUR  # no expectation goes further; a deadline cuts most of them before


@dataclass(frozen=True, slots=True)
class SkyNomad:
    name: str = "skynomad"

    def choose(self, batch: Batch) -> Choices:
        value = _value(batch)
        running = batch.running >= 0
        on_sure = running & (at_running(batch, (batch.market != SPOT).astype(np.float64)) > 0)
        now = np.where(running, value - at_running(batch, batch.price), 0.0)
        worth = np.where(
            is_running(batch), -np.inf, np.fmax(_spot_worth(batch, value), _sure_worth(batch, value, on_sure))
        )
        best = worth.argmax(axis=1)
        gain = worth[np.arange(len(best)), best]
        moves = (gain > 0) & (gain > now + KEEP * value)
        idles = (on_sure & (now < -KEEP * value)) | ~running
        stays = np.where(idles, IDLE, batch.running)
        return unvalued(batch, np.where(moves, best, stays))


def _value(batch: Batch) -> Floats:
    """[J] V in $/h, at least the cheapest spot price."""
    spent, done = batch.now - batch.begun, batch.work - batch.left
    begun = (spent > 0) & (done > 0)
    pace = np.where(begun, done / np.where(begun, spent, 1.0), 1.0)
    needed = np.where(begun, batch.left / np.maximum(batch.deadline - batch.now, 1.0), 1.0)
    fixed = np.where(batch.usable & (batch.market != SPOT), batch.price, np.inf).min(axis=1)
    spot = np.where(batch.usable & (batch.market == SPOT), batch.price, np.inf).min(axis=1)
    worth: Floats = np.maximum(np.where(np.isfinite(fixed), fixed, spot) * needed / pace, spot)
    return worth


def _spot_worth(batch: Batch, value: Floats) -> Floats:
    """[J, O] $/h; -inf: no spot option, or one that is not expected to outlive its changeover."""
    rest = (batch.deadline - batch.now)[:, None]
    life = np.minimum(hazard.expected_life(batch.age, batch.hazard, LIFE_MAX), rest)
    lives = spots(batch) & (life > batch.changeover)
    life = np.maximum(life, 1.0)
    worth = value[:, None] * batch.speed * (life - batch.changeover) / life - batch.price - batch.egress / (life / HOUR)
    return np.where(lives, worth, -np.inf)


def _sure_worth(batch: Batch, value: Floats, on_sure: Bools) -> Floats:
    """[J, O] $/h of the sure option that is cheapest with its egress spread over what is left; -inf elsewhere."""
    hours = np.maximum(batch.left / HOUR, 1.0)[:, None]
    spread = np.where(sure(batch), batch.price + batch.egress / hours, np.inf)
    cheapest = np.arange(spread.shape[1])[None, :] == spread.argmin(axis=1)[:, None]
    open_ = cheapest & sure(batch) & ~on_sure[:, None]
    return np.where(open_, value[:, None] * batch.speed - batch.price, -np.inf)
