"""What a change of place costs: measured delays, egress by route, the job's own checkpoints."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from dsched.providers.catalog import CatalogError, places
from dsched.scheduler.core import changeover
from dsched.scheduler.core.changeover import UNSEEN, Delay, Egress, Route, believed
from dsched.scheduler.core.job import Need
from dsched.scheduler.core.message import CheckpointSaved, FirstStep
from dsched.scheduler.core.placement import Policy
from dsched.scheduler.core.power import Facts
from dsched.scheduler.core.speed.presets import PRESETS
from dsched.scheduler.core.units import MINUTE, SECOND, Millis, to_charge, usd
from tests.support.question import ask, hours, job, line, offer, reported
from tests.support.stage import Stage, spec
from tests.support.stage import offer as sold

TOLD = Millis(90 * SECOND)
EGRESS = places.load().egress


def measured(*seconds: float) -> Delay:
    delay = UNSEEN
    for one in seconds:
        delay = delay.seen(Millis(round(one * SECOND)))
    return delay


# -- delays ----------------------------------------------------------------------------------------------------------


def test_a_pool_that_was_never_used_is_believed_to_take_what_its_provider_tells() -> None:
    assert believed(UNSEEN, TOLD) == (TOLD, TOLD)


def test_one_slow_launch_moves_the_belief_and_many_settle_it() -> None:
    one, many = (believed(measured(*([300.0] * count)), TOLD) for count in (1, 30))
    assert TOLD < one.mean < 250 * SECOND
    assert 280 * SECOND < many.mean < 320 * SECOND
    assert one.mean < one.p90


def test_the_p90_covers_nine_of_ten_delays() -> None:
    dice = random.Random(5)
    seen = [dice.lognormvariate(4.6, 0.4) for _ in range(50)]
    p90 = believed(measured(*seen), TOLD).p90 / SECOND
    fresh = [dice.lognormvariate(4.6, 0.4) for _ in range(2_000)]
    assert 0.86 < sum(one <= p90 for one in fresh) / len(fresh) < 0.95


def test_old_launches_fade() -> None:
    delay = measured(*([600.0] * 60), *([60.0] * 120))
    assert believed(delay, TOLD).mean < 120 * SECOND
    assert delay.count <= 50.0


def test_a_delay_that_is_none_is_refused() -> None:
    with pytest.raises(ValueError, match="not a delay"):
        UNSEEN.seen(Millis(0))


def test_a_launch_teaches_its_pool_how_long_it_takes_to_the_first_step() -> None:
    stage = Stage(sold("us-east-1a", 20.0))
    name = stage.submit()
    nodes = stage.launch()
    stage.wait(3 * MINUTE)
    stage.hello(*nodes)
    stage.started(name)
    stage.wait(MINUTE)
    stage.tell(FirstStep(node=nodes[0], job=name, generation=1, step=1))
    pool = stage.state.attempts[f"{name}/1"].pool
    delay = stage.state.pools[pool].delay
    assert delay.count == 1
    assert believed(delay, Millis(0)).p90 > 4 * MINUTE


def test_a_restart_on_the_same_machines_is_no_delay_of_the_pool() -> None:
    stage = Stage(sold("us-east-1a", 20.0))
    name = stage.run()
    stage.saved(5, name)
    stage.exit(75, job=name)
    assert stage.job(name).generation == 2
    stage.started(name)
    stage.tell(FirstStep(node=stage.job(name).nodes[0], job=name, generation=2, step=6))
    assert all(memory.delay.count == 0 for memory in stage.state.pools.values())


# -- egress ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "target", "dollars"),
    [
        ("aws/us-east-1", "aws/us-east-1", 0.0),
        ("aws/us-east-1", "aws/us-west-2", 0.02),
        ("aws/sa-east-1", "aws/us-east-1", 0.138),
        ("aws/us-east-1", "gcp/us-east4", 0.09),
        ("gcp/us-central1", "gcp/us-east4", 0.02),
        ("gcp/us-central1", "gcp/europe-west4", 0.05),
        ("gcp/us-central1", "gcp/asia-southeast1", 0.08),
        ("gcp/us-central1", "aws/us-east-1", 0.12),
        ("local/us-east-1", "local/us-west-2", None),
        ("", "aws/us-east-1", 0.0),
    ],
)
def test_egress_is_priced_by_route(source: str, target: str, dollars: float | None) -> None:
    assert EGRESS.per_gb(source, target) == dollars


def test_a_checkpoint_weighs_what_it_told_or_what_its_model_makes_of_it() -> None:
    model = Need(model=PRESETS["llama-3-8b"])
    assert changeover.checkpoint_bytes(5, model) == 5
    assert changeover.checkpoint_bytes(0, model) == pytest.approx(8.03e9 * 14)
    assert changeover.checkpoint_bytes(0, Need()) == 0


def test_a_job_stays_near_its_checkpoint_unless_another_region_is_cheaper_by_more_than_the_move() -> None:
    policy = Policy(facts=places.load())
    saved = job(checkpoint_at="aws/us-east-1", checkpoint_bytes=int(2e12), duration=hours(2), checkpoint_step=1)
    here, there = offer("a/p5.48xlarge/spot", 30.0), offer("b/p5.48xlarge/spot", 28.0, region="us-west-2")
    report = reported(ask(saved, here, there), policy)
    assert report.chosen is not None
    assert report.chosen.pool.zone == "a"
    moved = line(report, "b").value
    assert moved is not None
    assert moved.egress == usd(40)
    cheap = reported(ask(saved, here, replace(there, quote=offer("b/p5.48xlarge/spot", 5.0).quote)), policy)
    assert cheap.chosen is not None
    assert cheap.chosen.pool.zone == "b"


def test_a_saved_checkpoint_tells_its_size_its_place_and_what_it_stalled() -> None:
    stage = Stage(sold("us-east-1a", 20.0))
    name = stage.run(spec())
    node = stage.job(name).nodes[0]
    for step, stall in ((1, 400), (2, 200)):
        stage.tell(CheckpointSaved(node=node, job=name, generation=1, step=step, stall=Millis(stall), size=7_000_000))
    row = stage.job(name)
    assert (row.checkpoint_bytes, row.checkpoint_at, row.write) == (7_000_000, "local/us-east", 300)


def test_checkpoints_that_stall_longer_are_written_less_often() -> None:
    spot = offer("a/p5.48xlarge/spot", 30.0, hazard=0.5)
    short, long = (reported(ask(job(write=Millis(stall)), spot)).lines[0].value for stall in (100, 40_000))
    assert short is not None
    assert long is not None
    assert long.every > 10 * short.every
    assert long.goodput < short.goodput


# -- the data --------------------------------------------------------------------------------------------------------

BASE = '[sources]\nx = "a page"\n'


@pytest.mark.parametrize(
    ("row", "named"),
    [
        ('[[egress]]\nfrom = "aws"\nwithin = "0.02"\nas_of = 2026-01-01\n', "aws lacks its source"),
        ('[[egress]]\nfrom = "aws"\nwithin = "20"\nsource = "x"\nas_of = 2026-01-01\n', "aws has 20"),
        ('[[carbon]]\nsource = "x"\nas_of = 2026-01-01\ngrams = { here = -1 }\n', "here has -1"),
        ('[[carbon]]\nsource = "x"\ngrams = { here = 1 }\n', "lacks its source or date"),
    ],
)
def test_a_fact_that_cannot_be_true_is_named(row: str, named: str) -> None:
    with pytest.raises(CatalogError, match=named):
        places.read(BASE + row)


def test_every_region_with_a_list_price_of_ours_has_a_known_grid() -> None:
    from dsched.providers import catalog

    regions = {region for listing in catalog.load().listings.values() for region in listing.on_demand}
    assert regions <= places.load().carbon.keys()


def test_a_checkpoint_that_was_read_from_another_region_is_on_the_bill() -> None:
    stage = Stage(sold("us-east-1a", 20.0))
    stage.policy = Policy(facts=Facts(egress=Egress((Route(source="local", within=0.02),))))
    name = stage.run()
    node = stage.job(name).nodes[0]
    stage.tell(CheckpointSaved(node=node, job=name, generation=1, step=5, size=int(100e9)))
    stage.offers(sold("us-west-2b", 30.0))
    stage.kill(node)
    stage.hello(*stage.launch())
    stage.started(name)
    before = stage.job(name).spent
    stage.tell(FirstStep(node=stage.job(name).nodes[0], job=name, generation=2, step=6))
    booked = [c.fields for e in stage.events for c in e.changes if c.table == "ledger" and c.fields["kind"] == "egress"]
    assert [(entry["owed"], entry["source"]) for entry in booked] == [
        (to_charge(usd(2)), "list price, 100 GB from local/us-east")
    ]
    assert stage.job(name).spent - before == to_charge(usd(2))


def test_a_checkpoint_that_was_carried_into_another_cloud_is_paid_once() -> None:
    stage = Stage(sold("us-east-1a", 20.0))
    stage.policy = Policy(facts=Facts(egress=Egress((Route(source="other", within=0.02, out=0.09),))))
    name = stage.run()
    stage.tell(CheckpointSaved(node=stage.job(name).nodes[0], job=name, generation=1, step=5, size=int(100e9)))
    stage.state.jobs[name] = replace(stage.job(name), checkpoint_at="other/us-east")
    for generation, zone in ((2, "us-west-2b"), (3, "us-west-2c")):
        stage.offers(sold(zone, 30.0))
        stage.kill(stage.job(name).nodes[0])
        stage.hello(*stage.launch())
        stage.started(name)
        stage.tell(FirstStep(node=stage.job(name).nodes[0], job=name, generation=generation, step=6))
    booked = [c for e in stage.events for c in e.changes if c.table == "ledger" and c.fields["kind"] == "egress"]
    assert len(booked) == 1, "the second start read it from this cloud's own store"
    assert stage.job(name).checkpoint_at == "local/us-west"
