"""What a daemon weighs with both clouds on: ten regions of AWS, every GPU type of Google Cloud, real client libraries.

    .venv/bin/python bench/clouds.py

A real daemon against moto behind its door and the fake of Compute Engine, each a process of its own, in a temporary
folder. Memory is what is resident after two full refreshes and while it fills in the past; CPU is the daemon's alone.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Final

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import psutil

from bench import aws, gcp
from bench.figure import Figure, hand_over, table
from bench.machine import Machine
from tests.support.awscloud.process import CREDENTIALS, AwsCloud
from tests.support.house import House, Late, wait_for

SHAPES: Final = 20
REFRESHES: Final = 2
PATIENCE_S: Final = 240.0
CONFIG: Final = """\
local = false
prices_seconds = 5.0
[aws]
regions = {regions}
shapes = {shapes}
endpoint = "{aws}"
[gcp]
project = "fake-project"
regions = {gcp_regions}
endpoint = "{gcp}"
billing_endpoint = "{gcp}"
prices_seconds = 5.0
advice = false
tpus = true
"""


def main() -> None:
    command = [sys.executable, str(Path(gcp.__file__)), "--serve"]
    with (
        tempfile.TemporaryDirectory(prefix="dsched-bench-") as folder,
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as fake,
    ):
        print(f"machine: {Machine.now(Path(folder))}", flush=True)
        cloud = AwsCloud()
        try:
            assert fake.stdout is not None
            shapes = aws.kinds(SHAPES)
            aws.fill(cloud, aws.REGIONS, shapes)
            told = CONFIG.format(
                regions=list(aws.REGIONS),
                shapes=list(shapes),
                aws=cloud.url,
                gcp_regions=list(gcp.REGIONS),
                gcp=fake.stdout.readline().strip(),
            )
            figures = measure(Path(folder) / "s", told.replace("'", '"'))
        finally:
            cloud.close()
            fake.communicate("")
    print(table(figures))
    hand_over(figures)


def measure(state: Path, config: str) -> list[Figure]:
    house = House(state, environment=CREDENTIALS)
    state.mkdir()
    (state / "config.toml").write_text(config)
    began = time.perf_counter()
    try:
        house.start(wait=False)
        wait_for(lambda: len(_markets(house)) == 2, "both markets", patience=PATIENCE_S, every=0.2)
        ready = time.perf_counter() - began
        assert house.process is not None
        daemon = psutil.Process(house.process.pid)
        at_start = _cpu(daemon)
        offers = _markets(house)
        refreshed = _refreshed(house)
        spent = (_cpu(daemon) - at_start) / REFRESHES
        resident = daemon.memory_info().rss / 2**20
    except Late as late:
        raise Late(f"{late}\n{house.log.read_text()[-3_000:]}") from late
    finally:
        house.kill()
    note = f"{offers['aws']:,} offers of AWS, {offers['gcp']:,} of Google Cloud"
    return [
        Figure(name="clouds: start of the daemon -> ready with both markets", value=ready, unit="s", note=note),
        Figure(name="  CPU of the daemon until then", value=at_start, unit="s"),
        Figure(name="clouds: CPU of a refresh of Google Cloud, the past of AWS beside it", value=spent, unit="s"),
        Figure(name="clouds: prices refreshed in", value=refreshed, unit="s", note=f"{REFRESHES} times"),
        Figure(name="clouds: resident memory, both libraries loaded", value=resident, unit="MiB", goal=320.0),
    ]


def _markets(house: House) -> Counter[str]:
    return Counter(offer["provider"] for offer in house.client.offers())


def _refreshed(house: House) -> float:
    """Seconds until Google's prices are new so many times: those are asked anew each time."""
    began = time.perf_counter()
    for _ in range(REFRESHES):
        before = _quoted(house)
        wait_for(lambda before=before: _quoted(house) > before, "newer prices", patience=PATIENCE_S, every=0.2)
    return time.perf_counter() - began


def _quoted(house: House) -> float:
    """When the newest of Google's prices is from."""
    ages = [age for o in house.client.offers() if o["provider"] == "gcp" and (age := o["age_s"]) is not None]
    return round(time.time() - min(ages), 1)


def _cpu(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


if __name__ == "__main__":
    main()
