"""The HTTP API, one module per subject; `TABLE` is all of it."""

from __future__ import annotations

from typing import Final

from dsched.scheduler.api.route import Route
from dsched.scheduler.api.routes import agent, bundles, events, health, jobs, knowledge, logs, market, money, plans

# the most asked for stand first: a request is compared with one path after another
TABLE: Final[tuple[Route, ...]] = (
    *jobs.ROUTES,
    *agent.ROUTES,
    *health.ROUTES,
    *plans.ROUTES,
    *market.ROUTES,
    *knowledge.ROUTES,
    *events.ROUTES,
    *money.ROUTES,
    *logs.ROUTES,
    *bundles.ROUTES,
)
