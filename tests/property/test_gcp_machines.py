"""Whatever is lost, refused, repeated, taken or restarted: one live machine per token, and none is left over."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from dsched.providers.base import Ambiguous, Launch, NodeStatus, ProviderError
from dsched.providers.gcp.provider import GcpProvider
from tests.support.gce.rest import Fault
from tests.support.gce.world import INSERT, GcpWorld
from tests.support.world import want

pytest.importorskip("google.cloud.compute_v1", reason="google-cloud-compute is missing: pip install .[gcp]")

T = TypeVar("T")

TOKENS = [f"t{number}" for number in range(4)]
READ = "GET .*/(aggregated|instances/)"
FAULTS = [
    Fault(INSERT, cut="before"),
    Fault(INSERT, cut="after"),
    Fault(INSERT, 403, "rateLimitExceeded"),
    Fault(INSERT, 403, "quotaExceeded"),
    Fault(INSERT, 500, "internalError"),
    Fault(INSERT, 502, html=True),
    Fault("POST .*/wait$", cut="before"),
    Fault("POST .*/wait$", 503, "backendError"),
    Fault(READ, cut="after"),
    Fault(READ, 403, "forbidden"),
    Fault("DELETE", cut="after"),
    Fault("DELETE", 403, "rateLimitExceeded"),
]


class Machines(RuleBasedStateMachine):
    """The cloud has every fault; the caller repeats a token until it knows, and sweeps what nobody wants."""

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.world = GcpWorld()
        self.world.cloud.boot = self.world.cloud.notice = 0.0
        self.world.cloud.capacity[self.world.pool.zone, self.world.pool.shape, "SPOT"] = 6
        self.wishes: dict[str, Launch] = {}
        self.refused: set[str] = set()  # nothing was left behind, the cloud said
        self.run(self.world.open())
        self.provider: GcpProvider = self.world.provider()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return self.runner.run(work)

    @rule(token=st.sampled_from(TOKENS), count=st.integers(1, 3), fault=st.none() | st.sampled_from(FAULTS))
    def launch(self, token: str, count: int, fault: Fault | None) -> None:
        """A token that is used again asks for the same, byte by byte; one that was refused is never used again."""
        if token in self.refused:
            return
        wish = self.wishes.setdefault(token, want(self.world, token, count=count))
        self.trouble(fault)
        try:
            nodes = self.run(self.provider.launch(wish))
        except Ambiguous:
            pass
        except ProviderError as error:
            if error.code in ("ZONE_RESOURCE_POOL_EXHAUSTED_WITH_DETAILS", "quotaExceeded"):
                self.refused.add(token)
        else:
            assert [node.index for node in nodes] == list(range(wish.count))
        self.world.front.faults.clear()

    @rule(token=st.sampled_from(TOKENS), fault=st.none() | st.sampled_from(FAULTS))
    def give_up(self, token: str, fault: Fault | None) -> None:
        self.trouble(fault)
        self.sweep(token)
        self.world.front.faults.clear()

    @rule(data=st.data(), how=st.sampled_from(["preempt", "exit", "break"]))
    def lose(self, data: st.DataObject, how: str) -> None:
        """A machine is taken back, switches itself off or breaks."""
        cloud = self.world.cloud
        with cloud.changed:
            alive = [key for key, one in sorted(cloud.machines.items()) if one.status == "RUNNING"]
            if alive:
                act = {"preempt": cloud.preempt, "exit": cloud.guest_exit, "break": cloud.host_error}[how]
                act(*data.draw(st.sampled_from(alive)))

    @rule()
    def restart(self) -> None:
        self.provider = self.world.provider()

    @invariant()
    def one_machine_per_place(self) -> None:
        """Each token has at most as many machines as it asked for, and a refused one none."""
        with self.world.cloud.changed:
            self.world.cloud.settle()
            names = [name for _, name in self.world.cloud.machines]
        for token in TOKENS:
            ours = [name for name in names if name.startswith(f"{token}-s-")]
            assert len(ours) <= (self.wishes[token].count if token in self.wishes else 0)
            assert token not in self.refused or not ours

    def trouble(self, fault: Fault | None) -> None:
        if fault is not None:
            self.world.front.faults.append(Fault(**{name: getattr(fault, name) for name in Fault.__slots__}))

    def sweep(self, *tokens: str) -> None:
        try:
            nodes = self.run(self.provider.nodes(tokens))
            self.run(self.provider.terminate([node.ref for node in nodes if node.status is not NodeStatus.GONE]))
        except ProviderError:
            pass

    def teardown(self) -> None:
        self.world.front.faults.clear()
        try:
            for _ in range(50):
                self.sweep(*TOKENS)
                with self.world.cloud.changed:
                    self.world.cloud.settle()
                    if not self.world.cloud.machines:
                        break
            assert self.world.cloud.machines == {}
        finally:
            self.run(self.world.close())
            self.runner.close()


Machines.TestCase.settings = settings(max_examples=40, stateful_step_count=15, deadline=None)
TestMachines = pytest.mark.slow(Machines.TestCase)
