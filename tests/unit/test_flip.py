"""A stored decision made again, and the price, hazard or deadline that would flip it."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dsched.scheduler.core.deadline.outlook import Library
from dsched.scheduler.core.effect import Foresee
from dsched.scheduler.core.message import MarketForeseen
from dsched.scheduler.core.timely import words
from dsched.scheduler.core.timely.flip import Again, again
from dsched.scheduler.core.timely.foresight import Foreseen
from dsched.scheduler.core.timely.look import OPTIONS_MAX
from dsched.scheduler.core.timely.rule import Terms
from dsched.scheduler.core.units import Instant, Moment
from dsched.scheduler.engine.seer import foreseen
from dsched.scheduler.view.deadline import deadline_text
from tests.support.stage import Stage, offer
from tests.unit.test_timely import OTHER, SPOT, SURE, A, B, deadline_of, on_demand, stage, wish


def remade(s: Stage, outlook: Any = None) -> Again:
    """As the API does it: from the JSON that was stored."""
    seen, terms = words.from_wire(json.loads(json.dumps(deadline_of(s))), outlook)
    return again(seen, terms, s.policy, scale=s.state.scale)


def placed(within: float, **how: Any) -> Stage:
    s = stage(offer(A, 10.0), offer(B, 12.0), on_demand(), **how)
    s.submit(wish(work=10, within=within))
    return s


def test_the_stored_decision_is_made_again() -> None:
    s = placed(20)
    assert remade(s).decision.target == deadline_of(s)["target"] == f"{SPOT}*1"


def test_it_names_the_price_at_which_another_place_is_taken() -> None:
    flip = next(f for f in remade(placed(20)).flips if f.what == "price" and f.option == f"{SPOT}*1")
    assert flip.now == 10
    assert flip.at == pytest.approx(12, rel=0.01)
    assert flip.then == f"{OTHER}*1"


def test_it_names_the_price_at_which_a_rival_wins() -> None:
    flip = next(f for f in remade(placed(20)).flips if f.option == f"{OTHER}*1")
    assert flip.at == pytest.approx(10, rel=0.01)
    assert flip.then == f"{OTHER}*1"


def test_it_names_the_deadline_that_needs_sure_capacity() -> None:
    flip = next(f for f in remade(placed(20)).flips if f.what == "deadline")
    hours = (flip.at - 1_000) / 3600
    assert 10 < hours < 10.6
    assert flip.then == f"{SURE}*1"


def test_a_later_deadline_would_let_it_wait() -> None:
    s = stage(offer(A, 10.0, free=0), on_demand(), policy="greedy")
    s.submit(wish(work=10, within=10.1))
    flip = next(f for f in remade(s).flips if f.what == "deadline" and f.at > f.now)
    assert flip.then is None


def test_with_an_outlook_the_hazard_flips_it_too(tmp_path: Path) -> None:
    s = stage(offer(A, 10.0), offer(B, 12.0), on_demand(), policy="slack")
    s.submit(wish(work=10, within=20))
    (effect,) = s.asked(Foresee)
    made = foreseen(effect.request, tmp_path, Library())
    s.tell(MarketForeseen(request=effect.request, foreseen=Foreseen(request=effect.request, outlook=made)))
    s.submit(wish(work=8, within=20))
    found = remade(s, made)
    assert found.decision.target == deadline_of(s)["target"]
    assert "hazard" in {flip.what for flip in found.flips}


def test_a_decision_in_a_market_of_hundreds_of_pools_is_made_again_too() -> None:
    """It is stored with all that the policy was asked about, and that is not all there is."""
    many = [offer(f"us-east-{n}a", 10.0 + n / 100) for n in range(300)]
    s = stage(*many, *(on_demand(pool=replace(on_demand().pool, zone=f"us-east-{n}a")) for n in range(100)))
    s.submit(wish(work=10, within=20))
    told = deadline_of(s)
    asked = {option["id"] for option in told["observation"]["options"]}
    assert len(asked) <= OPTIONS_MAX < 400
    assert set(told["costs"]) - {""} == asked
    assert remade(s).decision.target == told["target"] == f"{many[0].pool.id}*1"


def test_the_end_of_a_move_that_nobody_answers_is_made_again() -> None:
    """Then the net alone judged, about the option that the job was on its way to."""
    seen, _ = words.from_wire(json.loads(json.dumps(deadline_of(placed(11)))), None)
    late = replace(seen, job=replace(seen.job, deadline=seen.now + 10.15 * 3600))
    made = again(late, Terms(going=f"{OTHER}*1"), stage().policy, scale=1.0).decision
    assert (made.why.policy, made.why.net, made.target) == ("going", True, f"{SURE}*1")
    with pytest.raises(ValueError, match="is not in list"):
        again(late, Terms(going="elsewhere*1"), stage().policy, scale=1.0)


@given(st.integers(0, 4_000_000_000), st.integers(-3 * 86_400, 3 * 86_400))
def test_an_instant_on_another_day_has_its_date(now: int, ahead: int) -> None:
    at, today = (datetime.fromtimestamp(seconds, UTC) for seconds in (now + ahead, now))
    shape = "%H:%M UTC" if at.date() == today.date() else "%b %d %H:%M UTC"
    assert words.clock(float(now + ahead), float(now)) == at.strftime(shape)


def test_what_is_likely_to_be_late_has_no_price() -> None:
    s = placed(10.6)
    seen, _ = words.from_wire(json.loads(json.dumps(deadline_of(s))), None)
    assert words.expected(seen, 2_000_000.0) is None  # of a few hundred dollars the rest is the price of being late
    assert words.expected(seen, 600.0) == 600.0


def test_the_text_says_it_in_words() -> None:
    s = placed(20)
    told = {**deadline_of(s), "same": True, "note": "", "flips": [vars_of(flip) for flip in remade(s).flips]}
    text = "\n".join(deadline_text(told, Moment(Instant(1_000_000), Instant(1_000_000))))  # type: ignore[arg-type]
    assert "deadline: slack 10h00m" in text
    assert f"would change: local/{A} p5.48xlarge spot above $12.01/h (+20%)" in text
    assert "would change: a deadline before" in text


def test_it_says_why_another_policy_decided_than_the_one_that_is_set() -> None:
    then = Moment(Instant(1_000_000), Instant(1_000_000))
    told = deadline_of(placed(20, policy="slack"))
    assert "greedy decided, until slack has its outlook; " in deadline_text(told, then)[0]  # type: ignore[arg-type]
    later = Moment(Instant(9_000_000), Instant(9_000_000))
    assert deadline_text(told, then)[0].rpartition("; ")[2].startswith("looks again ")  # type: ignore[arg-type]
    assert deadline_text(told, later)[0].endswith("; looked at since")  # type: ignore[arg-type]


def vars_of(flip: Any) -> dict[str, Any]:
    return {name: getattr(flip, name) for name in ("what", "option", "now", "at", "then")}
