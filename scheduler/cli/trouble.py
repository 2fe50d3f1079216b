"""How a command fails: one code, one line what, one line where, one line what to do; or the same as JSON."""

from __future__ import annotations

import json
from collections.abc import Sequence

from dsched.scheduler.cli.contract import Exit, exit_of
from dsched.scheduler.view.safe import show
from dsched.scheduler.view.table import paint
from dsched.scheduler.wire.api import VERSION, Problem

_LINE = 2_000  # characters of a message; long enough for several faults in one answer


class Trouble(Exception):
    """The command ends here. `text` replaces the usual lines where there is more to show: a caret under its source."""

    def __init__(self, problem: Problem, *, exit: Exit | None = None, text: Sequence[str] = ()) -> None:
        self.problem = problem
        self.exit = exit_of(problem["code"]) if exit is None else exit
        self.text = text
        super().__init__(problem["message"])


def trouble(code: str, message: str, hint: str = "", *, exit: Exit | None = None) -> Trouble:
    problem = Problem(code=code, message=message, retryable=False)
    if hint:
        problem["hint"] = hint
    return Trouble(problem, exit=exit)


def as_lines(problem: Problem, *, colour: bool) -> list[str]:
    """error[E404] no job j9 / do  dsched ps -a"""
    code = paint(f"error[{show(problem['code'], 16)}]", "bad", colour=colour)
    lines = [f"{code} {show(problem['message'], _LINE)}"]
    where = problem.get("where", "")
    if where and where not in problem["message"]:
        lines.append(f"  at    {show(where)}")
    if hint := problem.get("hint"):
        lines.append(f"  do    {show(hint, _LINE)}")
    return lines


def as_json(problem: Problem) -> str:
    return json.dumps({"v": VERSION, "error": problem})
