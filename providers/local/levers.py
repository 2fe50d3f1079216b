"""Levers for demonstrations and tests: bend the market, take a machine, break a call. By socket or by script.

    interrupt   node= or pool=, notice=true|false, lead_ms=
    fail        node= or pool=
    rebalance   node= or pool=
    price       pool=, factor= (null: back to the market)
    capacity    pool=, count= (null: back to the market)
    quota       nodes= (null: as configured)
    fault       op=, error=throttled|auth|quota|invalid|lost-before|lost-after|hang, times=

`node` is a provider's id or a node id; `pool` is a shell pattern over pool ids and takes the oldest machine there.
A script is JSON lines: {"at": market seconds since the market's birth, "do": lever, ...}. A line that takes a machine
may say `age_ms`, how long (wall) its victim must have run; it waits until there is one.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Final

from dsched.providers.base import Auth, EndReason, Invalid, ProviderError, Quota, Scope, Throttled
from dsched.providers.local.cloud import Cloud
from dsched.providers.local.fleet import Machine
from dsched.scheduler.core.units import Millis

LINES_MAX: Final = 10_000  # of a script
FAULTS: Final[Mapping[str, Callable[[], ProviderError] | None]] = {
    "throttled": lambda: Throttled("RequestLimitExceeded", "injected"),
    "auth": lambda: Auth("UnauthorizedOperation", "injected", scope=Scope.ACCOUNT),
    "quota": lambda: Quota("MaxSpotInstanceCountExceeded", "injected", scope=Scope.REGION),
    "invalid": lambda: Invalid("InvalidParameterValue", "injected"),
    "lost-before": None,  # the connection breaks, nothing is done
    "lost-after": None,  # it is done, then the connection breaks
    "hang": None,  # no answer ever, nothing is done
}


class BadScript(Exception):
    """A script that cannot be played: which line, and why."""


@dataclass(slots=True)
class Fault:
    op: str
    error: str
    left: int


class Levers:
    """Pulls levers on one cloud. What must outlive a restart goes through the cloud's journal."""

    def __init__(self, cloud: Cloud) -> None:
        self._cloud = cloud
        self._faults: list[Fault] = []

    def pull(self, kind: str, what: Mapping[str, Any]) -> dict[str, Any]:
        """Returns what it touched. Raises Invalid."""
        cloud = self._cloud
        match kind:
            case "interrupt" | "fail" | "rebalance":
                machine = self.victim(what)
                if machine is None:
                    raise Invalid("NoSuchNode", f"nothing runs that fits {dict(what)}")
                self._take(kind, machine.id, what)
                return {"nodes": [machine.id]}
            case "price" | "capacity":
                pools = cloud.market.find(str(what.get("pool", "*")))
                if not pools:
                    raise Invalid("UnknownPool", f"no pool fits {what.get('pool')!r}")
                record = {"kind": kind, **{name: what.get(name) for name in ("pool", "factor", "count")}}
                bend(cloud, record)
                cloud.log(record)
                cloud.changed.set()
                return {"pools": [pool.id for pool in pools]}
            case "quota":
                nodes = what.get("nodes")
                cloud.quota = cloud.options.max_nodes if nodes is None else int(nodes)
                return {}
            case "fault":
                if what.get("error") not in FAULTS:
                    raise Invalid("UnknownFault", f"{what.get('error')!r}; one of {', '.join(FAULTS)}")
                self._faults.append(Fault(str(what["op"]), str(what["error"]), int(what.get("times", 1))))
                return {}
            case _:
                raise Invalid("UnknownLever", f"{kind!r}; see providers/local/levers.py")

    def fault(self, op: str) -> str | None:
        """The fault that this call meets, if any."""
        for fault in self._faults:
            if fault.op == op and fault.left > 0:
                fault.left -= 1
                return fault.error
        return None

    def victim(self, what: Mapping[str, Any]) -> Machine | None:
        """The machine that is named, or the oldest that fits."""
        node, pattern = what.get("node"), str(what.get("pool", "*"))
        for machine in self._cloud.fleet.alive():
            fits = node in (machine.id, machine.name) if node else fnmatchcase(machine.pool.id, pattern)
            if fits and machine.ending is None and machine.notice is None:
                return machine
        return None

    def _take(self, kind: str, one: str, what: Mapping[str, Any]) -> None:
        if kind == "fail":
            self._cloud.end(one, EndReason.FAILED)
        elif kind == "rebalance":
            self._cloud.rebalance(one)
        else:
            lead = what.get("lead_ms")
            self._cloud.interrupt(
                one, notice=bool(what.get("notice", True)), lead=None if lead is None else Millis(int(lead))
            )


def bend(cloud: Cloud, record: Mapping[str, Any]) -> None:
    """Bring a journalled price or capacity lever into force. Raises Invalid."""
    pools = cloud.market.find(str(record.get("pool") or "*"))
    try:
        if record["kind"] == "price":
            factor = record.get("factor")
            cloud.market.bend_price(pools, None if factor is None else float(factor))
        else:
            count = record.get("count")
            cloud.market.bend_capacity(pools, None if count is None else int(count))
    except (TypeError, ValueError) as problem:
        raise Invalid("InvalidLever", str(problem)) from problem


@dataclass(frozen=True, slots=True, kw_only=True)
class Cue:
    """One line of a script."""

    line: int
    at: Millis  # market time since the birth
    do: str
    what: Mapping[str, Any]


def read_script(path: Path) -> list[Cue]:
    """Raises BadScript."""
    cues = []
    for number, line in enumerate(path.read_text().splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        try:
            raw = json.loads(line)
            at, do = Millis(round(float(raw.pop("at")) * 1000)), str(raw.pop("do"))
        except (ValueError, TypeError, KeyError, AttributeError) as problem:
            raise BadScript(f'{path}:{number}: {problem}; a line is {{"at": seconds, "do": lever, ...}}') from problem
        cues.append(Cue(line=number, at=at, do=do, what=raw))
    if len(cues) > LINES_MAX:
        raise BadScript(f"{path}: {len(cues)} lines, at most {LINES_MAX}")
    return sorted(cues, key=lambda cue: (cue.at, cue.line))
