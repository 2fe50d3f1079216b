"""A route is one row: method, path, permission, shapes, handler. The guard before the handler reads the same row."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import lru_cache
from time import perf_counter
from typing import Any, Final, TypeVar, cast

import msgspec
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from dsched.scheduler.api import problem
from dsched.scheduler.api.context import Api
from dsched.scheduler.api.problem import Fault
from dsched.scheduler.auth.permission import Permission, allows, needed
from dsched.scheduler.auth.principal import Principal, user_name
from dsched.scheduler.core.message import Refusal
from dsched.scheduler.store.errors import StoreFailed
from dsched.scheduler.wire.session import AgentError

T = TypeVar("T")
PEER: Final = "dsched.peer"  # scope key: auth.principal.Peer, set by the server for every connection
BODY_MAX: Final = 64 * 1024  # bytes, unless the route says otherwise
_NOBODY: Final = Principal(uid=-1, name="agent", role=None)


@dataclass(slots=True)
class Call:
    """One request, admitted."""

    request: Request
    principal: Principal
    query: Any  # the route's query struct
    body_max: int

    def part(self, name: str) -> str:
        """A piece of the path."""
        return str(self.request.path_params[name])

    async def body(self) -> bytes:
        """The whole body. Raises Fault 413 as soon as it is known to be too long."""
        most = self.body_max
        announced = self.request.headers.get("content-length", "")
        if announced.isdigit() and int(announced) > most:
            raise _too_long(most)
        held = bytearray()
        async for chunk in self.request.stream():
            held += chunk
            if len(held) > most:
                raise _too_long(most)
        return bytes(held)

    async def read(self, form: type[T]) -> T:
        """The body as `form` (a TypedDict of wire/). Raises Fault 400 or 422 with the place."""
        return decoded(await self.body(), form)


class NoQuery(msgspec.Struct, forbid_unknown_fields=True):
    """A route that takes nothing in its query string says so."""


Handler = Callable[[Api, Call], Awaitable[Response]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    method: str
    path: str
    permission: Permission
    handler: Handler
    answer: Any = None  # what a success says, for the documentation: a TypedDict, or a list of it
    body: Any = None  # TypedDict of the JSON body
    query: type[msgspec.Struct] | None = NoQuery
    body_max: Callable[[Api], int] | None = None  # bytes; None: BODY_MAX
    counted: bool = False  # takes a token of the principal's bucket
    status: int = 200
    media: str = problem.JSON  # of a success


def guarded(api: Api, route: Route) -> ASGIApp:
    """The route as an application: who is it, may they, not too fast, then the handler; every refusal is a Problem."""

    async def serve(scope: Scope, receive: Receive, send: Send) -> None:
        started = perf_counter()
        request = Request(scope, receive, send)
        try:
            answer = await route.handler(api, _admit(api, route, request))
        except (Fault, Refusal, AgentError, StoreFailed) as error:
            answer = problem.answer(error)
        except ClientDisconnect:
            return  # nobody is left to be answered
        except Exception as bug:  # the outermost of a request: the caller is told that it is ours, the server logs it
            await problem.of_status(500, f"the daemon failed at this: {type(bug).__name__}")(scope, receive, send)
            raise
        api.meter.add(route.method, route.path, answer.status_code, perf_counter() - started)
        await answer(scope, receive, send)

    return serve


def _admit(api: Api, route: Route, request: Request) -> Call:
    principal = _NOBODY
    if route.permission is not Permission.AGENT:
        principal = _principal(api, request.scope)
        if not allows(principal, route.permission):
            raise denied(principal, route.permission)
        if route.counted:
            api.buckets.take(principal.uid)
            if why := api.extras.busy():
                raise Fault(503, why, "try again in a second")
    query = None if route.query is None else _query(request, route.query)
    return Call(request, principal, query, BODY_MAX if route.body_max is None else route.body_max(api))


def _principal(api: Api, scope: Scope) -> Principal:
    peer = scope.get(PEER)
    if peer is None:
        raise Fault(401, "nobody is known at the other end", "call over the daemon's unix socket")
    return Principal(peer.uid, user_name(peer.uid), api.roles.of(peer))


def denied(principal: Principal, permission: Permission) -> Fault:
    role = f"a {principal.role}" if principal.role else "nobody here"
    hint = f"ask somebody who is {needed(permission)}, or the daemon's owner for that role"
    return Fault(403, f"{principal.name} is {role} and may not {permission}", hint)


def _query(request: Request, form: type[msgspec.Struct]) -> msgspec.Struct:
    """The query string as the route's struct; an empty value means "not given"."""
    given = {name: value for name, value in request.query_params.items() if value}
    try:
        return msgspec.convert(given, form, strict=False)
    except msgspec.ValidationError as error:
        message, where = _place(error)
        names = ", ".join(form.__struct_encode_fields__)
        raise Fault(422, message, f"the query takes: {names}", where) from None


def decoded(body: bytes, form: type[T]) -> T:
    try:
        read: T = _decoder(cast("Any", form)).decode(body)
        return read
    except msgspec.ValidationError as error:
        message, where = _place(error)
        raise Fault(422, message, where=where) from None
    except (msgspec.DecodeError, RecursionError) as error:
        raise Fault(400, f"the body is not JSON: {error}") from None


def converted(value: Any, form: type[T], within: str) -> T:
    """A part of a body as `form`. Raises Fault 422 with the place."""
    try:
        return msgspec.convert(value, form)
    except msgspec.ValidationError as error:
        message, where = _place(error)
        raise Fault(422, message, where=f"{within}.{where}" if where else within) from None


@lru_cache(maxsize=64)  # as many as there are body shapes
def _decoder(form: Any) -> msgspec.json.Decoder[Any]:
    return msgspec.json.Decoder(form)


def _place(error: msgspec.ValidationError) -> tuple[str, str]:
    """("Expected `int`, got `str`", "spec.gpus") of "Expected `int`, got `str` - at `$.spec.gpus`"."""
    message, _, where = str(error).partition(" - at `$")
    return message, where.rstrip("`").lstrip(".")


def _too_long(most: int) -> Fault:
    return Fault(413, f"the body is longer than {most} bytes", headers={"connection": "close"})
