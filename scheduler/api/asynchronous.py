"""The same client for an event loop: streams natively, and the short calls in a thread.

Hand-made on asyncio's streams: an HTTP library would cost more to import than the rest of the client together.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Final, ParamSpec, TypeVar, cast
from urllib.parse import quote

from dsched.scheduler.api.client import Client as Blocking
from dsched.scheduler.api.client import Refused, problem, unanswered
from dsched.scheduler.api.decode import Decoder
from dsched.scheduler.wire.api import Feed, LogLine, Problem

P = ParamSpec("P")
T = TypeVar("T")
LINE_MAX: Final = 64 * 1024 * 1024  # bytes: a snapshot of 10,000 jobs is one line of 10 MB
CONNECT_S: Final = 5.0
SILENCE_S: Final = 45.0  # the daemon says something every 10 s, if only that it is there


class Client:
    """One daemon. Raises ClientError."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.calls = Blocking(path)

    async def call(self, method: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """One short call, in a thread: `await client.call(client.calls.jobs, all=True)`."""
        return await asyncio.to_thread(method, *args, **kwargs)

    async def feed(self, decode: Callable[[str], Feed] = json.loads) -> AsyncIterator[tuple[str, Feed | None]]:
        """("snapshot" | "delta" | "resync", rows); ("", None) is a sign of life. Ends when the daemon goes down.

        `decode` is for those who watch a large fleet and have a faster reader of JSON, or one that checks.
        """
        decoder = Decoder()
        async with self._stream("/v1/feed", "text/event-stream") as lines:
            async for line in lines:
                if line.startswith(b":"):
                    yield "", None
                elif message := decoder.take(line):
                    yield message.event, decode(message.data)

    async def logs(self, job: str, *, rank: int = 0, follow: bool = True) -> AsyncIterator[LogLine]:
        """One rank's log from its start, and with `follow` until the job ends."""
        path = f"/v1/jobs/{quote(job, safe='')}/logs?rank={rank}{'&follow=1' if follow else ''}"
        async with self._stream(path, "application/x-ndjson") as lines:
            async for line in lines:
                if line:
                    yield cast(LogLine, json.loads(line))

    @asynccontextmanager
    async def _stream(self, path: str, accept: str) -> AsyncIterator[AsyncIterator[bytes]]:
        """The lines of a streamed answer."""
        writer: asyncio.StreamWriter | None = None
        try:
            async with asyncio.timeout(CONNECT_S):
                reader, writer = await asyncio.open_unix_connection(self.path, limit=LINE_MAX)
                writer.write(f"GET {path} HTTP/1.1\r\nHost: dsched\r\nAccept: {accept}\r\n\r\n".encode())
                status, headers = await _head(reader)
            body = _chunks(reader) if headers.get("transfer-encoding") == "chunked" else _rest(reader)
            if status >= 400:
                raise Refused(_refusal(status, b"".join([part async for part in body])), status)
            yield _lines(body)
        except (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, ValueError) as e:
            raise unanswered(self.path, e) from e
        finally:
            if writer is not None:
                writer.close()


async def _head(reader: asyncio.StreamReader) -> tuple[int, dict[str, str]]:
    """The status and the headers. Raises ValueError for what is no HTTP."""
    first = (await reader.readline()).split(None, 2)
    if len(first) < 2 or not first[0].startswith(b"HTTP/"):
        raise ValueError("not an HTTP answer")
    headers: dict[str, str] = {}
    while line := (await reader.readline()).strip():
        name, _, value = line.decode("latin-1").partition(":")
        headers[name.strip().lower()] = value.strip().lower()
    return int(first[1]), headers


async def _chunks(reader: asyncio.StreamReader) -> AsyncIterator[bytes]:
    """A chunked body. Raises IncompleteReadError when it breaks off."""
    while True:
        async with asyncio.timeout(SILENCE_S):
            size = int((await reader.readuntil(b"\r\n")).split(b";")[0], 16)
            data = await reader.readexactly(size + 2)
        if size == 0:
            return
        yield data[:-2]


async def _rest(reader: asyncio.StreamReader) -> AsyncIterator[bytes]:
    while True:
        async with asyncio.timeout(SILENCE_S):
            data = await reader.read(65_536)
        if not data:
            return
        yield data


async def _lines(body: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Lines over chunk borders, without their ends. Raises ValueError beyond LINE_MAX."""
    held: list[bytes] = []
    size = 0
    async for data in body:
        *whole, rest = data.split(b"\n")
        for line in whole:
            yield b"".join([*held, line]).removesuffix(b"\r")
            held, size = [], 0
        size += len(rest)
        if size > LINE_MAX:
            raise ValueError(f"a line of more than {LINE_MAX} bytes")
        if rest:
            held.append(rest)


def _refusal(status: int, body: bytes) -> Problem:
    try:
        return cast(Problem, json.loads(body)["error"])
    except (ValueError, KeyError, TypeError):
        return problem(f"E{status}", f"the daemon answered {status}", "")
