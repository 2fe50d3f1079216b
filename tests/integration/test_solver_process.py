"""The solver in its own process: it answers, and its death, silence or absence harms nobody."""

from __future__ import annotations

import sys

import pytest

from dsched.scheduler.core.message import Message, Proposed
from dsched.scheduler.core.proposal import pose
from dsched.scheduler.engine.propose import Proposer
from tests.support.question import NOW, solve
from tests.unit.test_proposal import POLICY, crossed

pytestmark = pytest.mark.anyio
PUZZLE = pose(crossed(), POLICY, NOW, solve(crossed(), POLICY))


class Ear(list[Message]):
    """Hears what the core would be told."""

    post = list.append


async def told(proposer: Proposer) -> None:
    assert PUZZLE is not None
    await proposer.propose(PUZZLE.puzzle)


async def test_it_answers_and_the_daemon_never_loads_it() -> None:
    ear = Ear()
    proposer = Proposer(ear)  # type: ignore[arg-type]
    try:
        await told(proposer)
    finally:
        await proposer.worker.close()
    (message,) = ear
    assert isinstance(message, Proposed)
    assert {job: pool.split("/")[1] for job, pool in message.choice} == {"early": "b", "late": "a"}


@pytest.mark.parametrize(
    "worker",
    [
        (sys.executable, "-c", "raise SystemExit(3)"),
        (sys.executable, "-c", "import sys; sys.stdin.buffer.read()"),
        ("/nowhere/at/all",),
    ],
    ids=["dies", "is silent", "is absent"],
)
async def test_a_worker_that_fails_says_nothing(worker: tuple[str, ...]) -> None:
    ear = Ear()
    proposer = Proposer(ear, worker=worker, patience=0.5)  # type: ignore[arg-type]
    await told(proposer)
    assert (list(ear), proposer.failed) == ([], 1)
