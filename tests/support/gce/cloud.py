"""Compute Engine in memory: machines, operations, capacity, quota, reservations. rest.py speaks HTTP for it.

Nothing happens by itself: every call first settles what is due by now, so that there is no timer and no thread. It
models the service as its reference describes it: a stockout is an error inside an operation that was accepted, a
machine whose termination action is DELETE leaves nothing but operations, timestamps are in Pacific time.
"""

from __future__ import annotations

import itertools
import re
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta, timezone
from typing import Any, Final

Json = dict[str, Any]

PACIFIC: Final = timezone(timedelta(hours=-8))
NAME: Final = re.compile(r"[a-z]([-a-z0-9]{0,61}[a-z0-9])?")
EXHAUSTED: Final = "ZONE_RESOURCE_POOL_EXHAUSTED_WITH_DETAILS"
RUN_SECONDS: Final = (30, 120 * 86_400)  # what maxRunDuration may be


class Refused(Exception):
    """An HTTP error of the API: status, reason, message."""

    def __init__(self, status: int, reason: str, message: str) -> None:
        super().__init__(message)
        self.status, self.reason, self.message = status, reason, message


@dataclass(slots=True)
class Operation:
    id: int
    zone: str
    kind: str  # "insert", "bulkInsert", "delete", "compute.instances.preempted", ...
    target: str  # the machine's name; "" for a whole zone
    born: float
    due: float
    user: str = "dsched@fake-project.iam.gserviceaccount.com"
    errors: list[tuple[str, str]] = field(default_factory=list)
    http: int = 0
    effect: Callable[[], None] | None = None
    done: bool = False

    @property
    def name(self) -> str:
        return f"operation-{self.id}"


@dataclass(slots=True)
class Machine:
    id: int
    zone: str
    name: str
    shape: str
    model: str  # SPOT, STANDARD, RESERVATION_BOUND
    body: Json  # as it was asked for
    born: float
    running_at: float
    status: str = "PROVISIONING"
    preempted: bool = False
    ends_at: float | None = None  # by maxRunDuration

    @property
    def metadata(self) -> dict[str, str]:
        return {item["key"]: item["value"] for item in self.body.get("metadata", {}).get("items", [])}

    @property
    def deletes(self) -> bool:
        return bool(self.body.get("scheduling", {}).get("instanceTerminationAction") == "DELETE")


@dataclass(slots=True)
class Gce:
    """One project. `capacity` counts machines in use, too; a pool that is absent there carries 1,000."""

    clock: Callable[[], float] = time.time
    boot: float = 0.1  # from insert to RUNNING
    notice: float = 0.3  # from the notice to the end; 30 s in life
    lag: float = 0.0  # how long a new machine stays off the aggregated list
    unreachable: set[str] = field(default_factory=set)  # zones that no list reaches
    notices_supported: bool = True  # preemptionNoticeDuration is known to the API
    capacity: dict[tuple[str, str, str], int] = field(default_factory=dict)  # (zone, shape, model)
    quotas: dict[tuple[str, str], int] = field(default_factory=dict)  # (region, metric) -> limit
    shapes: dict[str, dict[str, Json]] = field(default_factory=dict)  # zone -> name -> machineType
    firewalls: dict[str, Json] = field(default_factory=dict)  # name -> rule as it was asked for
    reservations: dict[tuple[str, str], Json] = field(default_factory=dict)  # (zone, name) -> resource
    bookings: dict[tuple[str, str], Json] = field(default_factory=dict)  # (zone, name): start, end, mode, reservations
    commitments: list[Json] = field(default_factory=list)  # name, region, plan, chip, count, end
    advice: dict[tuple[str, str], tuple[float, str]] = field(default_factory=dict)  # (zone, shape) -> score, uptime
    history: dict[tuple[str, str], list[float]] = field(default_factory=dict)  # (zone, shape) -> daily preemption rate
    listed: dict[tuple[str, str], list[float]] = field(default_factory=dict)  # (zone, shape) -> daily spot price, USD
    denied: set[str] = field(default_factory=set)  # permissions that the role lacks
    skus: list[Json] = field(default_factory=list)
    machines: dict[tuple[str, str], Machine] = field(default_factory=dict)
    operations: dict[str, Operation] = field(default_factory=dict)
    requests: dict[str, Operation] = field(default_factory=dict)  # requestId -> its operation
    changed: threading.Condition = field(default_factory=threading.Condition)
    _ids: Iterable[int] = field(default_factory=lambda: itertools.count(10**15))

    # What the API does.

    def create(self, zone: str, wanted: Mapping[str, Json], request: str, *, bulk: bool) -> Operation:
        """`wanted`: name -> properties, all or nothing. The same request id gives the same operation."""
        self.settle()
        if request in self.requests:
            return self.requests[request]
        self._admit(zone, wanted)
        kind, first = ("bulkInsert", "") if bulk else ("insert", next(iter(wanted)))
        body = next(iter(wanted.values()))
        shape, model = _shape(body), _model(body)
        if not self._room(zone, shape, model, body, len(wanted)):
            op = self.operate(zone, kind, first, self.boot / 3)
            op.errors, op.http = _stockout(zone, bulk), 503
        else:
            op = self.operate(zone, kind, first, self.boot)
            for name, one in wanted.items():
                self._put(zone, name, one)
                if bulk:
                    self.operate(zone, "insert", name, self.boot)
        if request:
            self.requests[request] = op
        return op

    def delete(self, zone: str, name: str) -> Operation:
        self.settle()
        machine = self.machine(zone, name)
        machine.status = "STOPPING"
        return self.operate(zone, "delete", name, self.boot / 3, effect=lambda: self._gone(machine))

    def machine(self, zone: str, name: str) -> Machine:
        found = self.machines.get((zone, name))
        if found is None:
            raise Refused(
                404, "notFound", f"The resource 'projects/fake-project/zones/{zone}/instances/{name}' was not found"
            )
        return found

    # What happens to machines.

    def preempt(self, zone: str, name: str, *, notice: bool = True) -> None:
        """The metadata service tells at once, the system's operation appears, the machine goes when it is done."""
        self.settle()
        machine = self.machines.get((zone, name))
        if machine is None or machine.preempted:
            return
        machine.preempted, machine.status = True, "STOPPING"
        lead = self.notice if notice else 0.0
        self.operate(zone, "compute.instances.preempted", name, lead, user="system", effect=lambda: self._down(machine))
        self.settle()

    def guest_exit(self, zone: str, name: str) -> None:
        """The machine powers itself off: the termination action does not apply, its disk stays."""
        machine = self.machine(zone, name)
        self.operate(zone, "compute.instances.guestTerminate", name, 0.0, user="system", effect=lambda: _off(machine))
        self.settle()

    def host_error(self, zone: str, name: str) -> None:
        machine = self.machine(zone, name)
        self.operate(zone, "compute.instances.hostError", name, 0.0, user="system", effect=lambda: _off(machine))
        self.settle()

    def used(self, zone: str, shape: str, model: str) -> int:
        return sum(
            1
            for machine in self.machines.values()
            if (machine.zone, machine.shape, machine.model) == (zone, shape, model) and machine.status != "TERMINATED"
        )

    def settle(self) -> None:
        """Bring about all that is due by now."""
        now = self.clock()
        for machine in list(self.machines.values()):
            if machine.status == "PROVISIONING" and now >= machine.running_at:
                machine.status = "RUNNING"
            if machine.ends_at is not None and now >= machine.ends_at and machine.status != "TERMINATED":
                machine.ends_at = None
                self.operate(machine.zone, "delete", machine.name, 0.0, user="system", effect=_downer(self, machine))
        for op in [op for op in self.operations.values() if not op.done and now >= op.due]:
            op.done = True
            if op.effect is not None:
                op.effect()

    def operate(
        self,
        zone: str,
        kind: str,
        target: str,
        lasting: float,
        *,
        user: str = "dsched@fake-project.iam.gserviceaccount.com",
        effect: Callable[[], None] | None = None,
    ) -> Operation:
        now = self.clock()
        op = Operation(next(iter(self._ids)), zone, kind, target, now, now + lasting, user, effect=effect)
        self.operations[op.name] = op
        return op

    def _put(self, zone: str, name: str, body: Json) -> None:
        now = self.clock()
        run = int(body.get("scheduling", {}).get("maxRunDuration", {}).get("seconds", 0))
        self.machines[zone, name] = Machine(
            id=next(iter(self._ids)),
            zone=zone,
            name=name,
            shape=_shape(body),
            model=_model(body),
            body=body,
            born=now,
            running_at=now + self.boot,
            ends_at=now + run if run else None,
        )

    def _admit(self, zone: str, wanted: Mapping[str, Json]) -> None:
        if zone not in self.shapes:
            raise Refused(404, "notFound", f"The resource 'projects/fake-project/zones/{zone}' was not found")
        for name, body in wanted.items():
            if (zone, name) in self.machines:
                raise Refused(
                    409,
                    "alreadyExists",
                    f"The resource 'projects/fake-project/zones/{zone}/instances/{name}' already exists",
                )
            if not NAME.fullmatch(name):
                raise Refused(400, "invalid", f"Invalid value for field 'resource.name': '{name}'.")
            self._valid(zone, body)
        self._within_quota(zone, next(iter(wanted.values())), len(wanted))

    def _valid(self, zone: str, body: Json) -> None:
        shape, scheduling = _shape(body), body.get("scheduling", {})
        if shape not in self.shapes[zone]:
            raise Refused(400, "invalid", f"Invalid value for field 'resource.machineType': '{shape}'.")
        spot, run = scheduling.get("provisioningModel") == "SPOT", scheduling.get("maxRunDuration")
        if spot and (scheduling.get("onHostMaintenance") != "TERMINATE" or scheduling.get("automaticRestart", True)):
            raise Refused(400, "invalid", "Scheduling must have onHostMaintenance=TERMINATE and no automaticRestart")
        if run is not None and not RUN_SECONDS[0] <= int(run["seconds"]) <= RUN_SECONDS[1]:
            raise Refused(400, "invalid", "Invalid value for field 'resource.scheduling.maxRunDuration'")
        if run is not None and "instanceTerminationAction" not in scheduling:
            raise Refused(400, "invalid", "A run duration needs an instanceTerminationAction")
        if self._calendar(zone, body) and scheduling.get("provisioningModel") != "RESERVATION_BOUND":
            raise Refused(400, "invalid", "A reservation in calendar mode takes machines that are bound to it")
        if "preemptionNoticeDuration" in scheduling and not (spot and self.notices_supported):
            raise Refused(400, "invalid", "Invalid value for field 'resource.scheduling.preemptionNoticeDuration'")

    def _calendar(self, zone: str, body: Json) -> bool:
        """Whether it asks for a place that was booked by the calendar."""
        asked = body.get("reservationAffinity", {}).get("values", [""])[0]
        booked = [one for (where, _), one in self.bookings.items() if where == zone and one["mode"] == "CALENDAR"]
        return any(asked in one["reservations"] for one in booked)

    def _within_quota(self, zone: str, body: Json, count: int) -> None:
        shape = self.shapes[zone][_shape(body)]
        prefix = "PREEMPTIBLE_" if _model(body) == "SPOT" else ""
        for chip in shape.get("accelerators", []):
            metric = prefix + metric_of(chip["guestAcceleratorType"])
            limit = self.quotas.get((_region(zone), metric))
            if limit is not None and self.usage(_region(zone), metric) + count * chip["guestAcceleratorCount"] > limit:
                message = f"Quota '{metric}' exceeded.  Limit: {limit:.1f} in region {_region(zone)}."
                raise Refused(403, "quotaExceeded", message)

    def usage(self, region: str, metric: str) -> int:
        """GPUs in use under one quota."""
        used: Counter[str] = Counter()
        for machine in self.machines.values():
            prefix = "PREEMPTIBLE_" if machine.model == "SPOT" else ""
            for chip in self.shapes[machine.zone][machine.shape].get("accelerators", []):
                if _region(machine.zone) == region:
                    used[prefix + metric_of(chip["guestAcceleratorType"])] += chip["guestAcceleratorCount"]
        return used[metric]

    def _room(self, zone: str, shape: str, model: str, body: Json, count: int) -> bool:
        affinity = body.get("reservationAffinity", {})
        if affinity.get("consumeReservationType") == "SPECIFIC_RESERVATION":
            held = self.reservations.get((zone, affinity["values"][0]))
            return held is not None and self.taken(zone, affinity["values"][0]) + count <= held["count"]
        return self.used(zone, shape, model) + count <= self.capacity.get((zone, shape, model), 1_000)

    def taken(self, zone: str, reservation: str) -> int:
        """Machines that fill a reservation."""
        return sum(
            machine.zone == zone and machine.body.get("reservationAffinity", {}).get("values") == [reservation]
            for machine in self.machines.values()
        )

    def _down(self, machine: Machine) -> None:
        if machine.deletes:
            self._gone(machine)
        else:
            _off(machine)

    def _gone(self, machine: Machine) -> None:
        if self.machines.get((machine.zone, machine.name)) is machine:
            del self.machines[machine.zone, machine.name]


def _downer(cloud: Gce, machine: Machine) -> Callable[[], None]:
    return lambda: cloud._down(machine)


def _off(machine: Machine) -> None:
    machine.status = "TERMINATED"


def _shape(body: Json) -> str:
    return str(body["machineType"]).rsplit("/", 1)[-1]


def _model(body: Json) -> str:
    return str(body.get("scheduling", {}).get("provisioningModel", "STANDARD"))


def _region(zone: str) -> str:
    return zone.rsplit("-", 1)[0]


def _stockout(zone: str, bulk: bool) -> list[tuple[str, str]]:
    message = f"The zone '{zone}' does not have enough resources available to fulfill the request."
    least = [("VM_MIN_COUNT_NOT_REACHED", "Requested minimum count of VMs could not be created.")] if bulk else []
    return [*least, (EXHAUSTED, message)]


def metric_of(chip: str) -> str:
    """The quota of an accelerator type: nvidia-tesla-a100 -> NVIDIA_A100_GPUS."""
    return chip.upper().replace("-", "_").replace("TESLA_", "") + "_GPUS"


def stamp(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).astimezone(PACIFIC).isoformat(timespec="milliseconds")
