"""What is left to give while a crowd is served: the stock of shortlist.py, in columns. Shapes are [O], O = offers."""

from __future__ import annotations

import numpy as np

from dsched.scheduler.core.fleetplan.columns import PLENTY, Columns, Ints, Risk
from dsched.scheduler.core.placement import Question, aside
from dsched.scheduler.core.quota import claimed
from dsched.scheduler.core.units import Charge


class Shelf:
    """Nodes of every offer, ours and others', within the quotas; and the room in the budgets."""

    def __init__(self, question: Question, columns: Columns, risk: Risk) -> None:
        self.columns, self._promised = columns, question.promised
        self.idle = {columns.index[id]: sorted(set(n)) for id, n in question.idle.items() if id in columns.index}
        self.idle_count: Ints = np.zeros(len(columns.ids), np.int64)  # [O]
        for row, names in self.idle.items():
            self.idle_count[row] = len(names)
        self.free: Ints = _free(columns, question)  # [O] whatever quotas and cool-downs say; PLENTY and more: not told
        self.had: Ints = np.where(risk.cooling, self.idle_count, self.free + self.idle_count)  # [O] for one gang
        self.room = dict(question.room)
        self.quotas = [one.left for one in question.quotas]
        self._drawn = _drawn(question, columns)  # [O] each: what a node takes of it; 0: nothing
        for number in range(len(self.quotas)):
            self._cap(number)

    def take(self, row: int, nodes: int, budget: str, reserve: int) -> tuple[str, ...]:
        """Give a gang away; the machines of ours in it. `reserve`: the charge of a first lease."""
        had = self.had
        had[row] = had.item(row) - nodes
        reuse: tuple[str, ...] = ()
        if row in self.idle:
            reuse, self.idle[row] = tuple(self.idle[row][:nodes]), self.idle[row][nodes:]
            self.idle_count[row] -= len(reuse)
        room = self.room.get(budget)
        if room is not None:
            self.room[budget] = Charge(room - aside(self._promised, budget, Charge(reserve), reuse, nodes))
        if bought := nodes - len(reuse):
            self.free[row] = self.free.item(row) - bought if self.free.item(row) < PLENTY else PLENTY
            if self._drawn:
                self._draw(row, bought)
        return reuse

    def _draw(self, row: int, bought: int) -> None:
        for number, drawn in enumerate(self._drawn):
            if drawn[row]:
                self.quotas[number] -= bought * int(drawn[row])
                self._cap(number)

    def ahead(self, budget: str, rows: Ints, nodes: Ints, parts: Ints) -> Ints:
        """What the leases of idle nodes that such gangs would take have set aside already (placement.aside). [P]

        `parts`: the charge of a first lease of one node.
        """
        ahead = np.zeros(len(rows), np.int64)
        for place in np.flatnonzero(self.idle_count[rows]) if self._promised else ():
            names = self.idle[int(rows[place])][: int(nodes[place])]
            told = (self._promised[name] for name in names if name in self._promised)
            part = int(parts[place])
            ahead[place] = sum(min(one.charge, part) for one in told if one.budget == budget)
        return ahead

    def _cap(self, number: int) -> None:
        """No more can be had than a quota leaves."""
        each = self._drawn[number]
        rows = np.flatnonzero(each)
        self.had[rows] = np.minimum(self.had[rows], self.idle_count[rows] + self.quotas[number] // each[rows])


def _drawn(question: Question, columns: Columns) -> list[Ints]:
    """[Q][O]: what a node of each offer takes of each quota."""
    drawn = [np.zeros(len(columns.ids), np.int64) for _ in question.quotas]
    offers = dict(zip(columns.ids, columns.rows, strict=True)) if drawn else {}
    for row, claims in enumerate(claimed(question.quotas, offers).values()):
        for claim in claims:
            drawn[claim.number][row] = claim.each
    return drawn


def _free(columns: Columns, question: Question) -> Ints:
    """What is free by the question's own word, where that is not what the columns were made of."""
    free = columns.free.copy()
    if columns.offers is question.offers:
        return free
    for id, row in columns.index.items():
        offer = question.offers[id]
        if offer is not columns.rows[row]:
            free[row] = PLENTY if offer.free is None else max(0, offer.free)
    return free
