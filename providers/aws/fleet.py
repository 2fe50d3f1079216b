"""The machines of one region: listed by tag, remembered while they live, ended one by one where a batch is refused."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace
from typing import Any, Final

from dsched.providers.aws.client import Account
from dsched.providers.aws.compute import CLUSTER, TOKEN, node_from
from dsched.providers.aws.errors import named_in
from dsched.providers.aws.zones import Zones
from dsched.providers.base import EndReason, Invalid, Node, NodeStatus
from dsched.scheduler.core.units import HOUR, Instant, Millis

FILTER_MAX: Final = 200  # values of one filter, EC2's limit
END_MAX: Final = 100  # machines of one TerminateInstances; a call may name a thousand, but one bad id fails all
TOMB: Final = Millis(2 * HOUR)  # EC2 lists a dead machine for about one
WARNED_MAX: Final = 10_000


class Fleet:
    """`listed_at` is when the last complete list was asked for."""

    def __init__(self, account: Account, region: str, cluster: str) -> None:
        self._account, self.region, self.cluster = account, region, cluster
        self._known: dict[str, Node] = {}  # instance id -> as it was seen last
        self._warned: set[str] = set()  # EC2 has said that it takes them
        self.listed_at: Instant | None = None

    async def look(self, zones: Zones, now: Instant, tokens: Collection[str] | None = None) -> list[Node]:
        """All of ours or those of `tokens`, the recently dead too. Raises ProviderError, never a shorter list."""
        found: dict[str, Node] = {}
        for asked in [None] if tokens is None else _slices(sorted(tokens), FILTER_MAX):
            more = [] if asked is None else [_filter(f"tag:{TOKEN}", asked)]
            found |= self._nodes(await self._rows([self._ours, *more]), zones, now)
        lost = [name for name, node in self._known.items() if name not in found and _wanted(node, tokens)]
        for names in _slices(lost, FILTER_MAX):  # a dead machine loses its tags before it leaves the list
            found |= self._nodes(await self._rows([_filter("instance-id", names)]), zones, now)
        self._known |= found
        if tokens is None:
            self.listed_at = now
            self._forget(now)
        return list(found.values())

    def told(self, rows: Iterable[Any], zones: Zones, now: Instant) -> list[Node]:
        """The machines of a launch's answer, remembered."""
        nodes = self._nodes(rows, zones, now)
        self._known |= nodes
        return sorted(nodes.values(), key=lambda node: node.index)

    def remembered(self) -> list[Node]:
        """As they were seen last."""
        return list(self._known.values())

    def warned(self, name: str) -> None:
        """EC2 takes it: should it end itself before, it was interrupted all the same."""
        if len(self._warned) < WARNED_MAX:
            self._warned.add(name)

    async def terminate(self, names: Collection[str]) -> None:
        """End those of them that are ours; the unknown and the dead are fine."""
        ours = [name for name in names if name in self._known]
        for unsure in _slices(sorted(set(names) - set(ours)), FILTER_MAX):
            rows = await self._rows([self._ours, _filter("instance-id", unsure)])
            ours += [row["InstanceId"] for row in rows]
        living = [n for n in ours if n not in self._known or self._known[n].status is not NodeStatus.GONE]
        for batch in _slices(sorted(living), END_MAX):
            await self._end(batch)

    async def _end(self, names: Sequence[str]) -> None:
        """One unknown id fails all of a batch: without it, once more."""
        while names:
            try:
                await self._account.change("ec2", self.region, "terminate_instances", InstanceIds=list(names))
                return
            except Invalid as error:
                bad = named_in(error)
                if not error.code.startswith("InvalidInstanceID") or not bad & set(names):
                    raise
                names = [name for name in names if name not in bad]

    @property
    def _ours(self) -> dict[str, Any]:
        return _filter(f"tag:{CLUSTER}", [self.cluster])

    async def _rows(self, filters: list[dict[str, Any]]) -> list[Any]:
        pages = await self._account.rows("ec2", self.region, "describe_instances", "Reservations", Filters=filters)
        return [row for reservation in pages for row in reservation["Instances"]]

    def _nodes(self, rows: Iterable[Any], zones: Zones, now: Instant) -> dict[str, Node]:
        found: dict[str, Node] = {}
        for row in rows:
            name = row["InstanceId"]
            node = node_from(row, self.region, zones, before=self._known.get(name), now=now)
            if node is None:
                continue
            by_itself = row.get("StateReason", {}).get("Code") == "Client.InstanceInitiatedShutdown"
            if node.ended_by is EndReason.ASKED and by_itself and name in self._warned:
                node = replace(node, ended_by=EndReason.INTERRUPTED)
            found[name] = node
        return found

    def _forget(self, now: Instant) -> None:
        """The long dead."""
        for name, node in [*self._known.items()]:
            if node.ended_at is not None and now - node.ended_at > TOMB:
                del self._known[name]
                self._warned.discard(name)


def _wanted(node: Node, tokens: Collection[str] | None) -> bool:
    return node.status is not NodeStatus.GONE and (tokens is None or node.token in tokens)


def _filter(name: str, values: Sequence[str]) -> dict[str, Any]:
    return {"Name": name, "Values": list(values)}


def _slices(values: Sequence[str], size: int) -> list[Sequence[str]]:
    return [values[start : start + size] for start in range(0, len(values), size)]
