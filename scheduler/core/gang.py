"""A gang that was valued, as something to take."""

from __future__ import annotations

from collections.abc import Iterable

from dsched.scheduler.core.market import Pool
from dsched.scheduler.core.placement import Placement
from dsched.scheduler.core.report import Value
from dsched.scheduler.core.snapshot import Job
from dsched.scheduler.core.units import Millis


def placement(job: Job, pool: Pool, value: Value, idle: Iterable[str], scale: float) -> Placement:
    """Of the `idle` machines of ours there the first by name, as many as the gang has use for; the rest to buy.

    `scale`: market ms per wall ms.
    """
    reuse = tuple(sorted(idle)[: value.nodes])
    return Placement(
        job=job.id,
        generation=job.generation,
        pool=pool,
        nodes=value.nodes,
        reuse=reuse,
        buy=value.nodes - len(reuse),
        gpus=value.gpus,
        world_size=value.nodes * job.spec.ranks_per_node,
        price=value.price,
        price_max=value.ceiling,
        budget=job.spec.budget,
        reserve=value.reserve,
        checkpoint_every=Millis(max(1, round(value.every / scale))),
    )
