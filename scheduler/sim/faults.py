"""What may go wrong in a simulation, by name. Rates are per call unless they say otherwise."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from dsched.providers.fake.provider import Mishap
from dsched.scheduler.core.units import HOUR, MINUTE, SECOND, Millis

Rates = Mapping[str, Mapping[Mishap, float]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Faults:
    """All off by default."""

    name: str = "none"
    calls: Rates = field(default_factory=dict)  # operation of the provider -> what happens to it
    doubled: float = 0.0  # an answer comes twice
    late: float = 0.0  # an answer comes up to `late_max` later
    late_max: Millis = Millis(2 * MINUTE)
    lag: Millis = Millis(0)  # until a new machine or an end shows in a list
    silent: float = 0.0  # of interruptions: they come without notice
    mute: float = 0.0  # of machines: their agent never comes up
    undead: float = 0.0  # of ends that we asked for: the machine runs on for `undead_for`
    undead_for: Millis = Millis(20 * MINUTE)
    crash: float = 0.0  # deaths of the daemon per day
    away: Millis = Millis(30 * SECOND)  # until it is started again, at most
    drought: float = 0.0  # per pool and day: it carries nothing for `drought_for`, at most
    drought_for: Millis = Millis(6 * HOUR)


FAULTS: Final = {
    faults.name: faults
    for faults in (
        Faults(),
        Faults(name="launches", calls={"launch": {Mishap.CAPACITY: 0.3, Mishap.THROTTLED: 0.05}}),
        Faults(name="crashes", crash=24.0),
        Faults(
            name="rough",
            calls={
                "launch": {
                    Mishap.CAPACITY: 0.1,
                    Mishap.THROTTLED: 0.05,
                    Mishap.LOST_BEFORE: 0.05,
                    Mishap.LOST_AFTER: 0.05,
                },
                "nodes": {Mishap.PAGE_LOST: 0.05, Mishap.THROTTLED: 0.05},
                "offers": {Mishap.THROTTLED: 0.05},
                "terminate": {Mishap.LOST_BEFORE: 0.1, Mishap.LOST_AFTER: 0.1},
                "renew": {Mishap.LOST_BEFORE: 0.05},
            },
            doubled=0.05,
            late=0.1,
            lag=Millis(5 * SECOND),
            silent=0.2,
            mute=0.02,
            undead=0.02,
            crash=6.0,
            drought=0.2,
        ),
    )
}
