"""What every handler works with: the ports, and what the API keeps for itself."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from dsched.scheduler.api.books import Books
from dsched.scheduler.api.eventlog import Frames
from dsched.scheduler.api.limit import Buckets, Limits, Streams
from dsched.scheduler.api.meter import Meter
from dsched.scheduler.api.ports import Control, Desk, Extras, Feed, Queries
from dsched.scheduler.api.rows import JobRows
from dsched.scheduler.api.watch import Watch
from dsched.scheduler.auth.principal import Roles
from dsched.scheduler.store.bundles import Bundles
from dsched.scheduler.store.logbook import LogBook


@dataclass(frozen=True, slots=True, kw_only=True)
class Api:
    control: Control
    feed: Feed
    desk: Desk
    logs: LogBook
    bundles: Bundles
    queries: Queries
    roles: Roles
    limits: Limits
    extras: Extras
    buckets: Buckets
    streams: Streams
    rows: JobRows
    watch: Watch
    books: Books = field(default_factory=Books)
    meter: Meter = field(default_factory=Meter)
    frames: Frames = field(default_factory=Frames)
    closing: asyncio.Event = field(default_factory=asyncio.Event)  # the daemon goes down: streams and long polls end
