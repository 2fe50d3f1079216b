"""Carry out effects. No decisions here: one effect, one call, one fact back."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any, Final

import structlog

from dsched.providers.base import Launch, Leased, NodeRef, Provider, ProviderError
from dsched.scheduler.core.message import (
    CallLaunch,
    CallObserve,
    CallRenew,
    CallTerminate,
    Effect,
    Launched,
    LaunchUnanswered,
    SendAlert,
    TellCheckpoint,
    TellLeave,
    TellStart,
    TellStop,
    WakeAt,
)
from dsched.scheduler.core.snapshot import Intent
from dsched.scheduler.core.units import SECOND, Millis
from dsched.scheduler.engine.alerts import Alerts
from dsched.scheduler.engine.desk import Desk
from dsched.scheduler.engine.loop import Loop
from dsched.scheduler.engine.observe import Observer
from dsched.scheduler.engine.timers import Alarm
from dsched.scheduler.engine.translate import failed, seen
from dsched.scheduler.wire.agent import UserData

CALLS: Final = 32  # provider calls under way at a time: their quotas are a few per second
CALL_SECONDS: Final = 30.0  # shorter than the lease margin; a call that takes longer is Ambiguous

log = structlog.get_logger()


class Executor:
    """The hands of the core."""

    def __init__(
        self,
        loop: Loop,
        providers: Mapping[str, Provider],
        observers: Mapping[str, Observer],
        desk: Desk,
        alerts: Alerts,
        alarm: Alarm,
        user_data: Callable[[Intent], UserData],
    ) -> None:
        self._loop, self._providers, self._observers = loop, providers, observers
        self._desk, self._alerts, self._alarm = desk, alerts, alarm
        self._user_data = user_data
        self._calls = asyncio.Semaphore(CALLS)
        self._tasks: set[asyncio.Task[None]] = set()
        self._launching: set[str] = set()

    def carry(self, effects: Sequence[Effect]) -> None:
        """Start carrying out these effects; returns at once."""
        for effect in effects:
            match effect:
                case CallLaunch(intent=intent):
                    self._spawn(self._launch(intent))
                case CallTerminate():
                    self._spawn(self._terminate(effect))
                case CallRenew():
                    self._spawn(self._renew(effect))
                case CallObserve(provider=name):
                    self._observers[name].look()
                case TellStart() | TellStop() | TellCheckpoint() | TellLeave():
                    self._desk.tell(effect)
                case SendAlert(id=alert):
                    self._spawn(self._alerts.send(alert))
                case WakeAt(at=instant):
                    self._alarm.at(instant)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            log.error("effect.fault", exc_info=task.exception())

    async def _launch(self, name: str) -> None:
        intent = self._loop.state.intents.get(name)
        if intent is None or intent.pool is None or name in self._launching:
            return
        want = Launch(
            token=intent.id,
            pool=intent.pool,
            count=intent.count,
            user_data=json.dumps(self._user_data(intent), sort_keys=True),
            lease_until=intent.lease_until,
            price_max=intent.price_max,
            tags={"dsched:cluster": self._loop.state.cluster, "dsched:token": intent.id},
        )
        self._launching.add(name)
        try:
            async with self._calls, asyncio.timeout(CALL_SECONDS):
                nodes = await self._providers[intent.provider].launch(want)
        except ProviderError as error:
            log.info("launch.failed", intent=name, pool=intent.pool.id, error=str(error))
            self._loop.post(failed(name, error))
        except TimeoutError:
            self._loop.post(LaunchUnanswered(intent=name, why="no answer", retry=Millis(SECOND)))
        else:
            self._loop.post(Launched(intent=name, nodes=seen(nodes)))
        finally:
            self._launching.discard(name)

    async def _terminate(self, effect: CallTerminate) -> None:
        refs = [NodeRef(effect.provider, ref) for ref in effect.refs]
        await self._quietly(effect.provider, self._providers[effect.provider].terminate(refs), "terminate")

    async def _renew(self, effect: CallRenew) -> None:
        provider = self._providers[effect.provider]
        if isinstance(provider, Leased) and effect.ref:
            await self._quietly(
                effect.provider, provider.renew([NodeRef(effect.provider, effect.ref)], effect.until), "renew"
            )

    async def _quietly(self, provider: str, call: Coroutine[Any, Any, None], what: str) -> None:
        """A failure is no fact here: the core asks again until a list proves the end."""
        try:
            async with self._calls, asyncio.timeout(CALL_SECONDS):
                await call
        except (ProviderError, TimeoutError) as error:
            log.warning("provider.failed", provider=provider, call=what, error=str(error))
        else:
            self._observers[provider].look()
