"""Gangs that change their size: survivors go on, cheap capacity is used, and prices that swing make no gang swing."""

from __future__ import annotations

from dataclasses import replace

from dsched.scheduler.core.effect import CallLaunch, TellStart, TellStop
from dsched.scheduler.core.elastic import keep
from dsched.scheduler.core.elastic.options import options, parse, thinned
from dsched.scheduler.core.elastic.review import DWELL, MARGIN, better, watch_price
from dsched.scheduler.core.job import Need
from dsched.scheduler.core.market import Market, Offer
from dsched.scheduler.core.message import RefusedBy
from dsched.scheduler.core.placement import Placement, Policy
from dsched.scheduler.core.snapshot import After, PoolMemory, Usual
from dsched.scheduler.core.speed.model import Layout
from dsched.scheduler.core.speed.presets import PRESETS
from dsched.scheduler.core.state import JobState
from dsched.scheduler.core.units import HOUR, MINUTE, Charge, Instant, Millis, price
from tests.support.question import NOW, ask, hours, job
from tests.support.question import offer as listed
from tests.support.stage import Stage, offer, spec

ZONE = "us-east-1a"
ELASTIC = spec(gpus=8, gpus_max=32)


SCALE = 60.0  # market ms per wall ms: leases are renewed in wall time, which hardly passes here


def scene(*offers: Offer) -> Stage:
    return Stage(*(offers or [offer(ZONE, 40.0)]), scale=SCALE)


def later(stage: Stage, market: int) -> None:
    stage.wait(round(market / SCALE))


def at_price(stage: Stage, dollars: float) -> None:
    stage.offers(offer(ZONE, dollars, at=stage.now.market))


def running_on(nodes: int) -> tuple[Stage, str]:
    """An elastic job of 1 to 4 nodes that has grown to `nodes` since the price fell."""
    stage = scene()
    name = stage.run(spec(gpus=8, gpus_max=8 * nodes))
    at_price(stage, 20.0)
    later(stage, 10 * MINUTE)
    if any(stage.asked(CallLaunch)):
        stage.hello(*stage.launch())
        stage.exit(75, job=name, drained=True)
        stage.started(name)
    assert len(stage.job(name).nodes) == nodes
    return stage, name


# -- growing ---------------------------------------------------------------------------------------------------------


def test_a_gang_grows_where_its_pool_is_cheaper_than_usual_and_works_on_until_the_others_are_up() -> None:
    stage = scene()
    name = stage.run(ELASTIC)
    (first,) = stage.job(name).nodes
    at_price(stage, 20.0)
    later(stage, 10 * MINUTE)
    assert [stage.state.intents[call.intent].count for call in stage.asked(CallLaunch)] == [3]
    assert not stage.asked(TellStop)
    assert "grows from 1 to 4 nodes" in stage.job(name).reason or stage.job(name).after is After.MOVE
    stage.hello(*stage.launch())
    assert stage.job(name).state is JobState.DRAINING
    stage.exit(75, job=name, drained=True)
    assert len(stage.job(name).nodes) == 4
    assert first in stage.job(name).nodes  # kept, not bought again
    assert len(stage.asked(TellStart)) == 4


def test_the_report_of_a_change_of_size_tells_of_every_offer() -> None:
    here, dear, gone = offer(ZONE, 20.0), offer("us-east-1b", 60.0), offer("us-east-1c", 5.0, free=0)
    stage = scene(offer(ZONE, 40.0), dear, gone)
    name = stage.run(ELASTIC)
    stage.offers(here, dear, gone)
    later(stage, 10 * MINUTE)
    made = [c for e in stage.events for c in e.changes if c.table == "decision"]
    report = next(c.fields["report"] for c in made if c.key == stage.job(name).decision)
    lines = {line["offer"]: line for line in report["lines"]}
    assert lines.keys() == stage.state.offers.keys()
    assert (report["chosen"], lines[here.pool.id]["nodes"]) == (here.pool.id, 4)
    assert "grows from 1 to 4" in lines[here.pool.id]["why"]
    assert lines[dear.pool.id]["code"] == "dearer"
    assert lines[gone.pool.id]["code"] == "no-capacity"


def test_a_gang_stays_at_its_size_while_the_price_is_as_usual() -> None:
    stage = scene()
    name = stage.run(ELASTIC)
    for _ in range(20):
        at_price(stage, 40.0)
        later(stage, 10 * MINUTE)
    assert len(stage.job(name).nodes) == 1
    assert stage.job(name).generation == 1


def test_a_gang_shrinks_onto_its_own_machines_when_its_pool_becomes_dear() -> None:
    stage, name = running_on(2)
    at_price(stage, 60.0)
    later(stage, DWELL + 10 * MINUTE)
    assert not stage.asked(CallLaunch)
    assert stage.job(name).state is JobState.DRAINING
    before = stage.job(name).nodes
    stage.exit(75, job=name, drained=True)
    assert stage.job(name).nodes == before[:1]


def test_prices_that_swing_around_the_usual_one_do_not_make_a_gang_swing() -> None:
    stage = scene()
    name = stage.run(ELASTIC)
    for turn in range(48):
        at_price(stage, 40.0 * (1.0 + (-1) ** turn * MARGIN / 2))
        later(stage, 15 * MINUTE)
    assert stage.job(name).generation == 1


def test_a_launch_that_is_refused_ends_the_wish_to_grow_and_the_gang_works_on() -> None:
    stage = scene()
    name = stage.run(ELASTIC)
    at_price(stage, 20.0)
    later(stage, 10 * MINUTE)
    stage.refuse(RefusedBy.CAPACITY)
    row = stage.job(name)
    assert (row.state, row.after, row.next_nodes) == (JobState.RUNNING, After.NOTHING, ())
    assert all(stage.state.nodes[node].job == name for node in row.nodes)


def test_a_job_with_a_deadline_is_left_to_its_policy() -> None:
    stage = scene()
    due = Instant(stage.now.market + 100 * HOUR)
    name = stage.run(replace(ELASTIC, deadline=due, duration=Millis(10 * HOUR)))
    at_price(stage, 20.0)
    later(stage, 10 * MINUTE)
    assert len(stage.job(name).nodes) == 1
    assert stage.job(name).after is After.NOTHING


def test_a_price_becomes_usual_in_a_day_or_so() -> None:
    cheap = listed("a/p5.48xlarge/spot", 20.0)
    usual = watch_price(Usual(40e6, NOW.market), cheap, Instant(NOW.market + 24 * HOUR))
    assert usual is not None
    assert 26e6 < usual.price < 28e6


# -- surviving -------------------------------------------------------------------------------------------------------


def test_a_gang_that_loses_a_machine_goes_on_with_the_rest() -> None:
    stage, name = running_on(2)
    stage.offers(offer(ZONE, 20.0, at=stage.now.market), offer("us-west-2b", 30.0, at=stage.now.market))
    lost, rest = stage.job(name).nodes
    stage.notice(lost)
    assert not stage.asked(CallLaunch)  # no other gang is bought while this one can go on
    stage.exit(75, job=name, drained=True)
    assert "job.requeued" not in stage.kinds()
    assert stage.job(name).nodes == (rest,)
    assert [start.world_size for start in stage.asked(TellStart)] == [1]


def test_a_gang_that_is_killed_without_notice_goes_on_with_the_rest_too() -> None:
    stage, name = running_on(2)
    lost, rest = stage.job(name).nodes
    stage.kill(lost)
    stage.exit(76, job=name, nodes=(rest,))
    assert stage.job(name).nodes == (rest,)


def test_a_gang_of_fixed_size_does_not_go_on_with_less() -> None:
    stage = scene(offer(ZONE, 20.0), offer("us-west-2b", 30.0))
    name = stage.run(spec(gpus=16))
    lost, rest = stage.job(name).nodes
    stage.notice(lost)
    assert any(stage.asked(CallLaunch))
    assert keep.survivors(stage.state, stage.job(name), 64) == ()
    assert rest


def test_a_machine_that_dies_while_its_gang_grows_is_given_up_without_losing_the_others() -> None:
    stage = scene()
    name = stage.run(ELASTIC)
    (first,) = stage.job(name).nodes
    at_price(stage, 20.0)
    later(stage, 10 * MINUTE)
    stage.launch()
    stage.notice(first)
    assert stage.job(name).next_nodes == ()
    assert stage.job(name).state is JobState.DRAINING
    stage.exit(75, job=name, drained=True)
    assert stage.job(name).state in (JobState.QUEUED, JobState.STARTING)
    assert first not in stage.job(name).next_nodes


def test_a_placement_in_the_pool_where_a_gang_runs_keeps_its_machines() -> None:
    stage, name = running_on(2)
    row = stage.job(name)
    chosen = Placement(
        job=name,
        generation=row.generation,
        pool=stage.state.nodes[row.nodes[0]].pool,
        nodes=3,
        reuse=(),
        buy=3,
        gpus=24,
        world_size=3,
        price=price(60),
        price_max=price(40),
        budget="default",
        reserve=Charge(0),
        checkpoint_every=Millis(60_000),
    )
    larger = keep.kept(stage.state, row, chosen)
    assert (larger.reuse, larger.buy) == (row.nodes, 1)
    smaller = keep.kept(stage.state, row, chosen._replace(nodes=1, buy=1))
    assert (smaller.reuse, smaller.buy) == (row.nodes[:1], 0)
    assert keep.kept(stage.state, row, chosen._replace(nodes=2, buy=2)).buy == 2  # who moves within a pool wants others


# -- options ---------------------------------------------------------------------------------------------------------

MODEL = replace(PRESETS["llama-3-70b"], layout=Layout(tp=8))
BIG = Need(accelerators=("H100",), gpus_min=16, gpus_max=64, model=MODEL)


def test_an_option_is_a_pool_and_a_size_on_which_the_model_fits() -> None:
    spot = listed("a/p5.48xlarge/spot", 30.0, free=4)
    found = options(job(need=BIG), ask(job(need=BIG), spot), Policy(), NOW)
    assert [parse(choice.id)[1] for choice in found] == [2, 3, 4, 5, 6, 7, 8]
    assert all(choice.value.layout.startswith("tp8") for choice in found)
    assert [choice.up for choice in found] == [True, True, True, False, False, False, False]
    assert 4 * found[0].speed < found[-1].speed  # two nodes must compute activations again, eight need not


def test_moving_a_checkpoint_to_another_region_is_part_of_an_option() -> None:
    from dsched.providers.catalog import places

    here = listed("a/p5.48xlarge/spot", 30.0)
    there = listed("b/p5.48xlarge/spot", 30.0, region="us-west-2")
    saved = job(checkpoint_at="aws/us-east-1", checkpoint_bytes=int(100e9), checkpoint_step=5)
    found = options(saved, ask(saved, here, there), Policy(facts=places.load()), NOW)
    assert [round(choice.egress, 6) for choice in found] == [0.0, 2.0]


def test_a_pools_measured_delay_takes_the_place_of_the_boot_that_its_provider_tells() -> None:
    spot = listed("a/p5.48xlarge/spot", 30.0, boot=Millis(60_000))
    memory = PoolMemory(pool=spot.pool.id)
    for _ in range(20):
        memory = replace(memory, delay=memory.delay.seen(Millis(600_000)))
    one = job(duration=hours(10))
    told, seen = (options(one, ask(one, spot, pools=pools), Policy(), NOW)[0] for pools in ({}, {spot.pool.id: memory}))
    assert told.changeover == 65
    assert 550 < seen.changeover < 1_500
    assert seen.value.wait > told.value.wait


def test_a_wide_range_is_thinned_to_a_dozen_sizes_that_keep_both_ends() -> None:
    sizes = thinned(range(1, 65))
    assert len(sizes) <= 12
    assert (sizes[0], sizes[-1]) == (1, 64)


def test_a_change_must_earn_more_than_it_costs() -> None:
    spot = listed("a/p5.48xlarge/spot", 30.0, free=8)
    need = Need(accelerators=("H100",), gpus_min=8, gpus_max=32)
    found = list(options(job(need=need), ask(job(need=need), spot), Policy(), NOW))
    assert better(found, 1, None) is None
    assert better(found, 1, Usual(32e6, NOW.market)) is None
    grown = better(found, 1, Usual(60e6, NOW.market))
    assert grown is not None
    assert grown.choice.nodes == 4
    assert "grows from 1 to 4" in grown.why


def test_spot_share_leaves_only_other_capacity_once_spot_is_used_up() -> None:
    need = Need(accelerators=("H100",), gpus_min=8, gpus_max=8, spot_share=0.5)
    used = job(need=need, machine=hours(10), spot=hours(10))
    offers = listed("a/p5.48xlarge/spot", 30.0), listed("a/p5.48xlarge/on-demand", 90.0)
    found = options(used, ask(used, *offers), Policy(), NOW)
    assert [choice.pool.market for choice in found] == [Market.ON_DEMAND]


# -- the share of spot -------------------------------------------------------------------------------------------------


def test_a_job_leaves_spot_when_its_share_of_the_machine_hours_is_used_up() -> None:
    stage = scene(offer(ZONE, 20.0), offer(ZONE, 98.0, market=Market.ON_DEMAND))
    need = Need(accelerators=("H100",), gpus_min=8, gpus_max=8, spot_share=0.5)
    name = stage.run(replace(spec(), need=need, duration=Millis(4 * HOUR), steps=100))
    assert stage.state.nodes[stage.job(name).nodes[0]].pool.market is Market.SPOT
    for step in range(1, 11):  # 20 % of the work an hour
        stage.saved(10 * step, name)
        at_both(stage)
        later(stage, 24 * MINUTE)
        if stage.asked(CallLaunch):
            break
    (call,) = stage.asked(CallLaunch)
    assert stage.state.intents[call.intent].pool.market is Market.ON_DEMAND
    assert "50%" in stage.state.attempts[f"{name}/1"].outcome or stage.job(name).after is After.MOVE


def at_both(stage: Stage) -> None:
    now = stage.now.market
    stage.offers(offer(ZONE, 20.0, at=now), offer(ZONE, 98.0, market=Market.ON_DEMAND, at=now))
