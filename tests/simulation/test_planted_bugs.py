"""A storm that cannot see a planted bug proves nothing: each of these must be caught within a few seeds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from dsched.scheduler.core import (
    agent,
    asking,
    budget,
    fleet,
    holding,
    ledger,
    lifecycle,
    orphan,
    placing,
    setback,
    step,
)
from dsched.scheduler.core.draft import Draft
from dsched.scheduler.core.message import (
    AgentHello,
    LaunchRefused,
    LaunchUnanswered,
    NodeNoticed,
    RefusedBy,
    RenewLease,
)
from dsched.scheduler.core.units import Instant, Millis
from dsched.scheduler.sim.storm.storm import Storm

SEEDS = 120  # the last of them is caught at its 71st


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


def grant_without_writing(draft: Draft, message: RenewLease) -> Millis:
    return draft.policy.lease


def watch_stale_rows(draft: Draft) -> None:
    rows = draft.state.nodes
    for node in list(rows.values()):
        if draft.now.wall > node.lease_until + draft.terms.proof_margin:
            ended = draft.now.market - int((draft.now.wall - node.lease_until) * draft.state.scale)
            fleet._lease_ended(draft, node, Instant(ended))
    REAL_WATCH(draft)


class WithoutSteps:
    meter, close, open_charge = ledger.meter, ledger.close, ledger.open_charge

    @staticmethod
    def reprice(draft: Draft, node: Any, quote: Any, on_demand: Any) -> Any:
        return draft.node(node, "repriced", rate=quote.price)


class WithoutMinimum:
    meter, reprice = ledger.meter, ledger.reprice

    @staticmethod
    def close(draft: Draft, node: Any, ended: Instant) -> Any:
        return ledger.meter(draft, node, ended)


def nothing_is_taken_back(entry: Any, start: Instant) -> Any:
    return replace(entry, kind="correction", start=entry.end, owed=0, baseline=0)


def every_notice_is_the_nodes(draft: Draft, message: NodeNoticed) -> None:
    REAL_NOTICED(draft, replace(message, by_node=True))


def hello_without_boot(draft: Draft, message: AgentHello) -> Millis:
    return REAL_HELLO(draft, replace(message, boot="same"))


REAL_ASK = holding.ask_end
REAL_WATCH, REAL_NOTICED, REAL_HELLO = fleet.watch, fleet.noticed, agent.hello

BUGS: dict[str, tuple[tuple[Any, ...], str, Callable[..., Any]]] = {
    "the next generation starts without proof": ((lifecycle,), "quiet", lambda draft, job: True),
    "orphans are ignored": ((orphan,), "found", nothing),
    "absence from a list is proof": ((fleet,), "_missing", absence_is_proof),
    "a lost answer is taken for a no": ((placing,), "unanswered", a_lost_answer_buys_again),
    "terminate is asked once and forgotten": ((holding, fleet, placing), "ask_end", ask_only_once),
    "a lease is granted without being written": ((agent,), "renew", grant_without_writing),
    "open launches are forgotten at a restart": ((step,), "_restarted", nothing),
    "orders to stop are never given": ((lifecycle,), "stop", nothing),
    "lost start orders are never repeated": ((agent,), "_compare", nothing),
    "a lease's end proves nothing": ((fleet,), "_lease_ended", nothing),
    "the nodes of an ended job are forgotten": ((lifecycle,), "release", nothing),
    "a broken gang is only stopped once": ((agent,), "_broken", lambda draft, job: False),
    "the rows of a tick are those of its beginning": ((fleet,), "watch", watch_stale_rows),
    "a price step is not booked": ((fleet, placing), "ledger", WithoutSteps),
    "what was booked past the end stays booked": ((ledger,), "_taken_back", nothing_is_taken_back),
    "the billing minimum is forgotten": ((fleet,), "ledger", WithoutMinimum),
    "a refusal cools nothing down": ((placing,), "_cool", nothing),
    "a pool that refused is asked by all at once": ((asking,), "doubted", lambda state, pool: False),
    "leases are renewed whatever the budget says": ((agent,), "affordable", lambda state, node, until, now: until),
    "leases that are promised cost nothing": ((budget,), "promised", lambda state, node, now: 0),
    "a notice that the node did not hear cuts its lease": ((fleet,), "noticed", every_notice_is_the_nodes),
    "a clock set back holds up what waits": ((setback,), "follow", lambda draft, by: []),
    "time that a clock skipped ends leases": ((fleet,), "clock_jumped", nothing),
    "an agent that started anew is taken for the old one": ((agent,), "hello", hello_without_boot),
}


@pytest.mark.parametrize("bug", BUGS)
def test_every_planted_bug_is_caught(bug: str, monkeypatch: pytest.MonkeyPatch) -> None:
    modules, name, broken = BUGS[bug]
    for module in modules:
        monkeypatch.setattr(module, name, broken)
    for seed in range(SEEDS):
        try:
            storm = Storm(seed, limit="60" if seed % 4 == 3 else "")
            storm.blow(600)
            storm.calm()
        except Exception:  # whatever it breaks, it is seen
            return
    pytest.fail(f"{SEEDS} storms did not see that {bug}")
