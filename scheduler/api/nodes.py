"""The door for machines far away: agents' calls alone, by TLS 1.3, on an address that the settings name.

People come by the unix socket, where the kernel says who they are. Here nobody is known but by a session of the desk,
and who has none gets no further than its headers: only a hello is read, and the agent's own code handed out.
"""

from __future__ import annotations

import asyncio
import ssl
from typing import Final

from starlette.types import Receive, Scope, Send
from uvicorn.server import ServerState

from dsched.scheduler.api import problem
from dsched.scheduler.api.app import Application
from dsched.scheduler.api.routes.agent import CODE, HELLO
from dsched.scheduler.api.serve import BACKLOG, PeerProtocol, configured, wind_up
from dsched.scheduler.api.table import TABLE
from dsched.scheduler.auth.permission import Permission
from dsched.scheduler.log import log
from dsched.scheduler.wire.agent import SECRET_HEADER
from dsched.scheduler.wire.session import AgentError

CONNECTIONS_MAX: Final = 8_192  # an agent keeps three: two thousand nodes, and strangers who hold connections open
HANDSHAKE_S: Final = 10.0  # a stranger who says nothing has no more
ASKING_S: Final = 60.0  # from the first byte of a call to its last: 1 MiB of logs on a bad way
_HEADER: Final = SECRET_HEADER.encode()


class Door:
    """The API for who comes from outside."""

    def __init__(self, whole: Application) -> None:
        self._api = whole.api
        routes = [route for route in TABLE if route.permission is Permission.AGENT]
        self._within = Application(whole.api, routes, documented=False)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] == HELLO or scope["path"].startswith(CODE) or self._known(scope):
            await self._within(scope, receive, send)
        else:
            await problem.of_status(401, "no session", {"connection": "close"})(scope, receive, send)

    def _known(self, scope: Scope) -> bool:
        session = next((value for name, value in scope["headers"] if name == _HEADER), b"")
        try:
            self._api.desk.check(session.decode("ascii"))
        except (AgentError, UnicodeDecodeError):
            return False
        return True


class DoorProtocol(PeerProtocol):
    """HTTP whose calls must be said in time: nobody holds a connection by silence, or by a byte now and then."""

    _asking: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._await_call()

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._await_call()

    def on_message_complete(self) -> None:
        self._settle()
        super().on_message_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        self._settle()
        super().connection_lost(exc)

    def _await_call(self) -> None:
        if self._asking is None:
            self._asking = self.loop.call_later(ASKING_S, self.transport.abort)

    def _settle(self) -> None:
        if self._asking is not None:
            self._asking.cancel()
            self._asking = None


async def serve_nodes(
    app: Application,
    host: str,
    port: int,
    tls: ssl.SSLContext,
    stop: asyncio.Event,
    *,
    ready: asyncio.Future[int] | None = None,
) -> None:
    """Answer agents until `stop`. `ready` gets the port. Raises OSError for an address that cannot be had."""
    config, state, loop = configured(Door(app), CONNECTIONS_MAX), ServerState(), asyncio.get_running_loop()
    server = await loop.create_server(
        lambda: DoorProtocol(config, state, app_state={}, _loop=loop),
        host.strip("[]") or None,
        port,
        backlog=BACKLOG,
        ssl=tls,
        ssl_handshake_timeout=HANDSHAKE_S,
    )
    taken: int = server.sockets[0].getsockname()[1]
    log.info("nodes.listening", host=host, port=taken)
    if ready is not None:
        ready.set_result(taken)
    try:
        await stop.wait()
    finally:
        server.close()
        await wind_up(state)
