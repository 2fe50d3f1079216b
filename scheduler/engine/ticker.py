"""Periodic ticks by APScheduler, which takes a twentieth of a start to load: once the daemon is ready."""

from __future__ import annotations

from collections.abc import Callable

from apscheduler.schedulers.asyncio import AsyncIOScheduler


class Ticker:
    """Periodic calls. Late ticks are merged into one, never dropped; the truth is in the store, not in the ticker."""

    def __init__(self) -> None:
        self._scheduler = AsyncIOScheduler(
            job_defaults={"coalesce": True, "max_instances": 1, "misfire_grace_time": None}, timezone="UTC"
        )

    def every(self, seconds: float, call: Callable[[], None], name: str) -> None:
        self._scheduler.add_job(_in_loop(call), "interval", seconds=seconds, id=name, name=name)

    def start(self) -> None:
        self._scheduler.start()

    def stop(self) -> None:
        self._scheduler.shutdown(wait=False)


def _in_loop(call: Callable[[], None]) -> Callable[[], object]:
    """APScheduler runs coroutines in the loop and plain functions in a thread; ours belong in the loop."""

    async def tick() -> None:
        call()

    return tick
