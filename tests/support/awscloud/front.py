"""moto behind a door that adds what it lacks: tokens, finite capacity, prices, lag, faults, interruptions.

A WSGI application in front of moto's own dispatcher: real boto3 talks to it over HTTP.
Levers are POSTs to /levers/NAME.
"""

from __future__ import annotations

import io
import json
import time
from collections.abc import Callable, Iterable
from typing import Any, Final
from urllib.parse import urlencode

from moto.server import DomainDispatcherApplication, create_backend_app

from tests.support.awscloud import billing, ec2, placement, reserved
from tests.support.awscloud.call import Call, Environ
from tests.support.awscloud.levers import Levers
from tests.support.awscloud.reply import Reply, json_reply, refusal
from tests.support.awscloud.state import Fault, Market

HANDLERS: Final = {**ec2.HANDLERS, **billing.HANDLERS, **placement.HANDLERS, **reserved.HANDLERS}


class Front:
    """The application."""

    def __init__(self) -> None:
        self.moto = DomainDispatcherApplication(create_backend_app)
        self.market = Market()
        self.levers = Levers(self.market)

    def __call__(self, environ: Environ, start: Callable[..., Any]) -> Iterable[bytes]:
        path = environ.get("PATH_INFO", "")
        if path.startswith("/levers/"):
            return _told(start, self._lever(path.removeprefix("/levers/"), environ))
        call = Call(environ)
        if call.service == "s3" or path.startswith("/moto-api"):
            told: Iterable[bytes] = self.moto(environ, start)  # checkpoints are never held in memory
            return told
        return _told(start, self._answer(call.read()))

    def _lever(self, name: str, environ: Environ) -> Reply:
        body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        return json_reply(getattr(self.levers, name)(**json.loads(body or b"{}")))

    def _answer(self, call: Call) -> Reply:
        with self.market.lock:
            call.era = self.market.era
            self.market.calls.append((time.time(), call.region, call.service, call.action))
            fault = self.market.meet(call.action, call.region)
        if fault is not None and (met := _met(call, fault)) is not None:
            return met
        handler = HANDLERS.get((call.service, call.action))
        reply = handler(self, call) if handler is not None else self.forward(call)
        if fault is not None and fault.drop == "after":
            raise ConnectionResetError("dropped on purpose, but done")
        return reply

    def forward(self, call: Call, **changed: str | None) -> Reply:
        """As moto answers it, with some parameters changed (None: left out)."""
        if call.era != self.market.era:  # a reset ended the world of whoever sent it
            raise ConnectionResetError("overtaken by a reset")
        if changed:
            asked = {key: value for key, value in {**call.parameters, **changed}.items() if value is not None}
            call.body = urlencode(asked).encode()
        call.environ["wsgi.input"] = io.BytesIO(call.body)
        call.environ["CONTENT_LENGTH"] = str(len(call.body))
        told: list[Any] = []
        body = b"".join(self.moto(call.environ, lambda status, headers, _=None: told.extend((status, headers))))
        return told[0], told[1], body


def _met(call: Call, fault: Fault) -> Reply | None:
    """What comes instead of an answer, if anything does."""
    time.sleep(fault.delay_s)
    if fault.html:
        return "502 Bad Gateway", [("Content-Type", "text/html")], b"<html><body>bad gateway</body></html>"
    if fault.drop == "before":
        raise ConnectionResetError("dropped on purpose, nothing done")
    return refusal(call, fault.code, fault.message, fault.status) if fault.code else None


def _told(start: Callable[..., Any], reply: Reply) -> list[bytes]:
    status, headers, body = reply
    kept = [(name, value) for name, value in headers if name.lower() != "content-length"]
    start(status, [*kept, ("Content-Length", str(len(body)))])
    return [body]
