"""`budget` and `report`."""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated

import typer

from dsched.scheduler.cli.complete import job_names
from dsched.scheduler.cli.jobs import ROWS, every
from dsched.scheduler.cli.lazy import here
from dsched.scheduler.cli.terminal import Terminal, moment
from dsched.scheduler.cli.trouble import trouble
from dsched.scheduler.view import format as f
from dsched.scheduler.view.column import order, select
from dsched.scheduler.view.jobs import JOBS
from dsched.scheduler.view.money import BILL, BUDGETS
from dsched.scheduler.view.safe import show
from dsched.scheduler.view.table import csv_text, table
from dsched.scheduler.wire.api import Bill

_REPORT = ("job", "name", "state", "spent", "saved", "moves")  # columns of a report over all jobs


def budget(
    ctx: typer.Context,
    action: Annotated[str, typer.Argument(metavar="[ls|set]", show_default=False)] = "ls",
    name: Annotated[str, typer.Argument(metavar="[NAME]", show_default=False)] = "",
    limit: Annotated[str, typer.Argument(metavar="[LIMIT]", help="dollars, or none", show_default=False)] = "",
) -> None:
    """Budgets; `budget set NAME LIMIT` changes one.

    dsched budget set default 250
    """
    terminal = here(ctx)
    client = terminal.client()
    if action == "ls":
        terminal.rows(BUDGETS, client.budgets(), moment(client.health()), name="name")
    elif action == "set" and name and limit:
        old = next((b for b in client.budgets() if b["name"] == name), None)
        new = None if limit.lower() == "none" else _amount(limit)
        was = f.dollars(old["limit"]) if old and old["limit"] is not None else "no limit"
        spent = f.dollars(old["spent"]) if old else "$0.00"
        if terminal.ask(
            f"set budget {show(name)} from {was} to {f.dollars(new) if new else 'no limit'}? spent: {spent}"
        ):
            changed = client.set_budget(name, new)
            lines = table(BUDGETS, [changed], moment(client.health()), width=terminal.width, colour=terminal.colour)
            terminal.value(dict(changed), lines, name)
    else:
        raise trouble("E100", "budget takes ls, or set NAME LIMIT", "dsched budget set default 250")


def report(
    ctx: typer.Context,
    job: Annotated[
        str, typer.Argument(metavar="[JOB]", autocompletion=job_names, help="its bill", show_default=False)
    ] = "",
) -> None:
    """What was spent and saved, in all or by one job."""
    terminal = here(ctx)
    client = terminal.client()
    now = moment(client.health())
    if job:
        _bill(terminal, client.bill(job), now)
        return
    money = client.money()
    if terminal.json:
        terminal.value(dict(money), [])
        return
    jobs, more = (
        client.page_of_jobs(all=True, first="dearest", limit=ROWS) if terminal.table else (every(client, all=True), 0)
    )
    jobs = order(jobs, select(JOBS, ["spent"])[0], reverse=True)
    terminal.rows(JOBS if terminal.names else select(JOBS, _REPORT), jobs, now)
    if terminal.table:
        if more:
            terminal.line(f"and {more:,} cheaper ones")
        terminal.line("")
        terminal.line(
            f"spent {f.dollars(money['spent'])}, {_saved(money['saved'], money['baseline'])}; "
            f"burning {f.dollars(money['burn'])}/h, reserved {f.dollars(money['reserved'])}"
        )
        if note := client.health()["market_note"]:
            terminal.line(show(note))


def _bill(terminal: Terminal, bill: Bill, now: object) -> None:
    from dsched.scheduler.core.units import Moment

    assert isinstance(now, Moment)
    if terminal.output == "csv":
        terminal.out.write(csv_text(BILL, bill["lines"]))
        return
    columns = select(BILL, terminal.names) if terminal.names else BILL
    lines = table(columns, bill["lines"], now, width=terminal.width, colour=terminal.colour)
    total = f"spent {f.dollars(bill['spent'])}, {_saved(bill['saved'], bill['baseline'])}"
    note = [show(bill["market_note"])] if bill["market_note"] else []
    terminal.value(dict(bill), [*lines, "", total, *note])


def _saved(saved: str, baseline: str) -> str:
    """ "saved $8.00 (40%) under on-demand at $20.00", or what it cost more."""
    share = f.percent(f.saved_share(saved, baseline))
    if Decimal(saved) < 0:
        return f"{f.dollars(str(-Decimal(saved)))} more than on-demand at {f.dollars(baseline)}"
    return f"saved {f.dollars(saved)} ({share}) under on-demand at {f.dollars(baseline)}"


def _amount(text: str) -> str:
    from dsched.scheduler.wire.quantity import money

    try:
        return money(text)
    except ValueError as e:
        raise trouble("E100", str(e)) from None
