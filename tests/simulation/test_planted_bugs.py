"""A storm that cannot see a planted bug proves nothing: each of these must be caught within a few seeds."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from dsched.scheduler.core import agent, fleet, holding, lifecycle, placing, step
from dsched.scheduler.core.draft import Draft
from dsched.scheduler.core.message import LaunchRefused, LaunchUnanswered, RefusedBy, RenewLease
from dsched.scheduler.core.units import Instant, Millis
from tests.support.storm import Storm

SEEDS = 60


def nothing(*_: Any, **__: Any) -> None:
    return None


def absence_is_proof(draft: Draft, node: Any, asked: Instant) -> None:
    if node.ref:
        fleet.gone(draft, node, draft.now.market, "missing")


def a_lost_answer_buys_again(draft: Draft, message: LaunchUnanswered) -> None:
    placing.refused(
        draft,
        LaunchRefused(intent=message.intent, by=RefusedBy.CAPACITY, why="timeout", scope="pool", cooldown=Millis(1)),
    )


def ask_only_once(draft: Draft, node: Any) -> None:
    if node.id not in draft.state.asked:
        REAL_ASK(draft, node)


def grant_without_writing(draft: Draft, message: RenewLease) -> Instant:
    return Instant(draft.now.wall + draft.terms.lease)


REAL_ASK = holding.ask_end

BUGS: dict[str, tuple[tuple[Any, ...], str, Callable[..., Any]]] = {
    "the next generation starts without proof": ((lifecycle,), "quiet", lambda draft, job: True),
    "orphans are ignored": ((fleet,), "_orphan", nothing),
    "absence from a list is proof": ((fleet,), "_missing", absence_is_proof),
    "a lost answer is taken for a no": ((placing,), "unanswered", a_lost_answer_buys_again),
    "terminate is asked once and forgotten": ((holding, fleet, placing), "ask_end", ask_only_once),
    "a lease is granted without being written": ((agent,), "renew", grant_without_writing),
    "open launches are forgotten at a restart": ((step,), "_restarted", nothing),
    "orders to stop are never given": ((lifecycle,), "stop", nothing),
    "lost start orders are never repeated": ((agent,), "_compare", nothing),
    "a lease's end proves nothing": ((fleet,), "_lease_ended", nothing),
    "the nodes of an ended job are forgotten": ((lifecycle,), "release", nothing),
}


@pytest.mark.parametrize("bug", BUGS)
def test_every_planted_bug_is_caught(bug: str, monkeypatch: pytest.MonkeyPatch) -> None:
    modules, name, broken = BUGS[bug]
    for module in modules:
        monkeypatch.setattr(module, name, broken)
    for seed in range(SEEDS):
        try:
            storm = Storm(seed)
            storm.blow(600)
            storm.calm()
        except Exception:  # whatever it breaks, it is seen
            return
    pytest.fail(f"{SEEDS} storms did not see that {bug}")
