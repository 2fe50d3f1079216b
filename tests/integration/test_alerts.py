"""Alerts reach a real HTTP server, signed; a failing channel is told apart and tried again."""

from __future__ import annotations

import hmac
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest

from dsched.scheduler.core.message import AlertTried, Message
from dsched.scheduler.core.snapshot import Alert, State
from dsched.scheduler.core.units import Instant, Moment
from dsched.scheduler.engine.alerts import Alerts

ALERT = Alert(
    id="budget-llm-80-1",
    made=Moment(Instant(1), Instant(1)),
    severity="warning",
    title="budget llm: 80 %",
    text="$8.00 of $10.00 spent.",
)


@dataclass
class Hook:
    url: str = ""
    status: int = 200
    got: list[tuple[dict[str, str], bytes]] = field(default_factory=list)


@pytest.fixture
def hook() -> Iterator[Hook]:
    found = Hook()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            found.got.append(({k.lower(): v for k, v in self.headers.items()}, body))
            self.send_response(found.status)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            return

    server = HTTPServer(("127.0.0.1", 0), Handler)
    found.url = f"http://127.0.0.1:{server.server_port}/hook"
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield found
    server.shutdown()
    thread.join()
    server.server_close()


class Core:
    """What Alerts needs of the loop."""

    def __init__(self) -> None:
        self.state = State()
        self.state.put("alert", ALERT.id, ALERT)
        self.told: list[Message] = []

    def post(self, message: Message) -> None:
        self.told.append(message)


async def send(*channels: str) -> AlertTried:
    core: Any = Core()
    await Alerts(core, channels).send(ALERT.id)
    (told,) = core.told
    assert isinstance(told, AlertTried)
    return told


async def test_the_webhook_carries_the_alert_and_a_signature_over_time_and_body(hook: Hook) -> None:
    told = await send(f"webhook+{hook.url}#s3cret")
    assert told.ok
    ((headers, body),) = hook.got
    assert json.loads(body)["title"] == "budget llm: 80 %"
    assert headers["idempotency-key"] == ALERT.id
    at, _, signature = headers["x-dsched-signature"].partition(",v1=")
    expected = hmac.new(b"s3cret", at.removeprefix("t=").encode() + b"." + body, sha256).hexdigest()
    assert signature == expected


async def test_a_channel_that_answers_500_is_named_without_its_secret(hook: Hook) -> None:
    hook.status = 500
    told = await send(f"webhook+{hook.url}#s3cret")
    assert not told.ok
    assert "HTTP 500" in told.error
    assert "s3cret" not in told.error


async def test_a_refused_connection_is_said() -> None:
    told = await send("webhook+http://127.0.0.1:9/x#s")
    assert not told.ok
    assert told.error.startswith("http://127.0.0.1: ")


async def test_apprise_delivers_to_its_own_kinds_of_channel(hook: Hook) -> None:
    told = await send(hook.url.replace("http://", "json://"))
    assert told.ok
    assert b"budget llm: 80 %" in hook.got[0][1]


async def test_one_bad_channel_does_not_keep_the_alert_from_the_others(hook: Hook) -> None:
    told = await send("nonsense://x", f"webhook+{hook.url}")
    assert not told.ok
    assert "not a channel that Apprise knows" in told.error
    assert len(hook.got) == 1


async def test_without_channels_an_alert_counts_as_told_to_the_log() -> None:
    assert (await send()).ok


async def test_a_channel_that_has_the_alert_is_left_alone_while_a_dead_one_is_tried_again(hook: Hook) -> None:
    core: Any = Core()
    alerts = Alerts(core, (f"webhook+{hook.url}", "webhook+http://127.0.0.1:9/dead"))
    await alerts.send(ALERT.id)
    await alerts.send(ALERT.id)
    assert [told.ok for told in core.told] == [False, False]
    assert len(hook.got) == 1


async def test_a_channel_that_cannot_even_be_called_keeps_no_other_from_its_alert(hook: Hook) -> None:
    told = await send("webhook+http://[broken/", f"webhook+{hook.url}")
    assert not told.ok
    assert len(hook.got) == 1
