"""A solver's better plan is taken when it is right, in time and worth it; otherwise the greedy plan is carried out."""

from __future__ import annotations

from dataclasses import replace

import pytest

from dsched.scheduler.core.check import check
from dsched.scheduler.core.effect import CallLaunch, Propose
from dsched.scheduler.core.job import Need
from dsched.scheduler.core.market import Market
from dsched.scheduler.core.message import Proposed, SetBudget, Tick
from dsched.scheduler.core.placement import Policy, Question
from dsched.scheduler.core.proposal import Puzzle, pose, rearranged
from dsched.scheduler.core.state import JobState
from dsched.scheduler.core.units import HOUR, Millis, price, usd
from dsched.scheduler.engine.solver import solve as with_highs
from dsched.scheduler.view.plan import plan_text
from tests.support.question import NOW, ask, hours, job, offer, solve
from tests.support.stage import Stage, spec
from tests.support.stage import offer as on_stage

H100, A100 = "p5.48xlarge", "p4d.24xlarge"
POLICY = Policy(solver=Millis(2_000))


def crossed() -> Question:
    """Greedy gives the cheap pool to the earlier job, which has a place for a dollar more; the later one pays 60."""
    anywhere, spot_only = Need(accelerators=("H100",), gpus_min=8, gpus_max=8), (Market.SPOT, Market.RESERVED)
    early = job("early", need=anywhere, duration=hours(10))
    late = job("late", need=replace(anywhere, places=("aws/a", "aws/c")), duration=hours(10))
    del spot_only
    return ask(
        [early, late],
        offer(f"a/{H100}/on-demand", 10, free=1),
        offer(f"b/{H100}/on-demand", 11, free=1),
        offer(f"c/{H100}/on-demand", 70, free=1),
    )


def where(plan: object) -> dict[str, str]:
    return {placed.job: placed.pool.zone for placed in plan.placements}  # type: ignore[attr-defined]


def test_the_solver_beats_greedy_where_an_early_job_takes_what_a_later_one_needs() -> None:
    question = crossed()
    greedy = solve(question, POLICY)
    assert where(greedy) == {"early": "a", "late": "c"}
    posed = pose(question, POLICY, NOW, greedy)
    assert posed is not None
    choice = dict(with_highs(posed.puzzle))
    better = rearranged(question, POLICY, NOW, greedy, choice)
    assert better is not None
    assert where(better) == {"early": "b", "late": "a"}
    assert check(question, better) == ()
    assert sum(p.price for p in better.placements) == price(21)
    assert sum(p.price for p in greedy.placements) == price(80)


def test_a_choice_that_takes_too_much_is_refused() -> None:
    question = crossed()
    greedy = solve(question, POLICY)
    pool = question.offers["aws/a/p5.48xlarge/on-demand"].pool.id
    assert rearranged(question, POLICY, NOW, greedy, {"early": pool, "late": pool}) is None
    assert rearranged(question, POLICY, NOW, greedy, {"early": pool}) is None


def test_there_is_no_puzzle_where_priorities_differ() -> None:
    question = crossed()
    urgent = replace(question.jobs[0], spec=replace(question.jobs[0].spec, priority=5))
    question = replace(question, jobs=(urgent, question.jobs[1]))
    assert pose(question, POLICY, NOW, solve(question, POLICY)) is None


# -- played by hand -------------------------------------------------------------------------------------------------


def stage(solver: int = 2_000) -> Stage:
    """Two jobs of which the earlier one takes the only cheap machine of the later one, unless somebody thinks."""
    play = Stage()
    play.policy = replace(play.policy, solver=Millis(solver))
    early, late = spec("early"), spec("late")
    late = replace(late, need=replace(late.need, places=("local/a", "local/c")))
    play.submit(replace(early, duration=Millis(10 * HOUR)))
    play.submit(replace(late, duration=Millis(10 * HOUR)))
    see(play)
    return play


def see(play: Stage, cheap: float = 10.0) -> None:
    zones = (("a", cheap), ("b", 11.0), ("c", 70.0))
    play.offers(*(on_stage(zone, dollars, market=Market.ON_DEMAND, free=1) for zone, dollars in zones))


def zones(play: Stage) -> list[str]:
    return sorted(f"{node.job}:{node.pool.zone}" for node in play.state.nodes.values())


def posed(play: Stage) -> Puzzle:
    (effect,) = play.asked(Propose)
    puzzle: Puzzle = effect.puzzle
    return puzzle


def test_the_better_plan_is_carried_out_when_it_comes_in_time() -> None:
    play = stage()
    puzzle = posed(play)
    assert zones(play) == []
    play.tell(Proposed(id=puzzle.id, choice=with_highs(puzzle)))
    assert zones(play) == ["j1:b", "j2:a"]
    assert len(play.asked(CallLaunch)) == 2


def test_a_worker_that_never_answers_costs_two_seconds() -> None:
    play = stage()
    posed(play)
    play.wait(1_000)
    assert zones(play) == []
    play.wait(1_001)
    assert zones(play) == ["j1:a", "j2:c"]


def test_a_worker_that_found_nothing_costs_no_more_than_its_answer() -> None:
    play = stage()
    play.tell(Proposed(id=posed(play).id, choice=()))
    assert zones(play) == ["j1:a", "j2:c"]


def test_an_answer_to_an_older_market_is_not_taken() -> None:
    play = stage()
    old = posed(play)
    see(play, cheap=10.5)
    new = posed(play)
    assert new.id != old.id
    play.tell(Proposed(id=old.id, choice=with_highs(old)))
    assert zones(play) == []
    play.tell(Proposed(id=new.id, choice=with_highs(new)))
    assert zones(play) == ["j1:b", "j2:a"]


def test_a_market_that_never_rests_holds_nobody_up() -> None:
    play = stage()
    for number in range(5):
        play.wait(500)
        see(play, cheap=10.0 + number / 100)
    assert len(zones(play)) == 2


@pytest.mark.parametrize("choice", [(("j9", "x"),), (("j1", "x"), ("j2", "y")), (("j1", "local/a"),)])
def test_a_choice_about_others_or_elsewhere_is_not_taken(choice: tuple[tuple[str, str], ...]) -> None:
    play = stage()
    play.tell(Proposed(id=posed(play).id, choice=choice))
    assert zones(play) == ["j1:a", "j2:c"]


def test_without_a_solver_nobody_waits() -> None:
    play = stage(solver=0)
    assert zones(play) == ["j1:a", "j2:c"]


def test_an_answer_nobody_asked_for_changes_nothing() -> None:
    play = stage(solver=0)
    play.tell(Proposed(id="what", choice=(("j1", "x"),)))
    play.tell(Tick())
    assert play.state.proposals == {}
    assert {play.job(name).state for name in ("j1", "j2")} == {JobState.STARTING}


# -- told ----------------------------------------------------------------------------------------------------------


def test_decision_and_event_tell_that_the_better_plan_was_taken() -> None:
    play = stage()
    puzzle = posed(play)
    play.tell(Proposed(id=puzzle.id, choice=with_highs(puzzle)))
    placed = [event for event in play.events if event.kind == "job.placed"]
    assert len(placed) == 2
    for event in placed:
        assert "2 jobs together, which saves 74%" in event.why
        (decision,) = [change for change in event.changes if change.table == "decision"]
        assert decision.fields["report"]["together"] == {"jobs": 2, "saves": 0.7375}
        assert "together with 1 other" in "\n".join(
            plan_text(decision.fields["report"], play.now, width=None, colour=False)
        )


def test_the_greedy_plan_says_nothing_of_it() -> None:
    play = stage(solver=0)
    assert all("together" not in event.why for event in play.events)


def test_time_that_passes_and_money_that_is_spent_make_no_other_question() -> None:
    """Costs and room move while a puzzle is solved; the answer is still an answer."""
    play = stage()
    puzzle = posed(play)
    play.tell(SetBudget(name="default", limit=usd(100_000)))
    play.wait(200)
    play.tell(Proposed(id=puzzle.id, choice=with_highs(puzzle)))
    assert zones(play) == ["j1:b", "j2:a"]


def test_jobs_that_are_all_alike_never_wait() -> None:
    play = Stage()
    play.policy = replace(play.policy, solver=Millis(2_000))
    for name in ("one", "two"):
        play.submit(replace(spec(name), duration=Millis(10 * HOUR)))
    see(play)
    assert len(play.state.nodes) == 2


def test_jobs_that_do_not_compete_never_wait() -> None:
    play = Stage()
    play.policy = replace(play.policy, solver=Millis(2_000))
    for name, hours_ in (("one", 10), ("two", 20)):
        play.submit(replace(spec(name), duration=Millis(hours_ * HOUR)))
    play.offers(
        *(on_stage(zone, dollars, market=Market.ON_DEMAND, free=8) for zone, dollars in (("a", 10.0), ("b", 70.0)))
    )
    assert len(play.state.nodes) == 2
