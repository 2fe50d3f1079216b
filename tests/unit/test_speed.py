"""How fast a model is on a gang, and whether it fits: against published runs, and by the rules of parallel layouts."""

from __future__ import annotations

from dataclasses import replace

import pytest

from dsched.providers import catalog
from dsched.scheduler.core import feasible
from dsched.scheduler.core.hardware import Shape
from dsched.scheduler.core.job import Need
from dsched.scheduler.core.report import Refusal, Why
from dsched.scheduler.core.speed.fit import Fit, Misfit, fit, layouts, nearest, sizes
from dsched.scheduler.core.speed.memory import GIB, Recompute, needed, usable
from dsched.scheduler.core.speed.model import Layout, Model, Precision
from dsched.scheduler.core.speed.presets import PRESETS
from dsched.scheduler.core.speed.roofline import FP8_GAIN, PRIOR_SIGMA, estimate
from tests.support.question import NOW, ask, job, offer, reported

TOLERANCE = 0.10  # of a published run's machine hours; the prior claims no more than PRIOR_SIGMA


def shape(name: str) -> Shape:
    found = catalog.load().shape(name)
    assert found is not None
    return found


P5, P4D, G6E = shape("p5.48xlarge"), shape("p4d.24xlarge"), shape("g6e.xlarge")
V3 = replace(PRESETS["deepseek-v3"], layout=Layout(tp=1, pp=16, ep=64))  # arXiv 2412.19437, section 3.2


def h800() -> Shape:
    """An H100 whose NVLink is cut to 400 GB/s both ways, eight to a node with 400 Gbit/s each."""
    assert P5.accelerator is not None
    return replace(P5, name="h800", accelerator=replace(P5.accelerator, name="H800", link_gb_s=200))


def fitted(model: Model, machine: Shape, nodes: int) -> Fit:
    found = fit(model, machine, nodes)
    assert isinstance(found, Fit), found
    return found


def test_the_published_hours_of_deepseek_v3_are_reproduced() -> None:
    """2.788 M H800 hours in all: 2.664 M for 14.8 T tokens, 0.119 M to lengthen the context, 0.005 M afterwards."""
    tokens_per_hour = fitted(V3, h800(), 256).step.tokens_per_s * 3600
    pretraining = 14.8e12 / tokens_per_hour * 2048
    assert pretraining == pytest.approx(2.664e6, rel=TOLERANCE)
    assert pretraining + 0.119e6 + 0.005e6 == pytest.approx(2.788e6, rel=TOLERANCE)


@pytest.mark.parametrize(("nodes", "published"), [(1024, 430.0), (2048, 400.0)])
def test_llama_405b_reaches_what_its_report_says(nodes: int, published: float) -> None:
    """TFLOPS per GPU (arXiv 2407.21783, table 4)."""
    model = replace(PRESETS["llama-3-405b"], layout=Layout(tp=8, pp=16))
    tokens = fitted(model, P5, nodes).step.tokens_per_s / (nodes * 8)
    assert tokens * model.flops_per_token / 1e12 == pytest.approx(published, rel=0.15)


def test_an_8b_model_on_one_node_lies_within_the_priors_own_doubt() -> None:
    """torchtitan, Llama 3.1 8B on 8 H100 at 8,192 tokens: 6,667 tokens/s per GPU."""
    each = fitted(PRESETS["llama-3-8b"], P5, 1).step.tokens_per_s / 8
    assert 6_667 / (1 + PRIOR_SIGMA) < each < 6_667 * (1 + PRIOR_SIGMA)


def test_fp8_counts_only_where_the_chip_has_it() -> None:
    model, layout = replace(PRESETS["llama-3-8b"], precision=Precision.FP8), Layout(tp=1, pp=1, ep=1, dp=8)
    plain = replace(model, precision=Precision.BF16)

    def compute(one: Model, machine: Shape) -> float:
        return estimate(one, machine, 1, layout, Recompute.NONE, sharded=True).compute

    assert compute(plain, P5) / compute(model, P5) == pytest.approx(FP8_GAIN)
    assert compute(plain, P4D) == compute(model, P4D)


def test_more_nodes_are_faster_but_no_more_than_in_proportion_to_what_they_spare_recomputing() -> None:
    model = replace(PRESETS["llama-3-70b"], layout=Layout(tp=8))
    speeds = [fitted(model, P5, nodes).step.tokens_per_s for nodes in range(4, 9)]
    assert speeds == sorted(speeds)
    assert speeds[-1] < 2.05 * speeds[0]


def test_communication_that_nothing_hides_slows_a_gang_down() -> None:
    model, layout = PRESETS["llama-3-8b"], Layout(tp=1, pp=1, ep=1, dp=32)
    slow = replace(P5, network_gbit_s=10)
    fast, behind = (estimate(model, s, 4, layout, Recompute.NONE, sharded=True) for s in (P5, slow))
    assert behind.exposed > 3 * fast.exposed
    assert behind.compute == fast.compute


# -- memory ----------------------------------------------------------------------------------------------------------


def test_what_a_gpu_holds_is_the_sum_of_its_shares() -> None:
    model = Model(name="m", parameters=8e9, layers=32, hidden=4096, sequence=4096)
    plain = needed(model, Layout(tp=1, pp=1, ep=1, dp=8), Recompute.FULL, sharded=False)
    assert (plain.weights, plain.gradients, plain.optimizer) == (16e9, 16e9, 12e9)
    sharded = needed(model, Layout(tp=1, pp=1, ep=1, dp=8), Recompute.FULL, sharded=True)
    assert (sharded.weights, sharded.gradients, sharded.optimizer) == (2e9, 2e9, 12e9)


def test_recomputation_makes_room_and_costs_time() -> None:
    model, layout = PRESETS["llama-3-70b"], Layout(tp=8, pp=1, ep=1, dp=4)
    kept, again = (needed(model, layout, how, sharded=True).activations for how in (Recompute.NONE, Recompute.FULL))
    assert kept > 10 * again
    steps = [estimate(model, P5, 4, layout, how, sharded=True).tokens_per_s for how in Recompute]
    assert steps == sorted(steps, reverse=True)


def test_experts_are_shared_out_and_the_rest_is_not() -> None:
    model = PRESETS["mixtral-8x7b"]
    assert model.shared == pytest.approx(1.6e9, rel=0.15)  # 46.7 = shared + routed, 12.9 = shared + routed / 4
    alone, shared_out = (
        needed(model, Layout(tp=1, pp=1, ep=ep, dp=8), Recompute.FULL, sharded=False).weights for ep in (1, 8)
    )
    assert alone == pytest.approx(2 * 46.7e9)
    assert shared_out == pytest.approx(2 * (model.shared + (46.7e9 - model.shared) / 8))


def test_a_model_that_fits_nowhere_on_a_gang_is_refused_with_the_numbers_and_what_would_do() -> None:
    found = fit(PRESETS["deepseek-v3"], P5, 1)
    assert isinstance(found, Misfit)
    assert found.least is not None
    assert found.least.total > usable(P5.accelerator) if P5.accelerator else False
    assert "72 GiB" in found.words
    assert nearest(PRESETS["deepseek-v3"], P5, 1, 64) == 16
    assert nearest(PRESETS["deepseek-v3"], P5, 1, 8) is None


def test_every_layout_divides_its_world() -> None:
    for layout in layouts(V3, h800(), 256):
        assert layout.tp * layout.pp * layout.dp == 2048
        assert layout.dp % layout.ep == 0 == 256 % layout.ep
        assert (15_360 % layout.dp, 128 % layout.tp) == (0, 0)


def test_a_batch_that_a_gang_cannot_divide_is_an_uneven_layout() -> None:
    model = Model(name="m", parameters=1e9, heads=16, sequence=4096, batch=512 * 4096, layout=Layout(tp=1, pp=1))
    found = fit(model, P5, 3)
    assert isinstance(found, Misfit)
    assert found.least is None
    assert "512 sequences" in found.words
    assert sizes(model, P5, range(1, 9)) == (1, 2, 4, 8)


def test_a_layout_that_the_user_fixed_is_kept() -> None:
    wish = Layout(tp=4, pp=2)
    assert all((x.tp, x.pp) == (4, 2) for x in layouts(replace(PRESETS["llama-3-70b"], layout=wish), P5, 4))
    assert isinstance(fit(replace(PRESETS["llama-3-70b"], layout=Layout(tp=3)), P5, 4), Misfit)


# -- in a plan -------------------------------------------------------------------------------------------------------


def needing(model: Model, low: int, high: int) -> Need:
    return Need(accelerators=("H100", "L40S"), gpus_min=low, gpus_max=high, model=model)


def test_an_offer_on_which_the_model_does_not_fit_is_refused_with_a_typed_reason() -> None:
    need = needing(PRESETS["llama-3-70b"], 1, 8)
    report = reported(ask(job(need=need), offer("a/p5.48xlarge/spot", 30.0), offer("b/g6e.xlarge/spot", 0.8)))
    assert report.chosen is None
    assert dict(report.refused) == {Why.DOES_NOT_FIT: 2}
    assert report.hopeless
    assert any("2 nodes would do" in line.words for line in report.lines)


def test_a_fixed_layout_that_no_size_can_divide_is_an_uneven_layout() -> None:
    need = needing(replace(PRESETS["llama-3-8b"], layout=Layout(dp=7)), 8, 48)
    refusal = feasible.gang_sizes(need, P5, 64)
    assert isinstance(refusal, Refusal)
    assert refusal.why is Why.UNEVEN_LAYOUT
    assert "dp7" in refusal.words


def test_a_plan_tells_dollars_per_million_tokens() -> None:
    model = replace(PRESETS["llama-3-8b"], tokens=1e9)
    report = reported(ask(job(need=needing(model, 8, 8)), offer("a/p5.48xlarge/spot", 30.0)))
    assert report.chosen is not None
    value = report.chosen.value
    assert value is not None
    assert value.tokens_per_s is not None
    assert value.per_mtoken == pytest.approx(30e6 / (value.tokens_per_s * value.goodput * 3600) * 1e6)
    assert value.hours == pytest.approx(1e9 / value.tokens_per_s / value.goodput / 3600, rel=1e-3)


def test_an_estimated_gang_that_is_faster_per_dollar_wins_over_a_cheaper_machine() -> None:
    """Eight L40S of 8 machines cost a third of the H100, but talk to each other over a thin network."""
    need = needing(PRESETS["llama-3-8b"], 8, 8)
    cheap, fast = offer("b/g6e.xlarge/spot", 1.2), offer("a/p5.48xlarge/spot", 30.0)
    chosen = reported(ask(job(need=need), cheap, fast)).chosen
    assert chosen is not None
    assert chosen.pool.shape == "p5.48xlarge"


def test_the_largest_models_fit_is_found_quickly_enough_for_a_plan() -> None:
    fit.cache_clear()
    need = Need(accelerators=("H100",), gpus_min=64, gpus_max=512, model=PRESETS["deepseek-v3"])
    found = feasible.gang_sizes(need, P5, 64)
    assert isinstance(found, range)
    assert fit.cache_info().misses <= 20
    assert NOW.market > 0


def test_bytes_are_gib() -> None:
    assert P5.accelerator is not None
    assert usable(P5.accelerator) == pytest.approx(72 * GIB)
