"""Hints from operations: that a machine is being taken back, and that one is gone. The node's own watcher is faster.

An interruption is told once, with the instant at which the machine goes; an end is told once.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from dsched.providers.base import NodeRef, Notice, NoticeKind
from dsched.providers.gcp import compute
from dsched.providers.gcp.names import parse
from dsched.providers.gcp.roll import LATE, ref_of
from dsched.providers.gcp.rows import Happening
from dsched.providers.gcp.settings import Settings
from dsched.scheduler.core.units import Instant

PREEMPTED: Final = "compute.instances.preempted"
TOLD_MAX: Final = 10_000  # remembered, oldest forgotten first: a day of a very busy fleet


class News:
    """What of the operations is new since `began`."""

    def __init__(self, began: Instant, settings: Settings) -> None:
        self._began, self._settings = began, settings
        self._told: dict[tuple[NoticeKind, NodeRef], None] = {}

    def since(self, looked: Instant) -> Instant:
        return Instant(looked - LATE)

    def gap(self, after: bool) -> Sequence[Notice]:
        """After a time without an answer anything may have happened."""
        return (Notice(kind=NoticeKind.GONE), Notice(kind=NoticeKind.PRICES)) if after else ()

    def read(self, happened: Iterable[Happening], *, longer: bool) -> list[Notice]:
        notice = compute.notice_of(self._settings, longer=longer)
        made: list[Notice] = []
        for one in sorted(happened, key=lambda one: one.began):
            if one.kind == "insert" or one.failed or parse(one.machine, one.zone) is None:
                continue
            ref = ref_of(one.zone, one.machine)
            if one.kind == PREEMPTED and self._new(one.began, NoticeKind.INTERRUPT, ref):
                made.append(Notice(kind=NoticeKind.INTERRUPT, ref=ref, deadline=Instant(one.began + notice)))
            if one.over is not None and self._new(one.over, NoticeKind.GONE, ref):
                made.append(Notice(kind=NoticeKind.GONE, ref=ref))
        return made

    def _new(self, at: Instant, kind: NoticeKind, ref: NodeRef) -> bool:
        if at < self._began or (kind, ref) in self._told:
            return False
        self._told[kind, ref] = None
        while len(self._told) > TOLD_MAX:
            del self._told[next(iter(self._told))]
        return True
