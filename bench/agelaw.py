"""Fit the age law of spot capacity: changes per hour by age, pooled over a folder of traces.

    .venv/bin/python bench/agelaw.py --traces DIR

Prints the two lines of scheduler/core/agelaw.py. Runs cut off by the end of a trace count as exposure only.
Every family of traces and size of gang weighs the same, so that one that was watched for longer does not decide alone.
"""

from __future__ import annotations

import argparse
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from dsched.scheduler.core.deadline.hazard import AGES, EDGES, HOUR
from dsched.scheduler.core.deadline.view import Floats
from dsched.scheduler.sim.trace import Zone, read_folder


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--traces", type=Path, required=True, help="folder of dsched.trace/1 files")
    zones = read_folder(parser.parse_args().traces)
    for state, name in ((True, "UP_LAW"), (False, "DOWN_LAW")):
        rates = [_rates(some, gang, state) for some, gang in _groups(zones)]
        law = np.exp(np.mean(np.log(rates), axis=0))
        print(f"{name}: Final[Floats] = np.array([{', '.join(f'{rate:.3f}' for rate in law)}]) / HOUR")
    return 0


def _groups(zones: list[Zone]) -> list[tuple[list[Zone], int]]:
    """(zones of one source, gang): all that was ever seen together, and half of it."""
    out = []
    for source in sorted({zone.name.partition("/")[0] for zone in zones}):
        some = [zone for zone in zones if zone.name.partition("/")[0] == source]
        most = max(int(zone.counts.max()) for zone in some)
        out += [(some, gang) for gang in sorted({max(1, most // 2), most})]
    return out


def _rates(zones: list[Zone], gang: int, state: bool) -> Floats:
    """[AGES] changes per hour; half an event and half an hour of prior keep empty classes above nothing."""
    events, exposure = np.full(AGES, 0.5), np.full(AGES, HOUR / 2)
    for zone in zones:
        up = zone.counts >= gang
        turns = np.concatenate([[0], np.flatnonzero(up[1:] != up[:-1]) + 1, [len(up)]])
        for begin, end in pairwise(turns):
            if up[begin] != state:
                continue
            length = (end - begin) * zone.gap
            exposure += np.clip(length - EDGES[:-1], 0.0, np.diff(EDGES))
            if end < len(up):
                events[np.searchsorted(EDGES, length) - 1] += 1.0
    return np.asarray(events / exposure * HOUR)


if __name__ == "__main__":
    raise SystemExit(main())
