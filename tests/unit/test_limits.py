"""Limits that a user or an operator sets: hard ones refuse with a reason, weights move the choice."""

from __future__ import annotations

from pathlib import Path

import pytest

from dsched.providers.catalog import places
from dsched.scheduler.config import Config, ConfigError, check
from dsched.scheduler.core.discount import Discount, discounted, listed
from dsched.scheduler.core.effect import CallLaunch
from dsched.scheduler.core.job import Need
from dsched.scheduler.core.market import Market
from dsched.scheduler.core.message import Restarted
from dsched.scheduler.core.placement import Policy
from dsched.scheduler.core.placing import dry_run
from dsched.scheduler.core.power import burden, watts
from dsched.scheduler.core.report import Why
from dsched.scheduler.core.spotshare import limited
from dsched.scheduler.core.units import HOUR, price
from tests.support.question import ask, hours, job, line, offer, reported, where
from tests.support.stage import Stage, pool, spec
from tests.support.stage import offer as sold

SPOT, ON_DEMAND = offer("a/p5.48xlarge/spot", 30.0), offer("b/p5.48xlarge/on-demand", 90.0)


def need(**fields: object) -> Need:
    return Need(accelerators=("H100",), gpus_min=8, gpus_max=8, **fields)  # type: ignore[arg-type]  # fields of Need


# -- the share of spot -------------------------------------------------------------------------------------------------


def test_a_job_may_begin_on_spot_where_its_work_is_known_and_must_earn_it_where_not() -> None:
    half = need(spot_share=0.5)
    assert where(ask(job(need=half, duration=hours(10)), SPOT, ON_DEMAND)) == "a/p5.48xlarge/spot"
    assert where(ask(job(need=half), SPOT, ON_DEMAND)) == "b/p5.48xlarge/on-demand"
    earned = job(need=half, machine=hours(10))
    assert where(ask(earned, SPOT, ON_DEMAND)) == "a/p5.48xlarge/spot"


def test_spot_that_is_used_up_is_refused_with_its_reason() -> None:
    used = job(need=need(spot_share=0.25), machine=hours(8), spot=hours(8), duration=hours(4), checkpoint_step=1)
    report = reported(ask(used, SPOT, ON_DEMAND))
    assert report.chosen is not None
    assert report.chosen.pool.market is Market.ON_DEMAND
    refused = line(report, "a")
    assert refused.code is Why.OVER_SPOT_SHARE
    assert "25%" in refused.words


def test_no_share_of_spot_is_none_at_all() -> None:
    report = reported(ask(job(need=need(spot_share=0.0), duration=hours(10)), SPOT))
    assert report.chosen is None
    assert report.blocked is Why.OVER_SPOT_SHARE


# -- the share of spot that a user may have ----------------------------------------------------------------------------

PER_USER = Policy(spot_shares=(("ann", 0.0), ("intern-*", 0.5)))


def markets(play: Stage) -> set[str]:
    return {node.pool.market for node in play.state.nodes.values()}


def limited_stage(policy: Policy = PER_USER) -> Stage:
    play = Stage(sold("a", 30.0), sold("b", 90.0, market=Market.ON_DEMAND))
    play.policy = policy
    return play


def test_a_user_without_spot_gets_none_whatever_the_spec_says() -> None:
    play = limited_stage()
    play.submit(spec("hers", user="ann", duration=hours(10)))
    assert markets(play) == {Market.ON_DEMAND}
    other = limited_stage()
    other.submit(spec("his", user="bob", duration=hours(10)))
    assert markets(other) == {Market.SPOT}


def test_the_stricter_of_job_and_user_holds() -> None:
    mild, strict = (spec(user="intern-7", need=need(spot_share=share)) for share in (0.9, 0.1))
    assert limited(mild, PER_USER).need.spot_share == 0.5
    assert limited(strict, PER_USER) is strict


def test_a_dry_run_names_the_limit_and_counts_what_it_refuses() -> None:
    play = limited_stage()
    asked = job(user="ann", need=need(), duration=hours(10))
    report, _ = dry_run(play.state, asked, play.policy, play.now, play.rng)
    assert "no spot" in report.need
    assert report.refused == {Why.OVER_SPOT_SHARE: 1}
    assert line(report, "a").words == "spot, of which the job may have nothing"


def test_a_limit_set_while_the_daemon_was_away_holds_for_jobs_that_wait() -> None:
    play = Stage()
    waiting = play.submit(spec("hers", user="ann", duration=hours(10)))
    play.policy = PER_USER
    play.tell(Restarted())
    play.offers(sold("a", 30.0), sold("b", 90.0, market=Market.ON_DEMAND))
    assert markets(play) == {Market.ON_DEMAND}
    assert play.job(waiting).spec.need.spot_share == 0.0
    assert "job.limited" in play.kinds()


def test_a_share_above_all_or_below_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="spot_shares"):
        Policy(spot_shares=(("ann", 1.5),))


# -- private discounts -------------------------------------------------------------------------------------------------

CONTRACT = (Discount("aws/p5*/on-demand", 0.25), Discount("aws/*/spot", 0.9))


def test_a_discount_is_part_of_every_price_and_of_what_a_saving_is_measured_against() -> None:
    ours = discounted(offer("a/p5.48xlarge/spot", 30.0, on_demand=90.0), CONTRACT)
    assert ours.quote is not None
    assert (ours.quote.price, ours.on_demand) == (price(27), price("22.5"))
    assert "by contract" in ours.quote.source


def test_shapes_of_which_the_contract_says_nothing_cost_what_they_cost() -> None:
    plain = offer("a/g6e.xlarge/on-demand", 2.0)
    assert discounted(plain, CONTRACT) == plain


def test_our_limit_goes_back_to_the_providers_prices_for_a_launch() -> None:
    assert listed(price(22), CONTRACT, ON_DEMAND.pool) == price(88)
    stage = Stage()
    stage.policy = Policy(discounts=(Discount("local/*/on-demand", 0.1),))
    stage.offers(sold("us-east-1a", 20.0), sold("us-east-1a", 98.0, market=Market.ON_DEMAND))
    stage.submit()
    (call,) = stage.asked(CallLaunch)
    intent = stage.state.intents[call.intent]
    assert intent.pool == pool("us-east-1a", Market.ON_DEMAND)
    assert intent.price_max == price(98)
    assert [node.rate for node in stage.state.nodes.values()] == [price("9.8")]


@pytest.mark.parametrize(
    ("pattern", "factor"), [("aws/p5", 0.5), ("aws/p5/spot", 0), ("aws/p5/spot", 1.5), ("aws/p5/spot", True)]
)
def test_a_discount_that_is_none_is_refused_with_its_name(tmp_path: Path, pattern: str, factor: float) -> None:
    with pytest.raises(ConfigError, match="discounts: "):
        check(Config(state=tmp_path, discounts={pattern: factor}))


# -- energy and carbon -------------------------------------------------------------------------------------------------


def test_a_dgx_class_machine_draws_about_nine_kilowatts_with_its_cooling() -> None:
    assert 8_000 < watts(SPOT.shape, 1) < 10_200
    assert watts(SPOT.shape, 3) == pytest.approx(3 * watts(SPOT.shape, 1))


def test_carbon_moves_the_choice_only_when_it_is_given_a_weight() -> None:
    dirty = offer("a/p5.48xlarge/spot", 30.0, region="us-east1")
    clean = offer("b/p5.48xlarge/spot", 30.5, region="europe-north1")
    asked = ask(job(duration=hours(10)), dirty, clean)
    assert where(asked, Policy(facts=places.load())) == "a/p5.48xlarge/spot"
    assert where(asked, Policy(facts=places.load(), carbon_price=200.0)) == "b/p5.48xlarge/spot"


def test_what_weighs_is_not_what_is_paid() -> None:
    free, weighed = (
        reported(ask(job(duration=hours(10)), SPOT), Policy(energy_price=dollars)).lines[0].value
        for dollars in (0.0, 1.0)
    )
    assert free is not None
    assert weighed is not None
    assert free.expected == weighed.expected
    assert weighed.kwh is not None
    assert weighed.score - free.score == pytest.approx(weighed.kwh * 1e6, rel=1e-6)


def test_a_grid_of_which_nothing_is_known_weighs_as_the_average_one() -> None:
    policy = Policy(carbon_price=100.0)
    assert burden(1000.0, None, policy) == pytest.approx(burden(1000.0, 445.0, policy))
    assert burden(1000.0, 0.0, policy) == 0.0
    assert HOUR > 0
