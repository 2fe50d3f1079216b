"""The port to the daemon: what the TUI asks, and the one error that it gets. `Daemon` is the real thing."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, Protocol

from dsched.scheduler.wire.api import Act, Attempt, Event, Feed, LogLine, Money, Offer, Plan


class SourceError(Exception):
    """The daemon did not do it. `hint` is the remedy, a command where there is one; `absent`: nobody answers at all."""

    def __init__(self, message: str, hint: str = "", *, absent: bool = False) -> None:
        super().__init__(message)
        self.message, self.hint, self.absent = message, hint, absent


class Source(Protocol):
    """Every method raises SourceError and nothing else."""

    @property
    def address(self) -> str: ...

    def feed(self) -> AsyncIterator[tuple[str, Feed | None]]:
        """("snapshot" | "delta", rows), ("", None) as a sign of life. After lost rows another snapshot comes."""
        ...

    async def money(self) -> Money: ...

    async def offers(self) -> list[Offer]:
        """With the last market day's prices."""
        ...

    async def attempts(self, job: str) -> list[Attempt]: ...

    async def events(self, job: str, limit: int) -> list[Event]: ...

    async def explain(self, job: str) -> list[Plan]: ...

    def log(self, job: str) -> AsyncIterator[LogLine]:
        """From its start, and on until the job ends."""
        ...

    async def act(self, job: str, action: str, body: Act) -> dict[str, Any]: ...
