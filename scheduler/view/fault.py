"""A fault in a spec, shown where it stands: file, line and column, the line itself, and a caret under what is meant."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from dsched.scheduler.view.safe import show
from dsched.scheduler.view.table import cells_wide, paint
from dsched.scheduler.wire.document import Fault, Place

CODE: Final = "E101"
_LINE_MAX: Final = 160  # characters of a source line around the fault
_BEFORE: Final = 100  # of them, how many may stand before it


def fault_lines(faults: Sequence[Fault], *, colour: bool) -> list[str]:
    """error[E101] job.yaml:5:9 gpus.type: unknown GPU 'H10O'; did you mean H100?"""
    lines: list[str] = []
    code = paint(f"error[{CODE}]", "bad", colour=colour)
    for fault in faults:
        lines.append(f"{code} {headline(fault)}")
        if fault.place is not None and fault.place.text.strip():
            lines += _caret(fault.place, colour=colour)
        if fault.hint:
            lines.append(f"  do    {show(fault.hint)}")
    return lines


def headline(fault: Fault) -> str:
    """The fault on one line."""
    place = fault.place
    at = f"{show(place.source.name)}:{place.line}:{place.column} " if place else ""
    name = f"{show(fault.field)}: " if fault.field else ""
    return f"{at}{name}{show(fault.message, 500)}"


def _caret(place: Place, *, colour: bool) -> list[str]:
    start = place.column - 1
    first = max(0, start - _BEFORE)
    before = show(place.text[first:start], 4 * _LINE_MAX)
    rest = place.text[start : first + _LINE_MAX].rstrip()
    meant = show(rest[: place.length] or " ", 4 * _LINE_MAX)
    after = show(rest[place.length :], 4 * _LINE_MAX)
    number = f"{place.line:>5}"
    mark = paint("^" * max(1, cells_wide(meant)), "bad", colour=colour)
    return [f"{number} │ {before}{meant}{after}", f"{'':>5} │ {' ' * cells_wide(before)}{mark}"]
