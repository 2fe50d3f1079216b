"""The command's only way out: tables for people, JSON and CSV for programs, messages on the side.

Results go to stdout, messages and questions to stderr. Everything foreign that goes through here is safe to print:
table cells are (view/), JSON is ASCII, and `say` and `line` are given text that passed `show`.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, TextIO

from dsched.scheduler.api.client import Client
from dsched.scheduler.cli.contract import FORMATS
from dsched.scheduler.cli.trouble import trouble
from dsched.scheduler.core.units import Instant, Moment
from dsched.scheduler.view.column import Column, Row, Tone, select, standard
from dsched.scheduler.view.safe import show
from dsched.scheduler.view.table import csv_text, paint, table
from dsched.scheduler.wire.address import socket_path
from dsched.scheduler.wire.api import VERSION, Health

_WIDTH_MIN: Final = 40  # narrower terminals wrap
_FOREIGN: Final = re.compile("[^\x00-\x7f]+")
_ASCII: Final = str.maketrans("●○◐◆◇▲✔✖✗⊘⇄▶‖━─…—→·×▁▂▃▄▅▆▇", "*o~##^+xx/=>|=-.->.x1234567")  # noqa: RUF001


@dataclass(slots=True)
class Terminal:
    output: str = "table"
    names: Sequence[str] = ()  # --columns
    quiet: bool = False
    yes: bool = False
    server: str | None = None
    no_color: bool = False
    out: TextIO = field(default_factory=lambda: sys.stdout)
    err: TextIO = field(default_factory=lambda: sys.stderr)

    def __post_init__(self) -> None:
        if self.output not in FORMATS:
            raise trouble("E100", f"no output format {self.output!r}", f"-o {' | '.join(FORMATS)}")

    @property
    def json(self) -> bool:
        return self.output in ("json", "jsonl")

    @property
    def table(self) -> bool:
        """Whether the rows of a list are for people to read; else a program reads them, and it wants them all."""
        return self.output == "wide" or (self.output == "table" and not self.quiet)

    @property
    def colour(self) -> bool:
        return _colour(self.out, self.no_color)

    @property
    def width(self) -> int | None:
        """Columns of the terminal; None where nobody looks, and nothing may be cut."""
        if not self.out.isatty():
            return None
        return max(_WIDTH_MIN, shutil.get_terminal_size().columns)

    @property
    def asks(self) -> bool:
        """Whether a person can be asked."""
        return not self.yes and sys.stdin.isatty() and self.err.isatty()

    def client(self, timeout: float | None = None) -> Client:
        try:
            path = socket_path(self.server, os.environ)
        except ValueError as e:
            raise trouble("E100", str(e)) from None
        return Client(path) if timeout is None else Client(path, timeout)

    def rows(self, columns: Sequence[Column[Row]], rows: Sequence[Row], now: Moment, *, name: str = "id") -> None:
        """A list in the format asked for; `name` is the field that stands for a row."""
        if self.output == "json":
            self.line(json.dumps({"v": VERSION, "items": list(rows)}))
        elif self.output == "jsonl":
            for row in rows:
                self.line(json.dumps(row))
        elif self.output == "name" or (self.quiet and self.output == "table"):
            for row in rows:
                self.line(show(str(row[name])))  # type: ignore[index]  # every row is a TypedDict of wire/api
        elif self.output == "csv":
            self.out.write(csv_text(self._chosen(columns, wide=True), rows))
        else:
            chosen = self._chosen(columns, wide=self.output == "wide")
            for line in table(chosen, rows, now, width=self.width, colour=self.colour):
                self.line(line)

    def encoded(self, pages: Iterable[str]) -> None:
        """Rows that are JSON already, parted by commas, in the format asked for: json or jsonl."""
        if self.output == "json":
            rows = ",\n".join(map(_ascii_json, pages))
            self.line(f'{{"v": {VERSION}, "items": [{rows}]}}')
            return
        for page in pages:
            if ",\n" in page:  # no line ends inside a row: JSON has no bare newline in a text
                self.line(_ascii_json(page).replace(",\n", "\n"))
            else:
                for row in json.loads(f"[{page}]"):
                    self.line(json.dumps(row))

    def value(self, value: Mapping[str, Any], lines: Sequence[str], name: str = "") -> None:
        """One thing: as JSON, as its name, or as the lines given."""
        if self.json:
            self.line(json.dumps({"v": VERSION, **value}))
        elif self.output == "name" or (self.quiet and name):
            self.line(show(name))
        else:
            for line in lines:
                self.line(line)

    def line(self, text: str) -> None:
        """A line of the result."""
        self.out.write(self._encodable(self.out, text) + "\n")

    def say(self, text: str, tone: Tone = "") -> None:
        """A message beside the result; none with -q."""
        if not self.quiet:
            self.err.write(self._encodable(self.err, paint(text, tone, colour=_colour(self.err, self.no_color))) + "\n")

    def note(self, health: Health) -> None:
        """Of a market that is made up or replayed: its clock and its prices are not those of the world."""
        if health["market_note"]:
            self.say(show(health["market_note"]), "dim")

    def ask(self, question: str) -> bool:
        """Yes or no; no is the default, and nobody there to ask means yes: a script says what it wants by running."""
        if not self.asks:
            return True
        self.out.flush()
        self.err.write(self._encodable(self.err, question) + " [y/N] ")
        self.err.flush()
        answer = sys.stdin.readline()
        return answer.strip().lower() in ("y", "yes")

    def _chosen(self, columns: Sequence[Column[Row]], *, wide: bool) -> Sequence[Column[Row]]:
        try:
            return select(columns, self.names) if self.names else standard(columns, wide=wide)
        except ValueError as e:
            raise trouble("E100", str(e)) from None

    def _encodable(self, stream: TextIO, text: str) -> str:
        """Glyphs as ASCII where the terminal has no other, so that a table never dies of an encoding."""
        encoding = getattr(stream, "encoding", None) or "utf-8"
        if encoding.lower().startswith("utf") or text.isascii():
            return text
        return text.translate(_ASCII).encode(encoding, "replace").decode(encoding)


def moment(health: Health) -> Moment:
    return Moment(Instant(health["wall"]), Instant(health["market"]))


def _ascii_json(text: str) -> str:
    """The same JSON without a character that a terminal could take amiss."""
    return text if text.isascii() else _FOREIGN.sub(lambda found: json.dumps(found[0])[1:-1], text)


def _colour(stream: TextIO, no_color: bool) -> bool:
    if no_color or os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb":
        return False
    return stream.isatty()
