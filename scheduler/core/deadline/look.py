"""Look options up in an outlook: what a run costs until it is interrupted, and what the rest costs from there.

K evaluations are made at once, each of one option for one job; J jobs, Q price tiers, P pieces of a run.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from dsched.scheduler.core.deadline import hazard
from dsched.scheduler.core.deadline.hazard import DOWN_LAW, HOUR
from dsched.scheduler.core.deadline.outlook import Outlook
from dsched.scheduler.core.deadline.table import STRIDE, Singles
from dsched.scheduler.core.deadline.view import SPOT, UNKNOWN, UP, Batch, Bools, Floats, Ints

NEVER: Final = 1e12  # $: stands for what cannot be done

# A run is cut at these lengths (h): fine while it is young, when most interruptions come.
SPANS: Final[Floats] = np.array([0, 1 / 6, 1 / 3, 2 / 3, 1, 1.5, 2.5, 4, 6, 9, 14, 22, 36, 60, 100, 1000]) * HOUR
MIDS: Final[Floats] = (SPANS[1:] + SPANS[:-1]) / 2
FADES: Final = 1.0 * HOUR  # s in which what is up now stops telling what is up then


@dataclass(frozen=True, slots=True, kw_only=True)
class Runs:
    """K runs to value, arrays [K]."""

    job: Ints
    option: Ints
    delay: Floats  # s until progress
    age: Floats  # s of the option when the run starts
    time: Floats  # s left until the deadline then
    left: Floats  # s of work then


class Look:
    """One batch seen through its outlook."""

    def __init__(self, batch: Batch, outlook: Outlook) -> None:
        self.batch, self.outlook = batch, outlook
        spot = batch.usable & (batch.market == SPOT)
        self.up: Bools = spot & (batch.up == UP)
        self.unseen: Bools = spot & (batch.up == UNKNOWN)
        self.member: Bools = spot[None] & (batch.price[None] <= outlook.tiers.top[:, None, None])  # [Q, J, O]
        self.tier_up: Bools = (self.member & self.up[None]).any(axis=2)  # [Q, J]
        tables = outlook.tiers.idle[:, 1:3]
        self._after: Singles = tables.reshape(-1, *tables.shape[2:])  # taken in elsewhere, all down; tier by tier
        self._gone, self._all_gone = self._losses(MIDS)

    def _losses(self, after: Floats) -> tuple[Floats, Floats]:
        """Logs of the chance that a zone, [J, O, P], and all zones of a tier, [Q, J, P], are gone after a while."""
        b = self.batch
        lasts = hazard.lasting(b.age[..., None], after, b.hazard[..., None])
        gone = np.where(self.up[..., None], np.log1p(-np.minimum(lasts, 0.999)), 0.0)
        return gone, np.einsum("qjo,jop->qjp", self.member, gone)

    def hop(self, job: Ints, option: Ints) -> Floats:
        """[Q, K, P] the chance that another zone of the tier is up when this option is lost at MIDS.

        Zones that are up now may last until then; beyond that the tier's own record counts, the more the later.
        """
        return self._hop(job, option, self._gone, self._all_gone, MIDS)

    def hop_after(self, job: Ints, option: Ints, spans: Floats) -> Floats:
        """[Q, K, spans] the same at these seconds."""
        gone, all_gone = self._losses(spans)
        return self._hop(job, option, gone, all_gone, spans)

    def _hop(self, job: Ints, option: Ints, gone: Floats, all_gone: Floats, after: Floats) -> Floats:
        own = np.where(self.member[:, job, option, None], gone[job, option], 0.0)
        learned = np.log1p(-np.minimum(self.outlook.tiers.hop, 0.999))[:, None, None] * -np.expm1(-after / FADES)
        return np.asarray(-np.expm1(all_gone[:, job] - own + learned))

    def run(self, runs: Runs, hop: Floats) -> Floats:
        """[K] dollars of running until the end or an interruption, and of the rest from there.

        A changeover that is cut short loses only what was spent of it.
        """
        b, at = self.batch, (runs.job, runs.option)
        speed = b.speed[at]
        need = runs.delay + runs.left / speed
        cuts = np.minimum(SPANS, need[:, None])  # [K, P + 1]
        alive = hazard.lasting(runs.age[:, None], cuts, b.hazard[at][:, None])
        alive = np.where((b.market[at] == SPOT)[:, None], alive, 1.0)
        span, mid = np.diff(cuts), (cuts[:, 1:] + cuts[:, :-1]) / 2
        paid = b.price[at] * (span * (alive[:, 1:] + alive[:, :-1])).sum(axis=1) / 2 / HOUR
        ends = alive[:, :-1] - alive[:, 1:]
        done = np.maximum(mid - runs.delay[:, None], 0.0) * speed[:, None]
        time = np.maximum(runs.time[:, None] - mid, 0.0)
        slack = time - np.maximum(runs.left[:, None] - done, 0.0)
        rest = self.value(self._after, time, slack).reshape(-1, 2, *time.shape)
        rest = (rest[:, 1] + hop * (rest[:, 0] - rest[:, 1])).min(axis=0)
        late = np.where(runs.time - need < 0, NEVER, 0.0)
        return np.asarray(paid + (ends * rest).sum(axis=1) + late)

    def after(self, time: Floats, slack: Floats) -> Floats:
        """Dollars to the end after an interruption, by the best tier and its record, any shape."""
        rest = self.value(self._after, time, slack).reshape(-1, 2, *time.shape)
        hop = self.outlook.tiers.hop.reshape(-1, *(1,) * time.ndim)
        return np.asarray((rest[:, 1] + hop * (rest[:, 0] - rest[:, 1])).min(axis=0))

    def value(self, values: Singles, time: Floats, slack: Floats) -> Floats:
        """Tables [M, K, S] at (time, slack) of any shape: [M, ...], linear between entries.

        Slack beyond the tables' end is worth nothing more: the time is cut with it, the work stays.
        """
        grid = self.outlook.grid
        over = np.maximum(slack - grid.slack[-1], 0.0)
        n = np.clip((time - over) / (grid.step * STRIDE), 0.0, grid.kept - 1 - 1e-3)
        s = grid.place(slack)
        n0 = n.astype(np.int64)
        s0 = np.minimum(s.astype(np.int64), len(grid.slack) - 2)
        fn, fs = (n - n0).astype(np.float32), (s - s0).astype(np.float32)
        flat, wide = values.reshape(len(values), -1), len(grid.slack)
        at = n0 * wide + s0
        low, high = flat[:, at], flat[:, at + wide]
        low = low + (flat[:, at + 1] - low) * fs
        high = high + (flat[:, at + wide + 1] - high) * fs
        return np.where(slack < 0, NEVER, low + (high - low) * fn)

    def outage(self, values: Singles, span: Floats, hop: Floats, time: Floats, slack: Floats, job: Ints) -> Floats:
        """[Q, K] each tier's value of `values` [Q, 2 + A, K, S] `span` on, when what could be had is lost.

        A tier that is up now takes in with probability `hop` [Q, K]; one that is down now comes up by its age.
        """
        b, tiers = self.batch, self.outlook.tiers
        up = self.tier_up[:, job]
        away = np.where(self.member & ~self.up[None], b.age[None], np.inf).min(axis=2)[:, job]
        away = np.where(up | ~np.isfinite(away), 0.0, away)
        back = np.where(up, hop, 1.0 - hazard.lasting(away, span, tiers.down[:, None], DOWN_LAW))
        every = self.value(values.reshape(-1, *values.shape[2:]), time, slack).reshape(*values.shape[:2], -1)
        tier = np.arange(len(values))[:, None]
        down = every[tier, 2 + hazard.ages(np.where(up, 0.0, away + span)), np.arange(len(job))]
        return np.asarray(back * np.where(up, every[:, 1], every[:, 0]) + (1 - back) * down)
