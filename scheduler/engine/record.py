"""All that a daemon's core was told, line by line, to run it again elsewhere: told the same, it decides the same.

{"v": 1, "seed": ..., "policy": ..., "terms": ..., "state": ...}      what it began with
{"at": [wall, market], "is": message, "heard": ..., "progress": ...}  a message, and what was learned beside
{"sum": digest, "events": n}                                          what had been decided by then
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Final, TextIO

from dsched.scheduler.core.event import Event
from dsched.scheduler.core.message import Message
from dsched.scheduler.core.placement import Policy
from dsched.scheduler.core.snapshot import Progress, State
from dsched.scheduler.core.terms import Terms
from dsched.scheduler.core.units import Instant, Moment
from dsched.scheduler.engine.digest import Digest
from dsched.scheduler.engine.plain import pack, unpack

VERSION: Final = 1
ROWS: Final = ("job", "attempt", "node", "intent", "pool", "speed", "budget", "alert")


class BadRecord(Exception):
    """A file that is no record of a daemon; the message names the line."""


@dataclass(frozen=True, slots=True)
class Told:
    """One message, when it came, and what the shell had learned beside since the one before."""

    now: Moment
    message: Message
    heard: dict[str, int]
    progress: dict[str, Progress]


@dataclass(frozen=True, slots=True)
class Sum:
    """The digest of all decisions so far."""

    digest: str
    events: int


class Recorder:
    """A tap of the mind. `flush` about once a second: what is not flushed is lost in a crash, and nothing else."""

    def __init__(self, path: Path, seed: int, policy: Policy, terms: Terms) -> None:
        self._file: TextIO = path.open("w", encoding="utf-8")
        self._digest = Digest()
        self._begin = {"v": VERSION, "seed": seed, "policy": pack(policy), "terms": pack(terms)}
        self._heard: dict[str, int] = {}
        self._progress: dict[str, tuple[Any, ...]] = {}
        self._begun = False

    def told(self, state: State, message: Message, now: Moment) -> None:
        if not self._begun:
            self._begun = True
            self._write({**self._begin, "state": _state(state)})
        line: dict[str, Any] = {"at": [now.wall, now.market], "is": pack(message)}
        if heard := {name: at for name, at in state.heard.items() if self._heard.get(name) != at}:
            line["heard"] = heard
            self._heard = dict(state.heard)
        if progress := {name: p for name, p in state.progress.items() if self._progress.get(name) != _of(p)}:
            line["progress"] = pack(progress)
            self._progress.update({name: _of(p) for name, p in progress.items()})
        self._write(line)

    def decided(self, events: Sequence[Event]) -> None:
        self._digest.decided(events)

    def flush(self) -> None:
        if self._begun:
            self._write({"sum": self._digest.text, "events": self._digest.events})
            self._file.flush()

    def _write(self, line: dict[str, Any]) -> None:
        self._file.write(json.dumps(line, separators=(",", ":")) + "\n")


@dataclass(frozen=True, slots=True)
class Beginning:
    seed: int
    policy: Policy
    terms: Terms
    state: State


def read(path: Path) -> tuple[Beginning, Iterator[Told | Sum]]:
    """What a daemon began with, and what it was told. A line torn by a crash ends it. Raises BadRecord or OSError."""
    lines = _lines(path)
    try:
        head = next(lines)
        if head.get("v") != VERSION:
            raise BadRecord(f"{path}: not a record of version {VERSION}; dsched daemon --record FILE makes one")
        begun = Beginning(int(head["seed"]), unpack(head["policy"]), unpack(head["terms"]), _load(head["state"]))
    except (StopIteration, KeyError, TypeError, ValueError) as e:
        raise BadRecord(f"{path}: line 1 is not the beginning of a record: {e}") from None
    return begun, _told(path, lines)


def _told(path: Path, lines: Iterator[dict[str, Any]]) -> Iterator[Told | Sum]:
    for number, line in enumerate(lines, 2):
        try:
            if "sum" in line:
                yield Sum(line["sum"], line["events"])
                continue
            wall, market = line["at"]
            progress = unpack(line["progress"]) if "progress" in line else {}
            moment = Moment(Instant(wall), Instant(market))
            yield Told(moment, unpack(line["is"]), line.get("heard", {}), progress)
        except (KeyError, TypeError, ValueError) as e:
            raise BadRecord(f"{path}: line {number}: {e}") from None


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    with path.open(encoding="utf-8") as file:
        for text in file:
            try:
                line = json.loads(text)
            except ValueError:
                return  # torn
            if isinstance(line, dict):
                yield line


def _state(state: State) -> dict[str, Any]:
    """The rows, and what is not durable but known from the start."""
    rows = {table: pack(state.table(table) or {}) for table in ROWS}
    plain = {name: pack(getattr(state, name)) for name in _PLAIN}
    return {"rows": rows, "plain": plain, "progress": pack(state.progress), "streaks": pack(state.streaks)}


def _load(told: dict[str, Any]) -> State:
    state = State()
    for name, value in told["plain"].items():
        setattr(state, name, unpack(value))
    for table, rows in told["rows"].items():
        for key, row in unpack(rows).items():
            state.put(table, key, row)
    state.progress, state.streaks = unpack(told["progress"]), unpack(told["streaks"])
    return state


_PLAIN: Final = ("jobs_made", "launches_made", "era", "cluster", "hold_until", "proofs_from", "scale", "sunk")


def _of(progress: Progress) -> tuple[Any, ...]:
    return tuple(getattr(progress, f.name) for f in fields(progress))
