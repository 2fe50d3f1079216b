"""Budgets that act: alerts at 50, 80 and 100 %, and a stop that still pays for its checkpoint.

At the limit nothing is killed: jobs checkpoint and are held, and go on when the limit is raised.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from dsched.scheduler.core import lifecycle
from dsched.scheduler.core.budget import ceiling, totals
from dsched.scheduler.core.draft import Draft, insert
from dsched.scheduler.core.effect import SendAlert
from dsched.scheduler.core.event import Change
from dsched.scheduler.core.holding import release
from dsched.scheduler.core.message import SetBudget
from dsched.scheduler.core.snapshot import After, Alert, Budget, Job, State
from dsched.scheduler.core.state import JobFact, JobState
from dsched.scheduler.core.units import Charge, Millis, charge, text, to_charge, to_micro_usd
from dsched.scheduler.core.wishes import HELD_BY_BUDGET

LEVELS: Final = (50, 80, 100)
NAMES: Final = 1 << 28  # a limit may be set twice within a millisecond, and rings each time


def set_limit(draft: Draft, wish: SetBudget) -> str:
    budget = draft.state.budgets.get(wish.name)
    limit = "none" if wish.limit is None else f"${text(wish.limit)}"
    why = f"limit set to {limit}" + (f" by {wish.by}" if wish.by else "")
    if budget is None:
        draft.say("budget.set", insert("budget", wish.name, Budget(name=wish.name, limit=wish.limit)), why=why)
    else:
        # a limit raised past what is spent arms the alerts anew
        changed = {"limit": wish.limit, "fired": (), "exhausted": False}
        draft.say("budget.set", _change(budget, changed), why=why)
    watch(draft)
    budget = draft.state.budgets[wish.name]
    if not budget.exhausted:
        _release(draft, budget)
    draft.state.wake()
    return wish.name


def watch(draft: Draft) -> None:
    """Compare every limited budget with its spend: alerts at the levels, a stop that can still pay its checkpoint."""
    state, now = draft.state, draft.now
    if all(budget.limit is None for budget in state.budgets.values()):
        return
    sums = totals(state, now)
    for budget in list(state.budgets.values()):
        if budget.limit is None:
            continue
        spent, _ = sums[budget.name]
        limit = to_charge(budget.limit)
        stop = spent + _drain_cost(state, budget) >= limit
        reached = [level for level in LEVELS if spent * 100 >= limit * level or (level == LEVELS[-1] and stop)]
        passed = tuple(level for level in reached if level not in budget.fired)
        if passed:
            budget = _fire(draft, budget, passed, spent)
        if stop and not budget.exhausted:
            draft.say("budget.exhausted", _change(budget, {"exhausted": True}), why=f"budget {budget.name} is spent")
            _hold(draft, budget.name)
            _give_back(draft)


def _drain_cost(state: State, budget: Budget) -> Charge:
    """What it costs to checkpoint and leave everything that runs on this budget."""
    total = 0
    for node in state.nodes.values():
        job = state.jobs.get(node.job)
        if job and job.spec.budget == budget.name:
            total += charge(ceiling(node), Millis(int(job.spec.drain * state.scale)))
    return Charge(total)


def _fire(draft: Draft, budget: Budget, passed: tuple[int, ...], spent: Charge) -> Budget:
    """One alert, of the highest level that was passed since the last look: the others say nothing more."""
    assert budget.limit is not None
    level = max(passed)
    used, limit = text(to_micro_usd(spent)), text(budget.limit)
    alert = Alert(
        id=f"budget-{budget.name}-{level}-{draft.now.wall}-{int(draft.rng.random() * NAMES):07x}",
        made=draft.now,
        severity="critical" if level >= LEVELS[-1] else "warning",
        title=f"budget {budget.name}: {level} %",
        text=f"${used} of ${limit} spent. " + _consequence(budget.name, level) + _spenders(draft.state, budget.name),
    )
    fired = {"fired": (*budget.fired, *passed)}
    changes = [_change(budget, fired), insert("alert", alert.id, alert)]
    draft.say("budget.alert", *changes, why=alert.title, data={"level": level, "spent": used, "limit": limit})
    draft.do(SendAlert(id=alert.id))
    return draft.state.budgets[budget.name]


def _consequence(name: str, level: int) -> str:
    if level < LEVELS[-1]:
        return "Nothing is stopped. "
    return f"Its jobs checkpoint and are held; they go on after `dsched budget set {name} AMOUNT`. "


def _spenders(state: State, name: str) -> str:
    jobs = sorted((j for j in state.jobs.values() if j.spec.budget == name), key=lambda j: -j.spent)[:3]
    return "Spent by " + ", ".join(f"{j.id} {j.spec.name} ${text(to_micro_usd(j.spent))}" for j in jobs) if jobs else ""


def _hold(draft: Draft, name: str) -> None:
    for job in list(draft.state.jobs.values()):
        if job.spec.budget == name:
            hold(draft, job, HELD_BY_BUDGET)


def _give_back(draft: Draft) -> None:
    """Idle nodes are the default budget's: when that is spent they go."""
    release(draft, [node.id for node in draft.state.nodes.values() if node.idle_since is not None and not node.job])


def hold(draft: Draft, job: Job, why: str) -> None:
    """Take a job out of service: at once when it waits, after a checkpoint when it runs."""
    if job.state is JobState.QUEUED:
        draft.job(job, "held", JobFact.HOLD, why=why)
    elif job.state in (JobState.STARTING, JobState.RUNNING) or (
        job.state is JobState.DRAINING and job.after in (After.NOTHING, After.MOVE)
    ):
        lifecycle.drain(draft, job, After.HOLD, why)


def _release(draft: Draft, budget: Budget) -> None:
    for job in list(draft.state.jobs.values()):
        if job.spec.budget == budget.name and job.state is JobState.HELD and job.reason == HELD_BY_BUDGET:
            draft.job(job, "released", JobFact.RELEASE, why="the budget was raised")


def _change(budget: Budget, changed: Mapping[str, object]) -> Change:
    return Change("budget", budget.name, changed)
