"""Objects of Google's library as plain rows: nothing else reads them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

from dsched.providers.gcp.rows import Happening, Held, Machine, MachineType, Progress, Promised, instant, last
from dsched.scheduler.core.units import Instant


def machine(row: Any) -> Machine:
    return Machine(
        name=row.name,
        zone=last(row.zone),
        status=row.status,
        labels=dict(row.labels),
        born=instant(row.creation_timestamp),
    )


def happening(row: Any) -> Happening:
    return Happening(
        machine=last(row.target_link),
        zone=last(row.zone),
        kind=row.operation_type,
        user=row.user,
        began=instant(row.insert_time),
        over=instant(row.end_time) if row.end_time else None,
        failed=bool(row.error.errors),
    )


def progress(row: Any) -> Progress:
    return Progress(
        operation=row.name,
        zone=last(row.zone),
        done=row.status.name == "DONE",
        errors=tuple((one.code, one.message) for one in row.error.errors),
    )


def machine_type(row: Any) -> MachineType:
    chips = list(row.accelerators)
    return MachineType(
        name=row.name,
        zone=last(row.zone),
        vcpus=row.guest_cpus,
        memory_mib=row.memory_mb,
        chip=chips[0].guest_accelerator_type if chips else "",
        chips=chips[0].guest_accelerator_count if chips else 0,
        disks=row.bundled_local_ssds.partition_count,
    )


def promised(row: Any) -> Iterator[Promised]:
    """One for each kind of accelerator; cores and memory go with the machines and are not told."""
    for resource in row.resources:
        if resource.type_ == "ACCELERATOR":
            yield Promised(
                name=row.name,
                region=last(row.region),
                years=3 if row.plan == "THIRTY_SIX_MONTH" else 1,
                chip=last(resource.accelerator_type),
                count=resource.amount,
                until=instant(row.end_timestamp),
            )


def bookings(row: Any) -> Iterator[tuple[tuple[str, str], Callable[[Held], Held]]]:
    """A booking in calendar mode takes its machines with it when it ends; any other only stops holding the place."""
    end = instant(row.time_window.end_time) if row.time_window.end_time else None
    calendar = row.reservation_mode == "CALENDAR"

    def add(held: Held) -> Held:
        ends = [at for at in (held.until, end if calendar else None) if at is not None]
        return replace(held, until=min(ends, default=None), bound=calendar)

    for name in row.status.auto_created_reservations:
        yield (last(row.zone), last(name)), add


def interval(row: Any) -> tuple[Instant, Instant]:
    """Both ends; an interval need not have them: then since ever, or until now."""
    begin, end = row.interval.start_time, row.interval.end_time
    now = Instant(time.time_ns() // 1_000_000)
    return instant(begin) if begin else Instant(0), instant(end) if end else now


def micro(money: Any) -> int:
    return int(money.units) * 1_000_000 + round(int(money.nanos) / 1_000)


def held(row: Any) -> Held:
    specific = row.specific_reservation
    return Held(
        name=row.name,
        zone=last(row.zone),
        shape=last(specific.instance_properties.machine_type),
        count=specific.count,
        used=specific.in_use_count,
        specific=row.specific_reservation_required,
        until=instant(row.delete_at_time) if row.delete_at_time else None,
    )
