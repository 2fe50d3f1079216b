"""A warm zygote on this node: the job's slow imports, paid for once and not at every start (jobs/runtime/zygote.py).

A job asks for it with WARM_MODULE=MODULE in its environment, and a `run` that is one plain `python -m ...`. Its first
ranks start as any others; once they have reported a step the zygote is made ready behind them, and the generations that
follow on this node are forked from it. What goes wrong here only means that a start is a cold one.
"""

from __future__ import annotations

import json
import os
import shlex
import signal
import socket
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final

from dsched.jobs.agent.journal import note

VARIABLE: Final = "WARM_MODULE"
GENERATION: Final = "warm"  # in the environment of the zygote, and so of all that its ranks start
FORK_S: Final = 5.0  # a fork takes some milliseconds; a machine that swaps takes longer, and longer than that is lost
ANSWER_MAX: Final = 4_096
_SHELL: Final = frozenset("|&;<>()$`\\\"'*?[]#~=%!{}\n")  # beyond plain words it is the shell's business


class Zygote:
    """One process, and the socket by which it is asked. Create it where SIGCHLD is handled: it is a child."""

    def __init__(self, python: str, module: str, folder: Path, env: Mapping[str, str]) -> None:
        """Raises OSError. It imports at its own pace, see `ready`."""
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._ready, self._gone = False, False
        with theirs:
            theirs.set_inheritable(True)
            nothing = (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0)
            command = [python, "-m", "dsched.jobs.runtime.zygote", str(theirs.fileno()), str(folder), module]
            self.pid = os.posix_spawnp(python, command, dict(env), file_actions=[nothing], setsid=True, setsigmask=[])
        self.python, self.folder = python, folder

    @property
    def ready(self) -> bool:
        """Whether it can fork now. False for ever once it has ended."""
        if not self._ready:
            with suppress(OSError):
                self._ready = bool(self._control.recv(ANSWER_MAX, socket.MSG_DONTWAIT))
        return self._ready

    def wait(self, seconds: float) -> bool:
        """Wait until it is ready; False when it is not in time."""
        if not self._ready:
            self._control.settimeout(seconds)
            with suppress(OSError):
                self._ready = bool(self._control.recv(ANSWER_MAX))
        return self._ready

    def fork(self, words: list[str], env: Mapping[str, str], output: int) -> tuple[int, int]:
        """A rank that waits at its gate: (pid, gate). Write a byte to the gate when it may run, and close it.

        `words`: -m MODULE ARGUMENTS. Raises OSError; then this zygote is of no use any more.
        """
        gate, key = os.pipe2(os.O_CLOEXEC)
        request = {"argv": words, "env": dict(env), "cwd": str(self.folder)}
        try:
            self._control.settimeout(FORK_S)
            socket.send_fds(self._control, [json.dumps(request).encode()], [gate, output])
            answer = json.loads(self._control.recv(ANSWER_MAX) or b'{"error": "it has ended"}')
            if "pid" not in answer:
                raise OSError(answer.get("error"))
        except (OSError, ValueError) as e:
            os.close(key)
            self._ready = False
            raise OSError(f"the zygote does not fork: {e}") from e
        finally:
            os.close(gate)
        return int(answer["pid"]), key

    def ended(self, _code: int) -> None:
        """It is reaped: its number may be another process' from now on."""
        self._gone, self._ready = True, False

    def close(self) -> None:
        self._control.close()
        if not self._gone:
            with suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)


class Warmth:
    """The zygote of this node: one, of the job that asked for it last."""

    def __init__(self) -> None:
        self._zygote: Zygote | None = None
        self._job = ""

    def prepare(self, command: str, folder: Path, env: Mapping[str, str]) -> Zygote | None:
        """Start a zygote for this job where it asks for one and has none; it is a new child of this process."""
        words, job = plain(command), env.get("DSCHED_JOB", "")
        if not env.get(VARIABLE) or words is None or (self._zygote is not None and self._job == job):
            return None
        self.close()
        try:
            self._zygote = Zygote(words[0], env[VARIABLE], folder, {**env, "DSCHED_GENERATION": GENERATION})
        except (OSError, ValueError) as e:
            note("warm.unable", job=job, error=str(e))
        self._job = job
        return self._zygote

    def fork(self, command: str, folder: Path, env: Mapping[str, str], output: int) -> tuple[int, int] | None:
        """(pid, gate) of a rank; None: start it cold."""
        zygote, words = self._zygote, plain(command)
        if zygote is None or words is None or not env.get(VARIABLE) or self._job != env.get("DSCHED_JOB"):
            return None
        if (words[0], folder) != (zygote.python, zygote.folder) or not zygote.ready or not folder.is_dir():
            return None
        try:
            return zygote.fork(words[1], env, output)
        except OSError as e:
            note("warm.cold", job=self._job, error=str(e))
            self.close()
            return None

    def close(self) -> None:
        if self._zygote is not None:
            self._zygote.close()
            self._zygote = None


def plain(command: str) -> tuple[str, list[str]] | None:
    """(python, [-m, MODULE, ARGUMENTS...]) of a command that needs no shell; None for any other."""
    if _SHELL.intersection(command):
        return None
    words = shlex.split(command)
    if words[:1] == ["exec"]:
        words = words[1:]
    is_module = len(words) >= 3 and words[1] == "-m" and Path(words[0]).name.startswith("python")
    return (words[0], words[1:]) if is_module else None
