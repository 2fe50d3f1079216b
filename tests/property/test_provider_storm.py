"""Whatever a cloud does to our calls, in any order: a token never has two machines, and a sweep leaves no orphan."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any, TypeVar

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from dsched.providers.base import Launch, NodeStatus, ProviderError
from tests.support.aws_world import AwsWorld
from tests.support.world import want

T = TypeVar("T")

TOKENS = st.sampled_from(["a", "b", "c"])
FAULTS = st.sampled_from(["", "lost-before", "lost-after", "throttled", "quota", "auth", "sold-out", "read-lost"])


class Storm(RuleBasedStateMachine):
    """A daemon that asks again with the same wish, dies, and sweeps; and a cloud that is never quite well."""

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.world = AwsWorld()
        self.wishes: dict[str, Launch] = {}
        self.dropped: set[str] = set()  # tokens that nobody wants any more

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return self.runner.run(work)

    @initialize()
    def begin(self) -> None:
        self.run(self.world.open())
        self.provider = self.world.provider()
        self.stranger = self.run(self.world.foreign())

    @rule(token=TOKENS, fault=FAULTS)
    def launch(self, token: str, fault: str) -> None:
        """In trouble, and then again."""
        wish = self.wishes.setdefault(token, want(self.world, token))
        self.run(self._fault(fault))
        self._launch(wish)
        if fault == "sold-out":
            self.world.pull("capacity", shape=wish.pool.shape, zone="us-east-1a", market="spot", free=40)
        self.world.pull("heal")
        self._launch(wish)

    def _launch(self, wish: Launch) -> None:
        with suppress(ProviderError):  # what became of it is for the invariants to find out
            self.run(self.provider.launch(wish))

    async def _fault(self, fault: str) -> None:
        match fault:
            case "lost-before" | "lost-after":
                await self.world.lose_reply(done=fault == "lost-after")
            case "sold-out":
                await self.world.stockout()
            case "read-lost":
                await self.world.break_reads("lost")
            case "":
                pass
            case _:
                await self.world.refuse_launch(fault)

    @rule()
    def crash(self) -> None:
        self.provider = self.world.provider()

    @rule(token=TOKENS)
    def interrupt(self, token: str) -> None:
        for node in self.run(self.provider.nodes([token])):
            if node.status is not NodeStatus.GONE:
                self.run(self.world.interrupt(node.ref, notice=False))

    @rule(token=TOKENS)
    def give_up(self, token: str) -> None:
        self.dropped.add(token)

    @rule()
    def sweep(self) -> None:
        nodes = self.run(self.provider.nodes())
        self.run(self.provider.terminate([node.ref for node in nodes if node.token in self.dropped]))

    @invariant()
    def no_token_has_two_machines(self) -> None:
        if self.wishes:
            living = Counter(self.run(self.world.living()))
            assert all(count == 1 for count in living.values()), living

    def teardown(self) -> None:
        self.dropped |= set(self.wishes)

        async def swept() -> bool | None:
            nodes = await self.provider.nodes()
            await self.provider.terminate([node.ref for node in nodes])
            return not await self.world.living() or None

        try:
            self.run(self.world.until(swept))
            assert self.run(self.world.foreign_runs(self.stranger))
        finally:  # else the loop's sockets fail whichever test comes next
            self.run(self.world.close())
            self.runner.close()


Storm.TestCase.settings = settings(
    max_examples=8,
    stateful_step_count=12,
    deadline=None,
    derandomize=True,
    phases=[Phase.generate],  # a failure over HTTP is not made smaller: that takes minutes
    suppress_health_check=[HealthCheck.too_slow],
)
TestStorm = pytest.mark.slow(Storm.TestCase)
