"""The one table from permission to roles. What is not in it is denied."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Final

from dsched.scheduler.auth.principal import Principal, Role


class Permission(StrEnum):
    SEE = "see"  # jobs, nodes, offers, events, money: what everybody on the machine may know
    LOGS = "logs"  # of own jobs
    LOGS_ANY = "logs-any"
    PLAN = "plan"  # ask, change nothing
    SUBMIT = "submit"  # and send the workdir for it
    ACT = "act"  # on own jobs
    ACT_ANY = "act-any"
    BUDGET = "budget"
    AGENT = "agent"  # no role: agents prove themselves by their session


_R = Role
GRANTED: Final[Mapping[Permission, frozenset[Role]]] = {
    Permission.SEE: frozenset({_R.VIEWER, _R.SUBMITTER, _R.OPERATOR, _R.ADMIN}),
    Permission.LOGS: frozenset({_R.VIEWER, _R.SUBMITTER, _R.OPERATOR, _R.ADMIN}),
    Permission.LOGS_ANY: frozenset({_R.OPERATOR, _R.ADMIN}),
    Permission.PLAN: frozenset({_R.VIEWER, _R.SUBMITTER, _R.OPERATOR, _R.ADMIN}),
    Permission.SUBMIT: frozenset({_R.SUBMITTER, _R.OPERATOR, _R.ADMIN}),
    Permission.ACT: frozenset({_R.SUBMITTER, _R.OPERATOR, _R.ADMIN}),
    Permission.ACT_ANY: frozenset({_R.OPERATOR, _R.ADMIN}),
    Permission.BUDGET: frozenset({_R.ADMIN}),
    Permission.AGENT: frozenset(),
}


def allows(principal: Principal, permission: Permission) -> bool:
    return principal.role in GRANTED.get(permission, frozenset())


def needed(permission: Permission) -> str:
    """The roles that have it, for an error's hint."""
    return " or ".join(sorted(GRANTED.get(permission, frozenset())))
