"""The API as one ASGI application: the table of routes, each behind its guard, and every error as a Problem.

Requests reach the guard by one look-up, past any framework: its layers cost a tenth of a submission, and half of the
daemon's start. FastAPI describes the same table to who asks for /openapi.json.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterable, Iterator
from time import monotonic
from typing import Final

from starlette.types import ASGIApp, Receive, Scope, Send

from dsched.scheduler.api import answer, problem
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

DOCUMENT: Final = "/openapi.json"
_Methods = dict[str, ASGIApp]


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
) -> Application:
    """`serve` it on the socket; without the server's peer credentials every person is denied."""
    rows = JobRows()
    return Application(
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
        ),
        TABLE,
    )


class Application:
    """Finds the route of a request. A path is compared piece by piece; a piece in braces fits anything."""

    def __init__(self, api: Api, table: Iterable[Route], *, documented: bool = True) -> None:
        self.api = api
        self._plain: dict[str, _Methods] = {DOCUMENT: {"GET": _document}} if documented else {}
        self._patterns: dict[int, list[tuple[list[str], _Methods]]] = {}  # by the number of pieces
        for route in table:
            self._methods(route.path)[route.method] = guarded(api, route)

    def _methods(self, path: str) -> _Methods:
        if "{" not in path:
            return self._plain.setdefault(path, {})
        pieces = path.split("/")
        patterns = self._patterns.setdefault(len(pieces), [])
        found = next((methods for pattern, methods in patterns if pattern == pieces), None)
        if found is None:
            found = {}
            patterns.append((pieces, found))
        return found

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        known: set[str] = set()
        for methods, parts in self._fitting(scope["path"]):
            route = methods.get(scope["method"])
            if route is not None:
                scope["path_params"] = parts
                await route(scope, receive, send)
                return
            known |= methods.keys()
        refused = problem.of_status(405, headers={"allow": ", ".join(sorted(known))}) if known else _NOT_FOUND
        await refused(scope, receive, send)

    def _fitting(self, path: str) -> Iterator[tuple[_Methods, dict[str, str]]]:
        """Every path of the table that this one is, whatever the method."""
        plain = self._plain.get(path)
        if plain is not None:
            yield plain, {}
        pieces = path.split("/")
        for pattern, methods in self._patterns.get(len(pieces), ()):
            parts = _parts(pattern, pieces)
            if parts is not None:
                yield methods, parts


def _parts(pattern: list[str], pieces: list[str]) -> dict[str, str] | None:
    """The pieces that stand in the places of braces; None where the rest does not fit."""
    parts = {}
    for wanted, piece in zip(pattern, pieces, strict=True):
        if wanted[:1] == "{" and piece:
            parts[wanted[1:-1]] = piece
        elif wanted != piece:
            return None
    return parts


async def _document(scope: Scope, receive: Receive, send: Send) -> None:
    from dsched.scheduler.api.openapi import document  # who asks pays for the import, in a thread of its own

    await answer.one(await asyncio.to_thread(document, TABLE))(scope, receive, send)


_NOT_FOUND: Final = problem.of_status(404)
