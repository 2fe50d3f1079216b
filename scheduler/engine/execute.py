"""Carry out effects. No decisions here: one effect, one call, one fact back."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from dsched.providers.base import Leased, NodeRef, Provider, ProviderError
from dsched.scheduler.core.effect import (
    CallLaunch,
    CallObserve,
    CallRenew,
    CallTerminate,
    Effect,
    Foresee,
    Propose,
    SendAlert,
    TellCheckpoint,
    TellLeave,
    TellStart,
    TellStop,
    WakeAt,
)
from dsched.scheduler.core.message import LaunchUnanswered, Message
from dsched.scheduler.core.proposal import Puzzle
from dsched.scheduler.core.snapshot import Intent
from dsched.scheduler.core.units import MINUTE, SECOND, Millis
from dsched.scheduler.engine.alerts import Alerts
from dsched.scheduler.engine.desk import Desk
from dsched.scheduler.engine.loop import Loop
from dsched.scheduler.engine.observe import Observer
from dsched.scheduler.engine.timers import Alarm
from dsched.scheduler.engine.translate import launch_of, launched
from dsched.scheduler.log import log

if TYPE_CHECKING:
    from dsched.scheduler.core.timely.foresight import Request

CALLS: Final = 32  # provider calls under way at a time: their quotas are a few per second
CALL_SECONDS: Final = 30.0  # shorter than the lease margin; a call that takes longer is Ambiguous
RENEW_TRIES: Final = 5  # a lease that only the provider has not heard of ends the node; it has half of it for these
RENEW_AGAIN_S: Final = 1.0  # doubling


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
        user_data: Callable[[Intent], str],
        foresee: Callable[[Request], Coroutine[Any, Any, None]] | None = None,
        propose: Callable[[Puzzle], Coroutine[Any, Any, None]] | None = None,
    ) -> None:
        self._loop, self._providers, self._observers = loop, providers, observers
        self._desk, self._alerts, self._alarm = desk, alerts, alarm
        self._user_data, self._foresee, self._propose = user_data, foresee, propose
        self._calls = asyncio.Semaphore(CALLS)
        self._tasks: set[asyncio.Task[None]] = set()
        self._launching: set[str] = set()

    def carry(self, effects: Sequence[Effect]) -> None:  # noqa: C901 - one line per effect
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
                    self._look(name)
                case TellStart() | TellStop() | TellCheckpoint() | TellLeave():
                    self._desk.tell(effect)
                case SendAlert(id=alert):
                    self._spawn(self._alerts.send(alert))
                case Foresee(request=request):
                    if self._foresee is not None:
                        self._spawn(self._foresee(request))
                case Propose(puzzle=puzzle):
                    if self._propose is not None:
                        self._spawn(self._propose(puzzle))
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
        if name in self._launching:
            return
        self._launching.add(name)
        fact: Message | None = LaunchUnanswered(intent=name, why="no answer", retry=Millis(SECOND))
        try:
            async with self._calls:
                fact = await self._launched(name)
        except TimeoutError:
            pass
        finally:  # whatever went wrong, it may have happened: asked again with the same token
            self._launching.discard(name)
            if fact is not None:
                self._loop.post(fact)

    async def _launched(self, name: str) -> Message | None:
        """The provider's answer as a fact; None when nobody waits for it any more."""
        intent = self._loop.state.intents.get(name)
        if intent is None:
            return None
        provider = self._providers.get(intent.provider)
        if provider is None:
            return LaunchUnanswered(intent=name, why=f"no provider {intent.provider} is set up", retry=Millis(MINUTE))
        want = launch_of(intent, self._loop.state.cluster, self._user_data(intent))
        async with asyncio.timeout(CALL_SECONDS):
            return await launched(provider, want)

    async def _terminate(self, effect: CallTerminate) -> None:
        """A failure is no fact: the core asks again until a list proves the end."""
        provider = self._providers.get(effect.provider)
        refs = [NodeRef(effect.provider, ref) for ref in effect.refs]
        if provider is not None and await self._answered(effect.provider, lambda: provider.terminate(refs)):
            self._look(effect.provider)

    async def _renew(self, effect: CallRenew) -> None:
        provider, refs = self._providers.get(effect.provider), [NodeRef(effect.provider, effect.ref)]
        if not isinstance(provider, Leased) or not effect.ref:
            return
        for turn in range(RENEW_TRIES):
            if await self._answered(effect.provider, lambda: provider.renew(refs, effect.until)):
                return
            await asyncio.sleep(RENEW_AGAIN_S * 2**turn)

    async def _answered(self, provider: str, call: Callable[[], Coroutine[Any, Any, None]]) -> bool:
        try:
            async with self._calls, asyncio.timeout(CALL_SECONDS):
                await call()
        except (ProviderError, TimeoutError) as error:
            log.warning("provider.failed", provider=provider, error=str(error))
            return False
        return True

    def _look(self, provider: str) -> None:
        """Without observer: a provider that is not set up any more; its nodes end with their leases."""
        observer = self._observers.get(provider)
        if observer is not None:
            observer.look()
