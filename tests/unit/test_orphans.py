"""Machines that no row claims: ended, and paid for to the millisecond."""

from __future__ import annotations

from dataclasses import replace

from dsched.scheduler.core.effect import CallTerminate
from dsched.scheduler.core.message import SeenNode
from dsched.scheduler.core.snapshot import LedgerEntry
from dsched.scheduler.core.units import HOUR, MINUTE, SECOND, Instant, Moment, price
from dsched.scheduler.store.log import Log
from dsched.scheduler.store.snapshot import load
from tests.support.stage import Stage, offer, pool

CHEAP = "us-east-1a"


def stranger(stage: Stage, *, age: int = 0) -> SeenNode:
    launched = Instant(stage.now.market - age)
    return SeenNode(ref="i-x", token="ds-old", index=0, pool=pool(CHEAP), alive=True, launched=launched)


def dead(machine: SeenNode, at: int) -> SeenNode:
    return replace(machine, alive=False, ended=Instant(at), ended_by="asked")


def entries(stage: Stage) -> list[LedgerEntry]:
    return [
        LedgerEntry(**change.fields) for event in stage.events for change in event.changes if change.table == "ledger"
    ]


def passes(stage: Stage, time: int) -> None:
    stage.now = Moment(Instant(stage.now.wall + time), Instant(stage.now.market + time))


def test_an_orphan_is_paid_from_its_launch_to_its_end() -> None:
    s = Stage(offer(CHEAP, 20.0))
    found = stranger(s, age=10 * MINUTE)
    s.list(found)
    assert s.asked(CallTerminate)
    passes(s, 50 * MINUTE)
    s.list(found)
    assert not entries(s)
    s.list(dead(found, s.now.market))
    (entry,) = entries(s)
    assert (entry.node, entry.kind, entry.job, entry.budget) == ("ds-old.0", "orphan", "", "default")
    assert entry.owed == price(20) * HOUR
    assert s.state.budgets["default"].spent == entry.owed
    s.list(dead(found, s.now.market))
    assert len(entries(s)) == 1
    assert s.state.orphans == s.state.asked == {}


def test_an_orphan_of_a_second_costs_the_billing_minimum() -> None:
    s = Stage(offer(CHEAP, 20.0))
    found = stranger(s)
    s.list(found)
    s.list(dead(found, s.now.market + SECOND))
    assert [entry.end - entry.start for entry in entries(s)] == [MINUTE]


def test_an_orphan_that_is_not_listed_any_more_is_paid_until_the_third_list_without_it() -> None:
    s = Stage(offer(CHEAP, 20.0))
    found = stranger(s)
    s.list(found)
    for _ in range(s.terms.absent_lists - 1):
        passes(s, MINUTE)
        s.list()
        assert not entries(s)
    passes(s, MINUTE)
    s.list()
    assert [entry.end - entry.start for entry in entries(s)] == [s.terms.absent_lists * MINUTE]


def test_an_orphan_whose_price_is_not_known_waits_for_one() -> None:
    s = Stage()
    found = stranger(s)
    s.list(found)
    s.offers(offer(CHEAP, 20.0))
    s.list(found)
    passes(s, HOUR)
    s.list(dead(found, s.now.market))
    assert [entry.owed for entry in entries(s)] == [price(20) * HOUR]


def test_a_machine_that_outlives_its_lease_is_paid_from_the_leases_end() -> None:
    s = Stage(offer(CHEAP, 20.0))
    s.run()
    (node,) = [s.state.nodes[name] for name in s.job().nodes]
    machine = s.seen(node)
    s.wait(s.policy.lease + s.terms.proof_margin + 1)
    assert node.id not in s.state.nodes
    paid = max(entry.end for entry in entries(s))
    passes(s, HOUR)
    s.list(machine)
    s.list(dead(machine, s.now.market))
    mine = [entry for entry in entries(s) if entry.kind == "orphan"]
    assert [(entry.start, entry.end) for entry in mine] == [(paid, s.now.market)]


def test_a_machine_that_ends_with_its_lease_leaves_no_orphan_behind() -> None:
    s = Stage(offer(CHEAP, 20.0))
    s.run()
    machine = s.seen(s.state.nodes[s.job().nodes[0]])
    s.wait(s.policy.lease + s.terms.proof_margin + 1)
    s.list(dead(machine, s.now.market))
    assert s.state.outlived == {}
    assert not [entry for entry in entries(s) if entry.kind == "orphan"]


def test_a_machine_that_outlives_its_lease_is_paid_once_although_the_daemon_starts_anew_meanwhile() -> None:
    s = Stage(offer(CHEAP, 20.0))
    s.run()
    (name,) = s.job().nodes
    row = s.state.nodes[name]
    s.wait(s.policy.lease + s.terms.proof_margin + 1)
    log = Log.in_memory()
    log.append(s.events)
    booked = s.state.budgets["default"].spent
    s.state = load(log.connection)
    s.offers(offer(CHEAP, 20.0, at=s.now.market))
    s.list(s.seen(row))
    assert s.asked(CallTerminate)
    passes(s, HOUR)
    s.list(dead(s.seen(row), s.now.market))
    entry = entries(s)[-1]
    assert (entry.kind, entry.start, entry.end) == ("orphan", row.lease_until, s.now.market)
    assert s.state.budgets["default"].spent == booked + entry.owed
