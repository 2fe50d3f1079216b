"""The FastAPI application: the table of routes, each behind its guard, and every error as a Problem."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable
from time import monotonic
from typing import Any, Final

from fastapi import FastAPI
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from dsched.scheduler.api import problem
from dsched.scheduler.api.context import Api
from dsched.scheduler.api.limit import GENEROUS, Buckets, Limits, Streams
from dsched.scheduler.api.ports import NOTHING_MORE, Control, Desk, Extras, Feed, Queries
from dsched.scheduler.api.route import Route, guarded
from dsched.scheduler.api.rows import JobRows
from dsched.scheduler.api.table import TABLE
from dsched.scheduler.api.watch import Watch
from dsched.scheduler.auth.principal import Role, Roles
from dsched.scheduler.store.bundles import Bundles
from dsched.scheduler.store.logbook import LogBook

_NO_TELEMETRY: Final[Any] = {"auto_configure": False, "tracing": False, "metrics": False, "logs": False}
_INTERNAL: Final = "/agent/"  # a protocol between our own parts: not in the documentation


def create_app(
    control: Control,
    feed: Feed,
    desk: Desk,
    logs: LogBook,
    bundles: Bundles,
    queries: Queries,
    *,
    roles: Roles | None = None,
    limits: Limits = GENEROUS,
    extras: Extras = NOTHING_MORE,
) -> FastAPI:
    """`serve` it on the socket; without the server's peer credentials every person is denied."""
    rows = JobRows()
    return _application(
        Api(
            control=control,
            feed=feed,
            desk=desk,
            logs=logs,
            bundles=bundles,
            queries=queries,
            roles=roles or Roles(owner=os.getuid(), groups={os.getgid(): Role.SUBMITTER}),
            limits=limits,
            extras=extras,
            buckets=Buckets(limits.writes_per_s, limits.writes_burst, monotonic),
            streams=Streams(limits.streams),
            rows=rows,
            watch=Watch(control, feed, rows),
        )
    )


def _application(api: Api) -> FastAPI:
    app = FastAPI(
        title="dsched",
        openapi_url="/openapi.json",
        docs_url=None,  # pages that load scripts from elsewhere have no place on a unix socket
        redoc_url=None,
        telemetry=_NO_TELEMETRY,
    )
    app.state.api = api
    for route in TABLE:
        app.router.routes.append(_installed(api, route))
    app.add_exception_handler(HTTPException, _refused)
    app.add_exception_handler(Exception, _broken)
    app.openapi = lambda: _openapi(app)  # type: ignore[method-assign]
    return app


def _installed(api: Api, route: Route) -> APIRoute:
    """FastAPI knows the route for its documentation; requests go straight to the guard, past the dependency solver."""
    installed = APIRoute(
        route.path,
        _endpoint(route),
        methods=[route.method],
        name=route.handler.__name__,
        summary=(route.handler.__doc__ or "").strip(),
        include_in_schema=not route.path.startswith(_INTERNAL),
        response_model=None,
        status_code=route.status,
    )
    installed.app = guarded(api, route)
    return installed


def _endpoint(route: Route) -> Callable[[Request], Awaitable[Response]]:
    async def endpoint(request: Request) -> Response:
        raise AssertionError("the guard answers in its place")

    endpoint.__name__ = route.handler.__name__
    return endpoint


async def _refused(request: Request, error: Exception) -> Response:
    """The framework's own refusals: no such path, no such method."""
    assert isinstance(error, HTTPException)
    return problem.of_status(error.status_code, str(error.detail).lower(), error.headers)


async def _broken(request: Request, error: Exception) -> Response:
    """A bug. The server logs the traceback; the caller is told that it is ours."""
    return problem.of_status(500, f"the daemon failed at this: {type(error).__name__}")


def _openapi(app: FastAPI) -> dict[str, Any]:
    if app.openapi_schema is None:
        from dsched.scheduler.api.openapi import document  # only who asks pays for the schemas

        app.openapi_schema = document(FastAPI.openapi(app), TABLE)
    return app.openapi_schema
