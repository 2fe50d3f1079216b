"""What measured steps teach: the speed of a gang, of its like, and the curve over sizes."""

from __future__ import annotations

import math
import random
from dataclasses import replace

import pytest

from dsched.providers import catalog
from dsched.scheduler.core.job import Need
from dsched.scheduler.core.message import StepsMeasured
from dsched.scheduler.core.placing import dry_run
from dsched.scheduler.core.snapshot import Progress
from dsched.scheduler.core.speed import pace
from dsched.scheduler.core.speed.model import Model
from dsched.scheduler.core.speed.posterior import (
    KINDS_MAX,
    ROOFLINE,
    UNKNOWN,
    Kind,
    Measured,
    believe,
    learn,
    slope,
)
from dsched.scheduler.core.speed.presets import PRESETS
from dsched.scheduler.engine.paces import FIRST, SKIPPED, Paces
from tests.support.question import ask, job, line, offer, reported
from tests.support.stage import Stage, spec
from tests.support.stage import offer as sold

NOTHING = Measured(model="m")


def kind(gpus: int, chip: str = "H100", layout: str = "dp1", prior: float = 0.0) -> Kind:
    return Kind(accelerator=chip, gpus=gpus, layout=layout, prior=prior)


def test_without_evidence_the_prior_is_believed_with_its_own_doubt() -> None:
    believed = believe(None, kind(8), ROOFLINE)
    assert believed.mean == 0.0
    assert believed.sigma == pytest.approx(math.sqrt(ROOFLINE.unit**2 + ROOFLINE.chip**2 + ROOFLINE.kind**2))


def test_a_few_reports_outweigh_the_roofline() -> None:
    known = learn(NOTHING, kind(8), 0.6, 16)
    believed = believe(known, kind(8), ROOFLINE)
    assert math.exp(believed.mean) == pytest.approx(0.6, rel=0.03)
    assert believed.sigma < 0.06


def test_the_posterior_converges_on_what_is_measured() -> None:
    dice = random.Random(11)
    truth = {8: 0.7, 16: 0.66, 32: 0.62}
    known = NOTHING
    for _ in range(40):
        for gpus, factor in truth.items():
            known = learn(known, kind(gpus), factor * math.exp(dice.gauss(0.0, 0.1)), 4)
    for gpus, factor in truth.items():
        assert math.exp(believe(known, kind(gpus), ROOFLINE).mean) == pytest.approx(factor, rel=0.05)


def test_one_chip_teaches_about_another_but_less_than_about_itself() -> None:
    known = learn(NOTHING, kind(8), 0.5, 25)
    same, other = (believe(known, kind(16, chip), ROOFLINE).mean for chip in ("H100", "H200"))
    assert same < other < 0.0
    assert math.exp(other) < 0.75


def test_the_scaling_curve_is_learned_and_reaches_beyond_what_was_measured() -> None:
    known = NOTHING
    for gpus in (8, 16, 32):
        known = learn(known, kind(gpus), (gpus / 8) ** -0.15, 25)
    assert slope(known, ROOFLINE) == pytest.approx(-0.15, abs=0.05)
    assert believe(known, kind(64), ROOFLINE).mean < believe(known, kind(32), ROOFLINE).mean < -0.1


def test_a_name_alone_is_enough_to_learn_ratios_between_sizes() -> None:
    """Steps per second have another unit than TFLOPS: only their ratios are used."""
    known = learn(
        learn(NOTHING, kind(8, prior=math.log(8 * 989)), 2.0, 25), kind(16, prior=math.log(16 * 989)), 3.0, 25
    )
    small, large = (believe(known, kind(gpus, prior=math.log(gpus * 989)), UNKNOWN).mean for gpus in (8, 16))
    assert math.exp(large - small) * 2 == pytest.approx(1.5, rel=0.1)


def test_a_program_that_was_changed_is_followed() -> None:
    known = learn(NOTHING, kind(8), 1.0, 1000)
    for _ in range(4):
        known = learn(known, kind(8), 2.0, 25)
    assert math.exp(believe(known, kind(8), ROOFLINE).mean) > 1.8


def test_what_is_remembered_is_bounded() -> None:
    known = NOTHING
    for gpus in range(1, 3 * KINDS_MAX):
        known = learn(known, kind(gpus), 1.0, 1)
    assert len(known.kinds) == KINDS_MAX
    assert known.kinds[-1].gpus == 3 * KINDS_MAX - 1


@pytest.mark.parametrize(("speed", "reports"), [(0.0, 1), (-1.0, 1), (math.nan, 1), (math.inf, 1), (1.0, 0)])
def test_what_is_no_measurement_is_refused(speed: float, reports: float) -> None:
    with pytest.raises(ValueError, match="not a measured speed"):
        learn(NOTHING, kind(8), speed, reports)


# -- in a plan -------------------------------------------------------------------------------------------------------


def test_a_chip_that_was_measured_to_be_slow_for_a_model_loses_its_next_job() -> None:
    model = PRESETS["llama-3-8b"]
    need = Need(accelerators=("H100", "A100-40"), gpus_min=8, gpus_max=8, model=model)
    market = offer("a/p5.48xlarge/spot", 30.0), offer("b/p4d.24xlarge/spot", 11.0)
    before = reported(ask(job(need=need), *market))
    shape = catalog.load().shape("p5.48xlarge")
    assert shape is not None
    found = pace.pace(need, shape, 1, None)
    assert found is not None
    assert found.fit is not None
    place = pace.kind(need, shape, 1, found.fit.layout.words)
    slow = learn(Measured(model=model.name), place, found.speed / 3, 25)
    after = reported(ask(job(need=need), *market, speeds={model.name: slow}))
    assert before.chosen is not None
    assert after.chosen is not None
    assert (before.chosen.pool.zone, after.chosen.pool.zone) == ("a", "b")
    told = line(after, "a").value
    assert told is not None
    assert told.tokens_per_s == pytest.approx(found.speed / 3, rel=0.1)


# -- on their way ----------------------------------------------------------------------------------------------------


def test_the_core_hears_of_step_times_when_there_is_twice_as_much_to_say() -> None:
    paces, one = Paces(), job(generation=1)
    told = [m for _ in range(1000) if (m := paces.told(one, {"step_ms": 200.0}))]
    assert [m.reports for m in told[:4]] == [FIRST, FIRST, 2 * FIRST, 4 * FIRST]
    assert len(told) < 12
    assert sum(m.reports for m in told) <= 1000 - SKIPPED
    assert told[0].step_ms == pytest.approx(200.0)


def test_a_new_generation_begins_anew_and_reports_without_a_pace_are_no_reports() -> None:
    paces = Paces()
    for _ in range(SKIPPED + FIRST - 1):
        assert paces.told(job(generation=1), {"step_ms": 100.0}) is None
    assert paces.told(job(generation=2), {"step_ms": 100.0}) is None
    assert all(paces.told(job(generation=3), {"step_ms": bad}) is None for bad in (None, 0, -1, math.nan, "x") * 9)


def running(model: Model) -> tuple[Stage, str]:
    stage = Stage(sold("us-east-1a", 20.0))
    wish = spec()
    return stage, stage.run(replace(wish, need=replace(wish.need, model=model)))


def test_measured_steps_become_a_row_that_other_jobs_of_the_model_use() -> None:
    stage, name = running(PRESETS["llama-3-8b"])
    stage.state.progress[name] = Progress(step=1)
    stage.tell(StepsMeasured(job=name, generation=1, reports=16, tokens_per_s=30_000.0))
    row = stage.state.speeds["llama-3-8b"]
    assert [(k.accelerator, k.gpus) for k in row.kinds] == [("H100", 8)]
    assert math.exp(row.kinds[0].mean) == pytest.approx(30_000.0)
    assert "speed.measured" in stage.kinds()


def test_words_of_an_older_generation_and_of_jobs_without_a_model_teach_nothing() -> None:
    stage, name = running(PRESETS["llama-3-8b"])
    stage.tell(StepsMeasured(job=name, generation=0, reports=16, tokens_per_s=1.0))
    assert stage.state.speeds == {}
    plain = Stage(sold("us-east-1a", 20.0))
    plain.tell(StepsMeasured(job=plain.run(), generation=1, reports=16, step_ms=5.0))
    assert plain.state.speeds == {}


def test_a_model_with_a_name_alone_is_measured_in_steps() -> None:
    stage, name = running(Model(name="ours"))
    stage.tell(StepsMeasured(job=name, generation=1, reports=16, step_ms=500.0))
    assert math.exp(stage.state.speeds["ours"].kinds[0].mean) == pytest.approx(2.0)


def test_the_planner_is_asked_with_what_was_measured() -> None:
    stage, name = running(PRESETS["llama-3-8b"])
    stage.tell(StepsMeasured(job=name, generation=1, reports=16, tokens_per_s=30_000.0))
    wish = replace(spec(), need=replace(spec().need, model=PRESETS["llama-3-8b"]))
    queued = job("j9", need=wish.need)
    found = dry_run(stage.state, queued, stage.policy, stage.now, stage.rng)[0].chosen
    assert found is not None
    assert found.value is not None
    assert found.value.tokens_per_s == pytest.approx(30_000.0, rel=0.05)
