"""The places that the made-up market sells from. The ids are as the two clouds write them; the rest is invented."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from dsched.scheduler.core.units import Millis

NOTICE: Final = {"aws": Millis(120_000), "gcp": Millis(30_000)}  # before a spot node is taken, as the clouds promise
PRICE_EVERY: Final = {
    "aws": 5.0,
    "gcp": 720.0,
}  # hours between changes of a spot price: AWS drifts, Google sets monthly
SWING: Final = {"aws": 0.05, "gcp": 0.12}  # one change, relative


@dataclass(frozen=True, slots=True, kw_only=True)
class Zone:
    cloud: str  # whose ways it has: "aws" or "gcp"
    region: str
    name: str  # AWS: the zone id
    shapes: tuple[str, ...]
    dearness: float = 1.0  # on-demand price against the region that the catalog lists
    reserved: tuple[tuple[str, int], ...] = ()  # (shape, slots) held for us


RESERVED_SHARE: Final = 0.55  # of on-demand: about what a one-year commitment costs
ON_DEMAND_DEPTH: Final = 32  # nodes of one shape and zone; on-demand runs out too, only later
DEPTH: Final = {"H100": 6, "H200": 4, "B200": 4, "A100-80": 8, "A100-40": 8}  # spot nodes at most; others DEPTH_ELSE
DEPTH_ELSE: Final = 12

_AWS: Final = ("c7i.xlarge", "g4dn.xlarge", "g6.xlarge", "g6e.xlarge", "p4d.24xlarge", "p5.48xlarge")
_GCP: Final = ("c3-standard-4", "g2-standard-4", "a2-highgpu-1g", "a2-ultragpu-1g", "a3-highgpu-8g")

ZONES: Final = (
    Zone(cloud="aws", region="us-east-1", name="use1-az1", shapes=_AWS),
    Zone(cloud="aws", region="us-east-1", name="use1-az4", shapes=(*_AWS, "g5.xlarge", "p6-b200.48xlarge")),
    Zone(
        cloud="aws", region="us-east-2", name="use2-az3", shapes=_AWS, reserved=(("p5.48xlarge", 2), ("g6.xlarge", 4))
    ),
    Zone(cloud="aws", region="us-west-2", name="usw2-az2", shapes=(*_AWS, "p5en.48xlarge")),
    Zone(cloud="gcp", region="us-central1", name="us-central1-a", shapes=_GCP, reserved=(("a3-highgpu-8g", 2),)),
    Zone(cloud="gcp", region="us-central1", name="us-central1-c", shapes=_GCP),
    Zone(cloud="gcp", region="europe-west4", name="europe-west4-b", shapes=_GCP, dearness=1.10),
    Zone(cloud="gcp", region="us-east5", name="us-east5-a", shapes=_GCP, dearness=1.05),
)
