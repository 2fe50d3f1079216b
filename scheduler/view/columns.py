"""Every table by its name, in one place."""

from __future__ import annotations

from dsched.scheduler.view.jobs import ATTEMPTS, JOBS
from dsched.scheduler.view.log import CHECKS, EVENTS
from dsched.scheduler.view.market import NODES, OFFERS, plan_columns
from dsched.scheduler.view.money import BILL, BUDGETS

__all__ = ["ATTEMPTS", "BILL", "BUDGETS", "CHECKS", "EVENTS", "JOBS", "NODES", "OFFERS", "plan_columns"]
