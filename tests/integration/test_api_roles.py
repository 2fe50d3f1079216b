"""Every route with every role. A route without an entry here fails, so that nobody forgets to decide."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from dsched.scheduler.api.route import PEER
from dsched.scheduler.api.table import TABLE
from dsched.scheduler.auth.principal import Peer, Role, Roles
from tests.support.office import SPEC, Office, office

EVERYBODY = frozenset(Role)
SUBMITTERS = frozenset({Role.SUBMITTER, Role.OPERATOR, Role.ADMIN})
ADMINS = frozenset({Role.ADMIN})
NO_ROLE: frozenset[Role] = frozenset()

MAY = {
    "GET /v1/health": EVERYBODY,
    "GET /v1/metrics": EVERYBODY,
    "GET /v1/checks": EVERYBODY,
    "GET /v1/market/calibration": EVERYBODY,
    "GET /v1/market/commitments": EVERYBODY,
    "POST /v1/plan": EVERYBODY,
    "POST /v1/jobs": SUBMITTERS,
    "GET /v1/jobs": EVERYBODY,
    "GET /v1/jobs/{id}": EVERYBODY,
    "POST /v1/jobs/{id}/{action}": SUBMITTERS,
    "GET /v1/jobs/{id}/explain": EVERYBODY,
    "GET /v1/jobs/{id}/attempts": EVERYBODY,
    "GET /v1/jobs/{id}/bill": EVERYBODY,
    "GET /v1/jobs/{id}/logs": EVERYBODY,
    "GET /v1/offers": EVERYBODY,
    "GET /v1/nodes": EVERYBODY,
    "GET /v1/events": EVERYBODY,
    "GET /v1/feed": EVERYBODY,
    "GET /v1/money": EVERYBODY,
    "GET /v1/budgets": EVERYBODY,
    "PUT /v1/budgets/{name}": ADMINS,
    "PUT /v1/bundles/{sha256}": SUBMITTERS,
    "POST /agent/v1/hello": NO_ROLE,
    "POST /agent/v1/poll": NO_ROLE,
    "POST /agent/v1/report": NO_ROLE,
    "POST /agent/v1/logs": NO_ROLE,
    "GET /agent/v1/bundle/{sha256}": NO_ROLE,
    "GET /agent/v1/code/{sha256}": EVERYBODY,  # a bare machine has no session yet, and the code is no secret
}
UIDS = {role: 4_000_000 + place for place, role in enumerate(Role)}  # that no machine has a name for
ROLES = Roles(
    owner=UIDS[Role.ADMIN],
    groups={UIDS[Role.SUBMITTER]: Role.SUBMITTER, UIDS[Role.OPERATOR]: Role.OPERATOR},
)


def peer(role: Role) -> Peer:
    return Peer(pid=1, uid=UIDS[role], gid=UIDS[role])


@pytest.fixture
async def built(tmp_path: Path) -> AsyncIterator[Office]:
    async with office(tmp_path, roles=ROLES) as built:
        yield built


async def ask(built: Office, method: str, path: str, who: Peer | None, body: bytes = b"") -> int:
    """The status of a call by `who`; a stream is left as soon as it has begun."""
    status: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    sent = False

    async def receive() -> dict[str, Any]:
        nonlocal sent
        if sent:
            await asyncio.Event().wait()
        sent = True
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: Any) -> None:
        if message["type"] == "http.response.start" and not status.done():
            status.set_result(message["status"])

    raw, _, query = path.partition("?")
    scope: dict[str, Any] = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": method,
        "path": raw,
        "raw_path": raw.encode(),
        "query_string": query.encode(),
        "root_path": "",
        "scheme": "http",
        "headers": [(b"content-length", b"%d" % len(body))],
        "server": None,
        "client": None,
        PEER: who,
    }
    call = asyncio.create_task(built.app(scope, receive, send))
    async with asyncio.timeout(60):
        await asyncio.wait({status, call}, return_when=asyncio.FIRST_COMPLETED)
    call.cancel()
    await asyncio.gather(call, return_exceptions=True)
    return status.result()


def concrete(path: str) -> str:
    for name, value in {"id": "j9", "action": "cancel", "name": "x", "sha256": "0" * 64}.items():
        path = path.replace(f"{{{name}}}", value)
    return path


def test_every_route_has_an_entry() -> None:
    assert {f"{route.method} {route.path}" for route in TABLE} == set(MAY)


@pytest.mark.parametrize("role", Role)
async def test_each_role_is_let_in_exactly_where_the_table_says(built: Office, role: Role) -> None:
    for name, allowed in MAY.items():
        method, path = name.split(" ")
        status = await ask(built, method, concrete(path), peer(role))
        if path.startswith("/agent/v1/code/"):
            assert status == 404, f"{name}: there is none of this name"
        elif path.startswith("/agent/"):
            assert status in (401, 403, 422, 400), f"{name}: a role is no session"
        else:
            assert (status == 403) == (role not in allowed), f"{name} as {role}: {status}"


async def test_nobody_known_is_let_in_nowhere(built: Office) -> None:
    for name in MAY:
        method, path = name.split(" ")
        if not path.startswith("/agent/"):
            assert await ask(built, method, concrete(path), None) == 401, name


async def test_a_key_belongs_to_its_user(built: Office) -> None:
    body = msgspec.json.encode({"spec": SPEC, "key": "mine"})
    for role in (Role.SUBMITTER, Role.SUBMITTER, Role.OPERATOR):
        assert await ask(built, "POST", "/v1/jobs", peer(role), body) == 201
    assert [job.spec.user for job in built.state.jobs.values()] == ["uid-4000001", "uid-4000002"]


async def test_a_submitter_acts_on_own_jobs_and_reads_own_logs_only(built: Office) -> None:
    body = msgspec.json.encode({"spec": SPEC})
    assert await ask(built, "POST", "/v1/jobs", peer(Role.OPERATOR), body) == 201
    for path in ("/v1/jobs/j1/logs", "/v1/jobs/j1/pause"):
        method = "GET" if path.endswith("logs") else "POST"
        assert await ask(built, method, path, peer(Role.SUBMITTER)) == 403
    assert await ask(built, "GET", "/v1/jobs/j1/logs", peer(Role.ADMIN)) == 200
    assert await ask(built, "POST", "/v1/jobs", peer(Role.SUBMITTER), body) == 201
    assert await ask(built, "GET", "/v1/jobs/j2/logs", peer(Role.SUBMITTER)) == 200
    assert await ask(built, "POST", "/v1/jobs/j2/cancel", peer(Role.SUBMITTER)) == 200
    assert await ask(built, "POST", "/v1/jobs/j1/cancel", peer(Role.OPERATOR)) == 200
