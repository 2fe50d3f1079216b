"""The embedded cloud behind the provider port. Every call is one short connection with a hard limit."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

from dsched.providers.base import Ambiguous, Launch, Node, NodeRef, Notice, NoticeKind, ProviderError
from dsched.providers.local.codec import Json, error_from, launch_to, node_from, notice_from, offers_from
from dsched.scheduler.core.market import Offer
from dsched.scheduler.core.units import Instant, Millis, Moment

TIMEOUT: Final = Millis(4_000)  # a launch takes 20 ms; no answer must cost less than any lease's margin
SHUTDOWN_S: Final = 15.0  # many nodes die, and their disks are cleared
ANSWER_MAX: Final = 64 << 20  # bytes of one answer: 100,000 remembered nodes
RECONNECT_S: Final = (0.05, 1.0)  # first and longest pause between attempts to hear hints again

Stream = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class LocalProvider:
    """Provider, Clocked and Leased over the cloud's socket."""

    name = "local"

    def __init__(self, socket: Path, *, timeout: Millis = TIMEOUT) -> None:
        self._socket = socket
        self._timeout_s = timeout / 1000

    async def offers(self) -> list[Offer]:
        return offers_from(await self._ask("offers"))

    async def launch(self, want: Launch) -> list[Node]:
        try:
            rows = await self._call({"op": "launch", "want": launch_to(want)})
        except (OSError, TimeoutError, EOFError, ValueError) as problem:
            raise Ambiguous("CloudUnreachable", _words(problem)) from problem
        return self._nodes(rows)

    async def nodes(self, tokens: Collection[str] | None = None) -> list[Node]:
        return self._nodes(await self._ask("nodes", tokens=None if tokens is None else sorted(tokens)))

    async def terminate(self, refs: Collection[NodeRef]) -> None:
        await self._ask("terminate", ids=[ref.id for ref in refs if ref.provider == self.name])

    async def renew(self, refs: Collection[NodeRef], until: Instant) -> None:
        await self._ask("renew", ids=[ref.id for ref in refs if ref.provider == self.name], until=until)

    async def clock(self) -> tuple[Moment, float]:
        raw = await self._ask("clock")
        return Moment(wall=Instant(raw["wall"]), market=Instant(raw["market"])), float(raw["scale"])

    async def note(self) -> str:
        """What kind of market this is and how fast it runs; every summary says it."""
        return str(await self._ask("note"))

    async def inject(self, kind: str, **what: Any) -> Json:
        """Pull a lever (see levers.py). Raises Invalid for one that does not exist or fits nothing."""
        answer: Json = await self._ask("inject", kind=kind, what=what)
        return answer

    async def shutdown(self) -> None:
        """End every node, then the cloud itself. Returns when all of it is gone."""
        try:
            async with asyncio.timeout(SHUTDOWN_S), self._connected() as (reader, writer):
                await _send(writer, {"op": "shutdown"})
                _result(await reader.readline())
                await reader.read()  # ends with the process
        except (OSError, TimeoutError, ValueError) as problem:
            raise ProviderError("CloudUnreachable", f"shutdown: {_words(problem)}") from problem

    async def events(self) -> AsyncIterator[Notice]:
        pause, gap = RECONNECT_S[0], False
        while True:
            try:
                async with self._connected() as (reader, writer):
                    await _send(writer, {"op": "events"})
                    _result(await self._line(reader))
                    if gap:
                        yield Notice(kind=NoticeKind.GONE)
                        yield Notice(kind=NoticeKind.PRICES)
                    pause = RECONNECT_S[0]
                    while line := await reader.readline():
                        yield notice_from(json.loads(line), self.name)
            except (OSError, TimeoutError, EOFError, ValueError, ProviderError):
                pass  # the gap is told when the cloud is heard again
            gap = True
            await asyncio.sleep(pause)
            pause = min(2 * pause, RECONNECT_S[1])

    async def _ask(self, op: str, **arguments: Any) -> Any:
        """A call whose repetition does no harm."""
        try:
            return await self._call({"op": op, **arguments})
        except (OSError, TimeoutError, EOFError, ValueError) as problem:
            raise ProviderError("CloudUnreachable", f"{op}: {_words(problem)}") from problem

    async def _call(self, request: Json) -> Any:
        async with asyncio.timeout(self._timeout_s), self._connected() as (reader, writer):
            await _send(writer, request)
            return _result(await self._line(reader))

    async def _line(self, reader: asyncio.StreamReader) -> bytes:
        async with asyncio.timeout(self._timeout_s):
            line = await reader.readline()
        if not line.endswith(b"\n"):
            raise EOFError("the cloud hung up")
        return line

    @asynccontextmanager
    async def _connected(self) -> AsyncIterator[Stream]:
        async with asyncio.timeout(self._timeout_s):
            reader, writer = await asyncio.open_unix_connection(self._socket, limit=ANSWER_MAX)
        try:
            yield reader, writer
        finally:
            writer.close()

    def _nodes(self, rows: list[Json]) -> list[Node]:
        return [node_from(row, self.name) for row in rows]


async def _send(writer: asyncio.StreamWriter, message: Json) -> None:
    writer.write(json.dumps(message, separators=(",", ":")).encode() + b"\n")
    await writer.drain()


def _result(line: bytes) -> Any:
    answer = json.loads(line)
    if "error" in answer:
        raise error_from(answer["error"])
    return answer["ok"]


def _words(problem: BaseException) -> str:
    return str(problem) or type(problem).__name__
