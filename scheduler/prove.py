"""`make prove`: storms of faults around core and store, seed by seed, until one breaks an invariant or all held.

make prove SEEDS=1000 FIRST_SEED=0
python -m dsched.scheduler.prove --seeds 1 --first 574      one of them again, with its story
"""

from __future__ import annotations

import argparse
import logging
import sys
import time
from collections import Counter
from collections.abc import Sequence
from typing import Final

import structlog

from dsched.scheduler.core.units import to_charge, usd
from dsched.scheduler.sim.judge import Violation
from dsched.scheduler.sim.storm.storm import Storm
from dsched.scheduler.view.safe import show
from dsched.scheduler.view.say import say

OK: Final = 0
BROKEN: Final = 1
STEPS: Final = 600  # of one storm: some ten jobs' lives, a crash every thirty
LIMIT: Final = "60"  # dollars: every fourth storm has to keep to it
WORD_S: Final = 10.0  # between two words of progress


def main(argv: Sequence[str]) -> int:
    """Exit 1 at the first violation."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    given = arguments().parse_args(argv)
    counts: Counter[str] = Counter()
    began = said = time.monotonic()
    for number, seed in enumerate(range(given.first, given.first + given.seeds)):
        try:
            counts += weather(seed, given.steps)
        except Violation as violation:
            return _broken(seed, str(violation))
        except Exception as error:  # the outermost loop: whatever broke, the seed shows it again
            return _broken(seed, f"seed {seed}: {type(error).__name__}: {error}")
        if time.monotonic() - said > WORD_S:
            said = time.monotonic()
            say(f"  {number + 1} of {given.seeds} seeds, {(number + 1) / (said - began):.1f} per second")
    seconds = time.monotonic() - began
    rate = given.seeds / seconds if seconds else 0.0
    say(f"{given.seeds} seeds from {given.first}: no violation; {seconds:.0f} s, {rate:.1f} seeds per second")
    say("  " + ", ".join(f"{count:,} {kind}" for kind, count in counts.most_common()))
    return OK


def arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m dsched.scheduler.prove", description="Storms of faults, by seed.")
    parser.add_argument("--seeds", type=int, default=100, metavar="N", help="how many (default 100)")
    parser.add_argument("--first", type=int, default=0, metavar="K", help="the first of them (default 0)")
    parser.add_argument("--steps", type=int, default=STEPS, metavar="N", help=f"of each storm (default {STEPS})")
    return parser


def weather(seed: int, steps: int = STEPS) -> Counter[str]:
    """One storm and what follows it; how often which fault happened. Raises Violation."""
    limit = LIMIT if seed % 4 == 3 else ""
    storm = Storm(seed, limit=limit)
    storm.blow(steps)
    if not limit:
        storm.calm()
        return storm.counts
    storm.linger()
    if not storm.jumpy:
        storm.judge.money()
        if storm.judge.cost() > to_charge(usd(limit)):
            raise Violation(storm.story(f"it cost more than its limit of {limit} dollars"))
    return storm.counts


def _broken(seed: int, story: str) -> int:
    for line in story.splitlines():
        say(show(line, 600))
    say(f"again: python -m dsched.scheduler.prove --seeds 1 --first {seed}")
    return BROKEN


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
