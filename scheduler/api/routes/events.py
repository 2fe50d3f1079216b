"""The event log, as pages or as a stream, and the watchers' feed."""

from __future__ import annotations

import asyncio
from typing import Annotated, Final

import msgspec
from starlette.responses import Response

from dsched.scheduler.api import answer
from dsched.scheduler.api.context import Api
from dsched.scheduler.api.eventlog import follow
from dsched.scheduler.api.find import find
from dsched.scheduler.api.fleet import event_row
from dsched.scheduler.api.problem import Fault
from dsched.scheduler.api.route import Call, Route
from dsched.scheduler.api.sse import stream
from dsched.scheduler.auth.permission import Permission
from dsched.scheduler.wire import api as wire

SSE: Final = "text/event-stream"
PAGE_MAX: Final = 1_000


class EventsQuery(msgspec.Struct, forbid_unknown_fields=True):
    after: Annotated[int, msgspec.Meta(ge=0)] | None = None
    limit: Annotated[int, msgspec.Meta(ge=1, le=PAGE_MAX)] = 200
    job: str = ""


async def events(api: Api, call: Call) -> Response:
    """What happened, oldest first: behind `after`, else the newest. As text/event-stream also all that follows."""
    query: EventsQuery = call.query
    job = (await find(api, query.job)).id if query.job else ""
    if SSE in call.request.headers.get("accept", ""):
        after = _resume(call.request.headers.get("last-event-id"), query.after)
        api.streams.check()
        return stream(api.streams.count(follow(api.feed, api.queries, api.frames, after, job)))
    if query.after is None:
        page = await asyncio.to_thread(lambda: api.queries.last_events(limit=query.limit, job=job))
    else:
        page = await asyncio.to_thread(api.queries.events, query.after, limit=query.limit, job=job)
    return answer.items(event_row(item.seq, item.event) for item in page)


def _resume(last: str | None, after: int | None) -> int | None:
    """Where a stream goes on. What the client has seen last wins over what it first asked for."""
    if last is None:
        return after
    if not last.isascii() or not last.isdigit() or len(last) > 18:
        raise Fault(422, f"Last-Event-ID is a sequence number, not {last[:40]!r}", where="last-event-id")
    return int(last)


async def feed(api: Api, call: Call) -> Response:
    """For watchers: a snapshot of everything shown, then deltas, at most ten a second."""
    api.streams.check()
    return stream(api.streams.count(api.watch.follow()))


ROUTES: Final = (
    Route(
        method="GET",
        path="/v1/events",
        permission=Permission.SEE,
        handler=events,
        query=EventsQuery,
        answer=list[wire.Event],
    ),
    Route(method="GET", path="/v1/feed", permission=Permission.SEE, handler=feed, answer=wire.Feed, media=SSE),
)
