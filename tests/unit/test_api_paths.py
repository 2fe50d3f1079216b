"""Which route answers a path: the table decides, and what nobody answers is a Problem."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import pytest
from starlette.responses import Response

from dsched.scheduler.api.app import Application
from dsched.scheduler.api.meter import Meter
from dsched.scheduler.api.route import Call, Handler, Route
from dsched.scheduler.auth.permission import Permission


def says(name: str) -> Handler:
    async def handler(api: Any, call: Call) -> Response:
        return Response(json.dumps([name, call.request.path_params]))

    return handler


async def broken(api: Any, call: Call) -> Response:
    raise ZeroDivisionError("a bug")


def row(method: str, path: str, handler: Handler) -> Route:
    return Route(method=method, path=path, permission=Permission.AGENT, handler=handler)


TABLE = (
    row("GET", "/v1/jobs", says("list")),
    row("POST", "/v1/jobs", says("submit")),
    row("GET", "/v1/jobs/{id}", says("show")),
    row("GET", "/v1/jobs/{id}/bill", says("bill")),
    row("POST", "/v1/jobs/{id}/{action}", says("act")),
    row("GET", "/v1/broken", broken),
)


async def ask(method: str, path: str) -> tuple[int, dict[bytes, bytes], Any]:
    sent: list[Any] = []
    await exchange(method, path, sent)
    head, body = sent
    return head["status"], dict(head["headers"]), json.loads(body["body"])


async def exchange(method: str, path: str, sent: list[Any]) -> None:
    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> Any:
        return {"type": "http.request", "body": b"", "more_body": False}

    scope = {"type": "http", "method": method, "path": path, "query_string": b"", "headers": []}
    api: Any = SimpleNamespace(meter=Meter())
    await Application(api, TABLE)(scope, receive, send)


@pytest.mark.parametrize(
    ("method", "path", "name", "parts"),
    [
        ("GET", "/v1/jobs", "list", {}),
        ("POST", "/v1/jobs", "submit", {}),
        ("GET", "/v1/jobs/j1", "show", {"id": "j1"}),
        ("GET", "/v1/jobs/{id}", "show", {"id": "{id}"}),
        ("GET", "/v1/jobs/j1/bill", "bill", {"id": "j1"}),
        ("POST", "/v1/jobs/j1/bill", "act", {"id": "j1", "action": "bill"}),
        ("POST", "/v1/jobs/j1/cancel", "act", {"id": "j1", "action": "cancel"}),
    ],
)
async def test_a_path_is_answered_by_its_row_with_the_pieces_in_braces(
    method: str, path: str, name: str, parts: dict[str, str]
) -> None:
    assert await ask(method, path) == (200, {b"content-length": b"%d" % len(json.dumps([name, parts]))}, [name, parts])


@pytest.mark.parametrize("path", ["/", "", "/v1", "/v1/jobs/", "/v1/jobs//bill", "/v1/jobs/j1/bill/x", "//v1/jobs"])
async def test_a_path_that_no_row_has_is_a_404_that_says_where_all_paths_are(path: str) -> None:
    status, _, body = await ask("GET", path)
    assert (status, body["error"]["code"]) == (404, "E404")
    assert "/openapi.json" in body["error"]["hint"]


async def test_a_method_that_no_row_of_the_path_has_is_a_405_that_names_those_it_has() -> None:
    status, headers, body = await ask("DELETE", "/v1/jobs/j1/bill")
    assert (status, headers[b"allow"], body["error"]["code"]) == (405, b"GET, POST", "E405")


async def test_a_bug_of_ours_is_told_as_ours_and_raised_for_the_log() -> None:
    sent: list[Any] = []
    with pytest.raises(ZeroDivisionError):
        await exchange("GET", "/v1/broken", sent)
    head, body = sent
    assert head["status"] == 500
    assert "ZeroDivisionError" in json.loads(body["body"])["error"]["message"]
