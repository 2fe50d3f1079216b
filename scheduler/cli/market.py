"""`prices`, `nodes` and `market`."""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import Annotated

import typer

from dsched.scheduler.cli.contract import Exit
from dsched.scheduler.cli.lazy import here
from dsched.scheduler.cli.terminal import moment
from dsched.scheduler.cli.trouble import trouble
from dsched.scheduler.view.column import order, select
from dsched.scheduler.view.knowledge import calibration_text, commitments_text
from dsched.scheduler.view.market import NODES, OFFERS
from dsched.scheduler.view.safe import show
from dsched.scheduler.wire.api import Offer


def prices(
    ctx: typer.Context,
    gpu: Annotated[str, typer.Argument(metavar="[GPU]", help="only this model", show_default=False)] = "",
    file: Annotated[str, typer.Argument(metavar="", hidden=True)] = "",
    place: Annotated[str, typer.Option(metavar="GLOB", help="only these: aws/us-east-1*, gcp")] = "",
    market: Annotated[str, typer.Option(help="spot, on-demand or reserved")] = "",
    history: Annotated[bool, typer.Option("--history", help="the last day's prices as a line")] = False,
    sort: Annotated[str, typer.Option(metavar="COLUMN")] = "per_gpu",
    limit: Annotated[int, typer.Option("-l", "--limit", help="at most so many; 0: all")] = 0,
) -> int:
    """Offers by price per GPU, with their risk.

    QUOTED is the age of a price, -o wide names its source. `dsched prices import FILE` takes prices from a file, for a
    host that cannot ask for them.

    dsched prices H100 --place 'aws/*' --history
    """
    if file:
        raise trouble("E100", f"one GPU model, not {gpu} and {file}", "dsched prices H100")
    terminal = here(ctx)
    client = terminal.client()
    rows = [o for o in client.offers(history=history) if _wanted(o, gpu, place, market)]
    try:
        rows = order(rows, select(OFFERS, [sort])[0])
    except ValueError as e:
        raise trouble("E100", str(e)) from None
    health = client.health()
    terminal.rows(OFFERS, rows[:limit] if limit else rows, moment(health))
    if not rows:
        known = sorted({o["accelerator"] for o in client.offers() if o["accelerator"]})
        raise trouble("E601", "no offer matches", f"GPUs on offer: {', '.join(known) or 'none'}", exit=Exit.NO_OFFER)
    if health["market_note"] and not terminal.json:
        terminal.say(show(health["market_note"]), "dim")
    return Exit.OK


def nodes(ctx: typer.Context) -> None:
    """Machines we pay for now."""
    terminal = here(ctx)
    client = terminal.client()
    rows = client.nodes()
    terminal.rows(NODES, rows, moment(client.health()))
    if not rows and terminal.output in ("table", "wide"):
        terminal.say("no nodes: nothing is being paid for")


def market(
    ctx: typer.Context,
    action: Annotated[str, typer.Argument(metavar="[calibration|commitments]", show_default=False)] = "calibration",
) -> None:
    """How good predictions were, and what to reserve.

    calibration: every market hour each spot machine that runs gets a prediction: will it be interrupted within the
    hour? Below the table stand the pools that are left alone for now. Predictions follow how long capacity lasts in
    real markets; of the embedded cloud's made-up one they know hardly more than its average. commitments: which
    reserved capacity would have cost less than what was paid in the last 30 days.
    """
    terminal = here(ctx)
    if action not in ("calibration", "commitments"):
        raise trouble("E100", f"market shows calibration or commitments, not {action!r}", "dsched market calibration")
    client = terminal.client()
    if action == "commitments":
        advice = client.commitments()
        now = moment(client.health())
        lines = commitments_text(advice, now, width=terminal.width, colour=terminal.colour)
        terminal.value(dict(advice), lines, "commitments")
        return
    known = client.calibration()
    now = moment(client.health())
    terminal.value(
        dict(known), calibration_text(known, now, width=terminal.width, colour=terminal.colour), "calibration"
    )


def _wanted(offer: Offer, gpu: str, place: str, market: str) -> bool:
    spot = f"{offer['provider']}/{offer['zone']}"
    if gpu and offer["accelerator"].casefold() != gpu.casefold():
        return False
    if place and not (fnmatchcase(spot, place) or offer["provider"] == place or offer["zone"].startswith(place)):
        return False
    return not market or offer["market"] == market
