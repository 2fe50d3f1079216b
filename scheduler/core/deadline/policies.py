"""The deadline policies by name: what a user may ask for and a bench may compare."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final

from dsched.scheduler.core.deadline.baselines import Greedy, OnDemand, TimeSliced, UniformProgress
from dsched.scheduler.core.deadline.skynomad import SkyNomad
from dsched.scheduler.core.deadline.slack import SlackPolicy
from dsched.scheduler.core.deadline.view import DeadlinePolicy

POLICIES: Final[Mapping[str, Callable[[], DeadlinePolicy]]] = MappingProxyType(
    {
        "on-demand": OnDemand,
        "greedy": Greedy,
        "time-sliced": TimeSliced,
        "up": UniformProgress,
        "up-s": lambda: UniformProgress(name="up-s", switch=True),
        "skynomad": SkyNomad,
        "slack": SlackPolicy,
    }
)


def named(name: str) -> DeadlinePolicy:
    """The policy of that name, without the safety net. Raises ValueError that lists the names."""
    maker = POLICIES.get(name)
    if maker is None:
        raise ValueError(f"no deadline policy is called {name!r}; there are {', '.join(sorted(POLICIES))}")
    return maker()
