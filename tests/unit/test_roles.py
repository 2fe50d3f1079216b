"""Who may do what."""

from __future__ import annotations

import os
import socket

import pytest

from dsched.scheduler.api.limit import PRINCIPALS_MAX, Buckets
from dsched.scheduler.api.problem import Fault
from dsched.scheduler.auth.permission import GRANTED, Permission, allows
from dsched.scheduler.auth.principal import Peer, Principal, Role, Roles, peer_of, user_name

ROLES = Roles(owner=500, groups={100: Role.SUBMITTER, 200: Role.OPERATOR})


def peer(uid: int, gid: int = 1, *groups: int) -> Peer:
    return Peer(pid=1, uid=uid, gid=gid, groups=frozenset(groups))


def test_the_owner_and_root_are_admins() -> None:
    assert ROLES.of(peer(500)) is Role.ADMIN
    assert ROLES.of(peer(0)) is Role.ADMIN


def test_the_highest_of_the_groups_counts() -> None:
    assert ROLES.of(peer(7, 100)) is Role.SUBMITTER
    assert ROLES.of(peer(7, 1, 100, 200)) is Role.OPERATOR


def test_others_read_or_are_nobody() -> None:
    assert ROLES.of(peer(7)) is Role.VIEWER
    assert Roles(owner=500, default=None).of(peer(7)) is None


def test_the_table_names_every_permission_and_nobody_has_none() -> None:
    assert set(GRANTED) == set(Permission)
    assert not any(allows(Principal(uid=7, name="x", role=None), permission) for permission in Permission)


def test_a_higher_role_may_all_that_a_lower_one_may() -> None:
    for permission, roles in GRANTED.items():
        ranks = [role in roles for role in Role]
        assert ranks == sorted(ranks), permission


def test_the_kernel_says_who_connected() -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX)
    with ours, theirs:
        found = peer_of(ours)
    assert (found.pid, found.uid, found.gid) == (os.getpid(), os.getuid(), os.getgid())
    assert set(os.getgroups()) <= found.groups | {found.gid}


def test_a_uid_without_a_name_has_one_all_the_same() -> None:
    assert user_name(4_000_000) == "uid-4000000"


class Time:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_burst_is_taken_and_then_the_rate() -> None:
    time = Time()
    buckets = Buckets(rate=2.0, burst=3, clock=time)
    for _ in range(3):
        buckets.take(7)
    with pytest.raises(Fault) as refused:
        buckets.take(7)
    assert (refused.value.status, refused.value.headers) == (429, {"retry-after": "1"})
    buckets.take(8)
    time.now = 0.5
    buckets.take(7)
    with pytest.raises(Fault):
        buckets.take(7)


def test_the_buckets_of_many_strangers_do_not_pile_up() -> None:
    buckets = Buckets(rate=1.0, burst=1, clock=Time())
    for uid in range(2 * PRINCIPALS_MAX):
        buckets.take(uid)
    assert len(buckets._held) == PRINCIPALS_MAX
