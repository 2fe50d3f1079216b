"""What the embedded cloud of a house really holds, asked past the daemon."""

from __future__ import annotations

import asyncio
from pathlib import Path

from dsched.providers.base import Node, NodeStatus
from dsched.providers.local.provider import LocalProvider
from tests.support.house import House, marked


def machines(home: House) -> list[Node]:
    """Every machine that the cloud ever sold to this house, dead or alive."""
    return asyncio.run(LocalProvider(home.state / "cloud" / "cloud.sock").nodes())


def bought(home: House) -> list[str]:
    return sorted(node.ref.id for node in machines(home))


def alive(home: House) -> list[str]:
    return sorted(node.ref.id for node in machines(home) if node.status is not NodeStatus.GONE)


def cloud_pids(home: House) -> list[int]:
    """The cloud's own process, where there is one."""
    found = marked(f"--state\0{home.state}/cloud".encode(), where="cmdline")
    return [pid for pid in found if _words(pid)[1:3] == [b"-m", b"dsched.providers.local"]]


def _words(pid: int) -> list[bytes]:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return []  # it ended while we looked
