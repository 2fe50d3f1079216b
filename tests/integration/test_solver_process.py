"""The solver in its own process: it answers, and its death, silence or absence harms nobody."""

from __future__ import annotations

import sys

import anyio
import pytest

from dsched.scheduler.core.message import Message, Proposed
from dsched.scheduler.core.proposal import pose
from dsched.scheduler.engine.propose import Proposer
from tests.support.question import NOW, solve
from tests.unit.test_proposal import POLICY, crossed

pytestmark = pytest.mark.anyio
PATIENCE_S = 2.0  # for one that fails: a Python process starts within it on a busy machine, or fails by being late
PUZZLE = pose(crossed(), POLICY, NOW, solve(crossed(), POLICY))
LIES = """
import pickle, struct, sys
sys.stdin.buffer.read(8)
answer = pickle.dumps({"early": 7})
sys.stdout.buffer.write(struct.pack("<Q", len(answer)) + answer)
sys.stdout.flush()
sys.stdin.buffer.read()
"""


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
        (sys.executable, "-c", LIES),
        (sys.executable, "-c", "import sys; sys.stdout.buffer.write(b'x' * 4096); sys.stdout.flush(); input()"),
    ],
    ids=["dies", "is silent", "is absent", "answers with something else", "babbles"],
)
async def test_a_worker_that_fails_says_nothing(worker: tuple[str, ...]) -> None:
    ear = Ear()
    proposer = Proposer(ear, worker=worker, patience=PATIENCE_S)  # type: ignore[arg-type]
    await told(proposer)
    assert (list(ear), proposer.failed) == ([], 1)


async def test_an_idle_process_gives_its_memory_back_and_the_next_puzzle_starts_another() -> None:
    ear = Ear()
    proposer = Proposer(ear, idle=0.0)  # type: ignore[arg-type]
    await told(proposer)
    with anyio.fail_after(30):
        while proposer.worker.process is not None:
            await anyio.sleep(0.01)
    await told(proposer)
    await proposer.worker.close()
    assert len(ear) == 2
