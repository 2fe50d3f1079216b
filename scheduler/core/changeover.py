"""What it takes to change over: seconds until a gang works again, and dollars to bring its checkpoint along.

A pool's delay runs from asking for a machine to the first new step of the job on it: queue, boot, set-up, restore. It
is measured at every launch. Delays are about log-normal, so the posterior is a normal on the logarithm with the
variance unknown (normal-gamma; Murphy 2007, section 3). What is believed before is the provider's typical boot plus the
policy's restart, worth WEIGHT launches.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import lru_cache
from typing import TYPE_CHECKING, Final, NamedTuple

from dsched.scheduler.core.units import MICRO, MicroUsd, Millis

if TYPE_CHECKING:
    from dsched.scheduler.core.job import Need

WEIGHT: Final = 3.0  # launches that the belief before the first is worth
SIGMA: Final = 0.4  # of the logarithm: p90 is 1.7 times the median, as boots of cloud machines scatter
KEPT: Final = 50.0  # launches that count: images and regions change
P90: Final = 1.2816  # standard deviations


@dataclass(frozen=True, slots=True, kw_only=True)
class Delay:
    """Measured delays of one pool: their number, and mean and squared deviations of ln(ms), wall time."""

    count: float = 0.0
    mean: float = 0.0
    squares: float = 0.0

    def seen(self, delay: Millis) -> Delay:
        """With one more. Raises ValueError unless it is positive."""
        if delay <= 0:
            raise ValueError(f"not a delay: {delay} ms")
        kept = min(1.0, (KEPT - 1) / self.count) if self.count else 1.0  # the oldest fade
        count = self.count * kept + 1.0
        off = math.log(delay) - self.mean
        mean = self.mean + off / count
        return Delay(count=count, mean=mean, squares=self.squares * kept + off * (math.log(delay) - mean))


UNSEEN: Final = Delay()


class Believed(NamedTuple):
    """Wall time."""

    mean: Millis
    p90: Millis


def believed(delay: Delay, prior: Millis) -> Believed:
    """The posterior of the next delay. `prior`: what is believed of the median before anything was measured.

    Until the first measurement the belief is taken as it is, mean and p90 alike: it is somebody's word, and the word of
    a market that boots in no time must stay exact.
    """
    if delay.count <= 0:
        return Believed(prior, prior)
    if prior <= 0:
        return _log_normal(delay.mean, SIGMA**2)
    count = WEIGHT + delay.count
    off = delay.mean - math.log(prior)
    mean = math.log(prior) + delay.count / count * off
    spread = WEIGHT * SIGMA**2 + delay.squares + WEIGHT * delay.count / count * off**2
    return _log_normal(mean, spread / count)


def wait(delay: Delay, boot: Millis, restart: Millis) -> Believed:
    """Until a gang that is bought works: the typical boot, and what was measured once anything was."""
    return believed(delay, boot or restart) if delay.count > 0 else Believed(boot, boot)


def _log_normal(mean: float, variance: float) -> Believed:
    return Believed(
        Millis(round(math.exp(mean + variance / 2.0))), Millis(round(math.exp(mean + P90 * math.sqrt(variance))))
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """List prices of data that leaves a place, dollars per GB. Places: "aws", "aws/us-east-1" or a glob over them."""

    source: str
    target: str = ""  # "": any other place of the same provider
    within: float  # to another region of the same provider
    out: float | None = None  # to anywhere else; None: this route says nothing about that


@dataclass(frozen=True, slots=True)
class Egress:
    routes: tuple[Route, ...] = ()

    def per_gb(self, source: str, target: str) -> float | None:
        """From region to region ("aws/us-east-1"), by the most exact route; 0 within one; None: no price is known."""
        if source == target or not source:
            return 0.0
        return _priced(self, source, target)


@lru_cache(maxsize=4096)
def _priced(prices: Egress, source: str, target: str) -> float | None:
    provider = source.partition("/")[0]
    same = provider == target.partition("/")[0]
    best: tuple[bool, bool, float] | None = None
    for route in prices.routes:
        price = route.within if same else route.out
        exact = fnmatchcase(source, route.source)
        if price is None or not (exact or route.source == provider):
            continue
        if route.target and not fnmatchcase(target, route.target):
            continue
        found = (bool(route.target), exact, price)
        best = found if best is None else max(best, found)
    return None if best is None else best[2]


FREE: Final = Egress()
CHECKPOINT_BYTES: Final = 2.0  # per parameter besides the optimizer's state, where the size is not told: bf16 weights


def checkpoint_bytes(told: int, need: Need) -> float:
    """What a checkpoint weighs: as the job told, else by its model; 0 where nobody knows."""
    if told > 0 or need.model is None:
        return float(told)
    return need.model.parameters * (CHECKPOINT_BYTES + need.model.optimizer_bytes)


def egress(prices: Egress, source: str, target: str, size: float) -> MicroUsd:
    """What it costs to read a checkpoint of `size` bytes from another region. Unknown prices are not charged."""
    per_gb = prices.per_gb(source, target)
    return MicroUsd(round((per_gb or 0.0) * size / 1e9 * MICRO))
