"""Start the embedded cloud beside the daemon, detached: whoever started it may die."""

from __future__ import annotations

import asyncio
import fcntl
import os
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final

from dsched.providers.local.options import Options
from dsched.providers.local.provider import LocalProvider

READY_S: Final = 15.0  # 0.3 s on an idle machine
LOG: Final = "cloud.log"
LOG_MAX: Final = 8 << 20  # bytes; a longer one becomes cloud.log.1 at the next start


class NoCloud(Exception):
    """The embedded cloud did not start: its last words."""


async def ensure(folder: Path, options: Options, *, begun: Callable[[], None] = lambda: None) -> LocalProvider:
    """The cloud of this folder, started if nobody runs it yet. Safe to call twice at once. Raises NoCloud.

    `begun` is told as soon as its process starts, or need not.
    """
    socket = folder / "cloud.sock"
    if not await _answers(socket):
        turn = await asyncio.to_thread(_my_turn, folder)
        try:
            if not await _answers(socket):
                await _start(folder, options, begun)
        finally:
            os.close(turn)
    begun()
    return LocalProvider(socket)


def _my_turn(folder: Path) -> int:
    """Wait for other starters of this folder. Closing the descriptor ends the turn."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    turn = os.open(folder / "starting", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    fcntl.flock(turn, fcntl.LOCK_EX)
    return turn


async def _answers(socket: Path) -> bool:
    try:
        _, writer = await asyncio.open_unix_connection(socket)
    except OSError:
        return False
    writer.close()
    return True


async def _start(folder: Path, options: Options, begun: Callable[[], None]) -> None:
    hear, say = os.pipe()
    try:
        await asyncio.to_thread(_spawn, folder, options, say)
    finally:
        os.close(say)
    begun()
    try:
        heard = await _first_line(hear)
    finally:
        os.close(hear)
    if not heard:  # it has ended, or takes too long
        raise NoCloud(f"{folder}: {await asyncio.to_thread(_last_line, folder / LOG)}")


def _spawn(folder: Path, options: Options, say: int) -> None:
    """Returns at once; the cloud is nobody's child."""
    cloud = [sys.executable, "-m", "dsched.providers.local", "--state", str(folder), "--ready-fd", str(say)]
    with suppress(FileNotFoundError):
        if (folder / LOG).stat().st_size > LOG_MAX:
            (folder / LOG).replace(folder / f"{LOG}.1")
    with (folder / LOG).open("ab") as said:
        command = ["setsid", "--fork", *cloud, *options.arguments()]
        subprocess.run(command, stdin=subprocess.DEVNULL, stdout=said, stderr=said, pass_fds=(say,), check=True)


async def _first_line(fd: int) -> bytes:
    loop, readable = asyncio.get_running_loop(), asyncio.Event()
    loop.add_reader(fd, readable.set)
    try:
        async with asyncio.timeout(READY_S):
            await readable.wait()
        return os.read(fd, 16)
    except TimeoutError:
        return b""
    finally:
        loop.remove_reader(fd)


def _last_line(path: Path) -> str:
    lines = path.read_text(errors="replace").splitlines()
    return lines[-1] if lines else "no word from it"
