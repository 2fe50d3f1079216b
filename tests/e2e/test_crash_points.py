"""kill -9 of the daemon at its durable and outward system calls: a drawn sample; `make crash-points` takes them all."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.support.crashpoints import clean_run, sampled, shoot_all, summary
from tests.support.tool import needs

POINTS = 20
SEED = 3


@pytest.mark.slow
@pytest.mark.timeout(600)
@needs("strace")
def test_a_kill_at_any_durable_or_outward_system_call_breaks_no_promise(
    record_property: Callable[[str, object], None],
) -> None:
    points = clean_run()
    results = shoot_all(sampled(points, POINTS, SEED))
    record_property("told", summary(results, len(points)))
    assert {str(result.point): result.wrong for result in results if result.wrong} == {}
    assert sum(result.died for result in results) >= POINTS * 2 // 3
