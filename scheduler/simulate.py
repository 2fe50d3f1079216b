"""`dsched simulate`: weeks of a market and of jobs through the production scheduler, in seconds. A process of its own.

dsched simulate --synthetic --jobs 100 --days 7 --picture week.svg
dsched simulate --trace traces/ --only 'h100*' --jobs 200 --policy up --faults rough -o json
dsched simulate job.yaml --trace traces/
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Final

import structlog

from dsched.providers.local.market import LocalMarket, generated, replayed
from dsched.providers.local.replay import BadTrace
from dsched.scheduler.core.deadline.policies import named as rule
from dsched.scheduler.core.job import Spec
from dsched.scheduler.core.placement import Policy
from dsched.scheduler.core.units import HOUR, Millis, Moment, usd
from dsched.scheduler.engine.record import BadRecord
from dsched.scheduler.sim.crowd import again, crowd
from dsched.scheduler.sim.drive import DAY, POLICY, Setting, Simulation
from dsched.scheduler.sim.faults import FAULTS
from dsched.scheduler.sim.judge import Violation
from dsched.scheduler.sim.picture import draw
from dsched.scheduler.sim.rerun import rerun
from dsched.scheduler.sim.tally import Row, Tally, dollars, states, tally, to_wire
from dsched.scheduler.view.safe import show
from dsched.scheduler.view.say import fail, say
from dsched.scheduler.view.table import shorten
from dsched.scheduler.wire.document import SpecError
from dsched.scheduler.wire.spec import load, to_core

OK: Final = 0
FAILED: Final = 1  # an invariant is broken: a fault of ours
USAGE: Final = 2
LINES: Final = 12  # jobs in the table; JSON has all
READ_MAX: Final = 65_537
WIDEST: Final = 24


class Wrong(Exception):
    """The command line cannot be followed; with the remedy."""

    def __init__(self, message: str, hint: str = "dsched simulate --help") -> None:
        super().__init__(message)
        self.hint = hint


def main(argv: Sequence[str]) -> int:
    """Run one simulation; its exit code."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    given = arguments().parse_args(argv)
    if given.replay is not None:
        return _again(given.replay, given.output)
    try:
        run = simulation(given)
    except (Wrong, BadTrace, OSError) as e:
        return fail("E100", str(e), getattr(e, "hint", "dsched simulate --help"), USAGE)
    except SpecError as e:
        from dsched.scheduler.view.fault import CODE, headline

        return fail(CODE, "; ".join(map(headline, e.faults)), "dsched schema", USAGE)
    try:
        run.run()
    except Violation as e:
        return fail("E500", str(e), f"the same again: dsched simulate --seed {given.seed} ...", FAILED)
    found = tally(run)
    if given.picture is not None:
        given.picture.write_text(draw(found), encoding="utf-8")
    if given.output == "json":
        say(json.dumps(to_wire(found)))
    else:
        for line in table(found, given.lines):
            say(line)
    return OK


def _again(path: Path, output: str) -> int:
    """Whether the core decides now as it did in the daemon. Exit 1 when not."""
    try:
        found = rerun(path)
    except (BadRecord, OSError) as e:
        return fail("E100", str(e), "dsched daemon --record FILE", USAGE)
    if output == "json":
        say(json.dumps({"v": 1, **asdict(found)}))
    else:
        say(f"{found.messages:,} messages, {found.events:,} decisions, digest {found.digest}")
        if found.differs is None:
            say(f"the daemon's digest of its first {found.compared:,} decisions is the same: {found.recorded}")
        else:
            say(f"differs from the daemon's within its first {found.differs:,} decisions: {found.recorded}")
    return OK if found.differs is None else FAILED


def arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="dsched simulate", description="Run jobs through the production scheduler on a virtual clock."
    )
    parser.add_argument(
        "specs", nargs="*", type=Path, metavar="SPEC", help="job specs; without: a crowd of made-up jobs"
    )
    parser.add_argument("--trace", type=Path, metavar="DIR", help="replay this folder of market traces")
    parser.add_argument("--only", metavar="GLOB", default="*", help="of these files of the folder, such as 'h100*'")
    parser.add_argument("--synthetic", action="store_true", help="a made-up market (the default without --trace)")
    parser.add_argument("--jobs", type=int, metavar="N", help="how many (default 50, or one of each spec)")
    parser.add_argument("--gpus", metavar="MODELS", default="H100", help="what a made-up crowd wants (default H100)")
    parser.add_argument("--days", type=float, metavar="D", default=7.0, help="submissions come within (default 7)")
    parser.add_argument("--seed", type=int, metavar="S", default=1, help="of crowd, market and faults (default 1)")
    parser.add_argument(
        "--policy", metavar="NAME", default="", help="by which deadlines are kept (default: the daemon's)"
    )
    parser.add_argument("--faults", metavar="NAME", default="none", help=f"{', '.join(FAULTS)} (default none)")
    parser.add_argument("--budget", metavar="DOLLARS", help="the default budget's limit")
    parser.add_argument("--quota", type=int, metavar="N", default=1_000, help="machines at a time (default 1000)")
    parser.add_argument(
        "--replay", type=Path, metavar="FILE", help="run again what `dsched daemon --record FILE` wrote"
    )
    parser.add_argument("-o", "--output", choices=("table", "json"), default="table")
    parser.add_argument("-n", "--lines", type=int, default=LINES, help="jobs shown")
    parser.add_argument("--picture", type=Path, metavar="FILE.svg", help="draw it")
    return parser


def simulation(given: argparse.Namespace) -> Simulation:
    """As the command line asks. Raises Wrong, BadTrace, SpecError or OSError."""
    if given.faults not in FAULTS:
        raise Wrong(f"--faults {given.faults}: there are {', '.join(FAULTS)}")
    if not 0 < given.days <= 3_660:
        raise Wrong(f"--days {given.days:g} must be above 0, and at most ten years")
    if given.jobs is not None and not 0 < given.jobs <= 100_000:
        raise Wrong(f"--jobs {given.jobs} must be 1 to 100,000")
    if given.trace is not None and given.synthetic:
        raise Wrong("--trace and --synthetic are two markets; keep one")
    try:
        budget = None if given.budget is None else usd(given.budget)
    except ValueError as e:
        raise Wrong(f"--budget: {e}") from None
    course = generated(given.seed) if given.trace is None else recorded(given.trace, given.only)
    setting = Setting(
        policy=_policy(given.policy),
        seed=given.seed,
        lasting=Millis(round(given.days * DAY)),
        faults=FAULTS[given.faults],
        quota=given.quota,
        budget=budget,
    )
    return Simulation(setting, course, _jobs(given, setting, course))


def _policy(name: str) -> Policy:
    """The daemon's, under this rule for deadlines. Raises Wrong."""
    try:
        if name:
            rule(name)
        return replace(POLICY, deadline_policy=name) if name else POLICY
    except ValueError as e:
        raise Wrong(f"--policy {name}: {e}") from None


def recorded(folder: Path, only: str = "*") -> LocalMarket:
    """The market of the traces in a folder whose file names match. Raises BadTrace."""
    return replayed(folder, only)


def _jobs(given: argparse.Namespace, setting: Setting, course: LocalMarket) -> list[tuple[int, Spec]]:
    if not given.specs:
        wanted = tuple(model.strip() for model in given.gpus.split(",") if model.strip())
        return crowd(setting.seed, given.jobs or 50, setting.start, setting.lasting, wanted)
    now = Moment(setting.start, setting.start)
    specs = []
    for path in given.specs:
        with path.open("rb") as file:
            specs.append(to_core(load(file.read(READ_MAX).decode("utf-8-sig"), str(path)), now, ""))
    return again(specs, given.jobs or len(specs), setting.start, setting.lasting, setting.seed)


def table(found: Tally, lines: int) -> list[str]:
    """For people."""
    text = [f"{found.market}; policy {found.policy}, faults {found.faults}, seed {found.seed}", ""]
    text += [_line(_HEADS), *(_line(_cells(row)) for row in _interesting(found.rows)[: max(0, lines)])]
    if len(found.rows) > lines:
        text.append(f"  ... and {len(found.rows) - lines} more (-n, -o json)")
    ends = ", ".join(f"{count} {state}" for state, count in sorted(states(found.rows).items()))
    saved = f", {1 - found.paid / found.on_demand:.1%} under on-demand" if found.on_demand else ""
    text += [
        "",
        f"  jobs        {ends}" + (f", {len(found.refused)} refused at submit" if found.refused else ""),
        f"  deadlines   {found.met} met, {found.missed} missed",
        f"  paid        ${float(dollars(found.paid)):,.2f}{saved}",
        *(
            f"    {market:<10}${float(dollars(owed)):,.2f} for {found.lived[market] / HOUR:,.0f} machine hours"
            for market, owed in found.spent.items()
        ),
        f"  happened    {found.launches} launches, {found.interruptions} interruptions, "
        f"{sum(row.moves for row in found.rows)} moves, {found.crashes} deaths of the daemon",
        f"  simulated   {found.days:.1f} days in {found.seconds:.1f} s of processor time: {found.steps:,} steps, "
        f"{found.decisions:,} events, {found.judged:,} checks of invariants, none broken",
        f"  decisions   {found.digest}",
    ]
    return text


_HEADS: Final = (
    "JOB",
    "NAME",
    "STATE",
    "GPUS",
    "WAITED",
    "RAN",
    "DEADLINE",
    "COST",
    "OF LIST",
    "INTR",
    "MOVES",
    "REDONE",
)
_WIDTHS: Final = (6, WIDEST, 10, 4, 7, 7, 12, 11, 7, 4, 5, 6)


def _interesting(rows: Sequence[Row]) -> list[Row]:
    """Missed deadlines first, then what cost most."""
    return sorted(rows, key=lambda row: (row.met is not False, -row.spent, row.id))


def _cells(row: Row) -> tuple[str, ...]:
    waited = None if row.started is None else row.started - row.submitted
    ran = None if row.started is None or row.ended is None else row.ended - row.started
    return (
        row.id,
        shorten(show(row.name), WIDEST),
        row.state,
        str(row.gpus),
        _hours(waited),
        _hours(ran),
        _kept(row),
        f"${float(dollars(row.spent)):,.2f}",
        "" if row.share is None else f"{row.share:.0%}",
        str(row.interruptions),
        str(row.moves),
        f"{row.redone:.1%}",
    )


def _kept(row: Row) -> str:
    if row.deadline is None:
        return ""
    if row.ended is None:
        return "open"
    left = (row.deadline - row.ended) / HOUR
    return f"{left:.1f} h left" if left >= 0 else f"{-left:.1f} h LATE"


def _hours(lasting: int | None) -> str:
    return "" if lasting is None else f"{lasting / HOUR:.1f} h"


def _line(cells: Sequence[str]) -> str:
    left = {0, 1, 2}
    padded = [
        cell.ljust(width) if number in left else cell.rjust(width)
        for number, (cell, width) in enumerate(zip(cells, _WIDTHS, strict=True))
    ]
    return "  " + "  ".join(padded).rstrip()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
