"""Processes as /proc tells them. A process is named by its pid and its start time: together they are never reused."""

from __future__ import annotations

import os
import signal
import time
from collections import defaultdict
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

SWEEPS_MAX: Final = 200  # a tree that forks faster than this many sweeps can kill has won anyway
SWEEP_PAUSE_S: Final = 0.002  # lets killed processes leave the table


@dataclass(frozen=True, slots=True)
class Process:
    pid: int
    start: int  # clock ticks since boot

    def alive(self) -> bool:
        """Runs now, and is the same process; a zombie does not run."""
        found = _stat(self.pid)
        return found is not None and found[1] == self.start and found[2] not in "ZX"


def boot_id() -> str:
    """Of this boot of the host: pids of another boot mean nothing."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def process(pid: int) -> Process | None:
    found = _stat(pid)
    return Process(pid, found[1]) if found else None


def open_pidfd(wanted: Process) -> int | None:
    """A pidfd of exactly this process, or None where it is gone. The caller closes it."""
    try:
        fd = os.pidfd_open(wanted.pid)
    except OSError:
        return None
    if wanted.alive():  # asked after the open: the pid cannot have been reused in between
        return fd
    os.close(fd)
    return None


def only_child(pid: int) -> Process | None:
    """The one child of `pid`."""
    for child, (parent, start, _) in _table().items():
        if parent == pid:
            return Process(child, start)
    return None


def descendants(root: int) -> set[int]:
    """Every living process below `root`, itself not included."""
    children: dict[int, list[int]] = defaultdict(list)
    table = _table()
    for pid, (parent, _, _) in table.items():
        children[parent].append(pid)
    found: set[int] = set()
    todo = [root]
    while todo:
        for child in children[todo.pop()]:
            if child not in found:
                found.add(child)
                todo.append(child)
    return {pid for pid in found if table[pid][2] not in "ZX"}


def marked(variable: str, value: str) -> set[int]:
    """Every living process that was started with `variable=value` in its environment."""
    needle = f"{variable}={value}".encode()
    found = set()
    for pid, (_, _, state) in _table().items():
        with suppress(OSError):
            if state not in "ZX" and needle in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0"):
                found.add(pid)
    return found


def sweep(root: int, variable: str, value: str) -> bool:
    """SIGKILL all below `root` and all that carry the mark, until none is left; True when none is.

    For where PID namespaces are not permitted: the kernel's own all-or-nothing kill is better.
    """
    for _ in range(SWEEPS_MAX):
        victims = (descendants(root) | marked(variable, value)) - {root, os.getpid()}
        if not victims:
            return True
        for pid in victims:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(SWEEP_PAUSE_S)
    return False


def _table() -> dict[int, tuple[int, int, str]]:
    """pid -> (parent, start, state)"""
    found = {}
    for name in os.listdir("/proc"):
        if name.isdigit() and (stat := _stat(int(name))):
            found[int(name)] = stat
    return found


def _stat(pid: int) -> tuple[int, int, str] | None:
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    fields = text[text.rindex(")") + 2 :].split()  # the name before it may hold spaces and brackets
    return int(fields[1]), int(fields[19]), fields[0]
