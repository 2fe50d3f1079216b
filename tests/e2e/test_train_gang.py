"""Gangs of real processes, killed, warned and resized: the bits must be those of one undisturbed worker."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("torch")

from dsched.jobs.agent.warm import Zygote
from dsched.jobs.runtime.checkpoint import Checkpoints, newest_manifest
from dsched.jobs.runtime.storage import open_storage
from dsched.jobs.train.losses import compare
from dsched.jobs.train.weights import digest
from dsched.scheduler.demo.training import proof
from dsched.scheduler.demo.training.gang import Blow, Run, free_port, run, warmed
from dsched.scheduler.wire.agent import EXIT_PEER_LOST
from tests.support.house import wait_for

pytestmark = pytest.mark.slow

STEPS = 14
PORT = free_port()
TRAIN = ["--preset", "tiny", "--shards", "4", "--length", "16", "--corpus-bytes", "200000", "--every", "4"]
ALL = [*TRAIN, "--steps", str(STEPS)]


@pytest.fixture(scope="module")
def zygote(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Zygote]:
    with warmed(tmp_path_factory.mktemp("zygote")) as ready:
        yield ready


@pytest.fixture(scope="module")
def straight(zygote: Zygote, tmp_path_factory: pytest.TempPathFactory) -> Run:
    return run(zygote, tmp_path_factory.mktemp("straight") / "run", ALL, 1)


def test_killed_warned_and_resized_the_bits_are_those_of_one_undisturbed_worker(
    zygote: Zygote, straight: Run, tmp_path: Path
) -> None:
    plan = [Blow(2, "kill", 4), Blow(5, "notice", 1), Blow(7, "kill-all", 2), Blow(10, "notice", 4)]
    seen = run(zygote, tmp_path / "run", ALL, 2, plan)
    assert seen.worlds == [2, 4, 1, 2, 4]
    assert seen.blows == plan
    assert seen.lost_by_notice == 0
    assert compare(straight.uri, seen.uri) == (STEPS, [])
    assert digest(straight.uri) == digest(seen.uri)
    assert proof.same("gang", seen.uri, straight.uri).holds
    newest = newest_manifest(open_storage(seen.uri))
    assert newest is not None
    assert newest.world_size == 4
    assert newest.numerics["summation"] == "tree"


def test_a_librarys_all_reduce_is_seen_to_differ(zygote: Zygote, straight: Run, tmp_path: Path) -> None:
    other = run(zygote, tmp_path / "run", [*ALL, "--summation", "allreduce"], 4)
    assert proof.different("all_reduce", other.uri, straight.uri).holds
    assert not proof.same("all_reduce", other.uri, straight.uri).holds
    assert digest(straight.uri) != digest(other.uri)


def test_the_check_is_not_fooled_by_a_run_that_stopped_early(zygote: Zygote, straight: Run, tmp_path: Path) -> None:
    short = run(zygote, tmp_path / "run", [*TRAIN, "--steps", "3"], 2)
    assert not proof.same("short", short.uri, straight.uri).holds
    claim = proof.different("short", short.uri, straight.uri)
    assert not claim.holds
    assert "at step 3, so the check is blind" in claim.text


def test_fp8_and_recomputed_activations_keep_the_promise_too(zygote: Zygote, tmp_path: Path) -> None:
    arguments = [*TRAIN, "--steps", "3", "--precision", "fp8"]
    one = run(zygote, tmp_path / "one", arguments, 1)
    two = run(zygote, tmp_path / "two", [*arguments, "--recompute"], 2)
    assert compare(one.uri, two.uri) == (3, [])


def test_the_survivor_of_a_killed_rank_leaves_with_76_and_what_was_saved_is_whole(
    zygote: Zygote, tmp_path: Path
) -> None:
    uri = (tmp_path / "store").as_uri()
    killed, survivor = (start(zygote, tmp_path, uri, rank, ["--steps", "100000", *TRAIN]) for rank in (1, 0))
    wait_for(lambda: newest_manifest(open_storage(uri)) is not None, "a checkpoint")
    os.kill(killed, signal.SIGKILL)
    assert os.waitstatus_to_exitcode(os.waitpid(killed, 0)[1]) == -signal.SIGKILL
    assert os.waitstatus_to_exitcode(os.waitpid(survivor, 0)[1]) == EXIT_PEER_LOST
    restored = Checkpoints(open_storage(uri), 2).restore()
    assert restored is not None
    assert restored.fallback is None
    log = (tmp_path / "0.log").read_text()
    assert "a peer is lost" in log
    assert "Traceback" not in log


def start(zygote: Zygote, folder: Path, uri: str, rank: int, arguments: list[str]) -> int:
    """A rank of a gang of two, without anybody who looks after it."""
    env = os.environ | {
        "DSCHED_JOB": folder.name,
        "DSCHED_GENERATION": "1",
        "DSCHED_CHECKPOINT": uri,
        "RANK": str(rank),
        "WORLD_SIZE": "2",
        "MASTER_PORT": str(PORT),
    }
    log = os.open(folder / f"{rank}.log", os.O_WRONLY | os.O_CREAT, 0o600)
    pid, gate = zygote.fork(["-m", "dsched.jobs.train", *arguments], env, log)
    os.close(log)
    os.write(gate, b"\n")
    os.close(gate)
    return pid
