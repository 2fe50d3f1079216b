"""A job's logs as lines, from the first byte that is held or followed to the job's end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from time import monotonic
from typing import Annotated, Final

import msgspec
from starlette.responses import Response, StreamingResponse

from dsched.scheduler.api.context import Api
from dsched.scheduler.api.find import find, own
from dsched.scheduler.api.loglines import Lines
from dsched.scheduler.api.route import Call, Route
from dsched.scheduler.auth.permission import Permission
from dsched.scheduler.core.snapshot import live
from dsched.scheduler.store.logbook import GENERATION_MAX, RANK_MAX
from dsched.scheduler.store.shelf import Key
from dsched.scheduler.wire import api as wire

NDJSON: Final = "application/x-ndjson"
CHUNK: Final = 256 * 1024  # bytes per read: a few milliseconds of JSON
TAIL_S: Final = 0.5  # a job's last lines may come after the news of its end; longer than an agent's upload takes
ALIVE_S: Final = 10.0  # an empty line, so that a dead connection is found out


class LogsQuery(msgspec.Struct, forbid_unknown_fields=True):
    rank: Annotated[int, msgspec.Meta(ge=0, le=RANK_MAX)] | None = None  # None: all
    generation: Annotated[int, msgspec.Meta(ge=0, le=GENERATION_MAX)] | None = None  # None: all, oldest first
    offset: Annotated[int, msgspec.Meta(ge=0)] = 0  # in the oldest generation that is shown
    follow: bool = False


async def logs(api: Api, call: Call) -> Response:
    """Output as JSON lines, oldest generation first; with `follow` to the job's end. An empty line: "still here"."""
    query: LogsQuery = call.query
    job = await find(api, call.part("id"))
    own(call, job, Permission.LOGS_ANY)
    api.streams.check()
    lines = _lines(api, job.id, query)
    return StreamingResponse(api.streams.count(lines), media_type=NDJSON, headers={"cache-control": "no-store"})


async def _lines(api: Api, job: str, query: LogsQuery) -> AsyncGenerator[bytes, None]:
    """What is held; followed, also what comes, until the job has ended and its last lines are in."""
    readers: dict[Key, Lines] = {}
    quiet_at: float | None = None  # when the end is believed: the job is over and no line came for a while
    while True:
        signal = api.logs.signal(job)
        over = not query.follow or not _goes_on(api, job, query)
        moved = False
        for key in await _held(api, job, query, readers):
            async for made in _read(api, job, readers[key]):
                moved = True
                yield made
        if not query.follow:
            break
        if not over:
            quiet_at = None
        elif quiet_at is None or moved:
            quiet_at = monotonic() + TAIL_S
        left = ALIVE_S if quiet_at is None else quiet_at - monotonic()
        if left <= 0 or api.closing.is_set():
            break
        if not await _signalled(signal, left) and quiet_at is None:
            yield b"\n"
    for reader in readers.values():
        yield reader.rest()


async def _held(api: Api, job: str, query: LogsQuery, readers: dict[Key, Lines]) -> list[Key]:
    """The logs to read now: what is held and was asked for, but no generation older than those already begun."""
    begun = max((generation for generation, _ in readers), default=0)
    keys = [
        (generation, rank)
        for generation, rank in await api.logs.generations(job)
        if generation >= begun and query.rank in (None, rank) and query.generation in (None, generation)
    ]
    oldest = keys[0][0] if keys else 0
    for key in keys:
        if key not in readers:
            offset = query.offset if not begun and key[0] == oldest else 0
            readers[key] = Lines(*key, offset)
    return keys


async def _read(api: Api, job: str, reader: Lines) -> AsyncIterator[bytes]:
    """Everything that is held behind the reader's place."""
    while True:
        chunk = await api.logs.read(job, reader.generation, reader.rank, reader.offset, CHUNK)
        if not chunk.data and chunk.start <= reader.offset:
            return
        yield reader.feed(chunk.start, chunk.data)


def _goes_on(api: Api, name: str, query: LogsQuery) -> bool:
    job = api.control.state.jobs.get(name)
    if job is None or not live(job):
        return False
    return query.generation is None or job.generation <= query.generation


async def _signalled(signal: asyncio.Event, seconds: float) -> bool:
    try:
        async with asyncio.timeout(seconds):
            await signal.wait()
    except TimeoutError:
        return False
    return True


ROUTES: Final = (
    Route(
        method="GET",
        path="/v1/jobs/{id}/logs",
        permission=Permission.LOGS,
        handler=logs,
        query=LogsQuery,
        answer=wire.LogLine,
        media=NDJSON,
    ),
)
