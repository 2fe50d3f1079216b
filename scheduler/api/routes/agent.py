"""Where agents call in. They have no role: the session that the desk gave them is all that counts."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any, Final, TypedDict, cast

import msgspec
from starlette.responses import FileResponse, Response

from dsched.scheduler.api import answer
from dsched.scheduler.api.context import Api
from dsched.scheduler.api.problem import Fault
from dsched.scheduler.api.route import Call, Route, converted
from dsched.scheduler.api.routes.bundles import refused_by_disk
from dsched.scheduler.auth.permission import Permission
from dsched.scheduler.store.logbook import GENERATION_MAX, RANK_MAX, BadName
from dsched.scheduler.wire import agent as wire
from dsched.scheduler.wire.session import Forbidden, Stranger

HELLO: Final = "/agent/v1/hello"
CODE: Final = "/agent/v1/code/"
_FACTS: Final[dict[str, Any]] = {
    "started": wire.Started,
    "exited": wire.Exited,
    "setup-failed": wire.SetupFailed,
    "progress": wire.Progress,
    "saved": wire.Saved,
    "noticed": wire.Noticed,
    "telemetry": wire.Telemetry,
    "dropped": wire.Dropped,
}


class Report(TypedDict):
    """wire.Report with its facts still unread: which form each has depends on its kind."""

    node: str
    session: str
    id: int
    facts: list[dict[str, Any]]


class LogsQuery(msgspec.Struct, forbid_unknown_fields=True):
    node: str
    session: str
    job: str
    generation: Annotated[int, msgspec.Meta(ge=0, le=GENERATION_MAX)]
    rank: Annotated[int, msgspec.Meta(ge=0, le=RANK_MAX)]
    offset: Annotated[int, msgspec.Meta(ge=0)]


async def hello(api: Api, call: Call) -> Response:
    """An agent has started: a session for its secret."""
    body = await call.read(wire.Hello)
    if not body["secret"].isascii():
        raise Forbidden(f"wrong secret for {body['node'][:80]}")
    return answer.one(await api.desk.hello(body))


async def poll(api: Api, call: Call) -> Response:
    """The next orders, as soon as there are any."""
    body = await call.read(wire.Poll)
    _known_form(body["session"])
    waiting = asyncio.ensure_future(api.desk.poll(body))
    closing = asyncio.ensure_future(api.closing.wait())
    try:
        await asyncio.wait({waiting, closing}, return_when=asyncio.FIRST_COMPLETED)
        if not waiting.done():
            raise Fault(503, "the daemon is going down", "poll again; your lease holds")
        return answer.one(waiting.result())
    finally:
        waiting.cancel()
        closing.cancel()


async def report(api: Api, call: Call) -> Response:
    """Facts from a node."""
    body = await call.read(Report)
    _known_form(body["session"])
    facts = [_fact(place, fact) for place, fact in enumerate(body["facts"])]
    return answer.one(await api.desk.report(cast(wire.Report, {**body, "facts": facts})))


def _fact(place: int, fact: dict[str, Any]) -> Any:
    form = _FACTS.get(str(fact.get("kind")))
    if form is None:
        raise Fault(422, f"no such kind of fact: {str(fact.get('kind'))[:40]!r}", where=f"facts[{place}].kind")
    return converted(fact, form, f"facts[{place}]")


async def logs(api: Api, call: Call) -> Response:
    """A chunk of one rank's output. The answer says how much is held: send again from there."""
    query: LogsQuery = call.query
    _known_form(query.session)
    api.desk.check(query.session, query.node)
    if not await _ran_there(api, query.job, query.generation, query.node):
        raise Forbidden(f"{query.node[:80]} has no generation {query.generation} of {query.job[:80]}")
    data = await call.body()
    try:
        held = await api.logs.append(query.job, query.generation, query.rank, query.offset, data)
    except BadName as error:
        raise Fault(422, str(error)) from None
    except OSError as error:
        raise refused_by_disk(error) from error
    return answer.one({"offset": held})


async def _ran_there(api: Api, job: str, generation: int, node: str) -> bool:
    """Whether this node ran that attempt: nobody writes into the log of another's job."""
    state = api.control.state
    holder = state.nodes.get(node)
    if holder is not None and holder.job == job and holder.generation == generation:
        return True
    attempt = state.attempts.get(f"{job}/{generation}")
    if attempt is None:
        past = await asyncio.to_thread(api.queries.attempts, job)
        attempt = next((made for made in past if made.generation == generation), None)
    return attempt is not None and node in attempt.nodes


async def bundle(api: Api, call: Call) -> Response:
    """A packed workdir."""
    session = call.request.headers.get(wire.SECRET_HEADER, "")
    _known_form(session)
    api.desk.check(session)
    path = api.bundles.get(call.part("sha256"))
    if path is None:
        raise Fault(404, "no such bundle")
    return FileResponse(path, media_type="application/gzip")


async def code(api: Api, call: Call) -> Response:
    """The agent itself, for a machine that has none. It is no secret, and who asks checks its digest."""
    data = api.extras.code.get(call.part("sha256"))
    if data is None:
        raise Fault(404, "no such code")
    return Response(data, media_type="application/zip")


def _known_form(session: str) -> None:
    if not session or not session.isascii():
        raise Stranger("no session")


_A: Final = Permission.AGENT
ROUTES: Final = (
    Route(
        method="POST",
        path=HELLO,
        permission=_A,
        handler=hello,
        body_max=lambda api: api.limits.report_bytes,
    ),
    Route(method="POST", path="/agent/v1/poll", permission=_A, handler=poll),
    Route(
        method="POST",
        path="/agent/v1/report",
        permission=_A,
        handler=report,
        body_max=lambda api: api.limits.report_bytes,
    ),
    Route(
        method="POST",
        path="/agent/v1/logs",
        permission=_A,
        handler=logs,
        query=LogsQuery,
        body_max=lambda api: api.limits.log_bytes,
    ),
    Route(method="GET", path="/agent/v1/bundle/{sha256}", permission=_A, handler=bundle),
    Route(method="GET", path=CODE + "{sha256}", permission=_A, handler=code),
)
