"""Principals: who is at the other end of the unix socket, as the kernel says it, and which role that gives."""

from __future__ import annotations

import grp
import pwd
import socket
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from functools import lru_cache
from typing import Final

_UCRED: Final = struct.Struct("3i")  # pid, uid, gid
_SO_PEERGROUPS: Final = 59  # Linux 4.13; the socket module has no name for it
_GROUPS_MAX: Final = 256  # supplementary groups looked at: getsockopt() reads 1 KiB at most, people have dozens


class Role(StrEnum):
    VIEWER = "viewer"  # reads
    SUBMITTER = "submitter"  # and runs jobs of their own
    OPERATOR = "operator"  # and acts on anybody's
    ADMIN = "admin"  # and sets budgets


@dataclass(frozen=True, slots=True)
class Peer:
    """The process that connected."""

    pid: int
    uid: int
    gid: int
    groups: frozenset[int] = frozenset()  # supplementary


@dataclass(frozen=True, slots=True)
class Principal:
    uid: int
    name: str
    role: Role | None  # None: nobody we know; nothing is allowed


@dataclass(frozen=True, slots=True, kw_only=True)
class Roles:
    """Which role a peer has. Deny by default is `default=None`."""

    owner: int  # uid of the daemon
    groups: Mapping[int, Role] = field(default_factory=dict)  # gid -> role; the highest that applies counts
    default: Role | None = Role.VIEWER

    def of(self, peer: Peer) -> Role | None:
        if peer.uid in (0, self.owner):
            return Role.ADMIN
        held = [self.groups[gid] for gid in {peer.gid, *peer.groups} if gid in self.groups]
        return max(held, key=_RANK.__getitem__, default=self.default)


_RANK: Final = {role: rank for rank, role in enumerate(Role)}


def peer_of(connection: socket.socket) -> Peer:
    """The kernel's word about the process at the other end; it cannot be forged."""
    pid, uid, gid = _UCRED.unpack(connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size))
    return Peer(pid, uid, gid, _groups(connection))


def _groups(connection: socket.socket) -> frozenset[int]:
    try:
        raw = connection.getsockopt(socket.SOL_SOCKET, _SO_PEERGROUPS, 4 * _GROUPS_MAX)
    except OSError:  # an old kernel, or more groups than we look at: the primary group still counts
        return frozenset()
    return frozenset(struct.unpack(f"{len(raw) // 4}I", raw))


@lru_cache(maxsize=1_024)  # a lookup may go to a directory service; so many people share no machine
def user_name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"uid-{uid}"


def group_id(name: str) -> int:
    """The gid of a group's name, for the configuration. Raises ValueError."""
    try:
        return grp.getgrnam(name).gr_gid
    except KeyError:
        raise ValueError(f"no such group: {name}; `groupadd {name}` or name another one") from None
