"""What a generation's ranks say of themselves, by datagrams: gathered to one progress a second, and a hang noticed.

The first step and a save go out at once, saves in quick succession by the last one. A checkpoint whose save was never
heard of (its writer died in between, or the datagram was dropped) is told when the next start resumes from it.

Foreign text: each field is taken only in the type and the bounds it should have. A plain command that never reports is
never a hang; one that has spoken is, after `hang_ms` without a word and without CPU time.
"""

from __future__ import annotations

import json
import math
import socket
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from dsched.jobs.agent.clock import boot_ms, wall_ms
from dsched.jobs.agent.loop import Loop, Timer
from dsched.scheduler.wire.agent import Fact, Progress, Saved

GATHER_MS: Final = 1_000
DATAGRAM_MAX: Final = 65_536
BURST_MAX: Final = 256  # datagrams per turn of the loop
TEXT_MAX: Final = 2_000
SAVES_MS: Final = 200  # between two saves told: each becomes an event that the daemon keeps for ever
FALLBACKS_MAX: Final = 64  # told per generation and node: every rank may tell one
DURATION_MAX_MS: Final = 1e9  # eleven days; no step and no write takes longer
BUSY_SHARE: Final = 0.01  # of one core: an idle interpreter wakes now and then, and that is no progress
LOOKS: Final = 4  # per hang_ms


class Reports:
    """The datagram socket of one generation on this node."""

    def __init__(
        self,
        loop: Loop,
        path: Path,
        job: str,
        generation: int,
        *,
        tell: Callable[[Fact], None],
        say: Callable[[str], None],
    ) -> None:
        """`tell` takes facts, `say` a line for the job's log."""
        self._loop, self._job, self._generation = loop, job, generation
        self._tell, self._say = tell, say
        self._latest: Progress | None = None
        self._timer: Timer | None = None
        self._first_sent = False
        self._save: Saved | None = None
        self._save_timer: Timer | None = None
        self._saves_from = 0  # boot clock: no save is told before
        self._fallbacks = 0
        self.heard_at = 0  # boot clock; 0: never
        self.path = path
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
        self._socket.bind(str(path))
        loop.watch(self._socket.fileno(), self.receive)

    def receive(self) -> None:
        for _ in range(BURST_MAX):
            try:
                raw = self._socket.recv(DATAGRAM_MAX)
            except BlockingIOError:
                return
            self._take(raw)

    def close(self) -> None:
        """Take what still lies in the socket, send what is gathered."""
        self.receive()
        self._flush()
        self._tell_save()
        self._loop.unwatch(self._socket.fileno())
        self._socket.close()
        with suppress(OSError):  # the disk, or a cleaner, was here before
            self.path.unlink()

    def _take(self, raw: bytes) -> None:
        try:
            body = json.loads(raw)
        except (ValueError, RecursionError):
            return
        if not isinstance(body, dict):
            return
        self.heard_at = boot_ms()
        step = _whole(body, "step")
        match body.get("event"):
            case "step" if step is not None:
                self._stepped(step, body)
            case "saved" if step is not None:
                self._saved(self._save_of(step, body))
            case "ready" if step is not None and _text(body, "fallback"):
                self._fell_back(step, body)
            case "ready" if step and _text(body, "uri"):
                self._saved(self._save_of(step, body))
            case "unsaved" | "alarm" as event:
                self._say(f"{event} at step {step}: {_text(body, 'reason')}")
            case "preempted" | "done":
                self._flush()
            case _:  # a word of a newer runtime, or a step without a number: heard, not understood
                pass

    def _stepped(self, step: int, body: Mapping[str, Any]) -> None:
        if self._latest is not None and step < self._latest["step"]:
            return  # ranks report the same steps; the slower one's word is old
        told: Progress = {
            "kind": "progress",
            "job": self._job,
            "generation": self._generation,
            "step": step,
            "at": wall_ms(),
        }
        steps = _whole(body, "steps")
        if steps is not None:
            told["steps"] = steps
        for name in ("loss", "tokens_per_s"):
            value = _number(body, name)
            if value is not None:
                told[name] = value
        took = _duration(body, "step_ms")
        if took is not None:
            told["step_ms"] = took
        if not self._first_sent:
            self._first_sent = True
            self._tell({**told, "first": True})
            return
        self._latest = told
        if self._timer is None:
            self._timer = self._loop.after(GATHER_MS, self._flush)

    def _flush(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._latest is not None:
            self._tell(self._latest)
            self._latest = None

    def _saved(self, fact: Saved) -> None:
        if self._save is not None and fact["step"] < self._save["step"]:
            return
        self._save = fact
        if boot_ms() >= self._saves_from:
            self._tell_save()
        elif self._save_timer is None:
            self._save_timer = self._loop.at(self._saves_from, self._tell_save)

    def _tell_save(self) -> None:
        if self._save_timer is not None:
            self._save_timer.cancel()
            self._save_timer = None
        if self._save is not None:
            self._flush()  # the steps that the checkpoint holds come first
            self._tell(self._save)
            self._save = None
            self._saves_from = boot_ms() + SAVES_MS

    def _fell_back(self, step: int, body: Mapping[str, Any]) -> None:
        if self._fallbacks < FALLBACKS_MAX:
            self._fallbacks += 1
            self._tell({**self._save_of(step, body), "fallback": _text(body, "fallback")})

    def _save_of(self, step: int, body: Mapping[str, Any]) -> Saved:
        fact: Saved = {
            "kind": "saved",
            "job": self._job,
            "generation": self._generation,
            "step": step,
            "uri": _text(body, "uri"),
            "at": wall_ms(),
        }
        for name in ("write_ms", "stall_ms"):
            value = _duration(body, name)
            if value is not None:
                fact[name] = value
        size = _whole(body, "bytes")
        if size is not None:
            fact["bytes"] = size
        return fact


class Silence:
    """Judges whether a generation hangs, from its words and its CPU time."""

    def __init__(self, hang_ms: int) -> None:
        self._hang_ms = hang_ms
        self._busy_at = boot_ms()
        self._looked_at = self._busy_at
        self._cpu_ms = 0

    @property
    def look_ms(self) -> int:
        """How long until the next look."""
        return max(1, self._hang_ms // LOOKS)

    def hangs(self, heard_at: int, cpu_ms: int) -> bool:
        """One look. `heard_at`: the last report (boot clock), 0 for none; `cpu_ms`: spent so far by its processes."""
        now = boot_ms()
        if abs(cpu_ms - self._cpu_ms) > BUSY_SHARE * (now - self._looked_at):  # less, too: a busy child has ended
            self._busy_at = now
        self._cpu_ms, self._looked_at = cpu_ms, now
        return bool(heard_at) and now - max(heard_at, self._busy_at) > self._hang_ms


def _whole(body: Mapping[str, Any], name: str) -> int | None:
    value = body.get(name)
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**62 else None


def _number(body: Mapping[str, Any], name: str) -> float | None:
    value = body.get(name)
    if not isinstance(value, int | float) or isinstance(value, bool) or abs(value) > 1e300 or not math.isfinite(value):
        return None
    return float(value)


def _duration(body: Mapping[str, Any], name: str) -> float | None:
    """Milliseconds."""
    value = _number(body, name)
    return value if value is not None and 0 <= value <= DURATION_MAX_MS else None


def _text(body: Mapping[str, Any], name: str) -> str:
    value = body.get(name)
    return value[:TEXT_MAX].encode("utf-8", "replace").decode() if isinstance(value, str) else ""
