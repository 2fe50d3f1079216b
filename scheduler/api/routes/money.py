"""What it costs: the sum of all, and the budgets."""

from __future__ import annotations

import re
from typing import Final, TypedDict

from starlette.responses import Response

from dsched.scheduler.api import answer
from dsched.scheduler.api.context import Api
from dsched.scheduler.api.money import budget_rows, money
from dsched.scheduler.api.problem import Fault
from dsched.scheduler.api.route import Call, Route
from dsched.scheduler.auth.permission import Permission
from dsched.scheduler.core.message import SetBudget
from dsched.scheduler.core.units import MicroUsd, usd
from dsched.scheduler.wire import api as wire

_NAME: Final = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")


class Limit(TypedDict):
    limit: str | None


async def show(api: Api, call: Call) -> Response:
    """Burn, spend, baseline and saving of everything, and every budget."""
    owed, beside = await api.books.sums(api.queries)
    return answer.one(money(api.control.state, owed, beside, api.control.now()))


async def budgets(api: Api, call: Call) -> Response:
    """Every budget with what is spent and what leases hold back."""
    return answer.items(budget_rows(api.control.state, api.control.now()))


async def set_budget(api: Api, call: Call) -> Response:
    """Set or lift a budget's limit; null is no limit."""
    name = call.part("name")
    if not _NAME.fullmatch(name):
        raise Fault(422, f"not a budget's name: {name[:80]!r}", "lower-case letters, digits and dashes", "name")
    limit = _amount((await call.read(Limit))["limit"])
    await api.control.send(SetBudget(name=name, limit=limit, by=call.principal.name))
    rows = budget_rows(api.control.state, api.control.now())
    return answer.one(next(row for row in rows if row["name"] == name))


def _amount(given: str | None) -> MicroUsd | None:
    if given is None:
        return None
    try:
        return usd(given)
    except ValueError as error:
        raise Fault(422, str(error), 'dollars as text, such as "12.50", or null for no limit', "limit") from None


ROUTES: Final = (
    Route(method="GET", path="/v1/money", permission=Permission.SEE, handler=show, answer=wire.Money),
    Route(method="GET", path="/v1/budgets", permission=Permission.SEE, handler=budgets, answer=list[wire.Budget]),
    Route(
        method="PUT",
        path="/v1/budgets/{name}",
        permission=Permission.BUDGET,
        handler=set_budget,
        body=Limit,
        answer=wire.Budget,
        counted=True,
    ),
)
