"""The HTTP API, one module per subject; `TABLE` is all of it."""

from __future__ import annotations

from typing import Final

from dsched.scheduler.api.route import Route
from dsched.scheduler.api.routes import agent, bundles, events, health, jobs, logs, market, money, plans

# `jobs` comes last: its path with an {action} would catch what stands behind it
TABLE: Final[tuple[Route, ...]] = (
    *health.ROUTES,
    *plans.ROUTES,
    *market.ROUTES,
    *events.ROUTES,
    *money.ROUTES,
    *logs.ROUTES,
    *bundles.ROUTES,
    *agent.ROUTES,
    *jobs.ROUTES,
)
