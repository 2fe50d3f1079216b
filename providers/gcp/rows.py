"""What Compute Engine tells, as plain values: no object of Google's library leaves client.py."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

from dsched.scheduler.core.units import Instant


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    name: str
    zone: str
    status: str  # PROVISIONING, STAGING, RUNNING, STOPPING, TERMINATED, ...
    labels: dict[str, str]
    born: Instant


@dataclass(frozen=True, slots=True, kw_only=True)
class Happening:
    """An operation on one machine: the only trace of one that is gone."""

    machine: str
    zone: str
    kind: str  # "insert", "delete", "compute.instances.preempted", ...
    user: str
    began: Instant
    over: Instant | None  # None: still under way
    failed: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """Of an operation that we asked for."""

    operation: str
    zone: str
    done: bool
    errors: tuple[tuple[str, str], ...]  # code, message


@dataclass(frozen=True, slots=True, kw_only=True)
class MachineType:
    name: str
    zone: str
    vcpus: int
    memory_mib: int
    chip: str  # accelerator type; "": none
    chips: int
    disks: int  # bundled local SSD partitions of 375 GiB


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """A reservation of ours: capacity that is paid for whether it is used or not."""

    name: str
    zone: str
    shape: str
    count: int
    used: int
    specific: bool  # only taken by machines that name it
    until: Instant | None  # when it ends; None: open
    bound: bool = False  # booked by the calendar: only for machines that are bound to it, and end with it


@dataclass(frozen=True, slots=True, kw_only=True)
class Promised:
    """Committed use: so many accelerators, paid for whether they are used or not."""

    name: str
    region: str
    years: int
    chip: str  # accelerator type of the API
    count: int
    until: Instant


@dataclass(frozen=True, slots=True, kw_only=True)
class Limit:
    """A quota of a region."""

    region: str
    metric: str  # NVIDIA_H100_GPUS, PREEMPTIBLE_NVIDIA_H100_GPUS, CPUS, ...
    limit: float
    used: float


def instant(text: str) -> Instant:
    """RFC 3339 as Google writes it, with the offset of California."""
    at = datetime.fromisoformat(text.replace("Z", "+00:00"))
    return Instant(round(at.replace(tzinfo=at.tzinfo or UTC).timestamp() * 1_000))


def last(url: str) -> str:
    """The resource's own name at the end of its URL."""
    return url.rpartition("/")[2]
