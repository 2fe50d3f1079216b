"""`submit` and `plan`: from a file to a queued job, with its price before."""

from __future__ import annotations

import os
import secrets
import sys
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from dsched.scheduler.api.client import Client, ClientError
from dsched.scheduler.cli.contract import Exit
from dsched.scheduler.cli.explain import plan_lines
from dsched.scheduler.cli.lazy import here
from dsched.scheduler.cli.logs import ended, tail
from dsched.scheduler.cli.terminal import Terminal, moment
from dsched.scheduler.cli.trouble import Trouble, trouble
from dsched.scheduler.view import format as f
from dsched.scheduler.view.plan import LINES, chosen_lines
from dsched.scheduler.view.safe import show
from dsched.scheduler.view.table import csv_text
from dsched.scheduler.wire.api import Plan, Problem, Submit, Trial

if TYPE_CHECKING:
    from dsched.scheduler.core.units import Moment
    from dsched.scheduler.wire.document import SpecError
    from dsched.scheduler.wire.spec import JobSpec

SpecArgument = Annotated[str, typer.Argument(metavar="SPEC", help="a YAML file, or - for stdin")]
SetOption = Annotated[list[str], typer.Option("--set", metavar="FIELD=VALUE", help="override: --set gpus.count=8")]
WhatIfOption = Annotated[
    list[str],
    typer.Option("--what-if", metavar="CHANGE", help="beside it, if: price*1.2, gone:ZONE, deadline=12h, ..."),
]
_ABOUT_THE_SPEC: Final = frozenset({400, 413, 422})  # refusals that the file may have a place for
_READ_MAX: Final = 65_537  # one byte more than a spec may have, so that a larger one is seen without being read


def plan(
    ctx: typer.Context,
    spec: SpecArgument,
    lines: Annotated[int, typer.Option("-n", "--lines", help="offers shown")] = LINES,
    set: SetOption = [],  # noqa: B006 - typer's way to say none
    what_if: WhatIfOption = [],  # noqa: B006
) -> int:
    """Price a job on every offer; change nothing. Exit 6 when no offer fits.

    dsched plan job.yaml -n 20 --set gpus.count=16
    dsched plan job.yaml --what-if 'price:*/spot*1.5' --what-if gone:us-east-1a
    """
    terminal = here(ctx)
    client = terminal.client()
    made = _planned(terminal, client, spec, set, what_if)
    if "what_if" in made:
        return _compared(terminal, made, moment(client.health()), lines)
    if terminal.output == "csv":
        from dsched.scheduler.view.market import plan_columns

        terminal.out.write(csv_text(plan_columns(made), made["lines"]))
    else:
        shown: Any = dict(made) if terminal.json else {}
        health = client.health()
        told = [] if terminal.json else plan_lines(terminal, made, moment(health), lines)
        terminal.value(shown, told, made["id"])
        terminal.note(health)
    if made["chosen"] is None:
        return Exit.NO_OFFER
    terminal.say(f"dsched submit {show(spec)} --plan {show(made['id'])}     takes exactly this plan", "dim")
    return Exit.OK


def submit(
    ctx: typer.Context,
    spec: SpecArgument,
    detach: Annotated[bool, typer.Option("-d", "--detach", help="do not follow the log")] = False,
    plan: Annotated[str, typer.Option("--plan", metavar="ID", help="only if this plan would still be chosen")] = "",
    set: SetOption = [],  # noqa: B006 - typer's way to say none
) -> int:
    """Plan, confirm, queue a job and follow its log.

    dsched submit job.yaml -d --set max_cost=20
    """
    terminal = here(ctx)
    client = terminal.client()
    wanted = _checked(terminal, _text(spec), spec, set)
    if terminal.asks and not plan and not _confirmed(terminal, client, wanted):
        return Exit.OK
    job = client.submit(_request(terminal, client, wanted, spec, plan))
    held = f": {show(job['reason'])}" if job["state"] == "held" and job["reason"] else ""
    terminal.say(f"{show(job['id'])} {f.state(job['state'])}  {show(job['name'])}{held}")
    if detach or terminal.output != "table":
        terminal.value(dict(job), [show(job["id"])] if detach else [], job["id"])
        return Exit.OK
    code = tail(terminal, client, job, follow=True)
    return code or ended(terminal, client, job["id"])


def _compared(terminal: Terminal, made: Plan, now: Moment, lines: int) -> int:
    """Now and what would be, side by side; the exit code is that of what would be."""
    from dsched.scheduler.view.whatif import both, both_columns, whatif_text

    if terminal.output == "csv":
        terminal.out.write(csv_text(both_columns(), both(made)))
    else:
        text = whatif_text(made, now, most=lines, width=terminal.width, colour=terminal.colour)
        terminal.value(dict(made), text, made["id"])
    return Exit.OK if made["what_if"]["plan"]["chosen"] is not None else Exit.NO_OFFER


def _planned(terminal: Terminal, client: Client, path: str, overrides: list[str], changes: list[str]) -> Plan:
    """The daemon checks the spec too, and it has loaded already what checks. Only what it refuses is checked here."""
    from dsched.scheduler.wire.document import SpecError
    from dsched.scheduler.wire.written import plain, written

    text = _text(path)
    try:
        given = plain(written(text, path, overrides))
    except SpecError as e:
        raise _faulty(terminal, e) from None
    try:
        return client.plan(_trial(given, changes))
    except ClientError as error:
        spec = _checked(terminal, text, path, overrides)  # whatever it was: what is wrong with the file comes first
        if error.status not in _ABOUT_THE_SPEC:
            raise
        return client.plan(_trial(spec.shipped("").to_wire(), changes))


def _trial(spec: dict[str, Any], changes: list[str]) -> Trial:
    return Trial(spec=spec, what_if=changes) if changes else Trial(spec=spec)


def _checked(terminal: Terminal, text: str, path: str, overrides: list[str]) -> JobSpec:
    """The spec, checked. Raises Trouble that shows every fault at its place."""
    from dsched.scheduler.wire.document import SpecError
    from dsched.scheduler.wire.spec import load

    try:
        return load(text, path, overrides)
    except SpecError as e:
        raise _faulty(terminal, e) from None


def _faulty(terminal: Terminal, error: SpecError) -> Trouble:
    from dsched.scheduler.view.fault import CODE, fault_lines, headline

    first = error.faults[0]
    problem = Problem(code=CODE, message="; ".join(map(headline, error.faults)), retryable=False)
    if first.place is not None:
        problem["where"] = f"{first.place.source.name}:{first.place.line}:{first.place.column}"
    if first.hint:
        problem["hint"] = first.hint
    colour = terminal.err.isatty() and terminal.colour
    return Trouble(problem, exit=Exit.USAGE, text=fault_lines(error.faults, colour=colour))


def _text(path: str) -> str:
    try:
        if path == "-":
            data = sys.stdin.buffer.read(_READ_MAX)
        else:
            with open(path, "rb") as file:
                data = file.read(_READ_MAX)
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as e:
        line = e.object[: e.start].count(b"\n") + 1
        raise trouble("E101", f"{path}:{line}: not UTF-8 text", exit=Exit.USAGE) from None
    except OSError as e:
        raise trouble(
            "E102", f"{path}: {(e.strerror or str(e)).lower()}", "dsched submit SPEC", exit=Exit.USAGE
        ) from None


def _confirmed(terminal: Terminal, client: Client, spec: JobSpec) -> bool:
    made = client.plan(Trial(spec=spec.shipped("").to_wire()))
    for line in plan_lines(terminal, made, moment(client.health()), 5):
        terminal.say(line)
    return terminal.ask(f"submit {show(spec.name)}? {_price(made)}")


def _price(plan: Plan) -> str:
    best = next((line for line in chosen_lines(plan, 1) if line["verdict"] == "chosen"), None)
    if best is None:
        return "no offer fits now: it waits for one"
    if best["expected"] is not None:
        return f"{f.dollars(best['expected'])} expected"
    return f"{f.dollars(best['price'])}/h"


def _request(terminal: Terminal, client: Client, spec: JobSpec, path: str, plan: str) -> Submit:
    """The request, after its workdir is uploaded. The key makes a repeated request the same job."""
    sha256 = ""
    if spec.workdir:
        from dsched.scheduler.cli.bundle import pack

        base = "." if path == "-" else os.path.dirname(path)
        bundle = pack(os.path.join(base, spec.workdir))
        with bundle.file:
            client.upload(bundle.sha256, bundle.file, bundle.size)
        sha256 = bundle.sha256
        terminal.say(f"workdir {show(spec.workdir)}: {bundle.files} files, {bundle.size / 1024:,.0f} KiB packed", "dim")
    request = Submit(spec=spec.shipped(sha256).to_wire(), key=secrets.token_hex(16))
    if plan:
        request["plan"] = plan
    return request
