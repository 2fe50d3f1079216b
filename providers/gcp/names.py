"""A machine's name says whose it is and what: token, market, shape, index.

A machine that was deleted leaves nothing but operations, and these name it and no more. So the name alone must do to
tell which node of which launch has ended, also by a daemon that has forgotten it.
"""

from __future__ import annotations

import hashlib
import json
import re
import uuid
from typing import Final, NamedTuple

from dsched.providers.base import Invalid, Launch
from dsched.scheduler.core.market import Market, Pool

PROVIDER: Final = "gcp"
LENGTH_MAX: Final = 63  # of a resource's name, and of a label
CLUSTER: Final = "dsched-cluster"
TOKEN: Final = "dsched-token"  # noqa: S105 - the name of a label
WANT: Final = "dsched-want"  # digest of the request: another one with the same token is refused

_MARK: Final = {Market.SPOT: "s", Market.ON_DEMAND: "o", Market.RESERVED: "r"}
_MARKET: Final = {mark: market for market, mark in _MARK.items()}
_NAME: Final = re.compile(r"(?P<token>[a-z][-a-z0-9]*)-(?P<mark>[sor])-(?P<shape>[a-z][-a-z0-9]*)-(?P<index>\d+)")
_TOKEN: Final = re.compile(r"[a-z][-a-z0-9]*")
_GANG: Final = "-gang"
_SPACE: Final = uuid.UUID("a2c5bfc7-8a1f-5b0e-9d5c-6d3c1f0b7e42")


class Named(NamedTuple):
    token: str
    number: int  # 0..count-1 within its launch
    pool: Pool


def name(want: Launch, index: int) -> str:
    """Raises Invalid for a token that no name can carry."""
    made = f"{want.token}-{_MARK[want.pool.market]}-{want.pool.shape}-{index}"
    if not _TOKEN.fullmatch(want.token) or len(made) > LENGTH_MAX:
        raise Invalid("BadToken", f"{made!r} is no name of a machine: at most {LENGTH_MAX} of a-z, 0-9 and -")
    return made


def parse(machine: str, zone: str) -> Named | None:
    """Of a machine's name; None: not one of ours."""
    found = _NAME.fullmatch(machine)
    if found is None:
        return None
    pool = Pool(PROVIDER, region(zone), zone, found["shape"], _MARKET[found["mark"]])
    return Named(found["token"], int(found["index"]), pool)


def region(zone: str) -> str:
    return zone.rpartition("-")[0]


def request_id(token: str) -> str:
    """Compute Engine wants a UUID. The same token gives the same, also after a restart."""
    return str(uuid.uuid5(_SPACE, token))


def digest(want: Launch) -> str:
    """Of all that must be equal when a token is used again."""
    told = [want.pool.id, want.count, want.user_data, want.price_max, sorted(want.tags.items())]
    return hashlib.sha256(json.dumps(told).encode()).hexdigest()[:32]


def gang(token: str) -> str:
    """Of what the machines of a gang share: their network tag, and the rule that goes by it."""
    return f"{token}{_GANG}"


def gang_of(name: str) -> str:
    """The token; "" for a name that is not of a gang."""
    return name.removesuffix(_GANG) if name.endswith(_GANG) else ""


def label(text: str) -> str:
    """As much of a text as a label can hold: lower case, digits, - and _."""
    return re.sub(r"[^a-z0-9_-]", "-", text.lower())[:LENGTH_MAX]


def labels(want: Launch, cluster: str) -> dict[str, str]:
    """Set in the call that makes the machine, so that there is never one without them. Keys begin with a letter."""
    users = {label(key): label(value) for key, value in want.tags.items() if key[:1].isalpha()}
    return users | {CLUSTER: label(cluster), TOKEN: label(want.token), WANT: digest(want)}
