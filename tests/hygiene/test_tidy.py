"""The repository looks after itself: sizes, leftovers, characters. Every exception is listed here with its reason."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TypeAlias

import pytest

from tests.support.checkout import files, text

Finding: TypeAlias = tuple[str, str]  # the place that an exception would name, and what is wrong there
LINES_MAX = 400
FUNCTION_LINES_MAX = 60
TEXT = (".py", ".md", ".toml", ".sql", ".tcss", ".service", ".yaml", ".json", ".txt", ".out", ".cfg", "Makefile")


def long_files() -> Iterator[Finding]:
    for path in files(".py"):
        if (lines := text(path).count("\n")) > LINES_MAX:
            yield str(path), f"{lines} lines: which two things is it?"


def long_functions() -> Iterator[Finding]:
    for path in files(".py"):
        for node in ast.walk(ast.parse(text(path))):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                lines = (node.end_lineno or node.lineno) - node.lineno + 1
                if lines > FUNCTION_LINES_MAX:
                    yield f"{path}:{node.name}", f"{lines} lines: which chapters does it want?"


def prints() -> Iterator[Finding]:
    for path in files(".py"):
        if path.parts[0] in ("tests", "bench"):
            continue
        for node in ast.walk(ast.parse(text(path))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print":
                yield str(path), f"print() in line {node.lineno}"


def leftovers() -> Iterator[Finding]:
    words = re.compile(r"\b(TODO|FIXME|XXX|HACK)\b")
    for path in _texts():
        for number, line in enumerate(text(path).splitlines(), 1):
            if words.search(line):
                yield str(path), f"line {number}: {line.strip()[:80]}"


def foreign_characters() -> Iterator[Finding]:
    """The view layer draws with glyphs and the tests compare with them; elsewhere they hide in names and quotes."""
    for path in files(".py"):
        if path.parts[0] in ("tests", "tui") or path.parts[:2] == ("scheduler", "view"):
            continue
        for number, line in enumerate(text(path).splitlines(), 1):
            if not line.isascii():
                yield str(path), f"line {number}: {line.strip()[:80]}"


def tabs_and_ends() -> Iterator[Finding]:
    for path in _texts():
        content = text(path)
        if path.name != "Makefile" and "\t" in content:
            yield str(path), "a tab"
        if path.parts[:1] != ("tests",) and content and not content.endswith("\n"):
            yield str(path), "no newline at the end"
        if "\r" in content:
            yield str(path), "a carriage return"


def homes() -> Iterator[Finding]:
    """A path of somebody's own machine."""
    place = re.compile(r"(?<![\w.])/(?:home|root|Users)/\w+")
    for path in _texts():
        for number, line in enumerate(text(path).splitlines(), 1):
            if found := place.search(line):
                yield str(path), f"line {number}: {found[0]}"


def unsaid() -> Iterator[Finding]:
    """A module says first what it is for."""
    for path in files(".py"):
        if path.name != "__init__.py" and not ast.get_docstring(ast.parse(text(path))):
            yield str(path), "no module docstring"


_DRAWS = "the command line's own output: rules and arrows between the parts of a log"
RULES: Mapping[Callable[[], Iterator[Finding]], Mapping[str, str]] = {
    long_files: {},
    long_functions: {},
    prints: {},
    leftovers: {"tests/hygiene/test_tidy.py": "the words that it looks for"},
    foreign_characters: {
        "bench/tui.py": "looks for what the TUI draws",
        "scheduler/cli/logs.py": _DRAWS,
        "scheduler/cli/terminal.py": "the table from glyphs to ASCII for terminals that cannot draw them",
    },
    tabs_and_ends: {},
    homes: {"tests/unit/test_address.py": "somebody's home is the sample"},
    unsaid: {},
}


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_the_repository_is_tidy(rule: Callable[[], Iterator[Finding]]) -> None:
    found = [f"{place}: {what}" for place, what in rule() if place not in RULES[rule]]
    assert not found, "\n".join(found)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_no_exception_outlives_its_reason(rule: Callable[[], Iterator[Finding]]) -> None:
    assert set(RULES[rule]) <= {place for place, _ in rule()}


def _texts() -> Iterator[Path]:
    return (path for path in files() if path.name.endswith(TEXT))
