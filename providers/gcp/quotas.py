"""What this project may run: accelerators per model and region, as `regions.get` tells limits and use.

Where no preemptible quota was ever granted (its limit is 0), spot machines use the ordinary one, as the documentation
has it: then both markets share it. Google tells nothing here of its newest models; their launches find out.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from dsched.providers.base import Node, NodeStatus
from dsched.providers.gcp.names import PROVIDER
from dsched.providers.gcp.rows import Limit
from dsched.scheduler.core.quota import Quota

SHAPES: Final[Mapping[str, str]] = {  # metric -> glob of the machine types that draw on it
    "NVIDIA_A100_GPUS": "a2-[hm]*gpu-*",
    "NVIDIA_A100_80GB_GPUS": "a2-ultragpu-*",
    "NVIDIA_H100_GPUS": "a3-[eh]*gpu-*",
    "NVIDIA_H100_MEGA_GPUS": "a3-megagpu-*",
    "NVIDIA_H200_GPUS": "a3-ultragpu-*",
    "NVIDIA_B200_GPUS": "a4-highgpu-*",
    "NVIDIA_L4_GPUS": "g2-*",
}
SPOT: Final = "PREEMPTIBLE_"
_EITHER: Final = "[so]*"  # spot and on-demand; what is reserved has quota of its own


def quotas(limits: Iterable[Limit], nodes: Iterable[Node], gpus: Mapping[str, int]) -> list[Quota]:
    """`nodes`: ours, whose use is counted by whoever asks; `gpus`: of each machine type, as far as known."""
    by_place = {(limit.region, limit.metric): limit for limit in limits}
    living = [node for node in nodes if node.status is not NodeStatus.GONE]
    found = []
    for (region, metric), limit in sorted(by_place.items()):
        shapes = SHAPES.get(metric.removeprefix(SPOT))
        if shapes is None:
            continue
        twin = by_place.get((region, SPOT + metric.removeprefix(SPOT)))
        shared = twin is None or twin.limit <= 0
        if metric.startswith(SPOT) and shared:
            continue  # the ordinary one says it all
        markets = _EITHER if shared else "spot" if metric.startswith(SPOT) else "on-demand"
        pattern = f"{PROVIDER}/{region}/{shapes}/{markets}"
        quota = Quota(pattern, round(limit.limit), "gpus", metric)
        ours = sum(gpus.get(node.pool.shape, 0) for node in living if quota.covers(node.pool))
        others = max(0, round(limit.used) - ours)
        found.append(quota._replace(limit=max(0, quota.limit - others)))
    return found
