"""A stage for the core: one state, one virtual clock, and hands to play provider and agent."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from random import Random
from typing import Any

from dsched.scheduler.core.effect import CallLaunch, Effect, TellStart, TellStop
from dsched.scheduler.core.event import Event
from dsched.scheduler.core.hardware import Accelerator, Shape
from dsched.scheduler.core.job import Need, Spec
from dsched.scheduler.core.market import Market, Offer, Pool, Quote
from dsched.scheduler.core.message import (
    Act,
    Action,
    AgentHello,
    CheckpointSaved,
    Launched,
    LaunchRefused,
    Message,
    NodeNoticed,
    NodesSeen,
    OffersSeen,
    Place,
    RanksExited,
    RanksStarted,
    RefusedBy,
    SeenNode,
    Submit,
    Tick,
)
from dsched.scheduler.core.placement import Policy
from dsched.scheduler.core.snapshot import Job, Node, State
from dsched.scheduler.core.step import handle
from dsched.scheduler.core.terms import Terms
from dsched.scheduler.core.units import HOUR, Instant, Millis, Moment, price

H100 = Accelerator(name="H100", memory_gib=80, bandwidth_gb_s=3350, bf16_tflops=989.0, fp8_tflops=1979.0, tdp_watts=700)
P5 = Shape(name="p5.48xlarge", accelerator=H100, gpus=8, vcpus=192, memory_gib=2048)


def pool(zone: str, market: Market = Market.SPOT, shape: Shape = P5) -> Pool:
    return Pool(provider="local", region=zone.rpartition("-")[0], zone=zone, shape=shape.name, market=market)


def offer(zone: str, dollars: float, *, market: Market = Market.SPOT, free: int = 8, at: int = 0) -> Offer:
    return Offer(
        pool=pool(zone, market),
        shape=P5,
        quote=Quote(price=price(dollars), at=Instant(at), source="test"),
        on_demand=price(98.32),
        free=free,
        hazard=0.05 if market is Market.SPOT else None,
        notice=Millis(120_000),
    )


def spec(name: str = "moe", *, gpus: int = 8, gpus_max: int = 0, **changed: Any) -> Spec:
    need = Need(accelerators=("H100",), gpus_min=gpus, gpus_max=gpus_max or gpus)
    return replace(Spec(name=name, run="train", need=need), **changed)


class Stage:
    """Messages go in as methods; what the core asked for is kept in `effects`, what it wrote in `events`."""

    def __init__(self, *offers: Offer, scale: float = 1.0, terms: Terms | None = None) -> None:
        self.state = State(cluster="c" * 32, scale=scale)
        self.terms = terms or Terms()
        self.policy = Policy()
        self.rng = Random(7)
        self.now = Moment(Instant(1_000_000), Instant(1_000_000))
        self.events: list[Event] = []
        self.effects: list[Effect] = []
        if offers:
            self.offers(*offers)

    def tell(self, message: Message) -> Any:
        """One message, then the planner if it is due: what the loop does."""
        self.effects = []
        answer = self._handle(message)
        while self.state.dirty:
            self._handle(Place())
        return answer

    def _handle(self, message: Message) -> Any:
        step = handle(self.state, message, self.now, self.rng, self.policy, self.terms)
        self.events += step.events
        self.effects += step.effects
        return step.answer

    def wait(self, wall: int) -> None:
        """Time passes, and the loop ticks once at the end of it."""
        self.now = Moment(Instant(self.now.wall + wall), Instant(self.now.market + int(wall * self.state.scale)))
        self.tell(Tick())

    def offers(self, *offers: Offer) -> None:
        stamped = [
            replace(o, quote=replace(o.quote, at=self.now.market)) if o.quote and not o.quote.at else o for o in offers
        ]
        self.tell(OffersSeen(provider="local", offers=tuple(stamped)))

    # -- people ----------------------------------------------------------------------------------------------------

    def submit(self, wish: Spec | None = None, key: str = "") -> str:
        made: str = self.tell(Submit(spec=wish or spec(), key=key or f"k{self.state.jobs_made}"))
        return made

    def act(self, job: str, action: Action, **more: Any) -> None:
        self.tell(Act(job=job, action=action, **more))

    def job(self, name: str = "j1") -> Job:
        return self.state.jobs[name]

    def asked(self, kind: type) -> list[Any]:
        return [effect for effect in self.effects if isinstance(effect, kind)]

    def kinds(self) -> list[str]:
        return [event.kind for event in self.events]

    # -- the provider ----------------------------------------------------------------------------------------------

    def seen(self, node: Node, *, alive: bool = True, by: str = "", ended: int | None = None) -> SeenNode:
        return SeenNode(
            ref=f"i-{node.id}",
            token=node.token,
            index=node.index,
            pool=node.pool,
            alive=alive,
            launched=node.launched if node.launched is not None else self.now.market,
            ended=None if alive else Instant(ended if ended is not None else self.now.market),
            ended_by=by,
        )

    def launch(self, intent: str = "") -> list[str]:
        """The provider answers the (only) open launch with machines."""
        intent = intent or next(iter(self.state.intents))
        nodes = [self.state.nodes[name] for name in self.state.intents[intent].nodes]
        self.tell(Launched(intent=intent, nodes=tuple(self.seen(node) for node in nodes)))
        return [node.id for node in nodes]

    def refuse(self, by: RefusedBy = RefusedBy.CAPACITY, scope: str = "pool", cooldown: int = 180_000) -> None:
        intent = next(iter(self.state.intents))
        self.tell(LaunchRefused(intent=intent, by=by, why="sold out", scope=scope, cooldown=Millis(cooldown)))

    def list(self, *nodes: SeenNode) -> None:
        self.tell(NodesSeen(provider="local", nodes=nodes, asked=self.now.wall))

    def list_all(self, **gone: str) -> None:
        """A truthful list; `gone` names nodes by index in the state ("n0") that are dead, and by what."""
        names = list(self.state.nodes)
        dead = {names[int(key[1:])]: by for key, by in gone.items()}
        self.list(
            *(self.seen(n, alive=n.id not in dead, by=dead.get(n.id, "")) for n in self.state.nodes.values() if n.ref)
        )

    def kill(self, node: str, by: str = "interrupted") -> None:
        """The provider proves that this node is gone."""
        self.list(*(self.seen(n, alive=n.id != node, by=by if n.id == node else "") for n in self.state.nodes.values()))

    # -- the agents ------------------------------------------------------------------------------------------------

    def hello(self, *nodes: str) -> None:
        effects: list[Effect] = []
        for node in nodes:
            self.tell(AgentHello(node=node))
            effects += self.effects
        self.effects = effects

    def started(self, job: str = "j1") -> None:
        row = self.job(job)
        for node in row.nodes:
            self.tell(RanksStarted(node=node, job=job, generation=row.generation))

    def exit(
        self, code: int, *, job: str = "j1", drained: bool = False, nodes: Iterable[str] = (), tail: str = ""
    ) -> None:
        row = self.job(job)
        for node in nodes or row.nodes:
            rank = row.nodes.index(node)
            self.tell(
                RanksExited(
                    node=node, job=job, generation=row.generation, exits={str(rank): code}, drained=drained, tail=tail
                )
            )

    def saved(self, step: int, job: str = "j1") -> None:
        row = self.job(job)
        self.tell(CheckpointSaved(node=row.nodes[0], job=job, generation=row.generation, step=step))

    def notice(self, node: str, lead: int = 120_000, *, by_node: bool = True) -> None:
        deadline = Instant(self.now.wall + lead)
        self.tell(NodeNoticed(node=node, deadline=deadline, source="test", by_node=by_node))

    def run(self, wish: Spec | None = None) -> str:
        """Submit a job and bring it to running, machines and all."""
        job = self.submit(wish)
        if any(self.asked(CallLaunch)):
            self.hello(*self.launch())
        assert len(self.asked(TellStart)) == len(self.job(job).nodes) > 0
        self.started(job)
        return job


__all__ = ["HOUR", "P5", "Stage", "TellStart", "TellStop", "offer", "pool", "spec"]
