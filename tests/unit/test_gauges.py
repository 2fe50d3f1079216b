"""What a run says of itself: balance, utilisation, drift, memory that grows. And a step that never ends."""

from __future__ import annotations

import threading

import pytest

from dsched.jobs.runtime.stall import StallWatch
from dsched.jobs.train import gauges


@pytest.mark.parametrize(("counts", "load"), [([[4, 4], [4, 4]], 1.0), ([[4, 4], [8, 0]], 2.0), ([], None)])
def test_the_expert_load_is_that_of_the_worst_layer(counts: list[list[int]], load: float | None) -> None:
    assert gauges.imbalance(counts) == load


def test_there_is_no_utilisation_without_a_known_peak() -> None:
    assert gauges.peak_of("NVIDIA H200") == 989e12
    assert gauges.peak_of("NVIDIA H100 80GB HBM3") == 989e12
    assert gauges.peak_of("x86_64 AVX512") is None
    assert gauges.mfu(1000.0, 6e9, None, 1) is None
    assert gauges.mfu(1000.0, 6e9, 12e12, 2) == 0.25


def test_drift_is_none_for_the_same_and_one_for_nothing_in_common() -> None:
    drift = gauges.Drift()
    assert drift.look([5, 5, 0, 0]) is None
    assert drift.look([50, 50, 0, 0]) == 0.0
    assert drift.look([0, 0, 1, 1]) == 1.0


def slopes(mib_per_s: float, noise: float, seconds: int = 200) -> float | None:
    now = 0.0
    leak = gauges.Leak(
        resident=lambda: int((300 + mib_per_s * now + noise * ((now * 7919) % 13 - 6)) * gauges.MIB),
        monotonic=lambda: now,
    )
    told = None
    for second in range(seconds):
        now = float(second)
        told = leak.look()
    return told


def test_a_leak_is_told_by_its_slope() -> None:
    assert slopes(0.01, noise=0.0) == pytest.approx(36, rel=0.01)
    assert slopes(0.01, noise=0.02) == pytest.approx(36, rel=0.1)


@pytest.mark.parametrize(("slope", "noise", "seconds"), [(0.0, 0.5, 200), (-0.01, 0.0, 200), (0.01, 0.0, 50)])
def test_noise_a_shrinking_process_and_a_young_one_are_no_leak(slope: float, noise: float, seconds: int) -> None:
    assert slopes(slope, noise, seconds) is None


def test_a_step_that_never_ends_makes_the_rank_leave() -> None:
    left = threading.Event()
    with StallWatch(floor_s=0.02, first_s=0.02, leave=left.set):
        assert left.wait(30)


def test_between_steps_it_may_take_as_long_as_it_likes() -> None:
    now, left = 0.0, []
    watch = StallWatch(floor_s=60.0, leave=lambda: left.append(True), monotonic=lambda: now)
    with watch:
        now += 50.0
    assert watch.limit_s == 150.0, "three times the median step"
    now += 10_000.0
    watch.close()
    assert left == []


def test_the_first_step_may_take_longer_than_a_minute() -> None:
    watch = StallWatch(leave=lambda: None)
    watch.close()
    assert watch.limit_s >= 1_800, "a large batch on one GPU takes minutes: it would be killed in each generation"
