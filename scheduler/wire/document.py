"""YAML that a stranger may have written, read into values that know where they stand.

Less than YAML on purpose: one document; no anchors, aliases, tags or merge keys (306 bytes of aliases make a gigabyte);
no key twice; scalars by the core schema of YAML 1.2, so that `no` is a word and `1:30` is text. The size is checked
before the parser sees the text; depth and number of nodes while it reads, because a parser in Python takes minutes over
60 KB of brackets.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final

from ruamel.yaml import YAML
from ruamel.yaml import events as ev
from ruamel.yaml.error import MarkedYAMLError, YAMLError

BYTES_MAX: Final = 65_536  # a spec is a page; ten times the longest seen is still below this
DEPTH_MAX: Final = 8  # the deepest field of a spec is at 3
NODES_MAX: Final = 2_000  # 128 variables, 64 commands and everything else stay under 600
_DIGITS_MAX: Final = 18  # a longer number is text: no field takes it, and int() of very long ones is slow
_OPENERS: Final = re.compile(r"(?:[\[{]\s*){" + str(4 * DEPTH_MAX) + "}")  # the scanner is quadratic in these

_BREAK: Final = re.compile("\r\n|[\n\r\x85\u2028\u2029]")  # what the parser counts as a line's end
_NULL: Final = frozenset({"", "~", "null", "Null", "NULL"})
_BOOL: Final = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
_INT: Final = re.compile(r"[-+]?[0-9]+\Z|0o[0-7]+\Z|0x[0-9a-fA-F]+\Z")
_FLOAT: Final = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?\Z")


@dataclass(frozen=True, slots=True)
class Source:
    name: str  # the file as the user named it
    lines: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Place:
    source: Source
    line: int  # from 1
    column: int  # from 1, in characters
    length: int  # of what is meant, on that line

    @property
    def text(self) -> str:
        """The source line."""
        return self.source.lines[self.line - 1] if self.line <= len(self.source.lines) else ""


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing wrong with a spec, and where."""

    message: str
    field: str = ""  # "gpus.type"
    place: Place | None = None  # None: it did not come from a file
    hint: str = ""  # what to do

    def __str__(self) -> str:
        at = f"{self.place.source.name}:{self.place.line}:{self.place.column} " if self.place else ""
        return f"{at}{self.field}{': ' if self.field else ''}{self.message}"


class SpecError(ValueError):
    """The spec cannot be taken. Next: correct the places named."""

    def __init__(self, *faults: Fault) -> None:
        self.faults = faults
        super().__init__("; ".join(map(str, faults)))


@dataclass(frozen=True, slots=True)
class Scalar:
    place: Place
    text: str
    plain: bool  # not quoted: may be a number, a truth or nothing


@dataclass(frozen=True, slots=True)
class Items:
    place: Place
    items: list[Node]


@dataclass(frozen=True, slots=True)
class Fields:
    place: Place
    keys: dict[str, Place] = field(default_factory=dict)
    values: dict[str, Node] = field(default_factory=dict)


Node = Scalar | Items | Fields


def read(text: str, name: str) -> Node:
    """The document's root. Raises SpecError with the place of the first thing that is wrong."""
    source = Source(name, tuple(_BREAK.split(text)))
    if len(text.encode(errors="surrogatepass")) > BYTES_MAX:
        raise SpecError(
            Fault(f"{name}: larger than {BYTES_MAX // 1024} KiB", hint="move long scripts into files of the workdir")
        )
    if opener := _OPENERS.search(text):
        raise _too_deep(_at(source, text, opener.start()))
    try:
        return _Reader(source, YAML(typ="safe", pure=True).parse(text)).document()
    except MarkedYAMLError as e:
        mark = e.problem_mark or e.context_mark
        place = _place(source, mark, mark) if mark else None
        raise SpecError(Fault(f"not valid YAML: {e.problem or e.context or 'unreadable'}", place=place)) from None
    except YAMLError as e:
        position = getattr(e, "position", None)
        place = None if position is None else _at(source, text, position)
        reason = getattr(e, "reason", None) or str(e).split("\n", 1)[0]
        raise SpecError(Fault(f"not valid YAML: {reason}", place=place)) from None


def value(node: Node, *, verbatim: frozenset[str] = frozenset()) -> Any:
    """Plain Python values. Scalars below the keys in `verbatim` keep their very text: `VERSION: 1.10` is not 1.1."""
    match node:
        case Scalar():
            return _scalar(node)
        case Items():
            return [value(item, verbatim=verbatim) for item in node.items]
        case Fields():
            return {k: _verbatim(v) if k in verbatim else value(v, verbatim=verbatim) for k, v in node.values.items()}


def locate(node: Node, path: tuple[str | int, ...], *, key: bool = False) -> Place:
    """Where the value at `path` stands (or its key), or the nearest thing around it that is there."""
    for i, step in enumerate(path):
        last = key and i == len(path) - 1
        if isinstance(node, Fields) and isinstance(step, str) and step in node.values:
            if last:
                return node.keys[step]
            node = node.values[step]
        elif isinstance(node, Items) and isinstance(step, int) and step < len(node.items):
            node = node.items[step]
        else:
            break
    return node.place


class _Reader:
    """Builds nodes from the parser's events, and stops it as soon as a limit is passed."""

    def __init__(self, source: Source, events: Iterator[Any]) -> None:
        self._source = source
        self._events = events
        self._nodes = 0

    def document(self) -> Node:
        next(self._events)  # the stream's start
        start = next(self._events)
        if not isinstance(start, ev.DocumentStartEvent):
            raise SpecError(Fault("empty", hint="a spec needs at least `name` and `run`"))
        if start.version or start.tags:
            raise SpecError(Fault("YAML directives are not supported", place=self._here(start)))
        root = self._node(next(self._events), 0)
        next(self._events)  # the document's end
        more = next(self._events)
        if not isinstance(more, ev.StreamEndEvent):
            raise SpecError(Fault("a second document; one file holds one job", place=self._here(more)))
        return root

    def _node(self, event: Any, depth: int) -> Node:
        self._nodes += 1
        if self._nodes > NODES_MAX:
            raise SpecError(Fault(f"more than {NODES_MAX} values", place=self._here(event)))
        if depth > DEPTH_MAX:
            raise _too_deep(self._here(event))
        if isinstance(event, ev.AliasEvent) or event.anchor:
            raise SpecError(
                Fault("YAML anchors and aliases are not supported: write the value out", place=self._here(event))
            )
        if event.tag is not None:
            raise SpecError(Fault("YAML tags are not supported", place=self._here(event)))
        if isinstance(event, ev.ScalarEvent):
            return Scalar(self._here(event), event.value, bool(event.implicit[0]))
        if isinstance(event, ev.SequenceStartEvent):
            return self._items(event, depth)
        return self._fields(event, depth)

    def _items(self, start: Any, depth: int) -> Items:
        items: list[Node] = []
        while not isinstance(event := next(self._events), ev.SequenceEndEvent):
            items.append(self._node(event, depth + 1))
        return Items(self._here(start), items)

    def _fields(self, start: Any, depth: int) -> Fields:
        fields = Fields(self._here(start))
        while not isinstance(event := next(self._events), ev.MappingEndEvent):
            key = self._node(event, depth + 1)
            if not isinstance(key, Scalar):
                raise SpecError(Fault("a field's name must be a word", place=key.place))
            if key.text in fields.keys:
                first = fields.keys[key.text].line
                raise SpecError(Fault(f"{key.text!r} stands twice (first on line {first})", place=key.place))
            fields.keys[key.text] = key.place
            fields.values[key.text] = self._node(next(self._events), depth + 1)
        return fields

    def _here(self, event: Any) -> Place:
        return _place(self._source, event.start_mark, event.end_mark)


def _too_deep(place: Place) -> SpecError:
    return SpecError(Fault(f"nested deeper than {DEPTH_MAX} levels", place=place))


def _place(source: Source, start: Any, end: Any) -> Place:
    line = source.lines[start.line] if start.line < len(source.lines) else ""
    stop = end.column if end.line == start.line else len(line.rstrip())
    return Place(source, start.line + 1, start.column + 1, max(1, stop - start.column))


def _at(source: Source, text: str, position: int) -> Place:
    before = _BREAK.split(text[:position])
    return Place(source, len(before), len(before[-1]) + 1, 1)


def _verbatim(node: Node) -> Any:
    match node:
        case Scalar():
            return node.text
        case Items():
            return [_verbatim(item) for item in node.items]
        case Fields():
            return {k: _verbatim(v) for k, v in node.values.items()}


def _scalar(node: Scalar) -> Any:
    text = node.text
    if not node.plain:
        return text
    if text in _NULL:
        return None
    if text in _BOOL:
        return _BOOL[text]
    if len(text) <= _DIGITS_MAX and _INT.match(text):
        return int(text, 8 if text.startswith("0o") else 16 if text.startswith("0x") else 10)
    if len(text) <= _DIGITS_MAX and _FLOAT.match(text):
        return float(text)
    return text
