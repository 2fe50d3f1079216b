"""The fake clouds, a process of a checkout's test support: started, asked, ended with everything that runs on them."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

from dsched.scheduler.demo.play import DemoError

ROOT: Final = Path(__file__).resolve().parents[3]  # of the checkout
MODULE: Final = ("tests", "support", "skies.py")
NEEDED: Final = ("moto", "boto3", "google.cloud.compute_v1", "torch")
END_S: Final = 20.0  # for its machines to be killed


class Skies:
    """`told`: where everything is, as the settings of the daemon and the environment of the job want it."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self.told: dict[str, Any] = self._line()

    def ask(self, what: str) -> dict[str, Any]:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps({"do": what}) + "\n")
            self._process.stdin.flush()
        except OSError as error:
            raise DemoError(f"the fake clouds have ended: {error}") from error
        return self._line()

    def _line(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise DemoError("the fake clouds have ended; see skies.log")
        told: dict[str, Any] = json.loads(line)
        return told


@contextmanager
def skies(folder: Path) -> Iterator[Skies]:
    """Raises DemoError where they cannot be had."""
    check()
    machines = folder / "machines"
    machines.mkdir(parents=True)
    command = [sys.executable, "-m", ".".join(MODULE).removesuffix(".py"), str(machines)]
    with (folder / "skies.log").open("wb") as log:
        process = subprocess.Popen(
            command,
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            start_new_session=True,
        )
        try:
            yield Skies(process)
        finally:
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.close()
            try:
                process.wait(END_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            process.stdout.close()


def check() -> None:
    """Raises DemoError for what is missing, with the remedy."""
    if not ROOT.joinpath(*MODULE).is_file():
        raise DemoError("the fake clouds come with a checkout, not with an installation: there, `make demo-clouds`")
    missing = [name for name in NEEDED if not _there(name)]
    if missing:
        raise DemoError(f"missing: {', '.join(missing)}; pip install -e '.[dev]'")


def _there(name: str) -> bool:
    try:
        return find_spec(name) is not None
    except ModuleNotFoundError:
        return False
