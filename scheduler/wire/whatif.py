"""How people write a change that `dsched plan --what-if` tries. Every refusal names the change and says what is right.

price*1.2   price:POOLGLOB*1.2   price:POOLGLOB=12.5    gone:POOLGLOB   deadline=12h
hazard*2    hazard:POOLGLOB*2    budget:NAME=500
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from dsched.scheduler.core.units import price, usd
from dsched.scheduler.core.whatif import WHERE, Change, What
from dsched.scheduler.wire import quantity as q
from dsched.scheduler.wire.document import Fault, SpecError

CHANGES_MAX: Final = 20  # more is a new market, not a question about this one
LENGTH_MAX: Final = 300  # of one change: a pool's id is some 50 characters
TIMES_MAX: Final = 1_000.0  # a factor beyond it, or below its inverse, is a typo
_FORMS: Final = (
    "write price*1.2, price:POOLGLOB=12.5, gone:POOLGLOB, deadline=12h, hazard*2 or budget:NAME=500, "
    "in quotes for the shell's sake"
)


def changes(texts: Sequence[str]) -> tuple[Change, ...]:
    """Read them all. Raises SpecError with the first that cannot be followed."""
    if len(texts) > CHANGES_MAX:
        raise SpecError(Fault(f"{len(texts)} changes; at most {CHANGES_MAX} at a time", field=WHERE))
    return tuple(map(change, texts))


def change(text: str) -> Change:
    """Read one. Raises SpecError."""
    try:
        return _read(text)
    except ValueError as error:
        raise SpecError(Fault(f"{text[:LENGTH_MAX]}: {error}", field=WHERE, hint=_FORMS)) from None


def _read(text: str) -> Change:
    if len(text) > LENGTH_MAX:
        raise ValueError(f"longer than {LENGTH_MAX} characters")
    what, of, sign, value = _split(text)
    match what, sign:
        case What.GONE, "":
            return Change(text=text, what=what, of=_named(of, "a pool or a zone, such as gone:aws/use1-az4"))
        case What.DEADLINE, "=" if of is None:
            return Change(text=text, what=what, after=q.duration(value))
        case What.BUDGET, "=":
            return Change(text=text, what=what, of=_named(of, "a budget"), limit=usd(q.money(value)))
        case What.PRICE, "=":
            glob = _named(of, "the pools that get this price, such as price:aws/*/spot=12.5")
            return Change(text=text, what=what, of=glob, price=price(q.money(value)))
        case ((What.PRICE | What.HAZARD), "*"):
            return Change(text=text, what=what, of="*" if of is None else _named(of, "pools"), times=_times(value))
        case _:
            raise ValueError(f"this is no way to change {what}")


def _split(text: str) -> tuple[What, str | None, str, str]:
    """The kind, the name after the colon, the sign and what follows it. `gone` has no sign: a glob may hold any."""
    word, colon, rest = text.strip().partition(":")
    if word == What.GONE:
        return What.GONE, rest if colon else None, "", ""
    found = re.fullmatch(r"([a-z]+)(?::(.*))?([*=])([^*=]*)", text.strip(), re.DOTALL)
    kind = found[1] if found else re.split(r"[:*=]", text.strip(), maxsplit=1)[0]
    if kind not in What.__members__.values():
        raise ValueError(f"{kind!r} is nothing that can be changed")
    if found is None:
        raise ValueError("it does not say to what")
    return What(kind), found[2], found[3], found[4].strip()


def _named(name: str | None, what: str) -> str:
    if not name or not name.strip():
        raise ValueError(f"it must name {what}")
    return name.strip()


def _times(text: str) -> float:
    try:
        times = float(text)
    except ValueError:
        raise ValueError(f"{text!r} is no factor") from None
    if not 1 / TIMES_MAX <= times <= TIMES_MAX:  # also refuses NaN
        raise ValueError(f"a factor must be between {1 / TIMES_MAX:g} and {TIMES_MAX:g}, not {text}")
    return times
