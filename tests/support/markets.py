"""Made-up worlds for the replay: zones that come and go as a seed says."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from dsched.scheduler.core.deadline.view import DOWN, UNKNOWN, UP
from dsched.scheduler.sim.world import World


def market(seed: int, *, ticks: int, gap: float, zones: int = 3, regions: int = 2, unknown: float = 0.0) -> World:
    """Zones in a few regions: runs of geometric length, prices that drift, egress between regions."""
    luck = np.random.default_rng(seed)
    stay = luck.choice([0.5, 0.8, 0.95, 1.0], (2, zones))  # chance to stay down, up
    state = np.empty((ticks, zones), np.int8)
    state[0] = luck.random(zones) < 0.5
    for tick in range(1, ticks):
        keeps = luck.random(zones) < stay[state[tick - 1].astype(int), np.arange(zones)]
        state[tick] = np.where(keeps, state[tick - 1], 1 - state[tick - 1])
    state = np.where(state == 1, UP, DOWN).astype(np.int8)
    state[luck.random(state.shape) < unknown] = UNKNOWN
    spot = np.repeat(luck.uniform(0.5, 1.5, (-(-ticks // 10), zones)), 10, axis=0)[:ticks]
    fee = luck.choice([0.0, 0.2, 4.0])
    return built(state, spot, luck.uniform(2.0, 4.0, regions), np.sort(np.arange(zones) % regions), gap, float(fee))


def built(
    state: np.ndarray,  # type: ignore[type-arg]
    spot: np.ndarray,  # type: ignore[type-arg]
    on_demand: Sequence[float] | np.ndarray,  # type: ignore[type-arg]
    region: Sequence[int] | np.ndarray,  # type: ignore[type-arg]
    gap: float,
    fee: float = 0.0,
) -> World:
    """A world from state [T, Z], spot [T, Z], on_demand [R], region [Z] and one egress for every move."""
    ticks, zones = state.shape
    regions = len(on_demand)
    begins = np.zeros(ticks, bool)
    begins[0] = True
    return World(
        name="made up",
        gap=gap,
        zones=tuple(f"z{z}" for z in range(zones)),
        regions=tuple(f"r{r}" for r in range(regions)),
        state=state.astype(np.int8),
        spot=spot.astype(np.float64),
        on_demand=np.tile(np.asarray(on_demand, np.float64), (ticks, 1)),
        region=np.asarray(region, np.int64),
        egress=fee * (1.0 - np.eye(regions)),
        first=(0,) * zones,
        begins=begins,
    )
