"""`dsched backtest`: my last days again, by other rules: the market journal and the jobs of this daemon, in simulation.

    dsched backtest --last 7d --policy up
    dsched backtest --last 7d --deadline 1.5x --commitment a3-highgpu-8g=2@38.86

Where nobody looked, a pool is taken to carry what it carried when somebody looked last; nothing, before the first look.
"""

from __future__ import annotations

import argparse
import json
import logging
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import structlog

from dsched.providers.local.market import Listing, LocalMarket, listed
from dsched.providers.local.replay import BadTrace, parse
from dsched.providers.local.tape import constant
from dsched.scheduler.config import default_state
from dsched.scheduler.core.job import Spec
from dsched.scheduler.core.market import Market
from dsched.scheduler.core.snapshot import Job
from dsched.scheduler.core.state import TERMINAL
from dsched.scheduler.core.units import HOUR, Charge, Instant, Millis, price
from dsched.scheduler.engine.journal import FOLDER
from dsched.scheduler.journal import export
from dsched.scheduler.sim.drive import DAY, POLICY, Setting, Simulation
from dsched.scheduler.sim.judge import Violation
from dsched.scheduler.sim.tally import Tally, dollars, tally, to_wire
from dsched.scheduler.store.codec import decode_row
from dsched.scheduler.store.database import DATABASE, open_reader
from dsched.scheduler.view.say import fail, say
from dsched.scheduler.wire.quantity import duration

OK: Final = 0
FAILED: Final = 1
USAGE: Final = 2
NOT_FOUND: Final = 5
_COMMITMENT: Final = re.compile(r"(?P<shape>[\w.-]+)=(?P<count>\d+)@(?P<price>[\d.]+)")
_TIMES: Final = re.compile(r"(\d+(?:\.\d+)?)x")


class Wrong(Exception):
    """It cannot be run; with the exit code and the remedy."""

    def __init__(self, message: str, hint: str, exit: int = USAGE) -> None:
        super().__init__(message)
        self.hint, self.exit = hint, exit


@dataclass(frozen=True, slots=True)
class Past:
    """What really was."""

    jobs: list[Job]
    spent: Charge
    baseline: Charge
    met: int
    missed: int


def main(argv: Sequence[str]) -> int:
    """Run it; the exit code."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    given = arguments().parse_args(argv)
    try:
        past, found = backtest(given)
    except Wrong as e:
        return fail("E100", str(e), e.hint, e.exit)
    except (BadTrace, ValueError, OSError) as e:
        return fail("E100", str(e), "dsched backtest --help", USAGE)
    except Violation as e:
        return fail("E500", str(e), "please report it: an invariant is broken", FAILED)
    if given.output == "json":
        real = {"spent": dollars(past.spent), "met": past.met, "missed": past.missed, "jobs": len(past.jobs)}
        say(json.dumps({"v": 1, "was": real, "would": to_wire(found)}))
    else:
        for line in table(past, found):
            say(line)
    return OK


def arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="dsched backtest", description="My last days under other rules.")
    parser.add_argument("--state", type=Path, default=None, help="state directory (default: DSCHED_STATE)")
    parser.add_argument("--last", default="7d", metavar="TIME", help="of market time, such as 7d or 36h (default 7d)")
    parser.add_argument("--policy", metavar="NAME", default="", help="the rule by which deadlines are kept")
    parser.add_argument("--deadline", metavar="WHEN", help="for every job: 24h after its submission, or 1.5x its work")
    parser.add_argument(
        "--commitment", metavar="SHAPE=N@PRICE", action="append", default=[], help="N machines reserved at PRICE $/h"
    )
    parser.add_argument("--seed", type=int, default=1, metavar="S")
    parser.add_argument("-o", "--output", choices=("table", "json"), default="table")
    return parser


def backtest(given: argparse.Namespace) -> tuple[Past, Tally]:
    """What was, and what would have been. Raises Wrong, BadTrace, ValueError, OSError or Violation."""
    state = given.state or default_state()
    lasting = duration(given.last)
    course, start, end = _market(state, lasting, given.commitment)
    past = _past(state / DATABASE, Instant(end - lasting))
    if not past.jobs:
        raise Wrong("no job was submitted in that time", "dsched backtest --last 30d", NOT_FOUND)
    policy = replace(POLICY, deadline_policy=given.policy) if given.policy else POLICY
    setting = Setting(seed=given.seed, start=start, lasting=Millis(max(HOUR, end - start)), policy=policy)
    jobs = [(int(max(start, job.submitted.market)), _wanted(job, given.deadline)) for job in past.jobs]
    run = Simulation(setting, course, sorted(jobs, key=lambda job: job[0]))
    run.run()
    return past, tally(run)


def _market(state: Path, lasting: Millis, commitments: Sequence[str]) -> tuple[LocalMarket, Instant, Instant]:
    """With its first and its last instant."""
    found = export(state / FOLDER, days=lasting / DAY)
    if not found:
        raise Wrong(f"no market journal at {state / FOLDER}", "dsched daemon     keeps one", NOT_FOUND)
    start = min(_start(trace) for trace in found)
    listings = [listing for trace in found if _priced(trace) for listing in listed(parse(_known(trace)))]
    if not listings:
        raise Wrong("the journal has no pool with a price", "dsched backtest --last 30d", NOT_FOUND)
    listings += [_reserved(text, listings) for text in commitments]
    end = max(_start(trace) + round(trace["gap_seconds"] * 1000) * _ticks(trace) for trace in found)
    return LocalMarket(listings, f"my market ({len(found)} pools)"), start, Instant(end)


def _ticks(trace: dict[str, Any]) -> int:
    return sum(ticks for _, ticks in trace["counts_rle"])


def _start(trace: dict[str, Any]) -> Instant:

    return Instant(round(datetime.fromisoformat(trace["start"]).timestamp() * 1000))


def _priced(trace: dict[str, Any]) -> bool:
    return trace["od_price"] is not None and any(value is not None for value in trace["spot_price_series"])


def _known(trace: dict[str, Any]) -> dict[str, Any]:
    """The trace without gaps: what was seen last holds on."""
    counts, prices, last = [], [], 0
    for count, ticks in trace["counts_rle"]:
        last = last if count is None else count
        counts.append([last, ticks])
    known = next(value for value in trace["spot_price_series"] if value is not None)
    for value in trace["spot_price_series"]:
        known = known if value is None else value
        prices.append(known)
    return {**trace, "counts_rle": counts, "spot_price_series": prices}


def _reserved(text: str, listings: Sequence[Listing]) -> Listing:
    """Machines of a shape, held for us where the market sells that shape first."""
    found = _COMMITMENT.fullmatch(text)
    if found is None:
        raise Wrong(f"--commitment {text}: not of the form SHAPE=N@PRICE", "--commitment a3-highgpu-8g=2@38.86")
    like = next((listing for listing in listings if listing.shape.name == found["shape"]), None)
    if like is None:
        shapes = ", ".join(sorted({listing.shape.name for listing in listings}))
        raise Wrong(f"--commitment: nobody sells {found['shape']} in this market; there are {shapes}", "")
    pool = replace(like.pool, market=Market.RESERVED)
    tape = constant(int(found["count"]), price(found["price"]))
    return replace(like, pool=pool, tape=tape, notice=Millis(0), source="commitment")


def _past(database: Path, since: Instant) -> Past:
    if not database.is_file():
        raise Wrong(f"no database at {database}", "dsched daemon     makes one", NOT_FOUND)
    connection = open_reader(database)
    try:
        rows = [decode_row("job", body) for (body,) in connection.execute("SELECT body FROM job ORDER BY rowid")]
    finally:
        connection.close()
    jobs = [job for job in rows if job.submitted.market >= since and job.started is not None]
    kept = [job.ended is not None and job.ended <= job.spec.deadline for job in jobs if job.spec.deadline is not None]
    spent, baseline = Charge(sum(j.spent for j in jobs)), Charge(sum(j.baseline for j in jobs))
    return Past(jobs, spent, baseline, sum(kept), len(kept) - sum(kept))


def _wanted(job: Job, deadline: str | None) -> Spec:
    """The job as it was submitted; where nobody told its work, what it really ran."""
    spec = job.spec
    if spec.duration is None and job.started is not None and job.ended is not None and job.state in TERMINAL:
        spec = replace(spec, duration=Millis(max(1, job.ended - job.started)))
    if deadline is None:
        return spec
    if times := _TIMES.fullmatch(deadline):
        within = round(float(times[1]) * (spec.duration or HOUR))
    else:
        within = duration(deadline)
    return replace(spec, deadline=Instant(job.submitted.market + within))


def table(past: Past, found: Tally) -> list[str]:
    """What was beside what would have been."""
    share = found.paid / past.spent - 1 if past.spent else 0.0
    return [
        f"{found.market}, {len(past.jobs)} jobs of {found.days:.1f} days",
        "",
        f"  {'':<22}{'PAID':>14}{'ON DEMAND':>14}{'MET':>6}{'MISSED':>8}",
        _row("as it was", past.spent, past.baseline, past.met, past.missed),
        _row(f"policy {found.policy}", found.paid, found.on_demand, found.met, found.missed),
        "",
        f"  {share:+.1%} of what was paid; {found.launches} launches, {found.interruptions} interruptions, "
        f"{len(found.refused)} refused at submit",
        "  boots, restores and checkpoints take the simulator's times, not yours",
    ]


def _row(name: str, paid: Charge, listed: Charge, met: int, missed: int) -> str:
    return f"  {name:<22}{_money(paid):>14}{_money(listed):>14}{met:>6}{missed:>8}"


def _money(owed: Charge) -> str:
    return f"${float(dollars(owed)):,.2f}"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
