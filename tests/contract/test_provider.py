"""What every provider promises, asked of each through its public port alone."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from dsched.providers.base import (
    Ambiguous,
    Auth,
    Capacity,
    EndReason,
    Invalid,
    Leased,
    Node,
    NodeRef,
    NodeStatus,
    Notice,
    NoticeKind,
    Price,
    Provider,
    ProviderError,
    Quota,
    Scope,
    Throttled,
)
from dsched.scheduler.core.units import Instant
from tests.support.aws_world import AwsWorld
from tests.support.gce.world import GcpWorld
from tests.support.world import FakeWorld, LocalWorld, World, want

WORLDS = {"fake": FakeWorld, "local": LocalWorld, "aws": AwsWorld, "gcp": GcpWorld}


@pytest.fixture(params=WORLDS)
async def world(request: pytest.FixtureRequest) -> AsyncIterator[World]:
    world: World = WORLDS[request.param]()
    await world.open()
    yield world
    await world.close()


async def seen(world: World, provider: Provider, token: str, *status: NodeStatus) -> list[Node]:
    """The nodes of a launch, when they are listed and all of them have one of these states."""

    async def told() -> list[Node] | None:
        nodes = await provider.nodes([token])
        return nodes if nodes and all(node.status in status for node in nodes) else None

    return await world.until(told)


async def running(world: World, provider: Provider, token: str) -> list[Node]:
    return await seen(world, provider, token, NodeStatus.RUNNING)


async def gone(world: World, provider: Provider, token: str) -> list[Node]:
    return await seen(world, provider, token, NodeStatus.GONE)


@asynccontextmanager
async def heard(world: World, provider: Provider) -> AsyncIterator[list[Notice]]:
    """Hints as they come, surely listening: the ends of other nodes are heard already."""
    notices: list[Notice] = []
    decoys = (f"decoy{i}" for i in range(1_000))

    async def listen() -> None:
        async for notice in provider.events():
            notices.append(notice)  # noqa: PERF401 - it never ends: each must be seen at once

    async def any_end() -> bool | None:
        [decoy] = await provider.launch(want(world, next(decoys)))
        await provider.terminate([decoy.ref])
        return bool(notices) or None

    listener = asyncio.create_task(listen())
    try:
        await world.until(any_end)
        yield notices
    finally:
        listener.cancel()


async def test_every_offer_has_a_pool_of_its_own_and_a_price(world: World) -> None:
    offers = await world.provider().offers()
    assert world.pool in {offer.pool for offer in offers}
    assert len({offer.pool for offer in offers}) == len(offers)
    for offer in offers:
        assert offer.quote is not None
        assert offer.quote.price > 0
        assert offer.pool.provider == world.provider().name


async def test_a_node_lives_until_it_is_terminated(world: World) -> None:
    provider = world.provider()
    [node] = await provider.launch(want(world, "a"))
    assert (node.token, node.index, node.pool) == ("a", 0, world.pool)
    await running(world, provider, "a")
    await provider.terminate([node.ref])
    [ended] = await gone(world, provider, "a")
    assert ended.ref == node.ref
    assert ended.ended_by is EndReason.ASKED
    assert ended.ended_at is not None
    assert ended.ended_at >= ended.launched_at


async def test_the_same_token_gives_the_same_node(world: World) -> None:
    provider, wish = world.provider(), want(world, "a")
    [first] = await provider.launch(wish)
    [second] = await provider.launch(wish)
    assert first.ref == second.ref
    assert len(await running(world, provider, "a")) == 1


async def test_the_same_token_twice_at_once_gives_one_node(world: World) -> None:
    wish = want(world, "a")
    [[first], [second]] = await asyncio.gather(world.provider().launch(wish), world.provider().launch(wish))
    assert first.ref == second.ref
    assert len(await running(world, world.provider(), "a")) == 1


async def test_the_token_of_a_dead_node_gives_the_dead_node(world: World) -> None:
    provider, wish = world.provider(), want(world, "a")
    [node] = await provider.launch(wish)
    await provider.terminate([node.ref])
    await gone(world, provider, "a")
    [again] = await provider.launch(wish)
    assert again.ref == node.ref
    assert again.status is NodeStatus.GONE


async def test_another_request_with_the_same_token_is_refused(world: World) -> None:
    provider, wish = world.provider(), want(world, "a")
    await provider.launch(wish)
    await running(world, provider, "a")  # before it is listed the answer may be Ambiguous
    with pytest.raises(Invalid):
        await provider.launch(want(world, "a", count=2, lease_until=wish.lease_until))
    assert len(await running(world, provider, "a")) == 1


@pytest.mark.parametrize("done", [True, False], ids=["after the effect", "before the effect"])
async def test_a_lost_reply_and_a_repeat_leave_one_node(world: World, done: bool) -> None:
    provider, wish = world.provider(), want(world, "a")
    await world.lose_reply(done=done)
    with pytest.raises(Ambiguous):
        await provider.launch(wish)
    [node] = await provider.launch(wish)
    assert [n.ref for n in await running(world, provider, "a")] == [node.ref]


async def test_a_daemon_that_died_before_the_reply_finds_its_node_by_token(world: World) -> None:
    wish = want(world, "a")
    await world.lose_reply(done=True)
    with pytest.raises(Ambiguous):
        await world.provider().launch(wish)
    restarted = world.provider()
    [found] = await running(world, restarted, "a")
    [node] = await restarted.launch(wish)
    assert node.ref == found.ref


async def test_a_new_node_may_be_listed_late_but_its_token_knows_it_at_once(world: World) -> None:
    provider, wish = world.provider(), want(world, "a")
    [node] = await provider.launch(wish)
    listed = await provider.nodes(["a"])
    assert [n.ref for n in listed] in ([], [node.ref])
    [again] = await provider.launch(wish)
    assert again.ref == node.ref
    assert [n.ref for n in await running(world, provider, "a")] == [node.ref]


async def test_a_sold_out_pool_says_so_and_leaves_nothing(world: World) -> None:
    provider = world.provider()
    await world.stockout()
    with pytest.raises(Capacity) as refusal:
        await provider.launch(want(world, "a", count=2))
    assert refusal.value.scope is Scope.POOL
    assert refusal.value.cooldown > 0
    assert [n for n in await provider.nodes(["a"]) if n.status is not NodeStatus.GONE] == []


async def test_a_gang_that_does_not_fit_as_a_whole_gets_nothing(world: World) -> None:
    provider = world.provider()
    [offer] = [offer for offer in await provider.offers() if offer.pool == world.pool]
    free = await world.free() if offer.free is None else offer.free
    with pytest.raises(Capacity):
        await provider.launch(want(world, "a", count=free + 1))
    assert await provider.nodes(["a"]) == []
    await provider.launch(want(world, "b"))  # the room was given back


async def test_a_gang_has_an_index_for_every_node(world: World) -> None:
    provider = world.provider()
    nodes = await provider.launch(want(world, "a", count=3))
    assert [node.index for node in nodes] == [0, 1, 2]
    assert len({node.ref for node in nodes}) == 3
    assert {n.ref for n in await running(world, provider, "a")} == {n.ref for n in nodes}


async def test_a_price_above_the_limit_buys_nothing(world: World) -> None:
    provider = world.provider()
    [offer] = [offer for offer in await provider.offers() if offer.pool == world.pool]
    assert offer.quote is not None
    await world.raise_price()
    with pytest.raises(Price):
        await provider.launch(want(world, "a", price_max=offer.quote.price))
    assert await provider.nodes(["a"]) == []


@pytest.mark.parametrize(
    ("how", "error"), [("throttled", Throttled), ("auth", Auth), ("quota", Quota), ("invalid", Invalid)]
)
async def test_a_refusal_is_typed_and_its_token_can_be_used_again(
    world: World, how: str, error: type[ProviderError]
) -> None:
    provider, wish = world.provider(), want(world, "a")
    await world.refuse_launch(how)
    with pytest.raises(error):
        await provider.launch(wish)
    [node] = await provider.launch(wish)
    assert [n.ref for n in await running(world, provider, "a")] == [node.ref]


async def test_a_pool_that_is_not_sold_is_invalid(world: World) -> None:
    pool = type(world.pool)(world.pool.provider, "nowhere", "nowhere-z", "imaginary", world.pool.market)
    with pytest.raises(Invalid):
        await world.provider().launch(want(world, "a", pool=pool))


@pytest.mark.parametrize("how", ["lost", "throttled"])
async def test_a_broken_read_raises_and_never_looks_like_an_empty_cloud(world: World, how: str) -> None:
    provider = world.provider()
    await provider.launch(want(world, "a"))
    await running(world, provider, "a")
    await world.break_reads(how)
    try:
        nodes = await provider.nodes()
    except ProviderError:
        nodes = await provider.nodes()  # the fault was one call long
    assert [node.token for node in nodes] == ["a"]  # raised, or ridden out: never a shorter list
    try:
        offers = await provider.offers()
    except ProviderError:
        offers = await provider.offers()
    assert offers


async def test_terminating_what_is_unknown_dead_or_named_twice_is_fine(world: World) -> None:
    provider = world.provider()
    unknown = NodeRef(provider.name, "i-0123456789abcdef0")
    await provider.terminate([unknown])
    [node] = await provider.launch(want(world, "a"))
    await running(world, provider, "a")
    await provider.terminate([unknown, node.ref, node.ref])
    await gone(world, provider, "a")
    await provider.terminate([node.ref, unknown])
    [ended] = await gone(world, provider, "a")
    assert ended.ended_by is EndReason.ASKED


@pytest.mark.parametrize("notice", [True, False], ids=["with notice", "without notice"])
async def test_an_interruption_is_named_as_one(world: World, notice: bool) -> None:
    provider = world.provider()
    [node] = await provider.launch(want(world, "a"))
    await running(world, provider, "a")
    await world.interrupt(node.ref, notice=notice)
    [ended] = await gone(world, provider, "a")
    assert ended.ended_by is EndReason.INTERRUPTED


async def test_a_notice_is_hinted_with_its_deadline_and_then_the_end(world: World) -> None:
    provider = world.provider()
    [node] = await provider.launch(want(world, "a"))
    await running(world, provider, "a")
    async with heard(world, provider) as notices:
        await world.interrupt(node.ref, notice=True)
        ended = await gone(world, provider, "a")

        async def both() -> list[Notice] | None:
            ours = [notice for notice in notices if notice.ref == node.ref]
            return ours if len(ours) == 2 else None

        told, end = await world.until(both)
    assert (told.kind, end.kind) == (NoticeKind.INTERRUPT, NoticeKind.GONE)
    assert told.deadline is not None
    assert ended[0].ended_by is EndReason.INTERRUPTED


async def test_machines_of_others_are_neither_listed_nor_touched(world: World) -> None:
    provider = world.provider()
    stranger = await world.foreign()
    [node] = await provider.launch(want(world, "a"))
    assert {n.ref for n in await running(world, provider, "a")} == {node.ref}
    assert stranger not in {n.ref for n in await provider.nodes()}
    await provider.terminate([stranger, node.ref])
    await gone(world, provider, "a")
    assert await world.foreign_runs(stranger)


async def test_user_data_arrives_byte_for_byte(world: World) -> None:
    text = '{"weird": "\u00fcn\u00efc\u00f6de \u4e16\u754c \'\\"$`\\\\ \\u0000"}\n\t# ' + "x" * 8_000 + "\r\n\n"
    [node] = await world.provider().launch(want(world, "a", user_data=text))
    assert await world.user_data(node.ref) == text.encode()


async def test_twenty_launches_at_once_are_twenty_nodes(world: World) -> None:
    provider = world.provider()
    launched = await asyncio.gather(*(provider.launch(want(world, f"t{i}")) for i in range(20)))
    refs = {node.ref for [node] in launched}
    assert len(refs) == 20

    async def all_listed() -> bool | None:
        return {node.ref for node in await provider.nodes()} == refs or None

    await world.until(all_listed)


async def test_a_dead_cloud_is_ambiguous_for_a_launch_and_an_error_for_the_rest(world: World) -> None:
    provider = world.dead_provider()
    with pytest.raises(Ambiguous):
        await provider.launch(want(world, "a"))
    for read in (provider.nodes, provider.offers):
        with pytest.raises(ProviderError):
            await read()
    with pytest.raises(ProviderError):
        await provider.terminate([NodeRef(provider.name, "i-1")])


async def test_a_lease_that_runs_out_ends_the_node_and_a_renewed_one_does_not(world: World) -> None:
    provider = world.provider()
    if not isinstance(provider, Leased):
        pytest.skip("this cloud cannot hold leases")
    until = Instant(world.wall() + 1_500)
    [short] = await provider.launch(want(world, "short", lease_until=until))
    [kept] = await provider.launch(want(world, "kept", lease_until=until))
    await provider.renew([kept.ref, NodeRef(provider.name, "unknown")], Instant(until + 60_000))
    await provider.renew([kept.ref], until)  # never shortens
    [ended] = await gone(world, provider, "short")
    assert (ended.ref, ended.ended_by) == (short.ref, EndReason.LEASE)
    assert world.wall() >= until
    [still] = await running(world, provider, "kept")
    assert still.ref == kept.ref
