"""What was sold: launches and their nodes, as a fold of the journal's records. No process, no clock, no socket."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Final

from dsched.providers.base import EndReason, Launch, Node, NodeRef, NodeStatus
from dsched.providers.local.codec import launch_from, launch_to
from dsched.providers.local.journal import Record
from dsched.providers.local.proc import Process
from dsched.providers.local.tree import Isolation, Roots
from dsched.scheduler.core.market import Pool
from dsched.scheduler.core.units import Instant, Millis

REMEMBERED: Final = Millis(24 * 3_600_000)  # wall; tokens and dead nodes are known this long after the last one's end
REMEMBERED_MAX: Final = 10_000  # dead launches; beyond, the oldest are forgotten first


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """One node and all that is needed to find it again."""

    id: str  # the provider's id
    name: str  # the node id: token and index
    index: int
    sale: str  # token
    pool: Pool
    port: int  # of its metadata service
    roots: Roots
    isolation: Isolation
    boot: str  # boot id of the host
    launched: Instant  # market
    lease_until: Instant  # wall
    notice: Instant | None = None  # wall: taken at
    rebalance: Instant | None = None  # wall: told at
    ending: EndReason | None = None  # decided; the proof is still to come
    ended: Instant | None = None  # market
    ended_wall: Instant | None = None
    ended_by: EndReason | None = None

    @property
    def alive(self) -> bool:
        return self.ended is None

    def node(self) -> Node:
        status = NodeStatus.RUNNING if self.ending is None else NodeStatus.STOPPING
        return Node(
            ref=NodeRef(self.pool.provider, self.id),
            token=self.sale,
            index=self.index,
            pool=self.pool,
            status=status if self.alive else NodeStatus.GONE,
            launched_at=self.launched,
            ended_at=self.ended,
            ended_by=self.ended_by,
        )


@dataclass(slots=True)
class Fleet:
    """Launches by token, machines by id."""

    sales: dict[str, Launch] = field(default_factory=dict)
    machines: dict[str, Machine] = field(default_factory=dict)

    def of(self, token: str) -> list[Machine]:
        return [self.machines[node_id(self.sales[token], index)] for index in range(self.sales[token].count)]

    def alive(self) -> Iterator[Machine]:
        return (machine for machine in self.machines.values() if machine.alive)

    def used(self) -> Counter[Pool]:
        return Counter(machine.pool for machine in self.alive())

    def started(self, token: str) -> bool:
        """The launch has its machines; one without was under way when the cloud died, and left nothing."""
        return token in self.sales and node_id(self.sales[token], 0) in self.machines

    def apply(self, record: Record) -> None:
        """Fold one record; kinds that do not concern the fleet are ignored."""
        match record["kind"]:
            case "sale":
                want = launch_from(record["want"])
                self.sales[want.token] = want
            case "void":
                del self.sales[record["token"]]
            case "machines":
                for raw in record["machines"]:
                    machine = _machine_from(raw, self.sales[raw["sale"]])
                    self.machines[machine.id] = machine
            case "lease":
                for one in record["ids"]:
                    self._change(one, lease_until=Instant(record["until"]))
            case "notice":
                self._change(record["id"], notice=Instant(record["deadline"]))
            case "rebalance":
                self._change(record["id"], rebalance=Instant(record["at"]))
            case "ending":
                self._change(record["id"], ending=EndReason(record["by"]))
            case "gone":
                self._change(
                    record["id"],
                    ended=Instant(record["market"]),
                    ended_wall=Instant(record["wall"]),
                    ended_by=EndReason(record["by"]),
                )
            case _:
                pass

    def records(self, wall: Instant) -> Iterator[Record]:
        """The shortest journal that folds into this fleet, less what need not be remembered any more."""
        for token in self._remembered(wall):
            yield sale_record(self.sales[token])
            yield machines_record(self.of(token))

    def _remembered(self, wall: Instant) -> list[str]:
        started = [token for token in self.sales if self.started(token)]
        dead: dict[str, int] = {}
        for token in started:
            ends = [machine.ended_wall for machine in self.of(token)]
            if all(end is not None for end in ends):
                dead[token] = max(end for end in ends if end is not None)
        kept = sorted((token for token in dead if wall - dead[token] < REMEMBERED), key=dead.__getitem__)
        forgotten = dead.keys() - set(kept[-REMEMBERED_MAX:])
        return [token for token in started if token not in forgotten]

    def _change(self, one: str, **changes: Any) -> None:
        self.machines[one] = replace(self.machines[one], **changes)


def fold(records: Iterable[Record]) -> Fleet:
    fleet = Fleet()
    for record in records:
        fleet.apply(record)
    return fleet


def sale_record(want: Launch) -> Record:
    return {"kind": "sale", "want": launch_to(want)}


def machines_record(machines: Iterable[Machine]) -> Record:
    return {"kind": "machines", "machines": [_machine_to(machine) for machine in machines]}


def node_id(want: Launch, index: int) -> str:
    """The provider's id, from the token alone: AWS-like "i-<17 hex digits>", GCP-like "zone/name"."""
    if want.pool.zone.startswith(want.pool.region):
        return f"{want.pool.zone}/dsched-{want.token}-{index}"
    return f"i-{hashlib.sha256(f'{want.token}.{index}'.encode()).hexdigest()[:17]}"


def same(one: Launch, other: Launch) -> bool:
    """Byte for byte the same request."""
    return json.dumps(launch_to(one), sort_keys=True) == json.dumps(launch_to(other), sort_keys=True)


def _machine_to(machine: Machine) -> Record:
    raw = asdict(machine)
    del raw["pool"]
    return raw


def _machine_from(raw: Record, want: Launch) -> Machine:
    roots = Roots(outer=Process(**raw["roots"]["outer"]), init=Process(**raw["roots"]["init"]))
    reasons = {name: raw[name] and EndReason(raw[name]) for name in ("ending", "ended_by")}
    isolation = Isolation(raw["isolation"])
    return Machine(**{**raw, **reasons, "roots": roots, "isolation": isolation, "pool": want.pool})
