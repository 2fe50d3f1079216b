"""The composition root: the only file that knows everything. `python -m dsched.scheduler.daemon --state DIR`.

Crash-only: there is no clean way down that the way up does not also cover. Exit 75 means "start me again" (the store
failed) and 70 a fault of ours (start me again, too); 1 means that a person must act first, and the message says how.
"""

from __future__ import annotations

import asyncio
import gc
import os
import random
import secrets
import signal
import sys
from collections.abc import Callable, Coroutine, Mapping, Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

from dsched.providers.base import Clocked, Provider
from dsched.scheduler.api.broadcast import Broadcast
from dsched.scheduler.api.ports import Extras
from dsched.scheduler.clouds import check as check_clouds
from dsched.scheduler.clouds import clouds
from dsched.scheduler.config import Config, ConfigError, read
from dsched.scheduler.core.effect import Effect
from dsched.scheduler.core.event import Event
from dsched.scheduler.core.message import Restarted, Tick
from dsched.scheduler.core.placement import Policy
from dsched.scheduler.core.terms import Terms
from dsched.scheduler.core.units import Instant
from dsched.scheduler.doctor import checks, providers
from dsched.scheduler.doctor import clouds as examined
from dsched.scheduler.engine.alerts import Alerts
from dsched.scheduler.engine.backfill import Backfill, Step, recall
from dsched.scheduler.engine.clock import clock_since
from dsched.scheduler.engine.control import Control
from dsched.scheduler.engine.execute import Executor
from dsched.scheduler.engine.forecast import Forecasts
from dsched.scheduler.engine.foresee import Foreseer
from dsched.scheduler.engine.journal import FOLDER, Journal
from dsched.scheduler.engine.journal import read as read_journal
from dsched.scheduler.engine.loop import Loop
from dsched.scheduler.engine.observe import Observer
from dsched.scheduler.engine.propose import Proposer
from dsched.scheduler.engine.timers import Alarm
from dsched.scheduler.gate import Gate
from dsched.scheduler.log import log
from dsched.scheduler.policy import policy_of
from dsched.scheduler.store.backup import RESTORED
from dsched.scheduler.store.bundles import Bundles
from dsched.scheduler.store.errors import StoreError, StoreFailed
from dsched.scheduler.store.logbook import LogBook
from dsched.scheduler.store.writer import Store
from dsched.scheduler.wire.api import Check
from dsched.scheduler.wire.systemd import Watchdog

if TYPE_CHECKING:
    from dsched.scheduler.engine.record import Recorder

EXIT_AGAIN: Final = 75
EXIT_FAULT: Final = 70
EXIT_PERSON: Final = 1
BACKLOG_MAX: Final = 2_048  # transactions not yet on disk: beyond that a client is told to come again
TICK_SECONDS: Final = 1.0  # leases, idle nodes and budgets are looked at this often; nothing urgent waits for it
CLOCK: Final = "clock"  # meta: how far the host's clocks are apart
COLLECT: Final = (1_000, 4, 500)  # young ones often, each under 3 ms; a full one takes 40 ms with 10,000 jobs
SWITCH_SECONDS: Final = 0.001  # the writer's thread waits at most so long for a busy event loop, after each statement


class Daemon:
    """Everything wired together; `run` serves until told to stop."""

    def __init__(self, config: Config, store: Store, gate: Gate) -> None:
        self.config, self.store, self.gate = config, store, gate
        self.clock = clock_since(store.queries.meta(CLOCK))
        recent = [(logged.seq, logged.event) for logged in store.queries.last_events(limit=100)]
        self.broadcast = Broadcast(store.seq, recent)
        self._clocks = ""  # as they were remembered last
        terms = Terms(idle_keep=config.idle)
        policy = policy_of(config)
        seed = secrets.randbits(64)
        rng = random.Random(seed)  # noqa: S311 - jitter, not secrets
        self.recorder = _recorder(config, seed, policy, terms)
        self.loop = Loop(
            store.load(),
            store,
            self.clock,
            rng,
            policy=policy,
            terms=terms,
            publish=self._publish,
            carry=self._carry,
        )
        if self.recorder is not None:
            self.loop.mind.taps = (self.recorder,)
        self.desk = self.gate.desk(self.loop)
        self.observers: dict[str, Observer] = {}
        self.market = Journal(config.state / FOLDER)
        self._writing: asyncio.Task[None] | None = None  # of the market journal
        self.forecasts = Forecasts(self.market.note)
        self._recalling: asyncio.Future[None] | None = None  # outcomes of earlier forecasts
        self.foreseer = Foreseer(self.loop, self.market)
        self.proposer = Proposer(self.loop)
        self.control = Control(self.loop, self.observers, rng)
        self.control.seq = store.seq
        restored = int(store.queries.meta(RESTORED) or 0)
        self.loop.state.hold_until = Instant(restored + policy.lease + terms.proof_margin if restored else 0)
        self._executor: Executor | None = None
        self._begun = asyncio.Event()  # no other process is to be started any more
        self._keep: Callable[[], Coroutine[Any, Any, None]] | None = None  # what keeps the embedded cloud going

    async def run(self) -> None:
        stop = asyncio.Event()
        running = asyncio.get_running_loop()
        for name in (signal.SIGTERM, signal.SIGINT):
            running.add_signal_handler(name, stop.set)
        async with asyncio.TaskGroup() as group:
            api = group.create_task(self._serve(stop))
            work = group.create_task(self._work())
            await stop.wait()
            work.cancel()
            await api

    async def _serve(self, stop: asyncio.Event) -> None:
        """The API's libraries take half of the start to load: meanwhile the embedded cloud's process starts too."""
        await self._begun.wait()
        from dsched.scheduler.api.app import create_app
        from dsched.scheduler.api.serve import serve

        state = self.config.state
        app = create_app(
            self.control,
            self.broadcast,
            self.desk,
            LogBook(state / "logs"),
            Bundles(state / "bundles"),
            self.store.queries,
            extras=Extras(
                gauges=self._gauges,
                checks=self._checks,
                busy=self._busy,
                contracts=lambda: [one for observer in self.observers.values() for one in observer.contracts],
                calibration=self.forecasts.calibration,
                again=self._again,
                code=self.gate.code,
            ),
        )
        async with asyncio.TaskGroup() as group:
            group.create_task(serve(app, self.config.socket, stop))
            group.create_task(self.gate.serve(app, stop))

    async def _again(self, told: Mapping[str, Any]) -> dict[str, Any]:
        from dsched.scheduler.engine.again import Remaker

        return await Remaker(self.loop, self.foreseer).again(told)

    def _gauges(self) -> dict[str, float]:
        store = self.store
        known = self.forecasts.calibration()
        market = {
            "forecasts_judged": known.count,
            "forecast_brier": known.brier or 0.0,
            "forecast_skill": known.skill or 0.0,
            "market_journal_dropped": self.market.dropped,
            "outlooks_made": self.foreseer.made,
            "outlooks_failed": self.foreseer.failed,
            "puzzles_solved": self.proposer.made,
            "puzzles_failed": self.proposer.failed,
        }
        figures = {"store_backlog": store.backlog, "store_commits": store.commits, "core_faults": self.loop.faults}
        return {name: float(value) for name, value in (figures | market).items()}

    async def _checks(self) -> list[Check]:
        told = [*providers(self.control.health()["providers"]), *await asyncio.to_thread(checks, self.config.state)]
        return told + await examined(self.observers.values(), self.loop.state)

    def _busy(self) -> str:
        behind = self.store.backlog
        return f"the store is {behind} transactions behind" if behind > BACKLOG_MAX else ""

    async def _work(self) -> None:
        """Providers first: their clock is the market's, and the first plan wants to see offers."""
        providers = await self._providers()
        for name, provider in providers.items():
            self.observers[name] = Observer(provider, self.loop)
        alarm = Alarm(lambda: self.loop.post(Tick()), lambda: self.clock.now().wall)
        alerts = Alerts(self.loop, self.config.alerts)
        foresee = self.foreseer.foresee
        self._executor = Executor(
            *(self.loop, providers, self.observers, self.desk, alerts, alarm),
            *(self.gate.user_data(self.desk.user_data), foresee),
            propose=self.proposer.propose,
        )
        async with asyncio.TaskGroup() as group:
            group.create_task(self.loop.run())
            await self._recall()
            await asyncio.gather(*(observer.refresh() for observer in self.observers.values()))
            await self.loop.send(Restarted())
            for observer in self.observers.values():
                group.create_task(observer.run())
            group.create_task(self._past(providers).run())
            if self._keep is not None:
                group.create_task(self._keep())
            self.control.ready = True
            await asyncio.to_thread(_load_rest)
            gc.freeze()  # what was loaded meanwhile, too
            self._start_ticking()
            log.info("daemon.ready", state=str(self.config.state), pid=os.getpid(), market=self.control.market_note)

    def _past(self, providers: Mapping[str, Provider]) -> Backfill:
        def told(steps: Sequence[Step]) -> None:
            self.store.put_past((pool.id, quote) for pool, quote in steps)

        return Backfill(self.market.folder, providers, lambda: self.clock.now().market, told, self.loop.post)

    async def _recall(self) -> None:
        """What earlier runs saw of the market. A journal that cannot be read is a market not seen yet."""
        folder, now = self.market.folder, self.clock.now().market
        try:
            self.loop.post(await asyncio.to_thread(recall, folder, now))
        except OSError as error:
            log.warning("journal.failed", error=str(error))
            return
        self._recalling = asyncio.get_running_loop().run_in_executor(
            None, lambda: self.forecasts.recall(seen for seen in read_journal(folder, past=False) if seen.at < now)
        )

    async def _providers(self) -> dict[str, Provider]:
        if not self.config.local:
            self._begun.set()
            return clouds(self.config, self.loop.state.cluster)
        from dsched.providers.local.keep import keep
        from dsched.providers.local.options import Options
        from dsched.providers.local.start import ensure

        config = self.config
        options = Options(
            seed=config.seed,
            scale=config.scale,
            notice_scale=config.notice_scale,
            trace=config.trace,
            script=config.script,
            max_nodes=config.max_nodes,
        )
        local = await ensure(config.state / "cloud", options, begun=self._begun.set)
        await self._follow(local)
        self.control.market_note = await local.note()
        self._keep = lambda: keep(config.state / "cloud", options, lambda what: log.warning("cloud.kept", what=what))
        return {local.name: local}

    async def _follow(self, provider: Clocked) -> None:
        moment, scale = await provider.clock()
        self.clock.follow(moment, scale)
        self.loop.state.scale = scale

    def _start_ticking(self) -> None:
        from dsched.scheduler.engine.ticker import Ticker

        ticker, watchdog = Ticker(), Watchdog.from_env()

        def tick() -> None:
            self.loop.post(Tick())
            watchdog.alive()

        ticker.every(TICK_SECONDS, tick, "tick")
        ticker.every(self.config.observe_seconds, self._each(Observer.look), "observe")
        ticker.every(self.config.prices_seconds, self._each(Observer.ask_prices), "prices")
        ticker.every(TICK_SECONDS, self._journal, "journal")
        ticker.start()
        watchdog.ready()

    def _each(self, call: Callable[[Observer], None]) -> Callable[[], None]:
        def each() -> None:
            for observer in self.observers.values():
                call(observer)

        return each

    def _journal(self) -> None:
        """Last values go to their own tables; the event log holds decisions and facts only."""
        state = self.loop.state
        self.store.put_progress(state.progress)
        self.store.put_quotes({key: offer.quote for key, offer in state.offers.items() if offer.quote is not None})
        now = self.clock.now().market
        self.market.look(state, now)
        self.forecasts.look(state, self.loop.policy, now)
        if not self.market.writing:  # a disk that is behind gets the lines of these seconds at once
            self._writing = asyncio.get_running_loop().create_task(self.market.write())
        if self.recorder is not None:
            self.recorder.flush()
        self._remember_clock()

    def _remember_clock(self) -> None:
        """After each jump, with what it holds back: two that cancel each other out must not hide behind a crash."""
        held, anchor = self.loop.state.proofs_from, self.clock.anchor
        if anchor is None or not self.clock.settled:
            return
        told = anchor.text(held if self.clock.now().wall <= held else Instant(0))
        if told != self._clocks and self.clock.settled:
            self._clocks = told
            self.store.put_meta(CLOCK, told)

    def _publish(self, batch: Sequence[tuple[int, Event]]) -> None:
        self.control.seq = batch[-1][0]
        events = [event for _, event in batch]
        self.market.hear(events)
        self.forecasts.hear(events)
        self.broadcast.publish(batch)

    def _carry(self, effects: Sequence[Effect]) -> None:
        assert self._executor is not None
        self._executor.carry(effects)


def _recorder(config: Config, seed: int, policy: Policy, terms: Terms) -> Recorder | None:
    if config.record is None:
        return None
    from dsched.scheduler.engine.record import Recorder

    return Recorder(config.record, seed, policy, terms)


def _load_rest() -> None:
    """What no daemon needs to be ready and every one soon after: it takes half as long as the start.

    Crowds and jobs with a deadline need numpy, ticks APScheduler, and a log line structlog; whoever comes before
    this is done loads it himself.
    """
    log.load()
    for name in ("core.fleetplan.crowd", "core.timely.obey", "engine.ticker"):
        import_module(f"dsched.scheduler.{name}")


def _leaves(error: BaseException) -> list[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        return [leaf for part in error.exceptions for leaf in _leaves(part)]
    return [error]


def _status(leaves: Sequence[BaseException]) -> int:
    """What the end asks of whoever started us."""
    from dsched.scheduler.api.serve import SocketTaken

    if any(isinstance(leaf, StoreFailed) for leaf in leaves):
        return EXIT_AGAIN
    return EXIT_PERSON if any(isinstance(leaf, SocketTaken) for leaf in leaves) else EXIT_FAULT


def main(argv: Sequence[str] | None = None) -> None:
    log.to_stderr()
    try:
        config = read(sys.argv[1:] if argv is None else argv)
        check_clouds(config)
        store = Store.open(config.state)
        gate = Gate(config)
    except (ConfigError, StoreError, OSError) as error:
        sys.stderr.write(f"error[E300] {error}\n")
        sys.exit(EXIT_AGAIN if isinstance(error, StoreFailed) else EXIT_PERSON)
    daemon = Daemon(config, store, gate)
    gc.freeze()  # what was loaded lives on: no collection needs to look at it
    gc.set_threshold(*COLLECT)
    sys.setswitchinterval(SWITCH_SECONDS)
    try:
        asyncio.run(daemon.run())
    except BaseExceptionGroup as group:
        leaves = _leaves(group)
        for leaf in leaves:
            log.error("daemon.failed", error=str(leaf), kind=type(leaf).__name__, exc_info=leaf)
        os._exit(_status(leaves))


if __name__ == "__main__":
    main()
