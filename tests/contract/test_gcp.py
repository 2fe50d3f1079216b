"""What Google Cloud does to us beyond the common contract: the real client library against the fake over HTTP."""

from __future__ import annotations

import asyncio
import json
import socket
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest

from dsched.providers.base import (
    Ambiguous,
    Auth,
    Capacity,
    EndReason,
    Invalid,
    Node,
    NodeStatus,
    NoticeKind,
    Price,
    Provider,
    ProviderError,
    Throttled,
)
from dsched.providers.gcp import client as client_module
from dsched.providers.gcp.permissions import METHODS
from dsched.providers.gcp.prices import Usage
from dsched.scheduler.core.market import Market, Pool
from tests.support.gce.replay import Replay
from tests.support.gce.rest import Fault
from tests.support.gce.world import INSERT, GcpWorld
from tests.support.world import want


@pytest.fixture
async def world() -> AsyncIterator[GcpWorld]:
    async with GcpWorld() as world:
        yield world


async def ended(world: GcpWorld, provider: Provider, token: str) -> Node:
    async def told() -> Node | None:
        nodes = await provider.nodes([token])
        return nodes[0] if nodes and nodes[0].status is NodeStatus.GONE else None

    return await world.until(told)


def split(node: Node) -> tuple[str, str]:
    zone, _, name = node.ref.id.partition("/")
    return zone, name


# -- machines ------------------------------------------------------------------------------------------------------


async def test_a_list_of_several_pages_is_read_whole(world: GcpWorld) -> None:
    provider = world.provider()
    await provider.launch(want(world, "gang", count=8))
    world.front.calls.clear()
    assert len(await provider.nodes()) == 8
    pages = [call for call in world.front.calls if "aggregated/instances" in call]
    assert len(pages) >= 3


async def test_a_page_that_is_lost_raises_and_tells_nothing(world: GcpWorld) -> None:
    provider = world.provider()
    await provider.launch(want(world, "gang", count=8))
    world.front.faults.append(Fault("GET .*/aggregated/instances", cut="before", skip=1))
    with pytest.raises(ProviderError):
        await provider.nodes()


async def test_a_machine_that_no_list_shows_yet_is_launched_once(world: GcpWorld) -> None:
    world.cloud.lag = 3_600.0
    provider, wish = world.provider(), want(world, "a")
    [node] = await provider.launch(wish)
    assert await provider.nodes() == []
    [again] = await provider.launch(wish)
    assert again.ref == node.ref
    assert len(world.cloud.machines) == 1
    await provider.terminate([node.ref])  # known by its launch, so no list is needed
    assert (await ended(world, provider, "a")).ended_by is EndReason.ASKED


async def test_a_zone_that_cannot_be_reached_is_told_as_it_was_and_takes_nothing_from_others(world: GcpWorld) -> None:
    provider, other = world.provider(), replace(world.pool, zone="us-central1-b")
    [here] = await provider.launch(want(world, "here"))
    [there] = await provider.launch(want(world, "there", pool=other))
    assert len(await provider.nodes()) == 2
    world.cloud.unreachable = {world.pool.zone}
    await provider.terminate([there.ref])
    assert (await ended(world, provider, "there")).ended_by is EndReason.ASKED
    [kept] = await provider.nodes(["here"])
    assert (kept.ref, kept.status) == (here.ref, NodeStatus.RUNNING)
    with pytest.raises(ProviderError):
        await world.provider().nodes()  # knows nothing of it: an empty zone would be a lie
    world.cloud.unreachable = {"asia-south1-a"}  # nothing of ours is there
    assert [one.ref for one in await world.provider().nodes(["here"])] == [here.ref]


async def test_a_refresh_that_hangs_holds_up_no_launch(world: GcpWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dsched.providers.gcp.market.PATIENCE_S", 0.05)
    provider = world.provider()
    [offer] = [offer for offer in await provider.offers() if offer.pool == world.pool]
    assert offer.quote is not None
    world.front.faults.append(Fault("GET .*/skus", delay=3.0, times=1_000))
    began = time.monotonic()
    await provider.launch(want(world, "a", price_max=offer.quote.price))
    assert time.monotonic() - began < 2
    world.front.faults.clear()


async def test_a_daemon_that_was_away_finds_how_its_machine_ended(world: GcpWorld) -> None:
    world.front.lexical = True  # the margin for text must not be what finds it
    [node] = await world.provider().launch(want(world, "a"))
    await world.interrupt(node.ref, notice=False)
    restarted = world.provider()
    found = await ended(world, restarted, "a")
    assert (found.ref, found.pool, found.ended_by) == (node.ref, node.pool, EndReason.INTERRUPTED)
    assert found.ended_at is not None
    assert node.launched_at <= found.launched_at <= found.ended_at


async def test_instants_that_are_compared_as_text_hide_no_end(world: GcpWorld) -> None:
    """California's time lies before UTC's: a filter by text would leave out the last eight hours."""
    world.front.lexical = True
    [node] = await world.provider().launch(want(world, "a"))
    provider = world.provider()
    assert len(await provider.nodes()) == 1
    await world.interrupt(node.ref, notice=False)
    assert (await ended(world, provider, "a")).ended_by is EndReason.INTERRUPTED


async def test_a_machine_that_is_off_is_gone_and_its_disk_is_cleared_away(world: GcpWorld) -> None:
    provider = world.provider()
    [node] = await provider.launch(want(world, "a"))
    with world.cloud.changed:
        world.cloud.guest_exit(*split(node))
    gone = await ended(world, provider, "a")
    assert gone.ended_by is EndReason.ASKED

    async def cleared() -> bool | None:
        await provider.nodes()
        return True if not world.cloud.machines else None

    await world.until(cleared)
    assert (await ended(world, provider, "a")) == gone  # the deletion of what was left changes nothing


async def test_a_host_that_broke_is_a_failure_and_no_interruption(world: GcpWorld) -> None:
    provider = world.provider()
    [node] = await provider.launch(want(world, "a"))
    with world.cloud.changed:
        world.cloud.host_error(*split(node))
    assert (await ended(world, provider, "a")).ended_by is EndReason.FAILED


async def test_the_cloud_itself_ends_a_machine_that_everybody_forgot(world: GcpWorld) -> None:
    provider = world.provider()
    [node] = await provider.launch(want(world, "a"))
    with world.cloud.changed:
        machine = world.cloud.machine(*split(node))
        assert machine.ends_at is not None
        assert machine.ends_at - machine.born == world.settings.run_s
        machine.ends_at = world.cloud.clock()
    assert (await ended(world, provider, "a")).ended_by is EndReason.LEASE


async def test_a_machine_of_another_cluster_in_the_project_is_neither_listed_nor_ended(world: GcpWorld) -> None:
    provider = world.provider()
    [node] = await provider.launch(want(world, "a"))
    world.cloud.machine(*split(node)).body["labels"]["dsched-cluster"] = "theirs"
    fresh = world.provider()
    assert await fresh.nodes() == []
    await fresh.terminate([node.ref])
    assert len(world.cloud.machines) == 1


# -- refusals ------------------------------------------------------------------------------------------------------


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
    with silence() as url:
        world.settings = replace(world.settings, endpoint=url)
        began = time.monotonic()
        with pytest.raises(Ambiguous):
            await world.provider().launch(want(world, "a"))
        assert time.monotonic() - began < 5
    assert client_module.WRITE_S < 5


@contextmanager
def silence() -> Iterator[str]:
    """A port that accepts and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


async def test_a_stockout_leaves_no_machine_and_no_disk_behind(world: GcpWorld) -> None:
    provider = world.provider()
    await world.stockout()
    for token, count in (("one", 1), ("gang", 4)):
        with pytest.raises(Capacity) as refusal:
            await provider.launch(want(world, token, count=count))
        assert refusal.value.code == "ZONE_RESOURCE_POOL_EXHAUSTED_WITH_DETAILS"
    assert world.cloud.machines == {}


async def test_the_quota_of_a_region_is_told_and_can_be_read(world: GcpWorld) -> None:
    provider = world.provider()
    world.cloud.quotas["us-central1", "PREEMPTIBLE_NVIDIA_A100_GPUS"] = 2
    await provider.launch(want(world, "a", count=2))
    [limit] = [one for one in await provider.quotas() if one.metric == "PREEMPTIBLE_NVIDIA_A100_GPUS"]
    assert (limit.region, limit.limit, limit.used) == ("us-central1", 2, 2)
    with pytest.raises(ProviderError, match="quotaExceeded"):
        await provider.launch(want(world, "b"))


async def test_a_notice_that_the_service_does_not_know_is_left_out(world: GcpWorld) -> None:
    world.settings = replace(world.settings, notice_seconds=120)
    world.cloud.notices_supported = False
    provider = world.provider()
    [node] = await provider.launch(want(world, "a"))
    assert world.cloud.machine(*split(node)).metadata["preemption-notice-ms"] == "30000"
    inserts = len([call for call in world.front.calls if call.startswith("POST") and "/instances?" in call])
    await provider.launch(want(world, "b"))
    assert len([call for call in world.front.calls if call.startswith("POST") and "/instances?" in call]) == inserts + 1
    world.cloud.notices_supported = True
    [longer] = await world.provider().launch(want(world, "c"))
    assert world.cloud.machine(*split(longer)).metadata["preemption-notice-ms"] == "120000"


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


# -- the market ----------------------------------------------------------------------------------------------------


async def test_old_prices_keep_their_age_when_a_refresh_fails(world: GcpWorld) -> None:
    provider = world.provider()
    first = {offer.pool: offer.quote for offer in await provider.offers()}
    world.front.faults.append(Fault("GET .*/skus", 403, "forbidden", times=1_000))
    second = {offer.pool: offer.quote for offer in await provider.offers()}
    assert first == second


async def test_every_zone_of_every_region_is_offered_at_its_regions_price(world: GcpWorld) -> None:
    offers = await world.provider().offers()
    assert {offer.pool.zone for offer in offers} == {"us-central1-a", "us-central1-b", "europe-west4-a"}
    assert {offer.pool.shape for offer in offers} >= {
        "a2-highgpu-1g",
        "a3-highgpu-8g",
        "g2-standard-4",
        "a4-highgpu-8g",
    }
    assert all(offer.on_demand for offer in offers)


async def test_the_price_list_is_not_read_again_before_its_time(world: GcpWorld) -> None:
    world.settings = replace(world.settings, prices_seconds=3_600.0)
    provider = world.provider()
    await asyncio.gather(provider.offers(), provider.offers())
    await provider.offers()
    assert len([call for call in world.front.calls if "pageToken=&" in call or call.endswith("pageToken=")]) == 1


async def test_advice_and_the_history_of_preemptions_stand_at_the_spot_offer(world: GcpWorld) -> None:
    pool = world.pool
    world.settings = replace(world.settings, advice=True, shapes=(pool.shape,))
    world.cloud.advice[pool.zone, pool.shape] = (0.7, "7200s")
    world.cloud.history[pool.zone, pool.shape] = [0.9, *[0.2] * 7]  # only the last week counts
    provider = world.provider()
    await provider.offers()  # asks in the background
    await provider.advised()
    told = {offer.pool: offer for offer in await provider.offers()}
    spot, on_demand = told[pool], told[replace(pool, market=Market.ON_DEMAND)]
    assert spot.advice is not None
    assert (spot.advice.obtainability, spot.advice.uptime) == (0.7, 7_200_000)
    assert spot.hazard == pytest.approx(0.2231 / 24, rel=1e-2)
    assert (on_demand.advice, on_demand.hazard) == (None, None)
    other = told[replace(pool, zone="us-central1-b")]
    assert (other.advice, other.hazard) == (None, None)  # refused for this one, not for all


async def test_advice_that_is_forbidden_costs_no_offer(world: GcpWorld) -> None:
    world.settings = replace(world.settings, advice=True)
    world.front.faults.append(Fault("POST .*/advice/", 403, "forbidden", times=1_000))
    provider = world.provider()
    await provider.offers()
    await provider.advised()
    assert await provider.offers()
    assert len([call for call in world.front.calls if "/advice/" in call]) == 1


async def test_a_reservation_is_an_offer_for_nothing_until_it_is_full(world: GcpWorld) -> None:
    zone = world.pool.zone
    world.cloud.reservations[zone, "mine"] = {"shape": "a2-highgpu-1g", "count": 3}
    provider, pool = world.provider(), Pool("gcp", "us-central1", zone, "a2-highgpu-1g", Market.RESERVED)

    async def free() -> int | None:
        [offer] = [offer for offer in await provider.offers() if offer.pool.market is Market.RESERVED]
        assert offer.quote is not None
        assert offer.quote.price == 0
        return offer.free

    assert await free() == 3
    wish = want(world, "a", pool=pool, count=2)
    nodes = await provider.launch(wish)
    assert [node.pool for node in nodes] == [pool, pool]
    assert await free() == 1
    with pytest.raises(Capacity):
        await provider.launch(want(world, "b", pool=pool, count=2))
    assert [node.ref for node in await provider.launch(wish)] == [node.ref for node in nodes]  # though it is full


async def test_what_a_commitment_would_cost_can_be_asked(world: GcpWorld) -> None:
    provider = world.provider()
    await provider.offers()
    prices = [await provider.listed(world.pool, usage) for usage in Usage]
    assert all(prices)
    on_demand, spot, one_year, three_years = prices
    assert on_demand > one_year > three_years > spot  # type: ignore[operator]


async def test_a_recorded_market_takes_machines_back_and_moves_the_price(world: GcpWorld) -> None:
    trace = {"counts_rle": [[3, 1], [1, 1]], "spot_price_series": [1.0, 1.5], "spot_price_stride": 1}
    market, provider = Replay(world.cloud, trace, world.pool.shape, world.pool.zone), world.provider()

    async def price() -> int:
        [offer] = [offer for offer in await provider.offers() if offer.pool == world.pool]
        assert offer.quote is not None
        return offer.quote.price

    assert market.play()
    first = await price()
    await provider.launch(want(world, "a", count=3))
    with pytest.raises(Capacity):
        await provider.launch(want(world, "b"))
    assert market.play()
    assert await price() == pytest.approx(1.5 * first, rel=1e-5)

    async def two_gone() -> bool | None:
        gone = [node for node in await provider.nodes(["a"]) if node.ended_by is EndReason.INTERRUPTED]
        return True if len(gone) == 2 else None

    await world.until(two_gone)
    assert not market.play()


async def test_a_gap_in_the_hints_is_told_when_they_come_again(world: GcpWorld) -> None:
    provider = world.provider()
    world.front.faults.append(Fault("GET .*/aggregated/operations", 403, "forbidden"))
    events = provider.events()
    first, second = await anext(events), await anext(events)
    await events.aclose()  # type: ignore[attr-defined]
    assert (first.kind, second.kind) == (NoticeKind.GONE, NoticeKind.PRICES)


# -- what it takes -------------------------------------------------------------------------------------------------


async def test_every_method_that_is_called_is_in_the_role_and_no_other(world: GcpWorld) -> None:
    world.settings = replace(world.settings, advice=True, shapes=(world.pool.shape,))
    world.cloud.advice[world.pool.zone, world.pool.shape] = (0.7, "7200s")
    world.cloud.advice["us-central1-b", world.pool.shape] = (0.7, "7200s")
    provider = world.provider()
    await provider.offers()
    await provider.advised()
    await provider.quotas()
    [node] = await provider.launch(want(world, "a"))
    await provider.launch(want(world, "gang", count=2))
    await provider.terminate([node.ref])
    await ended(world, provider, "a")
    assert world.front.methods == set(METHODS)
    assert provider.client.used == set(METHODS)


def test_the_library_still_does_what_is_worked_around_here() -> None:
    """`insert().result()` polls the public endpoint: when this fails, the work-around can go."""
    compute_v1 = pytest.importorskip("google.cloud.compute_v1")
    from google.auth.credentials import AnonymousCredentials

    options = {"api_endpoint": "http://127.0.0.1:9"}
    nobody = AnonymousCredentials()  # type: ignore[no-untyped-call]
    made = compute_v1.InstancesClient(credentials=nobody, client_options=options)
    polled = made.transport._zone_operations_client
    assert "127.0.0.1" not in polled.transport.host


async def test_user_data_of_a_gang_is_the_same_bytes_on_every_machine(world: GcpWorld) -> None:
    text = json.dumps({"secret": "\u00fc\u4e16\r\n"}) + "\n"
    nodes = await world.provider().launch(want(world, "a", count=3, user_data=text))
    assert {await world.user_data(node.ref) for node in nodes} == {text.encode()}


async def test_a_request_with_a_changed_body_is_refused_whatever_its_size(world: GcpWorld) -> None:
    provider, wish = world.provider(), want(world, "a", count=2)
    await provider.launch(wish)
    for other in (replace(wish, user_data="other"), replace(wish, count=1), replace(wish, count=3)):
        with pytest.raises(Invalid):
            await provider.launch(other)
    assert len(world.cloud.machines) == 2
