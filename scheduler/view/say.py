"""How a process that is no typer command speaks: a line at once, and a failure in the form of every command's."""

from __future__ import annotations

import sys
from typing import Final

from dsched.scheduler.view.safe import show

WIDEST: Final = 4_000  # characters of one line of a failure: a path and a parser's complaint fit, a whole file does not


def say(text: str) -> None:
    """A line on standard output, there as soon as it is said. Foreign text in it is the caller's to `show`."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def fail(code: str, message: str, hint: str, exit: int) -> int:
    """`error[CODE] message`, and what to do about it on the next line, on standard error; answers `exit`."""
    said = "\n".join(show(line, WIDEST) for line in message.splitlines())
    sys.stderr.write(f"error[{code}] {said}\n" + (f"  do    {hint}\n" if hint else ""))
    return exit
