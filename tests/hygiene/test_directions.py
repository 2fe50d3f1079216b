"""What the purest rooms may import. The contracts in pyproject say what they may not; these are the shorter lists."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.checkout import files, text

_CORE = {  # arithmetic and data; nothing here reads a clock, a file, a socket or dice
    "__future__", "bisect", "collections", "collections.abc", "copy", "dataclasses", "decimal", "enum", "fnmatch",
    "fractions", "functools", "hashlib", "heapq", "itertools", "json", "math", "numpy", "numpy.typing", "operator",
    "re", "statistics", "string", "types", "typing",
}  # fmt: skip
_THE_AGENTS_OWN = "dsched.jobs.agent"


def imports(path: Path) -> Iterator[tuple[int, str]]:
    """(line, module) of every import of a file, also of those inside functions."""
    for node in ast.walk(ast.parse(text(path))):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: a relative import"
            module = node.module or ""
            # `from package import module` names a module too
            yield from ((node.lineno, module if _is_deep(module) else f"{module}.{a.name}") for a in node.names)
        elif isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)


def _is_deep(module: str) -> bool:
    """Whether this is a module of ours or anybody's, not one of our packages, from which modules are taken."""
    return not module.startswith("dsched") or Path(*module.split(".")[1:]).with_suffix(".py") in files(".py")


def room(*parts: str) -> list[Path]:
    found = [path for path in files(".py") if path.parts[: len(parts)] == parts]
    assert found
    return found


@pytest.mark.parametrize("path", room("scheduler", "core"), ids=lambda path: path.stem)
def test_the_core_imports_arithmetic_and_itself(path: Path) -> None:
    foreign = [
        f"{path}:{line}: {module}"
        for line, module in imports(path)
        if module not in _CORE and not module.startswith("dsched.scheduler.core.")
    ]
    assert not foreign, "\n".join(foreign)


@pytest.mark.parametrize("path", room("scheduler", "core"), ids=lambda path: path.stem)
def test_the_core_opens_and_asks_nothing(path: Path) -> None:
    """Built-ins that reach outside need no import, so no contract sees them; hash() is seeded per process."""
    calls = [node for node in ast.walk(ast.parse(text(path))) if isinstance(node, ast.Call)]
    names = {node.func.id for node in calls if isinstance(node.func, ast.Name)}
    assert not names & {"open", "print", "input", "exec", "eval", "__import__", "hash"}


@pytest.mark.parametrize("path", room("jobs", "agent"), ids=lambda path: path.stem)
def test_the_agent_imports_the_standard_library_and_its_protocol(path: Path) -> None:
    foreign = [
        f"{path}:{line}: {module}"
        for line, module in imports(path)
        if module.split(".")[0] not in sys.stdlib_module_names
        and module != "dsched.scheduler.wire.agent"
        and not module.startswith(_THE_AGENTS_OWN)
    ]
    assert not foreign, "\n".join(foreign)


def test_the_protocol_travels_alone() -> None:
    modules = {module.split(".")[0] for _, module in imports(Path("scheduler/wire/agent.py"))}
    assert modules <= sys.stdlib_module_names
