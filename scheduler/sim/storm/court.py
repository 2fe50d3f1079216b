"""The omniscient court of a storm: it sees the truth and the core's rows, and says what must never be."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from typing import TYPE_CHECKING, Final

from dsched.scheduler.core.event import Event
from dsched.scheduler.core.state import TERMINAL, JobState
from dsched.scheduler.core.units import HOUR, MINUTE
from dsched.scheduler.sim.judge import Violation
from dsched.scheduler.sim.storm.bill import Life, complaints, cost, entries, spent
from dsched.scheduler.sim.storm.scene import REFUSED

if TYPE_CHECKING:
    from dsched.scheduler.sim.storm.storm import Storm

BACKOFF_MAX: Final = 2 * MINUTE  # wall: twice the longest of terms.py


class Court:
    def __init__(self, storm: Storm) -> None:
        self.storm = storm
        self.draining: dict[str, int] = {}  # job -> wall since when
        self.leaving: dict[str, int] = {}  # node -> wall since when
        self.asking: dict[str, int] = {}  # open launch -> wall since when
        self.refused: dict[
            str, tuple[int, int]
        ] = {}  # pool, till it sells -> wall of its last refusal, end of cool-down
        self.booked = 0  # by the entries so far

    def complain(self, what: str) -> None:
        raise Violation(self.storm.story(what))

    def look(self) -> None:
        """What must hold at every instant, seen from outside."""
        self._ranks()
        self._machines()
        self._rows()
        self._waits()
        if self.storm.calm_since is not None:
            self._calm(self.storm.calm_since)

    def hear(self, events: Iterable[Event]) -> None:
        """What must hold for what the core has just decided."""
        granted = False
        for event in events:
            granted |= event.kind == "node.lease"
            if event.kind == "node.launched":
                self._sells(event.node)
            for change in event.changes:
                if change.table == "ledger":
                    self.booked += change.fields["owed"]
                elif change.table == "intent" and change.new:
                    granted = True
                    self._launch(change.fields["pool"].id)
        if granted:
            self._promise()

    def _launch(self, pool: str) -> None:
        """A pool that is sold out is not asked, and one that refused last is asked by one launch at a time."""
        if pool not in self.refused:
            return
        since, until = self.refused[pool]
        intents = self.storm.state.intents.values()
        asking = [i for i in intents if i.pool.id == pool and i.made.wall > since]
        if until > self.storm.now.market or len(asking) > 1:
            self.complain(f"{pool} refused, and is asked by {len(asking)}")

    def _sells(self, node: str) -> None:
        for machine in self.storm.machines.values():
            if machine.node == node:
                self.refused.pop(machine.intent.pool.id, None)

    def refuse(self, pool: str, until: int) -> None:
        """The core is being told so."""
        _, before = self.refused.get(pool, (0, 0))
        self.refused[pool] = self.storm.now.wall, max(before, until)

    def _promise(self) -> None:
        """Whoever grants a lease has the money for it, at the highest price, with all other leases."""
        state, now = self.storm.state, self.storm.now
        limit = state.budgets["default"].limit if "default" in state.budgets else None
        if limit is None:
            return
        total = self.booked
        for node in state.nodes.values():
            if node.metered is not None:
                total += node.rate * max(0, now.market - node.metered)
            total += max(node.rate, node.ceiling) * max(0, int((node.lease_until - now.wall) * state.scale))
        if total > limit * HOUR:
            self.complain(f"leases promise {total / HOUR / 1e6:.4f} $, the limit is {limit / 1e6:.4f}")

    def _ranks(self) -> None:
        alive: dict[str, set[int]] = defaultdict(set)
        for machine in self.storm.machines.values():
            for job, generation in machine.agent.ranks if machine.alive else ():
                alive[job].add(generation)
        for job, generations in alive.items():
            if len(generations) > 1:
                self.complain(f"{job} runs twice: generations {sorted(generations)}")

    def _machines(self) -> None:
        for machine in self.storm.machines.values():
            row = self.storm.state.nodes.get(machine.node)
            proof = 0 if row is None else max(row.lease_until, self.storm.state.proofs_from) - self.storm.shift
            if machine.alive and row is not None and machine.lease > max(proof, self.storm.true):
                self.complain(f"{machine.node} holds its lease until after its end is taken for a proof")
            if machine.alive and row is None and not machine.late and not machine.undead:
                self.complain(f"{machine.node} lives and no row knows it")

    def _rows(self) -> None:
        state = self.storm.state
        if lost := self.storm.acknowledged - state.jobs.keys():
            self.complain(f"acknowledged and lost: {sorted(lost)}")
        for job in state.jobs.values():
            if job.state in {*TERMINAL, JobState.QUEUED} and (job.nodes or job.next_nodes):
                self.complain(f"{job.id} is {job.state} and holds nodes")
        owners = Counter(n for job in state.jobs.values() for n in {*job.nodes, *job.next_nodes})
        if twice := [n for n, count in owners.items() if count > 1 and n in state.nodes]:
            self.complain(f"given to two jobs: {twice}")

    def _waits(self) -> None:
        """Nobody waits longer than the longest back-off, even if the wall clock was set back meanwhile."""
        state, now = self.storm.state, self.storm.now
        rows = (state.jobs, BACKOFF_MAX), (state.intents, BACKOFF_MAX), (state.alerts, HOUR)
        for waiting, most in rows:
            for key, row in waiting.items():
                if row.due - now.wall > most:
                    self.complain(f"{key} is to wait for {(row.due - now.wall) / 1000:.0f} s")
        longest = max(self.storm.policy.cooldown, round(REFUSED * self.storm.scale))
        for pool, memory in state.pools.items():
            if memory.cool_until - now.market > longest:
                self.complain(f"{pool} cools down for {(memory.cool_until - now.market) / 1000:.0f} s of the market")

    def _calm(self, since: int) -> None:
        """Without faults nothing may take long, but for machines whose end only their lease can prove."""
        state, now, patience = self.storm.state, self.storm.now.wall, (6 if self.storm.jumpy else 2) * MINUTE
        alive = {m.node for m in self.storm.machines.values() if m.alive}
        draining = {j.id for j in state.jobs.values() if j.state is JobState.DRAINING and alive.issuperset(j.nodes)}
        leaving = {node.id for node in state.nodes.values() if node.leaving and node.id in alive}
        for names, began in ((draining, self.draining), (leaving, self.leaving), (set(state.intents), self.asking)):
            for name in began.keys() - names:
                del began[name]
            for name in names:
                if now - began.setdefault(name, now) > patience:
                    self.complain(f"{name} does not come to its end")
        orphans = alive - state.nodes.keys()
        if orphans and now - since > patience:
            self.complain(f"machines that nobody owns: {sorted(orphans)}")

    # -- money, when everything has ended ----------------------------------------------------------------------------

    def money(self) -> None:
        """The ledger is true: to the millisecond of every life, and in every sum."""
        storm = self.storm
        wrong = complaints(self.lives(), storm.quoted, storm.log)
        wrong += self._strangers()
        for column, rows in (("job", storm.state.jobs), ("budget", storm.state.budgets)):
            sums = spent(storm.log, column)
            for name, row in rows.items():
                if row.spent != sums[name]:
                    wrong.append(f"{name} says {row.spent}, its entries {sums[name]}")
        if wrong:
            self.complain("the ledger lies: " + "; ".join(wrong))

    def _strangers(self) -> list[str]:
        """An orphan is paid from its launch, or from the end of the lease that it outlived, until its end at least.

        Of the latter a daemon that died since knows nothing any more: then it books the whole life, too much.
        """
        lives = {machine.node: machine for machine in self.storm.machines.values()}
        wrong = []
        for entry in entries(self.storm.log):
            if entry["kind"] == "orphan":
                machine = lives[entry["node"]]
                late = machine.cursed and machine.launched < entry["start"] <= machine.ended
                if (entry["start"] != machine.launched and not late) or entry["end"] < machine.ended:
                    wrong.append(f"{machine.node} lived {machine.launched}..{machine.ended}, booked is {entry}")
        return wrong

    def cost(self) -> int:
        """What all machines that a row knew have cost, by the judge's own bill."""
        return sum(cost(life, self.storm.quoted[life.pool]) for life in self.lives())

    def lives(self) -> list[Life]:
        """Of every machine that a row knew; strangers are nobody's entry."""
        log = self.storm.log
        known = {event.node: event.at.market for event in reversed(log) if event.kind == "node.launched"}
        ends = {event.node: event for event in log if event.kind == "node.gone"}
        lives = []
        for machine in self.storm.machines.values():
            if machine.node not in known:
                continue
            ended = machine.ended
            if ends[machine.node].data["by"] == "lease":  # nobody ever told the true end
                ended = ends[machine.node].changes[0].fields["ended"]
                assert ended >= machine.ended or machine.cursed
            planned, launched, pool = machine.intent.made.market, machine.launched, machine.intent.pool.id
            lives.append(Life(machine.node, pool, planned, launched, known[machine.node], ended))
        return lives
