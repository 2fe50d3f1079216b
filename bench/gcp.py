"""What Google Cloud costs the daemon: its library in time and memory, and a full refresh of prices for every GPU type.

    .venv/bin/python bench/gcp.py

The real client library against the fake in a process of its own, over HTTP; the price list is as long as the real one.
"""

from __future__ import annotations

import argparse
import asyncio
import subprocess
import sys
import time
from pathlib import Path
from typing import Final

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import psutil

from bench.figure import Figure, hand_over, table
from dsched.providers.gcp.provider import GcpProvider
from dsched.providers.gcp.settings import Settings

ROWS: Final = 30_000  # of the price list; the real one had about so many
REGIONS: Final = ("us-central1", "us-east4", "us-west1", "europe-west4", "asia-southeast1", "asia-northeast1")
ZONES: Final = tuple(f"{region}-{letter}" for region in REGIONS for letter in "abc")
ROUNDS: Final = 3


def serve() -> None:
    """The fake, until its standard input ends."""
    from tests.support.gce.catalog import every_accelerator, machine_types, skus
    from tests.support.gce.cloud import Gce
    from tests.support.gce.rest import FakeGce

    rows = skus(REGIONS, every=True)
    padding = [{**rows[-1], "description": f"Network Egress number {n}"} for n in range(ROWS - len(rows))]
    with FakeGce(
        Gce(shapes=machine_types(ZONES, every_accelerator()), skus=[*padding, *rows]), page_size=5_000
    ) as front:
        sys.stdout.write(front.url + "\n")
        sys.stdout.flush()
        sys.stdin.read()


async def measure(url: str) -> tuple[float, float, int, float]:
    """Seconds to the first offers, seconds of a later refresh, offers, MiB that all of it added."""
    settings = Settings(
        project="fake-project",
        regions=REGIONS,
        endpoint=url,
        billing_endpoint=url,
        advice=False,
        prices_seconds=1e-6,
    )
    before, process = psutil.Process().memory_info().rss, psutil.Process()
    provider = GcpProvider(settings, "bench")
    began = time.perf_counter()
    offers = await provider.offers()
    first, later = time.perf_counter() - began, []
    for _ in range(ROUNDS):
        began = time.perf_counter()
        await provider.offers()
        later.append(time.perf_counter() - began)
    await provider.close()
    return first, sorted(later)[ROUNDS // 2], len(offers), (process.memory_info().rss - before) / 2**20


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    if parser.parse_args().serve:
        return serve()
    command = [sys.executable, __file__, "--serve"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as fake:
        assert fake.stdout is not None
        first, later, offers, mib = asyncio.run(measure(fake.stdout.readline().strip()))
        fake.communicate("")
    figures = [
        Figure(name="gcp: library loaded and first offers", value=first, unit="s"),
        Figure(name="gcp: full refresh of prices", value=later, unit="s", note=f"{offers} quotes from {ROWS:,} rows"),
        Figure(name="gcp: quotes", value=offers / later, unit="/s"),
        Figure(name="gcp: memory of library and prices", value=mib, unit="MiB", goal=160.0),
    ]
    print(table(figures))
    hand_over(figures)


if __name__ == "__main__":
    main()
