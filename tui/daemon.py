"""The daemon behind its unix socket, as the TUI's source: short calls in a thread, long ones on the loop."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, Final, TypeVar
from urllib.parse import quote

import msgspec

from dsched.scheduler.api.client import Client, ClientError
from dsched.scheduler.wire.api import Act, Attempt, Event, Feed, LogLine, Money, Offer, Plan
from dsched.tui import stream
from dsched.tui.source import SourceError

T = TypeVar("T")

_decode_feed: Final = msgspec.json.Decoder(Feed).decode
_decode_line: Final = msgspec.json.Decoder(LogLine).decode
_OTHER_VERSION: Final = "update: the daemon and this `dsched` must have the same version"


def default_address() -> str:
    """DSCHED_SERVER, else the socket in the state directory."""
    if server := os.environ.get("DSCHED_SERVER"):
        return server
    state = os.environ.get("DSCHED_STATE") or Path.home() / ".local" / "state" / "dsched"
    return str(Path(state) / "api.sock")


class Daemon:
    def __init__(self, address: str | None) -> None:
        self.address = (address or default_address()).removeprefix("unix:")
        self._client = Client(self.address)

    async def feed(self) -> AsyncIterator[tuple[str, Feed | None]]:
        async for name, data in stream.events(self.address, "/v1/feed"):
            yield name, _decoded(_decode_feed, data) if name in ("snapshot", "delta") else None

    async def log(self, job: str) -> AsyncIterator[LogLine]:
        async for line in stream.lines(self.address, f"/v1/jobs/{quote(job, safe='')}/logs?follow=1"):
            yield _decoded(_decode_line, line)

    async def money(self) -> Money:
        return await self._call(self._client.money)

    async def offers(self) -> list[Offer]:
        return await self._call(lambda: self._client.offers(history=True))

    async def attempts(self, job: str) -> list[Attempt]:
        return await self._call(lambda: self._client.attempts(job))

    async def events(self, job: str, limit: int) -> list[Event]:
        return (await self._call(lambda: self._client.events(job=job)))[-limit:]

    async def explain(self, job: str) -> list[Plan]:
        return await self._call(lambda: self._client.explain(job))

    async def act(self, job: str, action: str, body: Act) -> dict[str, Any]:
        answer: dict[str, Any] = await self._call(lambda: self._client.act(job, action, body))
        return answer

    async def _call(self, ask: Callable[[], T]) -> T:
        try:
            return await asyncio.to_thread(ask)
        except ClientError as error:
            raise SourceError(error.problem["message"], error.problem.get("hint", "")) from error


def _decoded(decode: Callable[[bytes], T], data: bytes) -> T:
    try:
        return decode(data)
    except msgspec.DecodeError as error:
        raise SourceError(f"the daemon says what we do not understand: {error}", _OTHER_VERSION) from error
