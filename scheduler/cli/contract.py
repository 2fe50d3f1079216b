"""What scripts rely on: the output formats, and one exit code per kind of end, so that no text need be read."""

from __future__ import annotations

from enum import IntEnum
from typing import Final

FORMATS: Final = ("table", "wide", "json", "jsonl", "csv", "name")


class Exit(IntEnum):
    OK = 0
    FAILED = 1
    USAGE = 2  # the command line or the spec
    NO_DAEMON = 3
    NOT_ALLOWED = 4
    NOT_FOUND = 5
    NO_OFFER = 6
    OVER_BUDGET = 7
    TIMED_OUT = 8
    JOB_FAILED = 100  # `wait` and a followed `submit` report the job itself, so its own failure hides none of ours
    JOB_UNFINISHED = 101
    JOB_CANCELLED = 103
    INTERRUPTED = 130  # Ctrl-C


TEXT: Final = (
    "Exit codes: 0 ok, 1 failed, 2 usage or spec, 3 no daemon, 4 not allowed, 5 not found, 6 no offer fits, "
    "7 over budget, 8 timed out, 130 Ctrl-C. wait, submit: 100 job failed, 101 unfinished, 103 cancelled."
)

_EXACT: Final = {
    "E400": Exit.USAGE,
    "E401": Exit.NOT_ALLOWED,
    "E402": Exit.OVER_BUDGET,
    "E403": Exit.NOT_ALLOWED,
    "E404": Exit.NOT_FOUND,
    "E406": Exit.NO_OFFER,
    "E407": Exit.NO_OFFER,
    "E408": Exit.TIMED_OUT,
    "E410": Exit.NOT_FOUND,
    "E413": Exit.USAGE,
    "E422": Exit.USAGE,
}
_CLASS: Final = {"E1": Exit.USAGE, "E3": Exit.NO_DAEMON, "E6": Exit.NO_OFFER, "E7": Exit.OVER_BUDGET}


def exit_of(code: str) -> Exit:
    """The exit code of a problem's code."""
    return _EXACT.get(code) or _CLASS.get(code[:2], Exit.FAILED)


def exit_of_job(state: str) -> Exit:
    ends = {"succeeded": Exit.OK, "failed": Exit.JOB_FAILED, "cancelled": Exit.JOB_CANCELLED}
    return ends.get(state, Exit.JOB_UNFINISHED)
