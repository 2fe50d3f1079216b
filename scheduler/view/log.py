"""The columns of events and of a doctor's checks."""

from __future__ import annotations

from typing import Final

from dsched.scheduler.view import format as f
from dsched.scheduler.view.column import Column
from dsched.scheduler.view.safe import show
from dsched.scheduler.wire.api import Check, Event

EVENTS: Final[tuple[Column[Event], ...]] = (
    Column(
        name="seq", title="SEQ", width=6, align="right", priority=3,
        cell=lambda e, _: str(e["seq"]), key=lambda e: e["seq"],
    ),
    Column(name="at", title="AT", width=8, priority=1, cell=lambda e, _: f.second(e["wall"]), key=lambda e: e["wall"]),
    Column(
        name="market", title="MARKET TIME", width=12, wide=True, priority=5,
        cell=lambda e, now: f.clock(e["market"], now.market), key=lambda e: e["market"],
    ),
    Column(name="kind", title="EVENT", width=16, cell=lambda e, _: show(e["kind"]), key=lambda e: e["kind"]),
    Column(
        name="job", title="JOB", width=6, priority=1,
        cell=lambda e, _: show(e["job"]), key=lambda e: e["job"] or None,
    ),
    Column(
        name="node", title="NODE", width=12, priority=2,
        cell=lambda e, _: show(e["node"]), key=lambda e: e["node"] or None,
    ),
    Column(
        name="why", title="WHY", width=30, flex=True,
        cell=lambda e, _: show(e["why"]), key=lambda e: e["why"] or None,
    ),
)  # fmt: skip

CHECKS: Final[tuple[Column[Check], ...]] = (
    Column(
        name="status", title="", width=6,
        cell=lambda c, _: f.state(c["status"]), key=lambda c: c["status"], tone=lambda c: f.tone(c["status"]),
    ),
    Column(name="name", title="CHECK", width=12, cell=lambda c, _: show(c["name"]), key=lambda c: c["name"]),
    Column(
        name="message", title="FOUND", width=30, flex=True,
        cell=lambda c, _: show(c["message"]), key=lambda c: c["message"],
    ),
    Column(
        name="fix", title="FIX", width=30, flex=True,
        cell=lambda c, _: show(c["fix"]), key=lambda c: c["fix"] or None, tone=lambda c: "strong",
    ),
)  # fmt: skip
