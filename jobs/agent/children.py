"""Start processes and hear of every end, of orphans too: the agent is the reaper of all that its ranks leave behind.

One kernel event covers every child, known or adopted: SIGCHLD, read by the loop. (A pidfd needs the child to be known,
and an orphan announces itself only by dying.) A shell that waits at a gate costs 1 ms, an exec wrapper in Python 13;
what PR_SET_PDEATHSIG would do for a rank's first process, guard.py does for all of them.
"""

from __future__ import annotations

import ctypes
import os
import resource
import signal
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final

from dsched.jobs.agent import proc
from dsched.jobs.agent.journal import note
from dsched.jobs.agent.loop import Loop
from dsched.jobs.agent.warm import Warmth

PR_SET_CHILD_SUBREAPER: Final = 36
PR_SET_NAME: Final = 15
OOM_FIRST: Final = 500  # of -1000..1000: when memory runs out a rank goes, not the agent and not the daemon

SHELL: Final = "/bin/sh"
# The shell waits until its priority is set, so that nothing it starts can have another; it stays the same process.
GATE: Final = 'read -r _ && cd -- "$1" && exec </dev/null && exec /bin/sh -c "$2"'

_DEFAULTED: Final = (signal.SIGPIPE, signal.SIGXFSZ, signal.SIGINT, signal.SIGTERM, signal.SIGCHLD, signal.SIGHUP)


def prctl(option: int, value: int | bytes) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(option, value, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), f"prctl({option})")


class Children:
    def __init__(self, loop: Loop) -> None:
        self._loop = loop
        self.warm = Warmth()
        self._known: dict[int, Callable[[int], None]] = {}
        self.on_orphan: Callable[[int, int], None] = lambda _session, _code: None
        prctl(PR_SET_CHILD_SUBREAPER, 1)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # inherited: a rank's core dump would fill the node's disk
        loop.on_signal(signal.SIGCHLD, self.reap)

    def spawn(
        self, command: str, folder: Path, env: Mapping[str, str], output: int, ended: Callable[[int], None]
    ) -> int:
        """Start a shell command in `folder` as leader of its own session, SCHED_IDLE, `output` as stdout and stderr.

        `ended(code)` is called with its exit code (negative: signal) while its pid is still reserved. Raises OSError,
        and ValueError for a NUL byte. A job with a warm zygote has its command forked from it.
        """
        if (forked := self.warm.fork(command, folder, env, output)) is not None:
            return self._open(*forked, ended)
        gate, key = os.pipe2(os.O_CLOEXEC)
        try:
            pid = os.posix_spawn(
                SHELL,
                [SHELL, "-c", GATE, "dsched", str(folder), command],
                dict(env),
                file_actions=[(os.POSIX_SPAWN_DUP2, fd, number) for number, fd in enumerate((gate, output, output))],
                setsid=True,
                setsigmask=[],
                setsigdef=_DEFAULTED,
            )
            self._known[pid] = ended
            _lower(pid)
            os.write(key, b"\n")
        finally:
            os.close(gate)
            os.close(key)
        return pid

    def _open(self, pid: int, gate: int, ended: Callable[[int], None]) -> int:
        """Adopt an orphan that waits at its gate, and let it run."""
        try:
            self._known[pid] = ended
            _lower(pid)
            with suppress(BrokenPipeError):  # it was killed meanwhile: its end is told like any other
                os.write(gate, b"\n")
        finally:
            os.close(gate)
        return pid

    def warm_up(self, command: str, folder: Path, env: Mapping[str, str]) -> None:
        """Have the next generations of this job start warm, where it asks for that."""
        zygote = self.warm.prepare(command, folder, env)
        if zygote is not None:
            self.adopt(zygote.pid, zygote.ended)
            _lower(zygote.pid)

    def adopt(self, pid: int, ended: Callable[[int], None]) -> None:
        """Hear of the end of a child that was started elsewhere."""
        self._known[pid] = ended

    def known(self, pid: int) -> bool:
        """Started by us and not ended: a leader, a session's id, or the guard."""
        return pid in self._known

    def reap(self) -> None:
        while (info := _ended()) is not None:
            code = info.si_status if info.si_code == os.CLD_EXITED else -info.si_status
            ended = self._known.pop(info.si_pid, None)
            if ended is not None:
                ended(code)
            else:
                row = proc.read(info.si_pid)
                self.on_orphan(row.session if row is not None else 0, code)
            os.waitid(os.P_PID, info.si_pid, os.WEXITED)


def _lower(pid: int) -> None:
    """Behind everything else on this machine: the agent, and the daemon where the node is embedded.

    With both cores busy at normal priority a durable write of the daemon takes 4 ms instead of 0.02.
    """
    try:
        os.sched_setscheduler(pid, os.SCHED_IDLE, os.sched_param(0))
        with open(f"/proc/{pid}/oom_score_adj", "w") as file:
            file.write(str(OOM_FIRST))
    except OSError as error:  # /proc is another namespace's, or the shell was killed already
        note("children.not-lowered", error=str(error))


def _ended() -> os.waitid_result | None:
    try:
        return os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return None


def signal_group(leader: int, number: int) -> None:
    """To every process of a rank's process group, where it still has one."""
    try:
        os.killpg(leader, number)
    except ProcessLookupError:
        return
    except PermissionError as error:  # the rank changed its user: the sweep finds what is left
        note("signal.denied", group=leader, error=str(error))
