"""What Google Cloud does to our machines, beyond the common contract: the real client library, the fake over HTTP."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from dsched.providers.base import (
    EndReason,
    Invalid,
    NodeStatus,
    ProviderError,
)
from dsched.providers.gcp.gang import UNUSED
from dsched.providers.gcp.permissions import METHODS
from dsched.scheduler.core.units import Instant
from tests.support.gce.rest import Fault
from tests.support.gce.world import GcpWorld, ended, place_of
from tests.support.world import want


@pytest.fixture
async def world() -> AsyncIterator[GcpWorld]:
    async with GcpWorld() as world:
        yield world


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
        world.cloud.guest_exit(*place_of(node))
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
        world.cloud.host_error(*place_of(node))
    assert (await ended(world, provider, "a")).ended_by is EndReason.FAILED


async def test_the_cloud_itself_ends_a_machine_that_everybody_forgot(world: GcpWorld) -> None:
    provider = world.provider()
    [node] = await provider.launch(want(world, "a"))
    with world.cloud.changed:
        machine = world.cloud.machine(*place_of(node))
        assert machine.ends_at is not None
        assert machine.ends_at - machine.born == world.settings.run_s
        machine.ends_at = world.cloud.clock()
    assert (await ended(world, provider, "a")).ended_by is EndReason.LEASE


async def test_a_machine_of_another_cluster_in_the_project_is_neither_listed_nor_ended(world: GcpWorld) -> None:
    provider = world.provider()
    [node] = await provider.launch(want(world, "a"))
    world.cloud.machine(*place_of(node)).body["labels"]["dsched-cluster"] = "theirs"
    fresh = world.provider()
    assert await fresh.nodes() == []
    await fresh.terminate([node.ref])
    assert len(world.cloud.machines) == 1


# -- what it takes -------------------------------------------------------------------------------------------------


async def test_every_method_that_is_called_is_in_the_role_and_no_other(world: GcpWorld) -> None:
    world.settings = replace(world.settings, advice=True, shapes=(world.pool.shape,))
    world.cloud.advice[world.pool.zone, world.pool.shape] = (0.7, "7200s")
    world.cloud.advice["us-central1-b", world.pool.shape] = (0.7, "7200s")
    world.cloud.reservations[world.pool.zone, "held"] = {"count": 1, "shape": world.pool.shape}
    provider = world.provider()
    await provider.offers()
    await provider.advised()
    await provider.limits()
    await provider.doctor()
    await provider.commitments()
    [node] = await provider.launch(want(world, "a"))
    await provider.launch(want(world, "gang", count=2))
    await provider.terminate([node.ref])
    await ended(world, provider, "a")
    assert provider._gangs.tidying is not None
    await provider._gangs.tidying  # what the lists have begun by themselves
    for later in (0, UNUSED):
        await provider._gangs.sweep([], Instant(world.wall() + later))
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
