"""Which machines are ours, and how those that are gone have ended.

The list of machines names the living. A deleted machine is on no list: operations tell that it was there and what
ended it. An interruption wins over every other cause, since whoever deletes what is left of a machine comes later.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Final

from dsched.providers.base import EndReason, Node, NodeRef, NodeStatus, ProviderError, Scope
from dsched.providers.gcp.names import PROVIDER, TOKEN, label, parse
from dsched.providers.gcp.rows import Happening, Machine
from dsched.scheduler.core.units import HOUR, MINUTE, Instant, Millis

REMEMBERED: Final = Millis(24 * HOUR)  # an end is told this long; after a restart it is found for as long
BLIND_MAX: Final = Millis(10 * MINUTE)  # so long a zone that does not answer is told as it was; leases are longer
LATE: Final = Millis(HOUR // 6)  # an operation may be listed so much later than it began

_STATUS: Final = {
    "PENDING": NodeStatus.PENDING,
    "PROVISIONING": NodeStatus.PENDING,
    "STAGING": NodeStatus.PENDING,
    "RUNNING": NodeStatus.RUNNING,
    "REPAIRING": NodeStatus.RUNNING,
    "TERMINATED": NodeStatus.GONE,
    "STOPPED": NodeStatus.GONE,
    "SUSPENDED": NodeStatus.GONE,
}
_CAUSES: Final = {  # the first that is found counts
    "compute.instances.preempted": EndReason.INTERRUPTED,
    "compute.instances.terminateOnHostMaintenance": EndReason.INTERRUPTED,
    "compute.instances.hostError": EndReason.FAILED,
    "compute.instances.guestTerminate": EndReason.ASKED,  # its own agent left
    "delete": EndReason.ASKED,
}


def ref_of(zone: str, machine: str) -> NodeRef:
    return NodeRef(PROVIDER, f"{zone}/{machine}")


def node_of(machine: Machine) -> Node | None:
    """A living machine as a node; None: its name or its label is not ours."""
    named = parse(machine.name, machine.zone)
    if named is None or machine.labels.get(TOKEN) != label(named.token):
        return None
    return Node(
        ref=ref_of(machine.zone, machine.name),
        token=named.token,
        index=named.number,
        pool=named.pool,
        status=_STATUS.get(machine.status, NodeStatus.STOPPING),
        launched_at=machine.born,
    )


class Roll:
    """What one process knows. `update` takes a complete list of machines and the operations since `since`."""

    def __init__(self) -> None:
        self._nodes: dict[NodeRef, Node] = {}
        self._looked: Instant | None = None  # up to here operations are known
        self._whole: Instant | None = None  # the last list that reached every zone

    def since(self, now: Instant) -> Instant:
        """From when on operations have to be asked for."""
        return Instant(now - REMEMBERED) if self._looked is None else Instant(self._looked - LATE)

    def bear(self, blind: Collection[str], now: Instant) -> None:
        """Zones that no list reaches are told as they were, for a while. Raises where nothing is known of them."""
        if not blind:
            self._whole = now
        elif self._whole is None or now - self._whole > BLIND_MAX:
            raise ProviderError("Unreachable", ", ".join(sorted(blind)), scope=Scope.REGION)

    def puzzled(self, machines: Sequence[Machine], blind: Collection[str] = ()) -> bool:
        """Something ended and the list does not say how, or nothing is known yet."""
        listed = {ref_of(one.zone, one.name): one for one in machines}
        nodes = [node for node in self._nodes.values() if node.pool.zone not in blind]
        alive = (node.ref for node in nodes if node.status is not NodeStatus.GONE)
        ended = (one for one in machines if _STATUS.get(one.status) is NodeStatus.GONE)
        known = (self.known(ref_of(one.zone, one.name)) for one in ended)
        return (
            self._looked is None
            or any(ref not in listed for ref in alive)
            or any(node is None or node.status is not NodeStatus.GONE for node in known)
        )

    def nodes(self) -> list[Node]:
        """All that is known, the dead too."""
        return list(self._nodes.values())

    def known(self, ref: NodeRef) -> Node | None:
        return self._nodes.get(ref)

    def remember(self, node: Node) -> None:
        """A machine that a launch made. What is known of its end stays."""
        before = self._nodes.get(node.ref)
        if before is None or before.status is not NodeStatus.GONE:
            self._nodes[node.ref] = node

    def update(
        self,
        machines: Sequence[Machine],
        happened: Sequence[Happening] | None,
        now: Instant,
        blind: Collection[str] = (),
    ) -> list[Node]:
        """All of ours, the recently dead too. `happened` None: nothing was puzzling, so nobody asked."""
        if happened is not None:
            self._looked = now
        ends = _ends(happened or ())
        births = {ref_of(one.zone, one.machine): one.began for one in happened or () if one.kind == "insert"}
        listed = [node for node in map(node_of, machines) if node is not None]
        for node in listed:
            self._nodes[node.ref] = self._seen(node, ends, now)
        unseen = (node for node in self._nodes.values() if node.pool.zone in blind)
        living = {node.ref for node in (*listed, *unseen)}
        for ref, end in ends.items():
            if ref not in living:
                self._bury(ref, end, births.get(ref, end.began))
        self._forget(now)
        return [node for node in self._nodes.values() if node.ref in living or _told(node, ends)]

    def _seen(self, node: Node, ends: Mapping[NodeRef, Happening], now: Instant) -> Node:
        """As listed; a machine that is off is over, though its disk is still there."""
        before = self._nodes.get(node.ref)
        if node.status is not NodeStatus.GONE:
            return node
        if before is not None and before.status is NodeStatus.GONE:
            return before
        end = ends.get(node.ref)
        return _ended(node, end) if end is not None else replace(node, ended_at=now, ended_by=EndReason.FAILED)

    def _bury(self, ref: NodeRef, end: Happening, born: Instant) -> None:
        """Neither listed nor alive. One that this process never saw is known by its name."""
        node = self._nodes.get(ref)
        if node is None and (named := parse(end.machine, end.zone)) is not None:
            node = Node(
                ref=ref,
                token=named.token,
                index=named.number,
                pool=named.pool,
                status=NodeStatus.STOPPING,
                launched_at=born,
            )
        if node is not None and node.status is not NodeStatus.GONE:
            self._nodes[ref] = _ended(node, end) if end.over is not None else replace(node, status=NodeStatus.STOPPING)

    def _forget(self, now: Instant) -> None:
        old = [
            ref for ref, node in self._nodes.items() if node.ended_at is not None and now - node.ended_at > REMEMBERED
        ]
        for ref in old:
            del self._nodes[ref]


def _told(node: Node, ends: Mapping[NodeRef, Happening]) -> bool:
    """Off the list: dead, or about to be. One that vanished without a trace is not told of: absence proves nothing."""
    return node.status is NodeStatus.GONE or node.ref in ends


def _ends(happened: Iterable[Happening]) -> dict[NodeRef, Happening]:
    """Of each machine the operation that counts as its end."""
    ranks, ends = {kind: rank for rank, kind in enumerate(_CAUSES)}, dict[NodeRef, Happening]()
    for one in happened:
        ref = ref_of(one.zone, one.machine)
        if one.kind in ranks and not one.failed:
            best = ends.get(ref)
            if best is None or ranks[one.kind] < ranks[best.kind]:
                ends[ref] = one
    return ends


def _ended(node: Node, end: Happening) -> Node:
    """The system deletes by itself only what has run its time."""
    by = EndReason.LEASE if end.kind == "delete" and end.user == "system" else _CAUSES[end.kind]
    at = max(end.over or end.began, node.launched_at)
    return replace(node, status=NodeStatus.GONE, ended_at=at, ended_by=by)
