"""A whole daemon in numbers, from outside: submissions, starts, kills, notices, memory, commands, stalls.

    .venv/bin/python bench/daemon.py [--quick] [part ...]

Real processes on the embedded cloud, in a temporary folder; nothing of them is left afterwards.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from bench.figure import FILE, Figure, hand_over, table  # noqa: E402
from bench.machine import Machine  # noqa: E402
from bench.parts import crowd, jobs, start, submit  # noqa: E402
from bench.parts.home import FULL, QUICK, Part  # noqa: E402

PARTS: Final[dict[str, Part]] = {
    "submit": submit.rates,
    "slow": submit.slow_disk,
    "hogs": submit.beside_hogs,
    "empty": start.empty,
    "many": start.many,
    "running": jobs.to_running,
    "kills": jobs.kills,
    "training": jobs.training,
    "commands": crowd.commands,
    "stalls": crowd.stalls,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of: {', '.join(PARTS)}")
    parser.add_argument("--quick", action="store_true", help="fewer and shorter")
    wanted = parser.parse_args()
    unknown = set(wanted.parts) - PARTS.keys()
    if unknown:
        parser.error(f"no such part: {', '.join(sorted(unknown))}; there are {', '.join(PARTS)}")
    found = measure(wanted.parts or list(PARTS), quick=wanted.quick)
    if FILE not in os.environ:  # else whoever started this shows them with the others
        print(table(found))


def measure(parts: list[str], *, quick: bool) -> list[Figure]:
    figures = []
    with tempfile.TemporaryDirectory(prefix="dsched-bench-") as folder:
        print(f"machine: {Machine.now(Path(folder))}", flush=True)
        for name in parts:
            began = time.monotonic()
            found = list(PARTS[name](Path(folder) / name, QUICK if quick else FULL))
            hand_over(found)
            figures += found
            print(f"{name}: {time.monotonic() - began:.0f} s", flush=True)
        print(f"machine: {Machine.now(Path(folder))}\n", flush=True)
    return figures


if __name__ == "__main__":
    main()
