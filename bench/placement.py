"""How close deadline policies come to the cheapest that perfect foresight allows, over a folder of market traces.

    .venv/bin/python bench/placement.py --traces DIR [--seed N] [--json FILE] [--policy NAME ...] [--per-job] [--jobs N]

Every policy plays the same jobs: slacks 1.1 to 3, changeovers of 3 to 12 minutes, single zones at three price ratios
and sets of zones at their own prices. A cell's ratio is the sum of costs over the sum of optima. --smoke: 200 jobs.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before numpy comes: the workers are the parallelism
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from bench.parts.placing import POLICIES, Plan, play, smoke
from bench.parts.placing_report import as_json, report
from dsched.scheduler.sim.trace import BadTrace


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--traces", type=Path, required=True, help="folder of dsched.trace/1 files")
    parser.add_argument("--seed", type=int, default=11, help="of the jobs' starts")
    parser.add_argument("--json", type=Path, help="write summary and cells to this file")
    parser.add_argument("--policy", nargs="+", default=[], metavar="NAME", help=f"of {', '.join(POLICIES)}; all")
    parser.add_argument("--per-job", action="store_true", help="also write every job's start, zones, cost and optimum")
    parser.add_argument("--jobs", type=int, default=40, help="per cell")
    parser.add_argument("--workers", type=int, default=2, help="processes")
    parser.add_argument("--only", default="", help="sets whose name holds this")
    parser.add_argument("--smoke", action="store_true", help="200 jobs, for a quick look")
    given = parser.parse_args()
    if unknown := [name for name in given.policy if name not in POLICIES]:
        parser.error(f"no policy is called {unknown[0]!r}; there are {', '.join(POLICIES)}")
    if given.jobs < 1 or given.workers < 1:
        parser.error("--jobs and --workers must be at least 1")
    names = tuple(given.policy) or tuple(POLICIES)
    plan = Plan(traces=given.traces, seed=given.seed, jobs=given.jobs, policies=names, only=given.only)
    try:
        played = smoke(plan) if given.smoke else play(plan, workers=given.workers)
    except BadTrace as e:
        print(e, file=sys.stderr)
        return 2
    for line in report(played):
        print(line)
    if given.json:
        given.json.write_text(json.dumps(as_json(played, per_job=given.per_job), indent=1))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
