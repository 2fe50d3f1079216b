"""Fair share between users: what each has used lately, against its weight.

Usage is spend, and old spend counts less and less: half after `Policy.share_half_life`. Inside one priority, whoever
has used more than a fair share comes after those who have not, by octaves: up to the share, up to twice, four times.
So small differences leave the order to deadlines and costs, and nobody with work is shut out: what others do not want
is had by whoever does.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from typing import Generic, NamedTuple, TypeVar

from dsched.scheduler.core.ledger import open_charge
from dsched.scheduler.core.placement import Policy, Share
from dsched.scheduler.core.snapshot import Job, State
from dsched.scheduler.core.units import HOUR, Instant, Millis, Moment

T = TypeVar("T")
Order = tuple[float | int | str | bool, ...]


def shares(state: State, policy: Policy, now: Moment, jobs: Iterable[Job]) -> dict[str, Share]:
    """Of the users of these jobs and of all who hold machines. Empty where there is only one user: all is his."""
    users = {job.spec.user for job in jobs} | {state.jobs[name].spec.user for name in state.active}
    if len(users) < 2:
        return {}
    used: defaultdict[str, float] = defaultdict(float)
    for job in state.jobs.values():
        if job.spent and job.started is not None:
            end = now.market if job.ended is None else job.ended
            used[job.spec.user] += job.spent / HOUR * _kept(job.started, end, now.market, policy.share_half_life)
    for node in state.nodes.values():
        if node.job in state.jobs:
            used[state.jobs[node.job].spec.user] += open_charge(node, now.market)[0] / HOUR
    weights = dict(policy.weights)
    return {user: Share(used[user], weights.get(user, 1.0)) for user in users}


def _kept(start: Instant, end: Instant, now: Instant, half_life: Millis) -> float:
    """What is left of a spend that was even from start to end: the mean of 2^(-age / half life)."""
    rate = math.log(2.0) / half_life
    lasting = max(1, end - start) * rate
    return math.exp(-rate * max(0, now - end)) * -math.expm1(-lasting) / lasting


def total(known: Mapping[str, Share]) -> Share:
    """Of all users together."""
    return Share(sum(share.used for share in known.values()), sum(share.weight for share in known.values()))


def level(user: str, known: Mapping[str, Share], of: Share) -> int:
    """How far over its share `of` the total a user is, in octaves; 0: not at all."""
    mine = known.get(user)
    if mine is None or of.used <= 0:
        return 0
    part = (mine.used / of.used) / (mine.weight / of.weight)
    return 0 if part <= 1.0 + 1e-9 else math.ceil(math.log2(part) - 1e-9)


class Waiting(NamedTuple, Generic[T]):
    """One job in the queue: its order inside its user's level, `before` and `after` the level."""

    before: Order  # priority, and whether its nodes are being taken
    after: Order  # deadline, regret, age, id: no two are equal
    user: str
    what: T


class Line(Generic[T]):
    """The queue in the order of service; what is served counts as used at once."""

    def __init__(self, waiting: Iterable[Waiting[T]], known: Mapping[str, Share]) -> None:
        self._known, self._total = dict(known), total(known)
        self._waiting = sorted(waiting, key=lambda one: (one.before, one.after))

    def __iter__(self) -> Iterator[T]:
        if not self._known:
            yield from (one.what for one in self._waiting)
            return
        groups: dict[Order, defaultdict[str, list[Waiting[T]]]] = {}
        for one in self._waiting:
            groups.setdefault(one.before, defaultdict(list))[one.user].append(one)
        for before in sorted(groups):
            yield from self._merged(groups[before])

    def served(self, user: str, price: float) -> None:
        """A gang at so many micro-dollars per hour was given to this user: counted as an hour of it."""
        if user in self._known:
            share = self._known[user]
            self._known[user] = Share(share.used + price, share.weight)
            self._total = Share(self._total.used + price, self._total.weight)

    def _merged(self, users: Mapping[str, list[Waiting[T]]]) -> Iterator[T]:
        """Each user's own order is kept; between them the lowest level is next."""
        at = dict.fromkeys(users, 0)
        while at:
            user = min(at, key=lambda name: (level(name, self._known, self._total), users[name][at[name]].after))
            yield users[user][at[user]].what
            at[user] += 1
            if at[user] == len(users[user]):
                del at[user]
