"""`dsched` as people run it: a process of its own against a real daemon, its output as bytes."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from tests.support.house import House

SGR = re.compile(rb"\x1b\[[0-9;]*m")  # colours, the only escape sequence that we write
PATIENCE_S = 60


@dataclass(frozen=True)
class Ran:
    code: int
    out: str
    err: str


def dsched(home: House, *argv: str | Path, **environ: str) -> Ran:
    """Run one command. Variables of `environ` win."""
    done = subprocess.run(
        _command(argv),
        env=_environment(home) | {"NO_COLOR": "1"} | environ,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="surrogateescape",
        timeout=PATIENCE_S,
        check=False,
    )
    return Ran(done.returncode, done.stdout, done.stderr)


def on_terminal(home: House, *argv: str) -> bytes:
    """Every byte that the command writes to a terminal, its errors too."""
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        _command(argv), env=_environment(home) | {"TERM": "xterm-256color"}, stdin=theirs, stdout=theirs, stderr=theirs
    ) as process:
        os.close(theirs)
        said = bytearray()
        try:
            while part := os.read(ours, 65_536):
                said += part
        except OSError:
            pass  # the last writer has closed its end
        finally:
            os.close(ours)
        process.wait(PATIENCE_S)
    return bytes(said).replace(b"\r\n", b"\n")


def _command(argv: tuple[str | Path, ...]) -> list[str]:
    return [sys.executable, "-m", "dsched", *map(str, argv)]


def _environment(home: House) -> dict[str, str]:
    return os.environ | {"DSCHED_SERVER": str(home.state / "api.sock"), "DSCHED_STATE": str(home.state)}
