"""A very small HTTP/1.1 server: enough for metadata services, whose clients are curl, SDKs and our own agent."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Final
from urllib.parse import parse_qsl, unquote, urlsplit

BYTES_MAX: Final = 16_384  # of a head, and of a body
IDLE_S: Final = 75.0  # a kept-alive connection without a request
CONNECTIONS_MAX: Final = 256  # per node; the agent uses two


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]  # names in lower case


@dataclass(frozen=True, slots=True)
class Response:
    status: HTTPStatus
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)


Handler = Callable[[Request], Awaitable[Response]]


class BadRequest(Exception):
    """Not a request that we read."""


class Site:
    """One listening address. `handle` may take its time: it is cancelled when the client hangs up."""

    def __init__(self, handle: Handler) -> None:
        self.handle = handle
        self.connections: set[_Connection] = set()
        self._server: asyncio.Server | None = None

    async def listen(self, host: str, port: int) -> None:
        """Raises OSError where the address is taken."""
        self._server = await asyncio.get_running_loop().create_server(lambda: _Connection(self), host, port)

    @property
    def port(self) -> int | None:
        return self._server.sockets[0].getsockname()[1] if self._server and self._server.sockets else None

    def close(self) -> None:
        if self._server is not None:
            self._server.close()
        for connection in list(self.connections):
            connection.abort()


class _Connection(asyncio.Protocol):
    """One client: request, response, request, response."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self._buffer = bytearray()
        self._task: asyncio.Task[None] | None = None
        self._idle: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._site.connections.add(self)
        if len(self._site.connections) > CONNECTIONS_MAX:
            transport.abort()
        self._rest()

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        if len(self._buffer) > 2 * BYTES_MAX:
            self.abort()
        self._next()

    def connection_lost(self, exc: Exception | None) -> None:
        self._site.connections.discard(self)
        for pending in (self._task, self._idle):
            if pending is not None:
                pending.cancel()

    def abort(self) -> None:
        self._transport.abort()

    def _rest(self) -> None:
        self._idle = asyncio.get_running_loop().call_later(IDLE_S, self._transport.abort)

    def _next(self) -> None:
        """Take the next whole request from the buffer, if none is being answered."""
        end = self._buffer.find(b"\r\n\r\n")
        if self._task is not None or self._transport.is_closing() or (end < 0 and len(self._buffer) <= BYTES_MAX):
            return
        try:
            request = parse(bytes(self._buffer[: end + 4]))
            size = end + 4 + _length(request)
        except BadRequest as problem:
            self._transport.write(encode(Response(HTTPStatus.BAD_REQUEST, str(problem).encode())))
            self._transport.close()
            return
        if len(self._buffer) >= size:
            del self._buffer[:size]
            self._task = asyncio.get_running_loop().create_task(self._answer(request))

    async def _answer(self, request: Request) -> None:
        if self._idle is not None:
            self._idle.cancel()
        try:
            response = await self._site.handle(request)
        except ValueError as problem:  # a number that is none
            response = Response(HTTPStatus.BAD_REQUEST, str(problem).encode())
        self._transport.write(encode(response, head_only=request.method == "HEAD"))
        self._task = None
        if request.headers.get("connection", "").lower() == "close":
            self._transport.close()
        else:
            self._rest()
            self._next()


def parse(head: bytes) -> Request:
    """A request from its head, the empty line included."""
    try:
        start, *lines = head.decode("latin-1").split("\r\n")
        method, target, version = start.split(" ")
        if version not in ("HTTP/1.1", "HTTP/1.0"):
            raise BadRequest(f"unknown version {version!r}")
        headers = {
            name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines if line)
        }
        url = urlsplit(target)
    except ValueError as problem:
        raise BadRequest("not an HTTP request") from problem
    if version == "HTTP/1.0":
        headers.setdefault("connection", "close")
    return Request(method=method, path=unquote(url.path), query=dict(parse_qsl(url.query)), headers=headers)


def encode(response: Response, *, head_only: bool = False) -> bytes:
    lines = [f"HTTP/1.1 {response.status.value} {response.status.phrase}"]
    headers = {"Content-Type": "text/plain", **response.headers, "Content-Length": str(len(response.body))}
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + (b"" if head_only else response.body)


def _length(request: Request) -> int:
    text = request.headers.get("content-length", "0")
    if not text.isdigit() or int(text) > BYTES_MAX:
        raise BadRequest("no body is expected here")
    return int(text)
