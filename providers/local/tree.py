"""A node is a real process tree. This file starts one, watches it and kills all of it.

Where permitted the tree lives in a PID namespace: its init dies, and the kernel kills every process in it before anyone
is told. Elsewhere a subreaper (keeper.py) holds the tree together and a /proc scan kills it. Both outlive the cloud.

A node starts in two steps, so that a crash leaves none that nobody knows: the tree comes up and waits; its name is
written to the journal; only then is it let go. If the cloud dies in between, the tree reads the end of a pipe and ends.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final

from dsched.providers.local.keeper import MARK
from dsched.providers.local.proc import Process, only_child, open_pidfd, process, sweep

# The node's init: says that it is up, waits for the word, starts the node's program, and reaps orphans meanwhile.
INIT: Final = 'echo up; read -r go || exit 111; exec </dev/null >>"$0" 2>&1; "$@"; exit $?'
UP_TIMEOUT_S: Final = 5.0  # 15 ms on an idle machine; a node that is not up by then never will be
PROBE_TIMEOUT_S: Final = 5.0
OUTER_TIMEOUT_S: Final = 5.0  # between the init's end and its parent's


class Isolation(StrEnum):
    NAMESPACE = "namespace"
    USER_NAMESPACE = "user-namespace"
    KEEPER = "keeper"


_UNSHARE: Final = ("unshare", "--pid", "--fork", "--kill-child", "--mount-proc")
_PREFIX: Final[Mapping[Isolation, tuple[str, ...]]] = {
    Isolation.NAMESPACE: _UNSHARE,
    Isolation.USER_NAMESPACE: (*_UNSHARE, "--user", "--map-current-user"),
    Isolation.KEEPER: (sys.executable, "-m", "dsched.providers.local.keeper"),
}


class NoTree(Exception):
    """The machine could not start another node: what it said."""


@dataclass(frozen=True, slots=True)
class Roots:
    """How a tree is found again, also by the next process of the cloud."""

    outer: Process  # our child: unshare or the keeper
    init: Process  # its end proves that the whole tree is dead (KEEPER: the keeper itself; a scan completes the proof)


def best_isolation() -> Isolation:
    """The strongest that this machine permits."""
    return next((one for one in (Isolation.NAMESPACE, Isolation.USER_NAMESPACE) if permitted(one)), Isolation.KEEPER)


def permitted(isolation: Isolation) -> bool:
    """By trying."""
    probe = [*_PREFIX[isolation], "true"]
    try:
        return subprocess.run(probe, capture_output=True, timeout=PROBE_TIMEOUT_S, check=False).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False


class Tree:
    """One running tree, with its pidfd open until `close`."""

    def __init__(
        self, roots: Roots, pidfd: int, isolation: Isolation, disk: Path, outer: subprocess.Popen[bytes] | None
    ):
        self.roots = roots
        self.pidfd = pidfd
        self._isolation = isolation
        self._disk = disk
        self._outer = outer

    def let_go(self) -> None:
        """The word: start the node's program."""
        if self._outer and self._outer.stdin:
            with suppress(BrokenPipeError):
                self._outer.stdin.write(b"go\n")
                self._outer.stdin.close()

    async def kill(self) -> None:
        """SIGKILL everything of this node. The proof comes by the pidfd."""
        if self._isolation is Isolation.KEEPER:
            await self.finish()
        with suppress(ProcessLookupError, OSError):
            signal.pidfd_send_signal(self.pidfd, signal.SIGKILL)

    async def finish(self) -> None:
        """Kill what the end of the init left alive: nothing in a PID namespace, else a killed keeper's orphans."""
        if self._isolation is Isolation.KEEPER:
            await asyncio.to_thread(sweep, self.roots.outer.pid, MARK, str(self._disk))

    async def exit_code(self) -> int | None:
        """Of the node's program, when the tree is dead; None where an earlier process of the cloud started it."""
        if self._outer is None:
            return None
        with suppress(subprocess.TimeoutExpired):
            return await asyncio.to_thread(self._outer.wait, OUTER_TIMEOUT_S)
        return None

    def close(self) -> None:
        os.close(self.pidfd)
        if self._outer and self._outer.stdin:
            with suppress(BrokenPipeError):
                self._outer.stdin.close()


async def spawn(
    isolation: Isolation, program: Sequence[str], *, env: Mapping[str, str], disk: Path, console: Path
) -> Tree:
    """A tree that is up and waits for `let_go`. Raises NoTree; nothing is left then."""
    outer = _outer([*_PREFIX[isolation], "sh", "-c", INIT, str(console), *program], env, disk, console)
    try:
        if not await _is_up(outer):
            raise NoTree(_last_words(console) or f"exit code {outer.poll()}")
        tree = _adopted(isolation, outer, disk)
        if tree is None:
            raise NoTree("it ended before it could be watched")
        return tree
    except BaseException:
        outer.kill()
        if outer.stdin:
            outer.stdin.close()
        outer.wait()
        raise


def adopt(roots: Roots, isolation: Isolation, disk: Path) -> Tree | None:
    """A tree that an earlier process of the cloud started, or None where it is dead."""
    pidfd = open_pidfd(roots.init)
    return None if pidfd is None else Tree(roots, pidfd, isolation, disk, None)


def _outer(command: list[str], env: Mapping[str, str], disk: Path, console: Path) -> subprocess.Popen[bytes]:
    try:
        with console.open("ab") as said:
            return subprocess.Popen(
                command,
                env=env,
                cwd=disk,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=said,
                bufsize=0,
                start_new_session=True,  # a signal to the cloud's terminal is not one to its nodes
            )
    except OSError as problem:
        raise NoTree(str(problem)) from problem


async def _is_up(outer: subprocess.Popen[bytes]) -> bool:
    """True when the init has said so; False when the pipe ended or it took too long."""
    assert outer.stdout is not None
    loop, heard = asyncio.get_running_loop(), asyncio.Event()
    fd = outer.stdout.fileno()
    loop.add_reader(fd, heard.set)
    try:
        async with asyncio.timeout(UP_TIMEOUT_S):
            await heard.wait()
        return outer.stdout.read(1) == b"u"
    except TimeoutError:
        return False
    finally:
        loop.remove_reader(fd)
        outer.stdout.close()


def _adopted(isolation: Isolation, outer: subprocess.Popen[bytes], disk: Path) -> Tree | None:
    top = process(outer.pid)
    init = top if isolation is Isolation.KEEPER else only_child(outer.pid)
    if top is None or init is None:
        return None
    pidfd = open_pidfd(init)
    return None if pidfd is None else Tree(Roots(top, init), pidfd, isolation, disk, outer)


def _last_words(console: Path) -> str:
    with suppress(OSError):
        return console.read_text(errors="replace").strip()[-300:]
    return ""
