"""Between the provider port's types and the core's messages: plain functions, no decisions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from dsched.providers import base
from dsched.scheduler.core.message import LaunchRefused, LaunchUnanswered, RefusedBy, SeenNode
from dsched.scheduler.core.units import SECOND, Millis

REFUSALS: Final = {
    base.Capacity: RefusedBy.CAPACITY,
    base.Quota: RefusedBy.QUOTA,
    base.Price: RefusedBy.PRICE,
    base.Auth: RefusedBy.AUTH,
    base.Invalid: RefusedBy.INVALID,
}
ENDS: Final = {  # what the core calls the end of a machine
    base.EndReason.ASKED: "asked",
    base.EndReason.INTERRUPTED: "interrupted",
    base.EndReason.LEASE: "lease",
    base.EndReason.FAILED: "failed",
}


def seen(nodes: Sequence[base.Node]) -> tuple[SeenNode, ...]:
    return tuple(
        SeenNode(
            ref=node.ref.id,
            token=node.token,
            index=node.index,
            pool=node.pool,
            alive=node.status is not base.NodeStatus.GONE,
            launched=node.launched_at,
            ended=node.ended_at,
            ended_by=ENDS[node.ended_by] if node.ended_by else "",
        )
        for node in nodes
    )


def failed(intent: str, error: base.ProviderError) -> LaunchRefused | LaunchUnanswered:
    """A typed error as the fact that it is. Throttled and Ambiguous leave the intent open."""
    by = REFUSALS.get(type(error))
    if by is None:
        return LaunchUnanswered(intent=intent, why=str(error), retry=Millis(max(error.cooldown, SECOND)))
    scope = "pool" if error.scope is base.Scope.REQUEST else str(error.scope)
    return LaunchRefused(intent=intent, by=by, why=str(error), scope=scope, cooldown=error.cooldown)
