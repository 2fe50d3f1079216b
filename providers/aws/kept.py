"""An answer that is kept for a while: asked again when it is old, and kept, with its age, when that fails."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final, Generic, TypeVar

from dsched.providers.base import ProviderError
from dsched.scheduler.core.units import MINUTE, SECOND, Instant, Millis

T = TypeVar("T")

AGAIN: Final = Millis(MINUTE)  # after a failure, where there is an older answer to live with
AT_ONCE: Final = Millis(SECOND)  # of many who ask together one asks, and all are told that it failed


class Kept(Generic[T]):
    """`error` is why the last question failed, None when it did not."""

    def __init__(self, every: Millis, ask: Callable[[], Awaitable[T]], now: Callable[[], Instant]) -> None:
        self._every, self._ask, self._now = every, ask, now
        self._lock = asyncio.Lock()
        self._asked: Instant | None = None
        self.value: T | None = None
        self.at: Instant | None = None  # when `value` was asked for
        self.error: ProviderError | None = None

    async def get(self) -> T:
        """The kept answer, or a fresh one. Raises ProviderError when there is neither."""
        async with self._lock:
            if self._due():
                await self._refresh()
            if self.value is None:
                assert self.error is not None
                raise self.error
            return self.value

    def _due(self) -> bool:
        now = self._now()
        pause = Millis(0) if self.error is None else AT_ONCE if self.value is None else AGAIN
        if self._asked is not None and now - self._asked < pause:
            return False
        return self.value is None or self.at is None or now - self.at >= self._every

    async def _refresh(self) -> None:
        self._asked = self._now()
        try:
            value = await self._ask()
        except ProviderError as error:
            self.error = error
            return
        self.value, self.at, self.error = value, self._asked, None
