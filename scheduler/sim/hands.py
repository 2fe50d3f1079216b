"""The effects of the simulated core, carried out: calls to the cloud that take their time and may go wrong, orders to
agents, alarms. A crash of the daemon leaves what has happened already, and loses every answer that was under way.
"""

from __future__ import annotations

from collections.abc import Coroutine
from random import Random
from typing import Any, Final, TypeVar

from dsched.providers.base import NodeRef, Notice, NoticeKind, ProviderError
from dsched.providers.fake.cloud import FakeCloud
from dsched.providers.fake.provider import FakeProvider
from dsched.scheduler.core.effect import (
    CallLaunch,
    CallObserve,
    CallRenew,
    CallTerminate,
    Effect,
    Foresee,
    SendAlert,
    TellLeave,
    TellStart,
    TellStop,
    WakeAt,
)
from dsched.scheduler.core.hardware import Shape
from dsched.scheduler.core.market import Pool
from dsched.scheduler.core.message import AlertTried, Message, NodesSeen, OffersSeen, Tick
from dsched.scheduler.core.timely.foresight import Request
from dsched.scheduler.core.units import SECOND, Instant, Millis
from dsched.scheduler.engine.translate import launch_of, launched, noticed, seen
from dsched.scheduler.sim.clock import Agenda
from dsched.scheduler.sim.daemon import Daemon
from dsched.scheduler.sim.faults import Faults
from dsched.scheduler.sim.fleet import Fleet
from dsched.scheduler.sim.market import Crier
from dsched.scheduler.sim.seer import TAKES, Seer

T = TypeVar("T")

CALL: Final = Millis(1_500)  # a launch, until it is answered
ASK: Final = Millis(300)  # a list, until it is answered
ORDER: Final = Millis(100)  # an order, until it is obeyed: agents poll long
LEASE_DUE: Final = Millis(1)  # after the end of a lease, a notice or a boot: then it is over
GRID: Final = 10  # alarms ring at full ten milliseconds, as the daemon's do


def at_once(call: Coroutine[Any, Any, T]) -> T:
    """The result of a call that never waits: the cloud in memory answers at once; how long it took is our business."""
    try:
        call.send(None)
    except StopIteration as answer:
        result: T = answer.value
        return result
    call.close()
    raise RuntimeError("a call to the cloud in memory waited")


class Hands:
    """One provider's calls, and everybody's orders."""

    def __init__(self, agenda: Agenda, cloud: FakeCloud, faults: Faults, rng: Random) -> None:
        self.agenda, self.cloud, self.faults, self.rng = agenda, cloud, faults, rng
        self.provider = FakeProvider(cloud, scale=agenda.scale, rates=faults.calls)
        self.daemon: Daemon
        self.fleet: Fleet
        self.crier: Crier
        self.seer = Seer()
        self._alarms: set[int] = set()
        self._launching: set[str] = set()
        self._looking, self._pricing = False, False
        self._settling: Instant | None = None
        cloud.hear.append(self._hint)

    def wire(self, daemon: Daemon, fleet: Fleet, crier: Crier) -> None:
        self.daemon, self.fleet, self.crier = daemon, fleet, crier

    def carry(self, effect: Effect) -> None:
        """Begin to carry it out: nothing happens before this instant is over."""
        epoch = self.daemon.epoch
        match effect:
            case CallLaunch(intent=name):
                self.agenda.after(Millis(0), self._launch, name, epoch)
            case CallTerminate(refs=refs):
                self.agenda.after(ASK, self._terminate, refs, epoch)
            case CallRenew(ref=ref, until=until):
                self.agenda.after(ASK, self._renew, ref, until, epoch)
            case CallObserve():
                self.look()
            case TellStart() | TellStop() | TellLeave():
                self.agenda.after(ORDER, self.fleet.order, effect, epoch)
            case SendAlert(id=alert):
                self.agenda.after(ASK, self.tell, AlertTried(id=alert, ok=True), epoch)
            case Foresee(request=request):
                self.agenda.after(TAKES, self._foresee, request, epoch)
            case WakeAt(at=instant):
                self._alarm(instant)
            case _:
                pass  # a checkpoint out of turn: simulated jobs save at their own pace

    def tell(self, message: Message, epoch: int) -> None:
        """An answer reaches the daemon that asked, if it still lives."""
        if epoch == self.daemon.epoch and self.daemon.up:
            self.daemon.tell(message)

    def crashed(self) -> None:
        self._launching.clear()
        self._alarms.clear()
        self._looking = self._pricing = False

    def _foresee(self, request: Request, epoch: int) -> None:
        if epoch == self.daemon.epoch:
            self.tell(self.seer.answer(request), epoch)

    # -- looking -----------------------------------------------------------------------------------------------------

    def look(self) -> None:
        """Many hints make one list."""
        if not self._looking:
            self._looking = True
            self.agenda.after(ASK, self._list, self.daemon.epoch)

    def ask_prices(self) -> None:
        if not self._pricing:
            self._pricing = True
            self.agenda.after(ASK, self._offers, self.daemon.epoch)

    def _list(self, epoch: int) -> None:
        if epoch != self.daemon.epoch:
            return
        self._looking = False
        asked = self.agenda.now.wall
        try:
            nodes = at_once(self.provider.nodes())
        except ProviderError:
            return  # an error is never an empty list: the core is told nothing
        self.tell(NodesSeen(provider=self.cloud.name, nodes=seen(nodes), asked=asked), epoch)
        self.settle()

    def _offers(self, epoch: int) -> None:
        if epoch != self.daemon.epoch:
            return
        self.crier.words()
        self._pricing = False
        try:
            offers = at_once(self.provider.offers())
        except ProviderError:
            return
        self.tell(OffersSeen(provider=self.cloud.name, offers=tuple(offers)), epoch)

    def _hint(self, notice: Notice) -> None:
        match notice.kind:
            case NoticeKind.PRICES:
                if self.crier.moved:
                    self.ask_prices()
            case NoticeKind.GONE:
                assert notice.ref is not None, "an end is somebody's"
                self.fleet.gone(notice.ref)
                self.look()
            case NoticeKind.INTERRUPT:
                assert notice.ref is not None, "an interruption is somebody's"
                assert notice.deadline is not None, "a notice names its end"
                self.fleet.noticed(notice.ref, notice.deadline)
                for message in noticed(self.daemon.state, self.cloud.name, notice) if self.daemon.up else ():
                    self.agenda.after(ASK, self.tell, message, self.daemon.epoch)
                self.settle()
            case NoticeKind.REBALANCE:
                self.look()

    # -- calls -------------------------------------------------------------------------------------------------------

    def _launch(self, name: str, epoch: int) -> None:
        intent = self.daemon.state.intents.get(name) if epoch == self.daemon.epoch else None
        if intent is None or name in self._launching:
            return
        self._launching.add(name)
        want = launch_of(intent, self.daemon.state.cluster, "")
        fact = at_once(launched(self.provider, want))
        token = [machine for machine in self.cloud.sold(name) if machine.ended is None]
        self.fleet.appear(token, self._shape(intent.pool))
        self.settle()
        wait = int(CALL)
        if self.rng.random() < self.faults.late:
            wait += self.rng.randrange(int(self.faults.late_max))
        self.agenda.after(Millis(wait), self._answer, name, fact, epoch)
        if self.rng.random() < self.faults.doubled:
            self.agenda.after(Millis(wait + self.rng.randrange(int(self.faults.late_max))), self.tell, fact, epoch)

    def _answer(self, name: str, fact: Message, epoch: int) -> None:
        if epoch == self.daemon.epoch:
            self._launching.discard(name)
        self.tell(fact, epoch)

    def _shape(self, pool: Pool) -> Shape:
        return self.crier.shape(pool)

    def _terminate(self, refs: tuple[str, ...], epoch: int) -> None:
        if epoch != self.daemon.epoch:
            return
        wanted = [NodeRef(self.cloud.name, ref) for ref in refs]
        for ref in wanted:
            if self.rng.random() < self.faults.undead and self.cloud.lives(ref):
                self.cloud.make_undead(ref)
                self.agenda.after(self.faults.undead_for, self.cloud.release, ref)
        try:
            at_once(self.provider.terminate(wanted))
        except ProviderError:
            return  # no fact: the core asks again until a list proves the end
        self.look()

    def _renew(self, ref: str, until: Instant, epoch: int) -> None:
        if epoch != self.daemon.epoch:
            return
        try:
            at_once(self.provider.renew([NodeRef(self.cloud.name, ref)], until))
        except ProviderError:
            self.agenda.after(SECOND, self._renew, ref, until, epoch)
        self.settle()

    # -- time --------------------------------------------------------------------------------------------------------

    def settle(self) -> None:
        """See to it that the cloud is looked at when something is due there."""
        due = self.cloud.next_due()
        if due is not None and (self._settling is None or due < self._settling):
            self._settling = due
            self.agenda.at(due + LEASE_DUE, self._settle, due)

    def _settle(self, due: Instant) -> None:
        if self._settling == due:
            self._settling = None
        self.cloud.settle()
        self.settle()

    def _alarm(self, instant: Instant) -> None:
        due = -(-instant // GRID) * GRID
        if due not in self._alarms:
            self._alarms.add(due)
            self.agenda.at(due, self._ring, due, self.daemon.epoch)

    def _ring(self, due: int, epoch: int) -> None:
        if epoch == self.daemon.epoch:
            self._alarms.discard(due)
            self.tell(Tick(), epoch)
