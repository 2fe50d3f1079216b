"""The server: uvicorn's HTTP protocol on one unix socket, and the kernel's word about who is at the other end.

Only uvicorn's protocol is used, not its server: that one wakes ten times a second and takes the process's signals.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, cast

from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from dsched.scheduler.api import herald
from dsched.scheduler.api.app import Application
from dsched.scheduler.api.context import Api
from dsched.scheduler.api.route import PEER
from dsched.scheduler.api.routes.plans import warm
from dsched.scheduler.auth.principal import Peer, peer_of

MODE: Final = 0o660  # owner and group; the folder's mode decides who gets this far
PATH_MAX: Final = 107  # bytes of a unix socket's path, a limit of the kernel
BACKLOG: Final = 1_024  # connections waiting to be accepted: a burst of clients in one turn of the loop
KEEP_ALIVE_S: Final = 75  # an idle connection lives so long: longer than the pauses of any poller of ours
_HEAD: Final = b"HTTP/1.1 "
GRACE_S: Final = 2.0  # at the end, for answers under way; streams and long polls are told and end at once


class SocketTaken(Exception):
    """Another daemon answers on this socket, or the path is something else. Nothing was touched."""


class HeadWithBody:
    """A transport that sends the head of an answer together with what follows it, one system call instead of two.

    A call costs some 40 us, a tenth of a submission, and spares the reader a wake-up. A head that nothing follows goes
    out by itself in the loop's next turn.
    """

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport, self._loop = transport, loop
        self._head = b""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        if self._head:
            data, self._head = self._head + data, b""
        elif data.startswith(_HEAD):
            self._head = data
            self._loop.call_soon(self._flush)
            return
        self._transport.write(data)

    def close(self) -> None:
        self._flush()
        self._transport.close()

    def _flush(self) -> None:
        if self._head:
            self.write(b"")


class PeerProtocol(HttpToolsProtocol):
    """HTTP that knows its peer."""

    peer: Peer | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(cast("asyncio.Transport", HeadWithBody(transport, self.loop)))
        connection = transport.get_extra_info("socket")
        if connection is not None and connection.family == socket.AF_UNIX:
            with contextlib.suppress(OSError):  # gone already: it will be nobody
                self.peer = peer_of(connection)

    def on_message_begin(self) -> None:
        super().on_message_begin()
        cast("dict[str, Any]", self.scope)[PEER] = self.peer


async def serve(app: Application, path: Path, stop: asyncio.Event, *, ready: asyncio.Event | None = None) -> None:
    """Answer on the socket until `stop`, then let answers under way finish. Raises SocketTaken or OSError.

    `ready` is set once the socket answers.
    """
    with listening(path) as sock:
        config = configured(app)
        state = ServerState()
        loop = asyncio.get_running_loop()
        server = await loop.create_unix_server(
            lambda: PeerProtocol(config, state, app_state={}, _loop=loop), sock=sock, backlog=BACKLOG
        )
        api = app.api
        listener = asyncio.create_task(herald.run(api), name="herald")
        try:
            if ready is not None:
                ready.set()
            await asyncio.to_thread(warm)
            await stop.wait()
        finally:
            server.close()
            listener.cancel()
            _tell_the_end(api)
            await wind_up(state)


def configured(app: Any, connections_max: int | None = None) -> Config:
    """uvicorn's protocol without its logs, headers and lifespan. Beyond `connections_max` a call is answered 503."""
    config = Config(
        app,
        http=PeerProtocol,
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        date_header=False,
        server_header=False,
        timeout_keep_alive=KEEP_ALIVE_S,
        limit_concurrency=connections_max,
    )
    config.load()
    return config


def _tell_the_end(api: Api) -> None:
    """To whoever waits in a stream or a long poll."""
    api.closing.set()
    api.feed.close()
    api.watch.close()
    api.logs.wake_all()


async def wind_up(state: ServerState) -> None:
    """Let answers finish within the grace, cut the rest."""
    for connection in list(state.connections):
        connection.shutdown()
    if state.tasks:
        await asyncio.wait(set(state.tasks), timeout=GRACE_S)
    for task in set(state.tasks):
        task.cancel()
    for connection in list(state.connections):
        connection.transport.close()


@contextlib.contextmanager
def listening(path: Path) -> Iterator[socket.socket]:
    """A bound socket of mode 0660, removed at the end. A dead daemon's socket is replaced, a living one's never."""
    _check(path)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    try:
        before = os.umask(0o777 & ~MODE)  # from its first moment nobody else can connect
        try:
            sock.bind(os.fspath(path))
        finally:
            os.umask(before)
        ours = path.stat().st_ino
        sock.listen(BACKLOG)
        sock.setblocking(False)
        yield sock
        with contextlib.suppress(FileNotFoundError):
            if path.stat().st_ino == ours:
                path.unlink()
    finally:
        sock.close()


def _check(path: Path) -> None:
    """Clear the way for bind. The daemon holds its state directory's lock, so nobody else does the same meanwhile."""
    if len(os.fsencode(path)) > PATH_MAX:
        raise SocketTaken(
            f"{path} is longer than {PATH_MAX} bytes, too long for a socket; choose a shorter DSCHED_STATE"
        )
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise SocketTaken(f"{path} is not a socket; move it away")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)  # a full backlog also means that somebody is there
        try:
            probe.connect(os.fspath(path))
        except ConnectionRefusedError:
            path.unlink(missing_ok=True)
        except BlockingIOError:
            raise SocketTaken(f"a daemon answers on {path}") from None
        except FileNotFoundError:
            return
        else:
            raise SocketTaken(f"a daemon answers on {path}; stop it first")
