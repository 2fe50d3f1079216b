"""Which processes there are: one pass over /proc. Nothing is cached: a pid is only good for the pass it came from."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from typing import NamedTuple

PAGE = os.sysconf("SC_PAGE_SIZE")
TICKS_PER_S = os.sysconf("SC_CLK_TCK")
ENVIRON_MAX = 4 * 1024 * 1024  # the kernel's own bound on arguments and environment is of this order


class Row(NamedTuple):
    pid: int
    ppid: int
    group: int
    session: int
    state: str
    ticks: int  # CPU time of its own, user and system
    pages: int  # resident

    @property
    def dead(self) -> bool:
        return self.state in "ZX"


def scan() -> dict[int, Row]:
    """Every process that could be read; those that end meanwhile are left out.

    Empty when /proc shows another PID namespace than ours: its numbers mean nothing here.
    """
    if os.readlink("/proc/self") != str(os.getpid()):
        return {}
    rows: dict[int, Row] = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            row = read(int(name))
            if row is not None:
                rows[row.pid] = row
    return rows


def read(pid: int) -> Row | None:
    try:
        with open(f"/proc/{pid}/stat", "rb", buffering=0) as file:
            raw = file.read(1_024)
    except OSError:
        return None
    fields = raw[raw.rfind(b")") + 2 :].split()  # the name in parentheses may hold anything, ")" and blanks too
    if len(fields) < 22:
        return None
    number = [int(field) for field in fields[1:4]]
    return Row(
        pid, number[0], number[1], number[2], fields[0].decode(), int(fields[11]) + int(fields[12]), int(fields[21])
    )


def below(root: int, rows: Mapping[int, Row]) -> set[int]:
    """The descendants of `root`."""
    children: dict[int, list[int]] = {}
    for row in rows.values():
        children.setdefault(row.ppid, []).append(row.pid)
    found: set[int] = set()
    waiting = list(children.get(root, ()))
    while waiting:
        pid = waiting.pop()
        if pid not in found:
            found.add(pid)
            waiting.extend(children.get(pid, ()))
    return found


def marks(pid: int, names: Iterable[str]) -> dict[str, str]:
    """Those of the variables `names` that the process was started with; {} when its environment cannot be read."""
    try:
        with open(f"/proc/{pid}/environ", "rb", buffering=0) as file:
            raw = file.read(ENVIRON_MAX)
    except OSError:
        return {}
    wanted = tuple(f"{name}=".encode() for name in names)
    pairs = (item.partition(b"=") for item in raw.split(b"\0") if item.startswith(wanted))
    return {name.decode(): value.decode("utf-8", "surrogateescape") for name, _, value in pairs}


def send(pids: Iterable[int], number: int) -> None:
    for pid in pids:
        try:
            os.kill(pid, number)
        except (ProcessLookupError, PermissionError):
            continue
