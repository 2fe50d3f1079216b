"""How long AWS's prices take over HTTP against moto behind its door: every shape of ten regions, cold and warm.

    .venv/bin/python bench/aws.py [--regions 10] [--shapes 20]

The server is Python too and shares the machine: what is measured is mostly it.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import psutil

from bench.figure import Figure, hand_over, table
from dsched.providers.aws import client
from dsched.providers.aws.provider import AwsProvider
from dsched.providers.aws.settings import Settings
from dsched.providers.catalog import load
from dsched.scheduler.core.units import Millis
from tests.support.awscloud.process import CREDENTIALS, AwsCloud

REGIONS = (
    *("us-east-1", "us-east-2", "us-west-2", "eu-west-1", "eu-central-1"),
    *("ap-northeast-1", "ap-southeast-1", "ap-south-1", "ca-central-1", "eu-north-1"),
)
STEPS = 24  # of every pool's price
ROUNDS = 3
PATIENCE_S = 120.0  # what the real one answers in a tenth, moto answers region by region in seconds


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--regions", type=int, default=len(REGIONS))
    parser.add_argument("--shapes", type=int, default=20)
    asked = parser.parse_args()
    client.READ_S = PATIENCE_S  # type: ignore[misc]
    os.environ.update(CREDENTIALS)
    cloud = AwsCloud()
    try:
        asyncio.run(_measure(cloud, REGIONS[: asked.regions], asked.shapes))
    finally:
        cloud.close()
    return 0


def kinds(count: int) -> tuple[str, ...]:
    """So many GPU shapes."""
    known = sorted(name for name, one in load().listings.items() if one.provider == "aws" and one.shape.gpus)
    more = (
        "g5.2xlarge",
        "g5.4xlarge",
        "g5.8xlarge",
        "g5.16xlarge",
        "g6.2xlarge",
        "g6.4xlarge",
        "g6.8xlarge",
        "g6e.2xlarge",
    )
    return (*known, *(name for name in more if name not in known))[:count]


def fill(cloud: AwsCloud, regions: tuple[str, ...], shapes: tuple[str, ...]) -> None:
    """A day of prices for every shape in three zones of every region."""
    now = time.time()
    for region in regions:
        for shape in shapes:
            cloud.pull("on_demand", shape=shape, region=region, usd=10.0)
        steps = [
            (shape, region + zone, now - 3_600 * step, 3 + step / 100)
            for shape in shapes
            for zone in "abc"
            for step in range(STEPS)
        ]
        cloud.pull("prices", steps=steps)


async def _measure(cloud: AwsCloud, regions: tuple[str, ...], count: int) -> None:
    shapes = kinds(count)
    fill(cloud, regions, shapes)
    process = psutil.Process()
    before, took = process.memory_info().rss, []
    settings = Settings(regions=regions, shapes=shapes, endpoint=cloud.url, spot_every=Millis(0))
    provider = AwsProvider(settings, "bench")
    for _ in range(ROUNDS + 1):
        began = time.perf_counter()
        offers = len(await provider.offers())
        took.append(time.perf_counter() - began)
    later, mib = sorted(took[1:])[ROUNDS // 2], (process.memory_info().rss - before) / 2**20
    note = f"{offers} offers of {len(shapes)} shapes in {len(regions)} regions"
    figures = [
        Figure(name="aws: library loaded and first offers", value=took[0], unit="s", note=note),
        Figure(name="aws: refresh of spot prices", value=later, unit="s"),
        Figure(name="aws: quotes", value=offers / later, unit="/s"),
        Figure(name="aws: memory of library and prices", value=mib, unit="MiB", goal=100.0),
    ]
    print(table(figures))
    hand_over(figures)


if __name__ == "__main__":
    sys.exit(main())
