"""What Google Cloud refuses, delays and half does, and what becomes of the token then."""

from __future__ import annotations

import re
import socket
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import replace

import pytest

from dsched.providers.base import (
    Ambiguous,
    Auth,
    Capacity,
    Price,
    ProviderError,
    Throttled,
)
from dsched.providers.gcp import client as client_module
from tests.support.gce.rest import Fault
from tests.support.gce.world import INSERT, GcpWorld, ended, place_of
from tests.support.world import want


@pytest.fixture
async def world() -> AsyncIterator[GcpWorld]:
    async with GcpWorld() as world:
        yield world


async def test_an_operation_that_is_not_done_in_time_is_ambiguous_and_the_same_token_waits_on(
    world: GcpWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dsched.providers.gcp.provider.WAIT_S", 0.05)
    world.cloud.boot = 1.0
    provider, wish = world.provider(), want(world, "a")
    with pytest.raises(Ambiguous):
        await provider.launch(wish)
    monkeypatch.setattr("dsched.providers.gcp.provider.WAIT_S", 10.0)
    [node] = await provider.launch(wish)
    assert node.token == "a"
    assert len(world.cloud.machines) == 1


async def test_a_cloud_that_takes_the_call_and_says_nothing_is_ambiguous_within_five_seconds(world: GcpWorld) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        world.settings = replace(world.settings, endpoint=f"http://127.0.0.1:{silent.getsockname()[1]}")
        with pytest.raises(Ambiguous):
            await world.provider().launch(want(world, "a"))
        assert callers(silent) == 1  # what had no answer is not asked again
    assert client_module.WRITE_S < 5


def callers(server: socket.socket) -> int:
    """How many have knocked in vain."""
    server.setblocking(False)
    count = 0
    with suppress(BlockingIOError):
        while True:
            server.accept()[0].close()
            count += 1
    return count


async def test_a_stockout_leaves_no_machine_and_no_disk_behind(world: GcpWorld) -> None:
    provider = world.provider()
    await world.stockout()
    for token, count in (("one", 1), ("gang", 4)):
        with pytest.raises(Capacity) as refusal:
            await provider.launch(want(world, token, count=count))
        assert refusal.value.code == "ZONE_RESOURCE_POOL_EXHAUSTED_WITH_DETAILS"
    assert world.cloud.machines == {}
    assert len([call for call in world.front.calls if re.search(INSERT, call.partition("?")[0])]) == 2  # none repeated


async def test_the_quota_of_a_region_is_told_and_can_be_read(world: GcpWorld) -> None:
    provider = world.provider()
    world.cloud.quotas["us-central1", "PREEMPTIBLE_NVIDIA_A100_GPUS"] = 2
    await provider.launch(want(world, "a", count=2))
    told = [quota for quota in await provider.limits() if quota.covers(world.pool)]
    assert [(quota.limit, quota.unit) for quota in told] == [(2, "gpus")]  # ours are counted by whoever asks
    with pytest.raises(ProviderError, match="quotaExceeded"):
        await provider.launch(want(world, "b"))


async def test_a_notice_that_the_service_does_not_know_is_left_out(world: GcpWorld) -> None:
    world.settings = replace(world.settings, notice_seconds=120)
    world.cloud.notices_supported = False
    provider = world.provider()
    [node] = await provider.launch(want(world, "a"))
    assert world.cloud.machine(*place_of(node)).metadata["preemption-notice-ms"] == "30000"
    inserts = len([call for call in world.front.calls if call.startswith("POST") and "/instances?" in call])
    await provider.launch(want(world, "b"))
    assert len([call for call in world.front.calls if call.startswith("POST") and "/instances?" in call]) == inserts + 1
    world.cloud.notices_supported = True
    [longer] = await world.provider().launch(want(world, "c"))
    assert world.cloud.machine(*place_of(longer)).metadata["preemption-notice-ms"] == "120000"


async def test_a_price_that_rose_after_a_lost_reply_does_not_disown_the_machine(world: GcpWorld) -> None:
    provider = world.provider()
    [offer] = [offer for offer in await provider.offers() if offer.pool == world.pool]
    assert offer.quote is not None
    wish = want(world, "a", price_max=offer.quote.price)
    await world.lose_reply(done=True)
    with pytest.raises(Ambiguous):
        await provider.launch(wish)
    await world.raise_price()
    [node] = await provider.launch(wish)
    assert node.token == "a"
    with pytest.raises(Price):
        await provider.launch(replace(wish, token="b"))


@pytest.mark.parametrize("how", ["quota", "auth", "invalid"])
async def test_a_repeat_that_is_refused_does_not_disown_the_machine(world: GcpWorld, how: str) -> None:
    """The quota may be used up by the very machine whose reply was lost."""
    provider, wish = world.provider(), want(world, "a")
    await world.lose_reply(done=True)
    with pytest.raises(Ambiguous):
        await provider.launch(wish)
    await world.refuse_launch(how)
    [node] = await provider.launch(wish)
    assert node.token == "a"


async def test_a_signature_that_is_refused_is_told_as_such(world: GcpWorld) -> None:
    world.front.token = "another"
    provider = world.provider()
    for call in (provider.nodes, provider.offers):
        with pytest.raises(Auth):
            await call()


async def test_a_throttle_that_goes_on_is_told_as_one(world: GcpWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_module, "RETRY_S", 0.3)
    world.front.faults.append(Fault("GET .*/aggregated/instances", 403, "rateLimitExceeded", times=1_000))
    with pytest.raises(Throttled):
        await world.provider().nodes()


async def test_a_page_of_a_proxy_is_ambiguous_and_no_crash(world: GcpWorld) -> None:
    world.front.faults.append(Fault(INSERT, 502, html=True))
    with pytest.raises(Ambiguous):
        await world.provider().launch(want(world, "a"))


async def test_one_refused_deletion_keeps_no_other_from_being_asked_for(world: GcpWorld) -> None:
    provider = world.provider()
    nodes = await provider.launch(want(world, "a", count=3))
    world.front.faults.append(Fault("DELETE .*-0$", 403, "rateLimitExceeded"))
    with pytest.raises(Throttled):
        await provider.terminate([node.ref for node in nodes])
    left = [name for (_, name), machine in world.cloud.machines.items() if machine.status != "STOPPING"]
    assert [name.rpartition("-")[2] for name in left] in (["0"], [])
    await provider.terminate([node.ref for node in nodes])
    await ended(world, provider, "a")
