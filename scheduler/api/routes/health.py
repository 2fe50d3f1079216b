"""How the daemon is: health, checks for `dsched doctor`, metrics."""

from __future__ import annotations

from typing import Final

from starlette.responses import Response

from dsched.scheduler.api import answer
from dsched.scheduler.api.context import Api
from dsched.scheduler.api.route import Call, Route
from dsched.scheduler.auth.permission import Permission
from dsched.scheduler.wire import api as wire

PROMETHEUS: Final = "text/plain; version=0.0.4; charset=utf-8"
PRICE_AGE_MAX_S: Final = 600.0  # older prices than that are worth a word


async def health(api: Api, call: Call) -> Response:
    """Whether the daemon is ready, its clocks, its jobs by state, its providers."""
    return answer.one(api.control.health())


async def checks(api: Api, call: Call) -> Response:
    """What is wrong, and the command that mends it."""
    return answer.items([*_providers(api), *await api.extras.checks()])


def _providers(api: Api) -> list[wire.Check]:
    found: list[wire.Check] = []
    for name, told in api.control.health()["providers"].items():
        age = told.get("prices_age_s")
        status, message = "ok", f"{told.get('nodes', 0)} nodes, prices {age or 0:.0f} s old"
        if not told.get("ok"):
            status, message = "fail", str(told.get("why") or "does not answer")
        elif age is None or age > PRICE_AGE_MAX_S:
            status, message = "warn", "no price yet" if age is None else f"its prices are {age:.0f} s old"
        elif stale := told.get("stale", 0):
            status, message = "warn", f"{stale} of its prices are too old to buy by"
        fix = "" if status == "ok" else f"dsched events --provider {name}"
        found.append({"name": f"provider {name}", "status": status, "message": message, "fix": fix})
    return found


async def metrics(api: Api, call: Call) -> Response:
    """Figures for Prometheus."""
    from dsched.scheduler.api.metrics import exposition  # 50 ms that only a scraped daemon pays

    return Response(exposition(api), headers={"content-type": PROMETHEUS})


ROUTES: Final = (
    Route(method="GET", path="/v1/health", permission=Permission.SEE, handler=health, answer=wire.Health),
    Route(method="GET", path="/v1/checks", permission=Permission.SEE, handler=checks, answer=list[wire.Check]),
    Route(method="GET", path="/v1/metrics", permission=Permission.SEE, handler=metrics, media=PROMETHEUS),
)
