"""Run one command of the CLI in this process, and catch what it says."""

from __future__ import annotations

import io
import json
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

from dsched.scheduler.cli.main import run


@dataclass(frozen=True)
class Said:
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


class _Screen(io.StringIO):
    """A terminal, or not."""

    def __init__(self, text: str = "", *, tty: bool) -> None:
        super().__init__(text)
        self._tty = tty

    def isatty(self) -> bool:
        return self._tty


def dsched(*argv: str | Path, tty: bool = False, typed: str = "", width: int = 120, **environ: str) -> Said:
    """`dsched ARGV`; `tty`: a person looks, who types `typed`."""
    with _streams(tty, typed) as (out, err), patch.dict(os.environ, {"COLUMNS": str(width), **environ}):
        code = run(list(map(str, argv)))
    return Said(code, out.getvalue(), err.getvalue())


@contextmanager
def _streams(tty: bool, typed: str) -> Iterator[tuple[io.StringIO, io.StringIO]]:
    streams: Sequence[_Screen] = (_Screen(typed, tty=tty), _Screen(tty=tty), _Screen(tty=tty))
    before = sys.stdin, sys.stdout, sys.stderr
    sys.stdin, sys.stdout, sys.stderr = streams
    try:
        yield streams[1], streams[2]
    finally:
        sys.stdin, sys.stdout, sys.stderr = before
