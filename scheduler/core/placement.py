"""What the planner is asked, what it must heed, and what it answers for one job.

A `Question` is a snapshot: whoever asks may go on living while it is answered. Instants in it are market time; the few
durations that belong to machines (leases, boots, restarts) are wall time and become market time by `scale`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final, NamedTuple, Protocol

from dsched.scheduler.core.discount import Discount
from dsched.scheduler.core.hardware import Accelerator
from dsched.scheduler.core.hold import Hold
from dsched.scheduler.core.market import Market, Offer, Pool
from dsched.scheduler.core.power import NOTHING_KNOWN, Facts
from dsched.scheduler.core.quota import Left, Quota
from dsched.scheduler.core.snapshot import Job, PoolMemory
from dsched.scheduler.core.speed.posterior import Measured
from dsched.scheduler.core.units import HOUR, MINUTE, SECOND, Charge, MicroUsdPerHour, Millis

LARGE: Final = 2_000  # offers above which reports keep the best of them and count the others; see fleetplan/brief.py


class Share(NamedTuple):
    """A user's part of the fleet."""

    used: float  # micro-dollars, old ones faded
    weight: float


class Promise(NamedTuple):
    """What the rest of a machine's lease may cost, and the budget that has set it aside."""

    budget: str
    charge: Charge


def aside(promised: Mapping[str, Promise], budget: str, reserve: Charge, nodes: Iterable[str], of: int) -> Charge:
    """What `budget` must set aside yet for a gang of so many with this reserve, of which `nodes` are ours already.

    What another budget has promised for a node is not lent: it stays aside there until the node has changed hands. Nor
    is what a dear lease has promised beyond the node's own part: it stays dear, and buys nothing for the others.
    """
    ours, part = (promised[node] for node in nodes if node in promised), reserve // of
    return Charge(max(0, reserve - sum(min(one.charge, part) for one in ours if one.budget == budget)))


class Dice(Protocol):
    """Chance, handed in like the clock; random.Random fits."""

    def random(self) -> float: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """What the operator wants of every plan. Raises ValueError for a number that no plan could heed."""

    name: str = "least-cost"  # in every report, so that a stored decision tells which rules made it
    stale_after: Millis = Millis(2 * HOUR)
    """Market. An older quote of spot is refused. Prices move a few times a day; one missed refresh is forgiven."""
    stale_list: Millis = Millis(7 * 24 * HOUR)
    """Market. The same for on-demand and reserved: list prices move a few times a year, and a job whose deadline is
    near must be able to buy while nobody answers for prices."""
    lease: Millis = Millis(20 * MINUTE)
    """Wall. Each grant, so what is set aside before a launch: the most that a machine outlives a dead daemon."""
    restart: Millis = Millis(5 * SECOND)
    """Wall. Lost at each interruption besides the offer's own boot time: detect, restore, first step."""
    write: Millis = Millis(2 * SECOND)
    """Wall. One checkpoint's stall, until the job has told its own."""
    checkpoint_max: Millis = Millis(30 * MINUTE)
    """Wall. The longest automatic interval: hazards are estimates, and half an hour is all we bet on one."""
    cooldown: Millis = Millis(20 * MINUTE)
    """Market. After an interruption the pool is not asked again: half of the measured outages last longer than this."""
    hazard_spot: float = 0.46
    """Interruptions per market hour of a spot pool of which nothing is known: what the public traces show per hour of
    capacity being there. A pool that is seen to last is soon believed to be far calmer; see hazard.py."""
    hazard_failure: float = 0.00016
    """Machines also just die: 419 unexpected failures of 2,048 nodes in 54 days (Llama 3 report, 2024)."""
    hazard_weight: float = 2.0
    """Expected interruptions that a prior is worth: after two of them our own evidence counts as much as any word."""
    hazard_half_life: Millis = Millis(24 * HOUR)
    """Market. Evidence of a pool counts half after this: zones change their mood within days."""
    spot_ceiling: float = 2.0
    """A lease in a spot pool reserves this many times the quote, at most the on-demand price: it may rise meanwhile."""
    reuse_premium: float = 1.25
    """An idle node of ours is taken before buying, unless it costs this many times the best offer: it starts at once,
    and is being paid for, but a long job would pay the difference for ever."""
    nodes_max: int = 64
    """Nodes in one gang. Larger ones need placement groups, which the providers do not offer yet."""
    urgent: Millis = Millis(2 * HOUR)
    """Market. In a crowd, a job with less slack than this is served by its deadline, ahead of what others may save."""
    patience: Millis = Millis(24 * HOUR)
    """Market. In a crowd, a job that has waited so long is served by its age: nobody is passed over for ever."""
    deadline_policy: str = "slack"
    """What decides for jobs with a deadline and known work, within the safety net; see deadline/policies.py."""
    revisit: Millis = Millis(10 * MINUTE)
    """Market. A job with a deadline is looked at again after this at the latest: as the published rules have it."""
    revisit_wall: Millis = Millis(SECOND // 2)
    """Wall. And not sooner than this, however fast the market of an embedded cloud runs."""
    launch_fails: Millis = Millis(MINUTE)
    """Wall. A launch that fails is seen to fail within this: two time limits of a provider's call."""
    stretch: float = 1.25
    """The safety net reckons with this many times the 90th percentile of changeovers: the promise holds up to there."""
    move_margin: float = 0.03
    """Share of what staying is expected to cost that a move must save beyond its own cost: less is within our error."""
    move_cooldown: Millis = Millis(30 * MINUTE)
    """Market. A job stays so long where it is before it is moved for money: prices swing faster than moves pay."""
    moves_free: int = 2
    """Moves for money that every job may make at once; further ones must be earned by `moves_each`."""
    moves_each: Millis = Millis(4 * HOUR)
    """Market. One more move for money per so much running time: a move costs minutes of a gang, hours pay for it."""
    energy_price: float = 0.0
    """Dollars that a kWh weighs in the objective, beside what is paid; 0: energy does not matter."""
    carbon_price: float = 0.0
    """Dollars that a tonne of CO2 weighs in the objective."""
    discounts: tuple[Discount, ...] = ()
    """What our contracts take off list prices."""
    facts: Facts = field(default=NOTHING_KNOWN, repr=False, compare=False)
    """Public prices of egress and the carbon of grids."""
    preempt_after: Millis = Millis(2 * MINUTE)
    """Wall. A job that finds nothing waits so long before it takes nodes from lower ones: capacity comes and goes."""
    preempt_ran: Millis = Millis(10 * MINUTE)
    """Wall. What has run for less is not preempted: it would spend its life starting."""
    preempt_max: int = 3
    """Times that one job is preempted; after that it keeps what it has."""
    share_half_life: Millis = Millis(24 * HOUR)
    """Market. Spend so long ago counts half when users are compared."""
    quotas: tuple[Quota, ...] = ()
    """What our accounts may run at a time."""
    solver: Millis = Millis(0)
    """Wall. So long jobs wait for a better plan than the greedy one, where there may be one; 0: no solver is asked."""
    solver_margin: float = 0.02
    """Share of what the greedy plan costs that a better one must save: less is within our error."""
    held: tuple[Hold, ...] = ()
    """Capacity that is paid for whether it is used or not."""
    weights: tuple[tuple[str, float], ...] = ()
    """User -> weight of the fair share; 1 where nothing is said."""
    spot_shares: tuple[tuple[str, float], ...] = ()
    """Glob over users -> of each of his jobs' machine hours, the most that may be spot; the first match holds."""
    placements_max: int = 100
    """Placements in one pass, so that it stays short and events are heard in between; the rest waits for the next."""

    def stale_in(self, market: Market) -> Millis:
        """How old a quote of this market may be."""
        return self.stale_after if market is Market.SPOT else self.stale_list

    def __post_init__(self) -> None:
        positive: tuple[str, ...] = ("stale_after", "lease", "write", "checkpoint_max", "nodes_max", "placements_max")
        positive += (
            "share_half_life",
            "hazard_weight",
            "hazard_half_life",
            "stale_list",
            "revisit",
            "revisit_wall",
            "moves_each",
        )
        weights = ("energy_price", "carbon_price")
        for name in (
            *positive,
            *weights,
            "restart",
            "cooldown",
            "hazard_spot",
            "hazard_failure",
            "urgent",
            "patience",
            "preempt_after",
            "preempt_ran",
            "preempt_max",
        ):
            number = getattr(self, name)
            if not math.isfinite(number) or number < 0 or (number == 0 and name in positive):
                raise ValueError(f"policy.{name}: {number} must be a finite number {_BOUND[name in positive]}")
        if any(not (math.isfinite(weight) and weight > 0) for _, weight in self.weights):
            raise ValueError(f"policy.weights: {self.weights}: a weight must be a finite number above 0")
        if any(not 0 <= share <= 1 for _, share in self.spot_shares):
            raise ValueError(f"policy.spot_shares: {self.spot_shares}: a share must be a number of 0 to 1")
        for name in ("spot_ceiling", "reuse_premium", "stretch"):
            if not (math.isfinite(getattr(self, name)) and getattr(self, name) >= 1):
                raise ValueError(f"policy.{name}: {getattr(self, name)} must be a finite number of at least 1")


_BOUND: Final = {True: "above 0", False: "of at least 0"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """The jobs to place now, and all that a plan may use for them."""

    jobs: tuple[Job, ...]  # queued, or draining and in need of a replacement
    offers: Mapping[str, Offer]  # by pool id
    idle: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  # pool id -> nodes of ours, ready, without a job
    pools: Mapping[str, PoolMemory] = field(default_factory=dict)
    room: Mapping[str, Charge | None] = field(default_factory=dict)
    """Budget name -> what is left to reserve; below 0 once a limit was cut. None, or absent: nobody has set one."""
    remaining: Mapping[str, float] = field(default_factory=dict)
    """Job id -> work left in reference hours (see rank.py). Absent: what the spec's duration says, if anything."""
    scale: float = 1.0  # market ms per wall ms
    accelerators: Mapping[str, Accelerator] = field(default_factory=dict)
    """The catalog's models, so that the reference does not depend on what is on sale; others are read off offers."""
    speeds: Mapping[str, Measured] = field(default_factory=dict)  # by model
    columns: object = field(default=None, compare=False)
    """fleetplan.columns.Columns of these offers, where somebody has made them already."""
    promised: Mapping[str, Promise] = field(default_factory=dict)
    """Node that may be reused -> what its lease sets aside already. Absent: nothing that any limit counts."""
    quotas: tuple[Left, ...] = ()
    """Of the policy's, what the machines that we have leave."""
    shares: Mapping[str, Share] = field(default_factory=dict)
    """By user, what was used lately, and the weight. Empty: all users are equal."""

    def market(self, wall: Millis) -> Millis:
        """A wall duration in market time."""
        return Millis(round(wall * self.scale))


class Placement(NamedTuple):
    """Where a job's gang runs next: all of it, in one pool."""

    job: str
    generation: int  # of the job when this was decided; the attempt gets the next one
    pool: Pool
    nodes: int
    reuse: tuple[str, ...]  # idle nodes of ours, taken first
    buy: int  # nodes to launch; len(reuse) + buy == nodes
    gpus: int
    world_size: int
    price: MicroUsdPerHour  # the whole gang, now
    price_max: MicroUsdPerHour  # per node, within the lease; for the launch and for the reservation
    budget: str
    reserve: Charge  # price_max x nodes x (lease + drain), to set aside before anything is spent
    checkpoint_every: Millis  # wall
