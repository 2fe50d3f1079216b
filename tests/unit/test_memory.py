"""What a daemon that runs for months may keep in memory, and what it must not forget too early."""

from __future__ import annotations

import pytest

from dsched.scheduler.core import snapshot
from dsched.scheduler.core.message import Action
from dsched.scheduler.core.snapshot import Progress
from tests.support.stage import Stage, offer, spec


def test_only_the_newest_ended_jobs_stay_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(snapshot, "ENDED_KEPT", 2)
    s = Stage(offer("us-east-1a", 20.0, free=0))
    for _ in range(5):
        s.submit()
    for job in ("j4", "j2", "j1", "j5"):
        s.state.progress[job] = Progress(step=1)
        s.act(job, Action.CANCEL)
    s.wait(1_000)
    assert list(s.state.jobs) == ["j1", "j3", "j5"]
    assert set(s.state.keys.values()) == {"j1", "j3", "j5"}
    assert set(s.state.progress) == {"j1", "j5"}
    assert s.submit() == "j6"


def test_what_is_learned_of_a_node_is_forgotten_with_it() -> None:
    s = Stage(offer("us-east-1a", 20.0))
    s.run()
    (node,) = s.job().nodes
    assert s.state.heard
    assert s.state.started == {node: 1}
    s.kill(node)
    assert not any(node in known for known in s.state.of_nodes())


def test_a_new_job_is_looked_at_even_while_others_of_its_kind_wait_for_their_time() -> None:
    s = Stage(offer("us-east-1a", 20.0, free=8))
    s.submit()
    s.refuse(cooldown=1)
    s.now = type(s.now)(s.now.wall + 1, s.now.market + 10)  # type: ignore[arg-type]
    assert s.job("j1").due > s.now.wall
    s.offers(offer("us-east-1a", 20.0, free=8))
    s.submit(spec())
    assert s.job("j2").next_nodes
