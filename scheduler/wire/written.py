"""A spec as its user wrote it: the file with every `--set` in its place, not checked yet.

Apart from spec.py, because what checks takes longer to load than the rest of a command: who only asks for a price lets
the daemon check.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from dsched.scheduler.wire.document import Fault, Fields, SpecError, read, value

_VERBATIM: Final = frozenset({"env", "secrets"})


def written(text: str, path: str, overrides: Iterable[str] = ()) -> Fields:
    """The fields with their places; `overrides` are "field.field=value". Raises SpecError for what cannot be read."""
    root = read(text, path)
    if not isinstance(root, Fields):
        raise SpecError(Fault("a spec is a list of fields such as `name: moe-ft`", place=root.place))
    for override in overrides:
        _override(root, override)
    return root


def plain(root: Fields) -> dict[str, Any]:
    """The fields as plain values."""
    fields: dict[str, Any] = value(root, verbatim=_VERBATIM)
    return fields


def _override(root: Fields, override: str) -> None:
    """Put a `--set field.field=value` where the file would have it; its faults are shown in its own text."""
    path, equals, text = override.partition("=")
    names = path.split(".")
    if not equals or not all(names):
        raise SpecError(Fault(f"--set {override!r} is not of the form field=value"))
    node = root
    for name in names[:-1]:
        inner = node.values.get(name)
        if not isinstance(inner, Fields):
            inner = Fields(root.place)
            node.keys.setdefault(name, root.place)
            node.values[name] = inner
        node = inner
    given = read(f"{{{names[-1]}: {text}}}" if not text.strip() else f"{names[-1]}: {text}", f"--set {path}")
    if not isinstance(given, Fields) or list(given.keys) != [names[-1]]:
        raise SpecError(Fault(f"--set {override!r} is not of the form field=value"))
    node.keys[names[-1]], node.values[names[-1]] = given.keys[names[-1]], given.values[names[-1]]
