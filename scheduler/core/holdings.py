"""What holds cost and what was made of them, by the ledger: the sunk cost, and the machines that used the slots."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from dsched.scheduler.core.hold import AS, KIND
from dsched.scheduler.core.snapshot import LedgerEntry
from dsched.scheduler.core.units import Charge, Millis


@dataclass(slots=True)
class Holding:
    """Sums over a window."""

    name: str
    pool: str  # the glob
    paid: Charge = Charge(0)
    had: Millis = Millis(0)  # machine time that was paid for
    used: Millis = Millis(0)  # of it, what ran; what ran in an hour that is not booked yet counts already
    beside: Charge = Charge(0)  # what ran would have cost on demand

    @property
    def share(self) -> float:
        """Of the slots' time that was used, 0..1."""
        return min(1.0, self.used / self.had) if self.had else 0.0


def holdings(entries: Iterable[LedgerEntry]) -> tuple[Holding, ...]:
    """One for each hold of which a cost is booked, by name."""
    found: dict[str, Holding] = {}
    rest = []
    for entry in entries:
        if entry.kind != KIND:
            rest.append(entry)
            continue
        name = entry.node.removeprefix(f"{KIND}/")
        one = found.setdefault(name, Holding(name, entry.pool))
        one.paid = Charge(one.paid + entry.owed)
        one.had = Millis(one.had + machines(entry) * (entry.end - entry.start))
    for entry in rest:
        name = entry.source.removeprefix(AS).rpartition(":")[0] if entry.source.startswith(AS) else ""
        if name in found and entry.kind in ("compute", "minimum", "correction"):
            one, sign = found[name], -1 if entry.kind == "correction" else 1
            one.used = Millis(one.used + sign * (entry.end - entry.start))
            one.beside = Charge(one.beside + entry.baseline)
    return tuple(found[name] for name in sorted(found))


def machines(entry: LedgerEntry) -> int:
    """How many a booked hold is, by its source."""
    return int(entry.source.split(" ")[1])
