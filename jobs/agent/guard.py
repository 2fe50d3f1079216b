"""The dead-man's switch beside the agent: a process that outlives it by a moment and takes the ranks along.

Forked before anything else, it holds one end of a pipe. When the pipe ends (the agent died, however) or the lease ends
(the agent is stopped, stuck or starved), it kills the agent and every process that carries the agent's mark.
"""

from __future__ import annotations

import os
import select
import signal
import time
from contextlib import suppress
from typing import Final

from dsched.jobs.agent import proc
from dsched.jobs.agent.children import PR_SET_NAME, prctl
from dsched.jobs.agent.clock import boot_ms

MARK: Final = "DSCHED_AGENT"  # every rank and set-up process has it in its environment
MARGIN_MS: Final = 2_000  # the agent ends the lease itself; this is for one that cannot
ROUNDS_MAX: Final = 1_000  # a process in an uninterruptible wait is tried again for ten seconds, then left to the cloud
ROUND_S: Final = 0.01
CLEAN_PASSES: Final = 2
SLEEP_MAX_S: Final = 1.0  # as for the loop: poll() does not count a suspend
KEEP_FD_MAX: Final = 4_096


class Guard:
    """The agent's handle. `started` again by the agent should it ever die first."""

    def __init__(self, mark: str, litter: str) -> None:
        """`litter`: a link outside the node's own directory that nobody else removes after a kill -9."""
        self._mark, self._litter = mark, litter
        self.pid = 0
        self._pipe = -1
        self._until = 0

    def start(self) -> None:
        if self._pipe >= 0:
            os.close(self._pipe)
        out, self._pipe = os.pipe2(os.O_CLOEXEC)
        os.set_blocking(self._pipe, False)
        agent = os.getpid()
        pid = os.fork()
        if pid == 0:
            try:
                _become(out)
                _watch(out, agent, self._mark)
                _clean(self._litter)
            finally:
                os._exit(0)
        os.close(out)
        self.pid = pid
        if self._until:
            self.until(self._until)

    def until(self, boot: int) -> None:
        self._until = boot
        try:
            os.write(self._pipe, b"%d\n" % boot)
        except OSError:
            return  # it is dead, and its end restarts it with the last instant; or it has unread ones, as late as this

    def close(self, wait_ms: int) -> None:
        """The agent ends: so does the guard, once nothing is left. Waits for it, so that nobody finds it afterwards."""
        os.close(self._pipe)
        try:
            ended = os.pidfd_open(self.pid)
        except ProcessLookupError:
            return
        poll = select.poll()
        poll.register(ended, select.POLLIN)
        poll.poll(wait_ms)
        os.close(ended)


def _become(pipe: int) -> None:
    """Leave everything of the agent behind: its session, its signals, its descriptors."""
    os.setsid()
    signal.set_wakeup_fd(-1)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    prctl(PR_SET_NAME, b"dsched-guard")
    null = os.open(os.devnull, os.O_RDWR)
    for fd in (0, 1, 2):
        os.dup2(null, fd)
    os.closerange(3, pipe)
    os.closerange(pipe + 1, KEEP_FD_MAX)


def _watch(pipe: int, agent: int, mark: str) -> None:
    poll = select.poll()
    poll.register(pipe, select.POLLIN)
    until = 0
    while not until or boot_ms() < until + MARGIN_MS:
        left = until + MARGIN_MS - boot_ms() if until else 1_000
        if not poll.poll(min(SLEEP_MAX_S * 1_000, max(0, left))):
            continue
        data = os.read(pipe, 65_536)
        if not data:
            break
        until = int(data.split()[-1])
    else:
        proc.send([agent], signal.SIGKILL)
    kill_marked(mark)


def kill_marked(mark: str) -> None:
    """SIGKILL everything that carries the mark, until two passes in a row find nothing.

    Two, because a process in the middle of an exec shows no environment for a moment.
    """
    clean = 0
    for _ in range(ROUNDS_MAX):
        rows = proc.scan()
        marked = [
            pid
            for pid, row in rows.items()
            if not row.dead and pid != os.getpid() and proc.marks(pid, (MARK,)).get(MARK) == mark
        ]
        clean = 0 if marked else clean + 1
        if clean == CLEAN_PASSES:
            return
        proc.send(marked, signal.SIGKILL)
        time.sleep(ROUND_S)


def _clean(litter: str) -> None:
    if litter:
        with suppress(FileNotFoundError):
            os.unlink(litter)
