"""The cloud's socket: newline-delimited JSON, one answer per request, a stream for "events".

{"op": "launch", "want": {...}}  ->  {"ok": ...}  |  {"error": {"kind": "Capacity", ...}}
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from dsched.providers.base import Invalid, ProviderError
from dsched.providers.local.cloud import Cloud
from dsched.providers.local.codec import Json, error_to, launch_from, node_to, notice_to, offers_to
from dsched.providers.local.levers import FAULTS, Levers
from dsched.scheduler.core.units import Instant

LINE_MAX: Final = 1 << 20  # bytes of one request; user-data is at most 64 KiB
CONNECTIONS_MAX: Final = 256

log = logging.getLogger(__name__)


class _HangUp(Exception):
    """Close the connection without an answer."""


class Server:
    def __init__(self, cloud: Cloud, levers: Levers, stop: Callable[[], None]) -> None:
        self._cloud, self._levers, self._stop = cloud, levers, stop
        self._connections = 0
        self._ops: dict[str, Callable[[Json], Awaitable[Any]]] = {
            "offers": self._offers,
            "launch": self._launch,
            "nodes": self._nodes,
            "terminate": self._terminate,
            "renew": self._renew,
            "clock": self._clock,
            "note": self._note,
            "inject": self._inject,
            "shutdown": self._shutdown,
        }

    async def listen(self, path: Path) -> asyncio.Server:
        """On a socket that only this user can open; a stale one of a dead cloud is replaced."""
        with suppress(FileNotFoundError):
            os.unlink(path)
        mask = os.umask(0o077)
        try:
            return await asyncio.start_unix_server(self._accept, path, limit=LINE_MAX)
        finally:
            os.umask(mask)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._connections += 1
        try:
            if self._connections <= CONNECTIONS_MAX:
                await self._converse(reader, writer)
        except (OSError, ValueError, _HangUp, asyncio.CancelledError):
            pass  # the client went away or sent no request at all, or the cloud ends: there is nobody to tell
        finally:
            self._connections -= 1
            writer.close()

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while line := await reader.readline():
            request = json.loads(line)
            if request.get("op") == "events":
                await self._events(reader, writer)
                return
            _send(writer, await self._answer(request))
            await writer.drain()

    async def _answer(self, request: Json) -> Json:
        op = str(request.get("op"))
        fault = self._levers.fault(op)
        try:
            if fault is not None and (refusal := FAULTS[fault]) is not None:
                raise refusal()
            if fault == "lost-before":
                raise _HangUp
            if fault == "hang":
                await asyncio.Event().wait()
            if op not in self._ops:
                raise Invalid("UnknownOperation", op)
            answer = {"ok": await self._ops[op](request)}
        except ProviderError as problem:
            answer = {"error": error_to(problem)}
        except (KeyError, TypeError, ValueError) as problem:
            answer = {"error": error_to(Invalid("BadRequest", f"{op}: {problem!r}"))}
        if fault == "lost-after":
            raise _HangUp
        return answer

    async def _events(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with self._cloud.hints.listen() as queue:
            _send(writer, {"ok": None})
            gone = asyncio.ensure_future(reader.read())
            try:
                while not gone.done():
                    hint = asyncio.ensure_future(queue.get())
                    await asyncio.wait({gone, hint}, return_when=asyncio.FIRST_COMPLETED)
                    if not hint.done() or (notice := hint.result()) is None:
                        hint.cancel()
                        return
                    _send(writer, notice_to(notice))
                    await writer.drain()
            finally:
                gone.cancel()

    async def _offers(self, request: Json) -> Json:
        return offers_to(self._cloud.offers())

    async def _launch(self, request: Json) -> list[Json]:
        return [node_to(node) for node in await self._cloud.launch(launch_from(request["want"]))]

    async def _nodes(self, request: Json) -> list[Json]:
        return [node_to(node) for node in self._cloud.nodes(request["tokens"])]

    async def _terminate(self, request: Json) -> None:
        self._cloud.terminate([str(one) for one in request["ids"]])

    async def _renew(self, request: Json) -> None:
        self._cloud.renew([str(one) for one in request["ids"]], Instant(int(request["until"])))

    async def _clock(self, request: Json) -> Json:
        now = self._cloud.now()
        return {"wall": now.wall, "market": now.market, "scale": self._cloud.clock.scale}

    async def _note(self, request: Json) -> str:
        return f"{self._cloud.market.note}, {self._cloud.clock.scale:g}x"

    async def _inject(self, request: Json) -> Json:
        log.info("lever.pulled kind=%s what=%s", request["kind"], request["what"])
        return self._levers.pull(str(request["kind"]), request["what"])

    async def _shutdown(self, request: Json) -> None:
        await self._cloud.end_all()
        asyncio.get_running_loop().call_soon(self._stop)


def _send(writer: asyncio.StreamWriter, message: Json) -> None:
    writer.write(json.dumps(message, separators=(",", ":")).encode() + b"\n")
