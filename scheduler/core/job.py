"""What the user asked for, as the core sees it. wire/spec.py reads and checks the YAML and builds this."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from dsched.scheduler.core.market import Market
from dsched.scheduler.core.speed.model import Model
from dsched.scheduler.core.units import Instant, MicroUsd, MicroUsdPerHour, Millis


@dataclass(frozen=True, slots=True, kw_only=True)
class Need:
    """What the gang needs. Empty tuples mean "any"."""

    accelerators: tuple[str, ...] = ()  # acceptable GPU models
    gpus_min: int = 1  # the elastic range of the whole gang
    gpus_max: int = 1
    gpu_memory_gib: int = 0  # per GPU, at least
    nodes_max: int | None = None  # machines in the gang; None: as many as the operator allows
    fp8: bool = False  # may use FP8 where the chip has it (ranking)
    fp8_required: bool = False
    markets: tuple[Market, ...] = (Market.SPOT, Market.RESERVED, Market.ON_DEMAND)
    places: tuple[str, ...] = ()  # globs over "provider/zone", e.g. "local/us-east-1*"; any match is enough
    price_max: MicroUsdPerHour | None = None  # for the whole gang
    cpu_only: bool = False  # gpus: none; any shape will do
    model: Model | None = None  # what it trains; jobs of the same model share what was measured
    spot_share: float = 1.0  # of the job's machine hours, the most that may be spot


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpointing:
    uri: str = ""  # "": the daemon gives every job its own folder under the checkpoint root
    every: Millis | None = None  # wall; None: auto (Young-Daly from hazard and write time)


@dataclass(frozen=True, slots=True, kw_only=True)
class Spec:
    """One job. Durations and the deadline are market time; the drain and hang limits are wall time."""

    name: str
    run: str  # a shell command
    user: str = ""
    setup: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    secrets: Mapping[str, str] = field(
        default_factory=dict
    )  # variable -> reference ("file:/run/credentials/x", "env:NAME")
    image: str = ""  # of a container; "": none
    bundle: str = ""  # SHA-256 of the workdir's tar, "" when there is none
    need: Need = Need()
    ranks_per_node: int = 1
    deadline: Instant | None = None
    duration: Millis | None = None  # expected work on the reference shape, where the user knows it
    duration_max: Millis | None = None
    cost_max: MicroUsd | None = None
    priority: int = 0  # higher first
    budget: str = "default"
    checkpoint: Checkpointing = Checkpointing()
    retries: int = 4  # own failures in a row without a newer checkpoint; interruptions are not counted
    retry_on: tuple[int, ...] = ()  # exit codes worth a retry; empty: all but 78
    drain: Millis = Millis(10_000)  # wall: SIGTERM to SIGKILL
    hang: Millis = Millis(300_000)  # wall: a rank that has spoken is hung after so much silence without CPU; 0: never
    steps: int | None = None  # total, where the user knows it; the job may report it
