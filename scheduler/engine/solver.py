"""The process that improves plans: `python -m dsched.scheduler.engine.solver`, a worker of the daemon's.

It is asked with a Puzzle and answers with the choice: pairs of job and pool, empty where none was found in time.
HiGHS is loaded here and nowhere else: it takes half a second and 60 MiB, and a fault in it ends only this process.
"""

from __future__ import annotations

from typing import Final

from dsched.scheduler.core.proposal import Puzzle
from dsched.scheduler.engine.worker import serve

SECONDS: Final = 5.0  # for one puzzle; the core has given up by then
GAP: Final = 0.002  # share of the cost that may be missed: prices are less certain than that


def main() -> None:
    serve(solve)


def solve(puzzle: Puzzle) -> tuple[tuple[str, str], ...]:
    """The cheapest choice found; empty: none."""
    import highspy

    highs = highspy.Highs()  # type: ignore[no-untyped-call]
    highs.setOptionValue("output_flag", False)
    highs.setOptionValue("time_limit", SECONDS)
    highs.setOptionValue("mip_rel_gap", GAP)
    highs.setOptionValue("threads", 1)
    chosen = [highs.addBinary(obj=one.cost / 1e6) for one in puzzle.candidates]
    for number in range(len(puzzle.jobs)):
        own = [chosen[place] for place, one in enumerate(puzzle.candidates) if one.job == number]
        highs.addConstr(highs.qsum(own) == 1)
    for limit in puzzle.limits:
        scale = max(amount for _, amount in limit.uses) or 1.0  # charges are 1e15 and more
        used = highs.qsum([chosen[place] * (amount / scale) for place, amount in limit.uses])
        highs.addConstr(used <= limit.most / scale)
    highs.run()
    if highs.getModelStatus() not in (highspy.HighsModelStatus.kOptimal, highspy.HighsModelStatus.kTimeLimit):
        return ()
    values = highs.getSolution().col_value
    found = [place for place, value in enumerate(values) if value > 0.5]
    return tuple((puzzle.jobs[puzzle.candidates[place].job], puzzle.candidates[place].pool) for place in found)


if __name__ == "__main__":
    main()
