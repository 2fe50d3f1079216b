"""Between the provider port's types and the core's messages: plain functions, no decisions.

The daemon's executor and the simulator both speak to clouds through these.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from dsched.providers import base
from dsched.scheduler.core.message import (
    Launched,
    LaunchRefused,
    LaunchUnanswered,
    NodeNoticed,
    RefusedBy,
    SeenNode,
)
from dsched.scheduler.core.snapshot import Intent, State
from dsched.scheduler.core.units import SECOND, Millis
from dsched.scheduler.log import log

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


def launch_of(intent: Intent, cluster: str, user_data: str) -> base.Launch:
    """The call for an intent: byte-identical whenever it is repeated."""
    return base.Launch(
        token=intent.id,
        pool=intent.pool,
        count=intent.count,
        user_data=user_data,
        lease_until=intent.lease_until,
        price_max=intent.price_max,
        tags={"dsched:cluster": cluster, "dsched:token": intent.id},
    )


async def launched(provider: base.Provider, want: base.Launch) -> Launched | LaunchRefused | LaunchUnanswered:
    """Make the call; its answer as a fact."""
    try:
        return Launched(intent=want.token, nodes=seen(await provider.launch(want)))
    except base.ProviderError as error:
        log.info("launch.failed", intent=want.token, pool=want.pool.id, error=str(error))
        return failed(want.token, error)


def noticed(state: State, provider: str, notice: base.Notice) -> list[NodeNoticed]:
    """What a hint of an interruption says to the core; empty for any other hint."""
    if notice.kind is not base.NoticeKind.INTERRUPT or notice.ref is None or notice.deadline is None:
        return []
    ref, deadline = notice.ref.id, notice.deadline
    return [
        NodeNoticed(node=node.id, deadline=deadline, source="provider")
        for node in state.nodes.values()
        if node.ref == ref and node.pool.provider == provider
    ]


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
