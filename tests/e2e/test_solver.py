"""The solver in a real daemon: a queue that competes is placed together, and a worker that lies changes nothing."""

from __future__ import annotations

import asyncio
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest

from dsched.providers.local.provider import LocalProvider
from tests.support.house import House, house, wait_for

pytestmark = pytest.mark.slow

A, B, C = "local/use2-az3", "local/use1-az4", "local/usw2-az2"
PRICES = {A: 0.5, B: 0.4, C: 3.0}  # factors that make A a little cheaper than B, and C far dearer, with seed 3
ALL = "local/*/p5.48xlarge/spot"


def levers(home: House, *pulls: tuple[str, dict[str, Any]]) -> None:
    async def pull() -> None:
        cloud = LocalProvider(home.state / "cloud" / "cloud.sock")
        for kind, what in pulls:
            await cloud.inject(kind, **what)

    asyncio.run(pull())


def competing(home: House) -> tuple[str, str]:
    """Two jobs that wait, then one machine in each of three zones at once: both want A, only the first may have B."""
    nothing = [("capacity", {"pool": "local/*", "count": 0})]
    bent = [("price", {"pool": f"{zone}/p5.48xlarge/spot", "factor": factor}) for zone, factor in PRICES.items()]
    levers(home, *nothing, *bent)
    wait_for(lambda: not any(offer["free"] for offer in home.client.offers()), "a market that is sold out")
    more: dict[str, Any] = {"capacity": ["spot"], "duration": "10h"}
    early = home.submit("early", "exec sleep 300", regions=[A, B], **more)
    late = home.submit("late", "exec sleep 300", regions=[A, C], **more)
    levers(home, ("capacity", {"pool": ALL, "count": 1}))
    return early, late


def zone(home: House, job: str) -> str:
    """Where it was placed."""
    plans = [plan for plan in home.client.explain(job) if plan["chosen"]]
    return str(plans[-1]["chosen"]).rpartition("/p5")[0] if plans else ""


def started(folder: Path, seconds: float, **environment: str) -> AbstractContextManager[House]:
    (folder / "config.toml").write_text(f"solver_seconds = {seconds}\n")
    environment["CREDENTIALS_DIRECTORY"] = str(folder)  # where systemd would put it
    return house(folder, "--scale", "1", "--seed", "3", "--prices-seconds", "1", **environment)


def test_a_queue_that_competes_is_placed_together(tmp_path: Path) -> None:
    with started(tmp_path, 30.0) as home:  # a busy machine
        early, late = competing(home)
        assert wait_for(lambda: zone(home, early), "a decision") == B
        assert wait_for(lambda: zone(home, late), "a decision") == A
        plan: Any = home.client.explain(late)[-1]
        assert plan["together"]["jobs"] == 2
        assert plan["together"]["saves"] > 0.3
        (event,) = [event for event in home.client.events(job=late) if event["kind"] == "job.placed"]
        assert "2 jobs together, which saves" in event["why"]


@pytest.mark.parametrize("broken", ["raise SystemExit(3)", "import time; time.sleep(3600)"], ids=["dead", "slow"])
def test_a_broken_solver_changes_nothing(tmp_path: Path, broken: str) -> None:
    (tmp_path / "highspy.py").write_text(broken)
    with started(tmp_path, 1.0, PYTHONPATH=str(tmp_path)) as home:
        early, late = competing(home)
        assert wait_for(lambda: zone(home, early), "a decision") == A
        assert wait_for(lambda: zone(home, late), "a decision") == C
        assert "together" not in home.client.explain(late)[-1]
