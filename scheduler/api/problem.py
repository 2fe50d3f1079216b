"""Every error of the API is {"error": Problem}: what happened, what to do, and whether a later try may succeed."""

from __future__ import annotations

import re
from collections.abc import Mapping
from http import HTTPStatus
from typing import Final

import msgspec
from starlette.responses import Response

from dsched.scheduler.core.message import Refusal
from dsched.scheduler.store.errors import StoreFailed
from dsched.scheduler.wire.api import Problem
from dsched.scheduler.wire.session import AgentError, Doubled, Forbidden, Stranger, Unknown

JSON: Final = "application/json"
_RETRYABLE: Final = frozenset({429, 503})
_AGENT: Final[Mapping[type[AgentError], int]] = {Unknown: 410, Stranger: 401, Forbidden: 403}
_CODE: Final = re.compile(r"E4\d\d")


class Fault(Exception):
    """A call that is answered with a Problem. `status` is the HTTP status, the code is made from it."""

    def __init__(
        self, status: int, message: str, hint: str = "", where: str = "", headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(message)
        self.status, self.message, self.hint, self.where, self.headers = status, message, hint, where, headers


def answer(error: Fault | Refusal | AgentError | StoreFailed) -> Response:
    match error:
        case Fault():
            code = f"E{error.status}"
            return response(error.status, problem(code, error.message, error.hint, error.where), error.headers)
        case Refusal():
            return response(status_of(error.code), problem(error.code, error.message, error.hint, error.where))
        case Doubled():
            return response(429, problem("E429", str(error)), {"retry-after": str(error.wait_s)})
        case AgentError():
            status = _AGENT.get(type(error), 403)
            return response(status, problem(f"E{status}", str(error) or type(error).__doc__ or ""))
        case StoreFailed():
            # what was asked may or may not have become durable: the same key or the same wish again is safe
            return response(503, problem("E503", str(error), "the daemon starts again by itself; then repeat the call"))


def status_of(code: str) -> int:
    """E404 is 404, E409 is 409, ...; every other refusal is about the wish itself: 422."""
    return int(code[1:]) if _CODE.fullmatch(code) else 422


def problem(code: str, message: str, hint: str = "", where: str = "") -> Problem:
    status = int(code[1:]) if code[1:].isdigit() else 422
    made: Problem = {"code": code, "message": message, "retryable": status in _RETRYABLE}
    if hint:
        made["hint"] = hint
    if where:
        made["where"] = where
    return made


def response(status: int, made: Problem, headers: Mapping[str, str] | None = None) -> Response:
    return Response(msgspec.json.encode({"error": made}), status, dict(headers or {}), JSON)


def of_status(status: int, detail: str = "", headers: Mapping[str, str] | None = None) -> Response:
    """What the framework itself refuses: no such path, no such method."""
    hint = "GET /openapi.json lists every path" if status in (404, 405) else ""
    return response(status, problem(f"E{status}", detail or HTTPStatus(status).phrase.lower(), hint), headers)
