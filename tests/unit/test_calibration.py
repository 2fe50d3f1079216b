"""Predictions judged by what happened."""

from __future__ import annotations

from dataclasses import replace

import pytest

from dsched.scheduler.core.calibration import Outcome, judge
from dsched.scheduler.core.sighting import Sight, Sighting
from dsched.scheduler.core.units import HOUR, Millis
from dsched.scheduler.engine.forecast import Forecasts
from tests.support.stage import Stage, offer


def test_nothing_predicted_is_nothing_judged() -> None:
    got = judge([])
    assert (got.count, got.brier, got.skill, got.rows) == (0, None, None, ())


def test_a_perfect_forecaster_has_no_loss_and_all_skill() -> None:
    got = judge([Outcome(1.0, True), Outcome(0.0, False)])
    assert (got.brier, got.skill) == (0, 1)


def test_whoever_says_the_average_has_no_skill() -> None:
    got = judge([Outcome(0.25, True), *[Outcome(0.25, False)] * 3])
    assert got.brier == pytest.approx(0.1875)
    assert got.skill == pytest.approx(0)


def test_the_table_sets_what_was_said_beside_what_came() -> None:
    got = judge([Outcome(0.03, False)] * 9 + [Outcome(0.03, True)] + [Outcome(1.0, True)])
    low, high = got.rows
    assert (low.low, low.high, low.count, low.predicted, low.happened) == (0.02, 0.05, 10, pytest.approx(0.03), 0.1)
    assert (high.high, high.count) == (1.0, 1)


class Watch:
    """A stage with one running job, and the forecaster that looks at it as the daemon lets it."""

    def __init__(self) -> None:
        self.stage = Stage(offer("us-east-1a", 10.0), offer("us-east-1b", 12.0))
        self.noted: list[Sighting] = []
        self.forecasts = Forecasts(self.noted.append)
        self.stage.run()
        self.told = len(self.stage.events)
        self.look()

    def look(self) -> None:
        self.forecasts.hear(self.stage.events[self.told :])
        self.told = len(self.stage.events)
        self.forecasts.look(self.stage.state, self.stage.policy, self.stage.now.market)

    @property
    def node(self) -> str:
        return self.stage.job().nodes[0]

    @property
    def outcomes(self) -> list[bool]:
        return [line.happened for line in self.noted if line.kind is Sight.OUTCOME]


def wait(watch: Watch, hours: int) -> None:
    for _ in range(hours):
        watch.stage.state.nodes[watch.node]  # it lives: its agent would renew the lease
        watch.stage.now = type(watch.stage.now)(*(at + HOUR for at in (watch.stage.now.wall, watch.stage.now.market)))
        watch.look()


def test_a_machine_that_lives_through_the_hour_is_one_outcome_an_hour() -> None:
    watch = Watch()
    wait(watch, 3)
    assert watch.outcomes == [False, False, False]
    assert watch.forecasts.calibration().count == 3


def test_a_notice_within_the_hour_is_an_interruption_and_counts_once() -> None:
    watch = Watch()
    node = watch.node
    watch.stage.notice(node)
    watch.stage.kill(node)
    watch.look()
    assert watch.outcomes == [True]


def test_a_machine_that_we_gave_back_judges_nobody() -> None:
    watch = Watch()
    watch.stage.exit(0)
    watch.stage.wait(int(HOUR))
    watch.look()
    assert watch.outcomes == []


def test_the_next_daemon_remembers_the_outcomes() -> None:
    watch = Watch()
    wait(watch, 2)
    heir = Forecasts(watch.noted.append)
    heir.recall(watch.noted)
    assert heir.calibration() == watch.forecasts.calibration()


def test_machines_side_by_side_are_one_witness() -> None:
    """A pool takes all of them at once: eight interruptions in a minute are one blow, eight lives one exposure."""
    stage = Stage(offer("us-east-1a", 10.0, free=8))
    stage.policy = replace(stage.policy, lease=Millis(1_000 * HOUR))
    for _ in range(4):
        stage.run()
    stage.wait(10 * HOUR)
    for node in list(stage.state.nodes):
        stage.notice(node)
        stage.kill(node)
    memory = stage.state.pools["local/us-east-1a/p5.48xlarge/spot"]
    assert memory.interruptions == 4
    assert memory.seen == pytest.approx(1)
    assert 0.1 < memory.expected < 0.4  # four lives one after the other would be expected 0.8
