"""The list methods' filter language and paging, as far as a scheduler uses them."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Any, Final

Json = dict[str, Any]

_TERM: Final = re.compile(r'\(?\s*([\w.-]+)\s*(!=|>=|<=|=|>|<|:)\s*"?([^")]*)"?\s*\)?')


def matches(wanted: str, row: Json, *, lexical: bool) -> bool:
    """OR binds tighter than AND; a regular expression (eq) stands alone.

    `lexical`: instants are compared as text, which the real service may do, too.
    """
    if alone := re.fullmatch(r'(\w+) eq "(.*)"', wanted):
        return re.fullmatch(alone[2], str(row.get(alone[1]))) is not None
    clauses = re.split(r"\s+AND\s+", wanted.strip()) if wanted.strip() else []
    return all(any(_term(term, row, lexical) for term in re.split(r"\s+OR\s+", clause)) for clause in clauses)


def _term(term: str, row: Json, lexical: bool) -> bool:
    found = _TERM.fullmatch(term.strip())
    if found is None:
        raise ValueError(f"Invalid list filter expression: {term}")
    name, operator, value = found.groups()
    told: Any = row
    for part in name.split(".", 1):
        told = (told or {}).get(part)
    if operator in (">", "<"):
        return _after(str(told), value, lexical) is (operator == ">")
    if operator == ":" and value == "*":
        return told is not None
    return (str(told) == value) is (operator != "!=")


def _after(told: str, limit: str, lexical: bool) -> bool:
    if lexical:
        return told > limit
    return datetime.fromisoformat(told) > datetime.fromisoformat(limit.replace("Z", "+00:00"))


def page(rows: list[Any], token: str, size: int) -> tuple[list[Any], Json]:
    start = int(token or 0)
    more = {"nextPageToken": str(start + size)} if start + size < len(rows) else {}
    return rows[start : start + size], more
