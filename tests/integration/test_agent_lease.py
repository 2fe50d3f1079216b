"""Notices, the lease, and a real agent's own death: what must be gone by then, and is."""

from __future__ import annotations

import json
import signal
import time
from pathlib import Path

import pytest

from tests.support.agent import DEAF, FOREVER, SAVER, agent, rank_of, says, until


@pytest.mark.parametrize("flavour", ["aws", "gcp"])
def test_at_a_notice_the_node_drains_by_itself_and_ends_at_the_deadline(tmp_path: Path, flavour: str) -> None:
    with agent(tmp_path, flavour=flavour) as running:
        home = running.home
        home.start("trap 'cat \"$DSCHED_CONTROL\"; exit 75' TERM; echo ready; while :; do sleep 1000 & wait $!; done")
        says(running, b"ready")
        running.meta.interrupt(2.5)
        ended = home.fact("exited")
        deadline = home.fact("noticed", what="interrupt")["deadline"]
        assert (ended["exits"], ended["drained"]) == ({"0": 75}, True)
        assert ended["at"] < deadline
        says(running, b"deadline_ms")
        told = json.loads(home.log()[home.log().index(b"{") :])["deadline_ms"]
        assert deadline - 1_100 <= told < deadline
        home.start("echo too late", generation=2)
        assert home.fact("exited", generation=2)["drained"]
        assert running.wait() == 0  # although every answer of the daemon extends the lease
        assert time.time() * 1_000 >= deadline - 5


def test_a_rank_that_ignores_the_notice_is_killed_before_the_deadline(tmp_path: Path) -> None:
    with agent(tmp_path, flavour="gcp") as running:
        running.home.start(DEAF)
        says(running, b"ready")
        running.meta.interrupt(1.5)
        ended = running.home.fact("exited")
        assert ended["exits"] == {"0": -9}
        assert ended["at"] < running.home.fact("noticed")["deadline"]


def test_a_rebalance_hint_is_told_and_stops_nothing(tmp_path: Path) -> None:
    with agent(tmp_path) as running:
        running.home.start(SAVER)
        says(running, b"ready")
        running.meta.rebalance()
        running.home.fact("noticed", what="rebalance")
        running.home.start("echo on", job="other")
        running.home.fact("exited", job="other", exits={"0": 0})
        assert rank_of(running).is_running()


def test_a_notice_is_heard_with_an_expired_token(tmp_path: Path) -> None:
    with agent(tmp_path) as running:
        until(lambda: running.meta.tokens_granted == 2)  # one asks who it is, the other watches
        running.meta.forget_tokens()
        running.meta.interrupt(60)
        running.home.fact("noticed", what="interrupt")
        assert running.meta.tokens_granted == 3


def test_the_lease_ends_everything_although_the_daemon_is_silent_and_the_rank_deaf(tmp_path: Path) -> None:
    with agent(tmp_path, lease_ms=2_000, drain_ms=500) as running:
        running.home.start(DEAF)
        says(running, b"ready")
        running.home.down()
        assert running.wait() == 0
        assert not [p for p in running.survivors() if "RANK" in p.environ()]


def test_a_stopped_agent_does_not_carry_its_ranks_past_the_lease(tmp_path: Path) -> None:
    with agent(tmp_path, lease_ms=1_500, drain_ms=500) as running:
        running.home.start(DEAF)
        says(running, b"ready")
        running.process.send_signal(signal.SIGSTOP)
        assert running.wait() == -signal.SIGKILL
        assert running.gone()


def test_ranks_die_with_the_agent(tmp_path: Path) -> None:
    with agent(tmp_path) as running:
        running.home.start(f"(setsid {FOREVER} &); echo ready; {DEAF}", ranks=[0, 1])
        says(running, b"ready\nready")
        running.kill()
        assert running.gone()


def test_ranks_die_with_the_agent_although_its_guard_was_killed_before(tmp_path: Path) -> None:
    with agent(tmp_path) as running:
        running.home.start(DEAF)
        says(running, b"ready")
        guard = next(p for p in running.survivors() if p.name() == "dsched-guard")
        guard.kill()
        guard.wait()
        running.home.start("true", job="later")  # the loop has gone round since
        running.home.fact("exited", job="later")
        running.kill()
        assert running.gone()
