"""The contract between a job and its agent, from the job's side. Standard library only.

Environment   DSCHED_JOB, DSCHED_GENERATION (the fence), DSCHED_SOCKET (reports), DSCHED_CHECKPOINT (uri), DSCHED_CARRY
              (uri: the newest checkpoint lies there, not here), DSCHED_RESUME ("1": an earlier generation ran),
              DSCHED_CONTROL (a file, see `Control`), RANK, WORLD_SIZE, LOCAL_RANK, MASTER_ADDR, MASTER_PORT. None of
              them is required: without them the same script is a plain program.
Signal        SIGTERM: finish the step, checkpoint, leave with EXIT_SAVED. SIGKILL follows at the deadline.
Exit codes    0 done, 75 saved (run me again), 76 a peer was lost, 77 the checkpoint is damaged (step back one),
              78 never retry. Any other is the job's own failure.
"""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from dsched.jobs.runtime.progress import Field, Pace, Reporter
from dsched.scheduler.wire.agent import EXIT_CORRUPT, EXIT_DONE, EXIT_NEVER_RETRY, EXIT_PEER_LOST, EXIT_SAVED

__all__ = [
    "EXIT_CORRUPT",
    "EXIT_DONE",
    "EXIT_NEVER_RETRY",
    "EXIT_PEER_LOST",
    "EXIT_SAVED",
    "ContractError",
    "Control",
    "ControlFile",
    "Environment",
    "Runtime",
]

INTERVAL_MS_DEFAULT = 60_000  # between checkpoints when nobody says: a minute is the most that a kill then costs
CONTROL_BYTES_MAX = 65_536  # the file holds three numbers; anything longer is not ours


class ContractError(Exception):
    """The environment is not what the contract says. Next: exit 78, a retry would meet the same."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Environment:
    """What the agent told this process at its start."""

    job: str = ""
    generation: int | None = None  # None: not started by an agent
    socket: str = ""
    checkpoint: str = ""
    carry: str = ""  # uri of another cloud's store that holds the newest checkpoint; see carry.py
    resume: bool = False
    control: str = ""
    rank: int = 0
    local_rank: int = 0
    world_size: int = 1
    master_addr: str = "127.0.0.1"
    master_port: int = 0

    @classmethod
    def read(cls, environ: Mapping[str, str]) -> Environment:
        """Raises ContractError, naming the variable, for a number that is none."""
        generation = _number(environ, "DSCHED_GENERATION", -1)
        return cls(
            job=environ.get("DSCHED_JOB", ""),
            generation=None if generation < 0 else generation,
            socket=environ.get("DSCHED_SOCKET", ""),
            checkpoint=environ.get("DSCHED_CHECKPOINT", ""),
            carry=environ.get("DSCHED_CARRY", ""),
            resume=environ.get("DSCHED_RESUME", "") == "1",
            control=environ.get("DSCHED_CONTROL", ""),
            rank=_number(environ, "RANK", 0),
            local_rank=_number(environ, "LOCAL_RANK", 0),
            world_size=_number(environ, "WORLD_SIZE", 1),
            master_addr=environ.get("MASTER_ADDR", "127.0.0.1"),
            master_port=_number(environ, "MASTER_PORT", 0),
        )


@dataclass(frozen=True, slots=True)
class Control:
    """What the agent may change while the job runs: {"interval_ms": n, "checkpoint": n, "deadline_ms": n}."""

    interval_ms: int = INTERVAL_MS_DEFAULT  # between checkpoints
    checkpoint: int = 0  # rises by one for each "checkpoint now"
    deadline_ms: int | None = None  # wall time of the SIGKILL, once there is a notice


class ControlFile:
    """Reads the control file when it has changed (the agent renames a new one into place).

    What cannot be read changes nothing.
    """

    def __init__(self, path: str) -> None:
        self._path = Path(path) if path else None
        self._seen: tuple[int, int, int] | None = None
        self._last = Control()

    def read(self) -> Control:
        """The latest good content; costs one stat() while nothing changes."""
        if self._path is None:
            return self._last
        try:
            stat = self._path.stat()
            version = (stat.st_ino, stat.st_mtime_ns, stat.st_size)
            if version != self._seen and stat.st_size <= CONTROL_BYTES_MAX:
                self._last = _control(self._path.read_bytes(), self._last)
                self._seen = version
        except (OSError, ValueError, RecursionError):
            pass
        return self._last


class Runtime:
    """The running job: reports progress, knows when to save and when to leave.

    Methods never raise for a missing or silent agent. Create it first thing in the process, before slow imports, so
    that a SIGTERM during the start is not lost, and in the main thread, where Python allows signal handlers.
    """

    def __init__(self, environment: Environment, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self.env = environment
        self.should_stop = False
        self._catches = False
        who: dict[str, Field] = {
            "job": environment.job,
            "generation": environment.generation or 0,
            "rank": environment.rank,
        }
        self._report = Reporter(environment.socket, who)
        self._control = ControlFile(environment.control)
        self._monotonic = monotonic
        self._pace = Pace()
        self._saved_at = monotonic()
        self._asked = self._control.read().checkpoint

    @classmethod
    def from_env(cls, environ: Mapping[str, str] = os.environ) -> Runtime:
        """Read the environment and catch SIGTERM from here on. Raises ContractError."""
        run = cls(Environment.read(environ))
        signal.signal(signal.SIGTERM, run._stop)
        run._catches = True
        return run

    @property
    def deadline_ms(self) -> int | None:
        """Wall time (ms since the epoch) at which this process is killed, where that is known."""
        return self._control.read().deadline_ms

    def due(self, step: int) -> bool:
        """Whether to checkpoint after `step`: the interval has passed, or somebody asked. True once for each reason."""
        if step <= 0:
            return False
        control, now = self._control.read(), self._monotonic()
        if control.checkpoint <= self._asked and (now - self._saved_at) * 1000 < control.interval_ms:
            return False
        self._asked, self._saved_at = max(self._asked, control.checkpoint), now
        return True

    def ready(self, step: int, *, uri: str | None = None, fallback: str | None = None) -> None:
        """The state after `step` is loaded, from `uri`. `fallback`: why that is not the newest checkpoint."""
        self._report.send("ready", step=step, uri=uri, fallback=fallback)

    def step(
        self,
        step: int,
        *,
        loss: float | None = None,
        tokens: int | None = None,
        steps: int | None = None,
        **more: float | None,
    ) -> None:
        """`step` is done. `tokens`: in this step. `steps`: in all, where known. `more`: the job's own numbers."""
        pace = self._pace.tick(tokens, self._monotonic())
        self._report.send("step", step=step, steps=steps, loss=loss, tokens=tokens, **pace, **more)

    @property
    def tokens_per_s(self) -> float | None:
        """Smoothed over about ten steps; None before the second."""
        return self._pace.tokens_per_s

    def saved(
        self,
        step: int,
        *,
        uri: str,
        write_ms: float | None = None,
        stall_ms: float | None = None,
        size: int | None = None,
    ) -> None:
        """The checkpoint of `step` is durable at `uri`. `size`: its bytes, by which moving it is priced."""
        self._report.send("saved", step=step, uri=uri, write_ms=write_ms, stall_ms=stall_ms, bytes=size)

    def unsaved(self, step: int, reason: str) -> None:
        """The checkpoint of `step` could not be written; the last good one stays."""
        self._report.send("unsaved", step=step, reason=reason)

    def alarm(self, step: int, reason: str) -> None:
        """Something that must never happen has happened at `step`; a human should look."""
        self._report.send("alarm", step=step, reason=reason)

    def preempted(self, step: int) -> None:
        """Leaving as told, after `step`."""
        self._report.send("preempted", step=step)

    def done(self, step: int) -> None:
        """Leaving because the work is finished."""
        self._report.send("done", step=step)

    def close(self) -> None:
        """Last thing before the exit: from here a SIGTERM comes too late to change the exit code."""
        if self._catches:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)  # else it would kill the interpreter while it shuts down
        self._report.close()

    def _stop(self, _signal: int, _frame: object) -> None:
        self.should_stop = True


def _number(environ: Mapping[str, str], name: str, default: int) -> int:
    text = environ.get(name, "")
    try:
        number = int(text) if text else default
    except ValueError:
        raise ContractError(
            f"{name}={text!r} is not a whole number; the agent sets it, unset it to run alone"
        ) from None
    if text and number < 0:
        raise ContractError(f"{name}={text!r} is negative; the agent sets it, unset it to run alone")
    return number


def _control(data: bytes, last: Control) -> Control:
    """Raises ValueError for what is not an object of numbers; an absent field keeps its last value."""
    body = json.loads(data)
    if not isinstance(body, dict):
        raise ValueError("not an object")
    interval, checkpoint = body.get("interval_ms", last.interval_ms), body.get("checkpoint", last.checkpoint)
    deadline = body.get("deadline_ms", last.deadline_ms)
    if not (isinstance(interval, int) and isinstance(checkpoint, int) and isinstance(deadline, int | None)):
        raise ValueError("not numbers")
    return Control(interval if interval > 0 else last.interval_ms, checkpoint, deadline)
