"""How long a command takes from the shell: median wall time of ten, beside a bare interpreter. `python bench/cli.py`

The daemon is a scripted one on a unix socket in another thread, so its answers cost next to nothing here.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from bench.figure import Figure, hand_over
from tests.support.fake_api import FakeApi, Request, serving
from tests.tui import fleet

ROUNDS = 10
GOALS_S = {"dsched --help": 0.15, "dsched ps": 0.20}


def median(command: list[str], environ: dict[str, str]) -> float:
    took = []
    for _ in range(ROUNDS + 1):  # the first one only warms the file cache
        began = time.perf_counter()
        subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environ, check=False)
        took.append(time.perf_counter() - began)
    return statistics.median(took[1:])


def scripted(api: FakeApi, jobs: int) -> None:
    rows = fleet.jobs(jobs)
    api.on("GET", "/v1/health", fleet.health(rows))
    lines = [json.dumps(row) for row in rows]

    def listed(request: Request) -> bytes:
        """As the daemon does: so many, a row on each line, and how many more there are."""
        most = int(request.query["limit"])
        head = f'{{"v":1,"more":{max(0, jobs - most)},"items":['
        return (head + ",\n".join(lines[:most]) + "]}").encode()

    api.on("GET", "/v1/jobs", listed)
    api.on("POST", "/v1/plan", fleet.plan())


def main() -> None:
    dsched = str(Path(sys.executable).with_name("dsched"))
    with tempfile.TemporaryDirectory() as folder, serving(Path(folder) / "api.sock") as api:
        spec = Path(folder) / "job.yaml"
        spec.write_text("name: bench\nrun: python train.py\ngpus: {type: H100, count: 8}\n")
        scripted(api, 20)
        environ = os.environ | {"DSCHED_SERVER": str(api.path)}
        rows = {
            "python -c pass": [sys.executable, "-c", "pass"],
            "dsched --help": [dsched, "--help"],
            "dsched ps": [dsched, "ps"],
            "dsched ps -o json": [dsched, "ps", "-o", "json"],
            "dsched plan job.yaml": [dsched, "plan", str(spec)],
        }
        print(f"load {os.getloadavg()[0]:.2f}, median of {ROUNDS}")
        for name, command in rows.items():
            report(name, median(command, environ))
        scripted(api, 10_000)
        for name in ("dsched ps", "dsched ps -o json"):
            report(f"{name}, 10,000 jobs", median(rows[name], environ))


def report(name: str, seconds: float) -> None:
    goal = GOALS_S.get(name)
    verdict = "" if goal is None else f"   goal {goal * 1000:.0f} ms: {'met' if seconds < goal else 'MISSED'}"
    print(f"{name:<24} {seconds * 1000:7.0f} ms{verdict}")
    if goal is not None:
        hand_over([Figure(name=f"{name}, scripted daemon", value=seconds * 1e3, unit="ms", goal=goal * 1e3)])


if __name__ == "__main__":
    main()
