"""The real trainer in a real process, with the test in the agent's place."""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any

SMALL = ["--shards", "2", "--length", "32", "--corpus-bytes", "200000"]
PATIENCE_S = 60.0  # for one report, on a machine that is busy with other tests

Report = dict[str, Any]


class Trainer:
    """One generation's process. `until` waits for a report, so that a test acts on facts and not on time."""

    def __init__(self, folder: Path, generation: int, *arguments: str, **environ: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        address = folder / f"reports-{generation}-{time.monotonic_ns()}"
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(address))
        self.control = folder / "control"
        self.reports: list[Report] = []
        self.uri = (folder / "store").as_uri()
        env = {
            **os.environ,
            "DSCHED_JOB": "j",
            "DSCHED_GENERATION": str(generation),
            "DSCHED_SOCKET": str(address),
            "DSCHED_CHECKPOINT": self.uri,
            "DSCHED_CONTROL": str(self.control),
            **environ,
        }
        command = [sys.executable, "-m", "dsched.jobs.train", *SMALL, *arguments]
        self.process = subprocess.Popen(command, env=env, stderr=subprocess.PIPE, text=True)

    def __enter__(self) -> Trainer:
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self.process.kill()
        self.process.communicate()
        self._socket.close()

    def until(self, wanted: Callable[[Report], bool]) -> Report:
        """The next report that is wanted. Fails when the process ends first, or says nothing for too long."""
        while True:
            report = self._next()
            assert report is not None, f"ended with {self.process.poll()}: {self._stderr()}"
            if wanted(report):
                return report

    def until_step(self, step: int) -> Report:
        return self.until(lambda report: report["event"] == "step" and report["step"] >= step)

    def until_event(self, event: str) -> Report:
        return self.until(lambda report: report["event"] == event)

    def kill(self, number: signal.Signals) -> int:
        """Send a signal; the exit code, negative for a signal."""
        self.process.send_signal(number)
        return self.end()

    def end(self) -> int:
        """Wait for the end and gather what was still said."""
        self.log = self._stderr()
        while self._next(patience=0.0) is not None:
            pass
        return self.process.returncode

    def control_write(self, **fields: int) -> None:
        fresh = self.control.with_suffix(".new")
        fresh.write_text(json.dumps(fields))
        fresh.replace(self.control)

    @property
    def last_step(self) -> int:
        return max((report["step"] for report in self.reports if report["event"] == "step"), default=0)

    def said(self, event: str) -> list[Report]:
        return [report for report in self.reports if report["event"] == event]

    def _next(self, patience: float = PATIENCE_S) -> Report | None:
        end = time.monotonic() + patience
        while True:
            ready, _, _ = select.select([self._socket], [], [], min(0.2, max(0.0, end - time.monotonic())))
            if ready:
                report: Report = json.loads(self._socket.recv(65_536))
                self.reports.append(report)
                return report
            if self.process.poll() is not None or time.monotonic() >= end:
                return None

    def _stderr(self) -> str:
        return self.process.communicate(timeout=PATIENCE_S)[1]
