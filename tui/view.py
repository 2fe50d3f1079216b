"""The filter language, and how tones become styles. Pure functions."""

from __future__ import annotations

import difflib
import operator
import re
from collections.abc import Callable, Mapping
from typing import Any, Final

from dsched.scheduler.view import format as f
from dsched.scheduler.view.column import Tone
from dsched.scheduler.view.jobs import job_done, job_state
from dsched.scheduler.view.market import offer_off

Part = tuple[str, str]  # text and style: what widgets assemble their content from
Row = Mapping[str, Any]
Keep = Callable[[Any], bool]
Text = Callable[[Any], str]
Number = Callable[[Any], float | None]

STYLES: Final[Mapping[Tone, str]] = {
    "": "",
    "good": "$text-success",
    "warn": "$text-warning",
    "bad": "bold $text-error",
    "dim": "$foreground 55%",
    "strong": "bold",
}


GRAMMAR: Final = (
    ("running", "any word of a row holds it: id, name, user, state, place"),
    ("state:running", "this field holds it"),
    ("user=ana", "this field is exactly that"),
    ("cost>10 eta<2h", "a number, with k, M, % or s, m, h, d"),
    ("!batch !gpu:a100", "not so"),
    ('name:"two words"', "quotes keep blanks"),
)  # what the help page says of the language


class FilterError(ValueError):
    """The filter says something that we do not understand; the message says what to write."""


class Fields:
    """What a table can be filtered by: `words` is what a bare word looks in."""

    def __init__(self, *, words: Text, texts: Mapping[str, Text], numbers: Mapping[str, Number]) -> None:
        self.words, self.texts, self.numbers = words, texts, numbers

    @property
    def names(self) -> list[str]:
        return [*self.texts, *self.numbers]


def _money(name: str) -> Number:
    def read(row: Row) -> float | None:
        return None if row[name] is None else float(row[name])

    return read


def _scaled(share: Number) -> Number:
    """Shares are typed as percentages: done>50."""

    def read(row: Any) -> float | None:
        value = share(row)
        return None if value is None else 100 * value

    return read


JOB_FIELDS: Final = Fields(
    words=lambda j: f"{j['id']} {j['name']} {j['user']} {job_state(j)} {j['where']} {j['next']} {j['accelerator']}",
    texts={
        "state": lambda j: job_state(j) if job_state(j) == j["state"] else f"{job_state(j)} {j['state']}",
        "gpu": lambda j: j["accelerator"] or "cpu",
        "user": lambda j: j["user"],
        "name": lambda j: j["name"],
        "id": lambda j: j["id"],
        "where": lambda j: f"{f.place(j['where'])} {j['where']}" if j["where"] else "",
        "shape": lambda j: j["shape"],
        "reason": lambda j: j["reason"],
    },
    numbers={
        "cost": _money("spent"),
        "burn": _money("burn"),
        "saved": _money("saved"),
        "gpus": lambda j: j["gpus"],
        "done": _scaled(job_done),
        "eta": lambda j: j["eta_s"],
        "slack": lambda j: j["slack_s"],
        "moves": lambda j: j["moves"],
        "interruptions": lambda j: j["interruptions"],
        "priority": lambda j: j["priority"],
        "step": lambda j: j["step"],
    },
)
OFFER_FIELDS: Final = Fields(
    words=lambda o: f"{o['id']} {o['accelerator']} {o['market']}",
    texts={
        "gpu": lambda o: o["accelerator"] or "cpu",
        "where": lambda o: o["id"],
        "cloud": lambda o: o["provider"],
        "region": lambda o: o["region"],
        "zone": lambda o: o["zone"],
        "shape": lambda o: o["shape"],
        "market": lambda o: o["market"],
    },
    numbers={
        "price": _money("price"),
        "per_gpu": _money("per_gpu"),
        "gpus": lambda o: o["gpus"],
        "free": lambda o: o["free"],
        "off": _scaled(offer_off),
        "hazard": _scaled(lambda o: o["hazard"]),
    },
)
EVENT_FIELDS: Final = Fields(
    words=lambda e: f"{e['kind']} {e['job']} {e['node']} {e['why']}",
    texts={
        "kind": lambda e: e["kind"],
        "job": lambda e: e["job"],
        "node": lambda e: e["node"],
        "why": lambda e: e["why"],
    },
    numbers={"seq": lambda e: e["seq"]},
)

_TERM: Final = re.compile(r'(?P<no>!?)(?:(?P<field>[A-Za-z_]+)(?P<op>>=|<=|[:=<>]))?(?P<value>"[^"]*"?|\S*)')
_COMPARE: Final[Mapping[str, Callable[[Any, Any], bool]]] = {
    ">": operator.gt,
    "<": operator.lt,
    ">=": operator.ge,
    "<=": operator.le,
    "=": operator.eq,
    ":": operator.eq,
}
_UNITS: Final = {"": 1, "%": 1, "k": 1e3, "K": 1e3, "M": 1e6, "s": 1, "m": 60, "h": 3_600, "d": 86_400}
_NUMBER: Final = re.compile(r"\$?(?P<number>[0-9][0-9,]*(?:\.[0-9]*)?|\.[0-9]+)(?P<unit>[%kKMsmhd]?)")


def parse(text: str, fields: Fields) -> Keep | None:
    """The rows that satisfy every term; None keeps all. A term still being typed ("cost>") counts for nothing."""
    tests: list[Keep] = []
    for match in _TERM.finditer(text):
        value = match["value"].strip('"')
        if not value:
            continue
        test = _test(match["field"], match["op"], value, fields)
        tests.append(_not(test) if match["no"] else test)
    if not tests:
        return None
    return tests[0] if len(tests) == 1 else lambda row: all(test(row) for test in tests)


def _not(test: Keep) -> Keep:
    return lambda row: not test(row)


def _test(field: str | None, op: str, value: str, fields: Fields) -> Keep:
    folded = value.casefold()
    if field is None:
        words = fields.words
        return lambda row: folded in words(row).casefold()
    name = field.lower()
    if (read := fields.texts.get(name)) is not None:
        return _text_test(name, op, folded, read)
    if (number := fields.numbers.get(name)) is not None:
        return _number_test(name, op, value, number)
    near = difflib.get_close_matches(name, fields.names, 1)
    hint = f"did you mean {near[0]}?" if near else f"there are: {', '.join(fields.names)}"
    raise FilterError(f"no field {name!r}; {hint}")


def _text_test(name: str, op: str, folded: str, read: Text) -> Keep:
    if op == ":":
        return lambda row: folded in read(row).casefold()
    if op == "=":
        return lambda row: folded == read(row).casefold()
    raise FilterError(f"{name} is a text: write {name}:{folded}")


def _number_test(name: str, op: str, value: str, read: Number) -> Keep:
    match = _NUMBER.fullmatch(value)
    if match is None:
        raise FilterError(f"{name}{op} wants a number, not {value!r}")
    limit = float(match["number"].replace(",", "")) * _UNITS[match["unit"]]
    compare = _COMPARE[op]

    def test(row: Any) -> bool:
        known = read(row)
        return known is not None and compare(known, limit)

    return test
