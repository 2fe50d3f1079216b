"""The trainer as a real process: killed, drained, starved of disk. The bits must be those of an undisturbed run."""

from __future__ import annotations

import random
import resource
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from dsched.jobs.runtime.checkpoint import Checkpoints, newest_manifest
from dsched.jobs.runtime.storage import open_storage
from dsched.jobs.train.__main__ import main
from dsched.jobs.train.losses import compare, read
from tests.support.trainer import Trainer

pytest.importorskip("torch")
pytestmark = pytest.mark.slow

STEPS = 120
EVERY = 7


def start(folder: Path, generation: int, *arguments: str, **environ: str) -> Trainer:
    return Trainer(folder, generation, "--steps", str(STEPS), "--every", str(EVERY), *arguments, **environ)


@pytest.fixture(scope="module")
def straight(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The checkpoint uri of a run that nobody disturbed."""
    with start(tmp_path_factory.mktemp("straight"), 1) as trainer:
        assert trainer.end() == 0
        yield trainer.uri


def test_a_straight_run_learns_and_says_what_it_does(straight: str, tmp_path: Path) -> None:
    losses = [float(text) for _, text in sorted(read(open_storage(straight)).by_step.items())]
    assert len(losses) == STEPS
    assert sum(losses[-10:]) / 10 < 0.75 * losses[0]
    manifest = newest_manifest(open_storage(straight))
    assert manifest is not None
    assert manifest.data["position"] == STEPS
    assert {"torch", "chip", "threads"} <= manifest.numerics.keys()


@pytest.mark.parametrize("seed", [1, 2])
def test_killed_and_drained_at_random_the_bits_are_those_of_a_straight_run(
    seed: int, straight: str, tmp_path: Path
) -> None:
    dice = random.Random(seed)
    generation, durable = 0, 0
    while True:
        generation += 1
        with start(tmp_path, generation) as trainer:
            ready = trainer.until_event("ready")
            assert ready["step"] >= durable, "an acknowledged checkpoint was lost"
            target = ready["step"] + dice.randint(1, STEPS // 2)
            if generation > 4 or target >= STEPS:
                assert trainer.end() == 0
                break
            trainer.until_step(target)
            number = dice.choice([signal.SIGKILL, signal.SIGTERM])
            code = trainer.kill(number)
            if code == 0:
                break  # it was faster
            assert code == (-signal.SIGKILL if number == signal.SIGKILL else 75)
            durable = max([durable, *(report["step"] for report in trainer.said("saved"))])
            if number == signal.SIGTERM:
                assert durable == trainer.last_step, "a drained job loses no step"
    assert generation > 1
    steps, differences = compare(straight, trainer.uri)
    assert (steps, differences) == (STEPS, [])
    assert main(["--check", straight, trainer.uri]) == 0


def test_another_seed_is_seen_to_differ(straight: str, tmp_path: Path) -> None:
    with start(tmp_path, 1, "--seed", "2") as trainer:
        assert trainer.end() == 0
    _, differences = compare(straight, trainer.uri)
    assert len(differences) > STEPS // 2
    assert main(["--check", straight, trainer.uri]) == 1


def test_drained_while_it_starts_it_leaves_at_once_and_has_nothing_to_lose(tmp_path: Path) -> None:
    with start(tmp_path, 1) as trainer:
        trainer.until_event("ready")
        assert trainer.kill(signal.SIGTERM) == 75
    with start(tmp_path, 2) as trainer:
        assert trainer.until_event("ready")["step"] == 0 or trainer.reports[0]["uri"]
        trainer.until_step(STEPS // 3)
        assert trainer.kill(signal.SIGTERM) == 75
        last = trainer.last_step
    with start(tmp_path, 3) as trainer:
        assert trainer.until_event("ready")["step"] == last


def test_asked_for_a_checkpoint_it_makes_one_and_goes_on(tmp_path: Path) -> None:
    with Trainer(tmp_path, 1, "--steps", "100000") as trainer:
        trainer.control_write(interval_ms=600_000, checkpoint=0)
        trainer.until_step(20)
        assert trainer.said("saved") == []
        trainer.control_write(interval_ms=600_000, checkpoint=1)
        saved = trainer.until_event("saved")
        assert saved["stall_ms"] > 0
        assert saved["write_ms"] > 0
        trainer.until_step(saved["step"] + 20)
        assert len(trainer.said("saved")) == 1


def test_a_damaged_checkpoint_is_told_and_the_one_before_is_taken(straight: str, tmp_path: Path) -> None:
    with start(tmp_path, 1) as trainer:
        assert trainer.end() == 0
    store = open_storage(trainer.uri)
    manifest = newest_manifest(store)
    assert manifest is not None
    data = bytearray(store.get(manifest.shards[0].path, manifest.shards[0].size))
    data[len(data) // 2] ^= 1
    store.put(manifest.shards[0].path, [data])
    with start(tmp_path, 2) as trainer:
        ready = trainer.until_event("ready")
        assert ready["fallback"].startswith(f"step {STEPS} refused: shards/")
        assert ready["step"] < STEPS
        assert trainer.end() == 0
    assert compare(straight, trainer.uri) == (STEPS, [])


def test_with_no_checkpoint_left_whole_it_exits_77_and_does_not_start_again(tmp_path: Path) -> None:
    with start(tmp_path, 1) as trainer:
        trainer.until_event("saved")
        trainer.kill(signal.SIGKILL)
    store = open_storage(trainer.uri)
    for path in store.list("manifests"):
        store.put(path, [b"\x80\x04\x95 a pickle, perhaps"])
    with start(tmp_path, 2) as trainer:
        assert trainer.end() == 77
        assert trainer.said("step") == []
        assert "no checkpoint can be used" in trainer.log


def test_on_a_full_disk_it_says_so_goes_on_and_saves_when_there_is_room(straight: str, tmp_path: Path) -> None:
    with start(tmp_path, 1) as trainer:
        trainer.until_event("saved")
        _, hard = resource.prlimit(trainer.process.pid, resource.RLIMIT_FSIZE)
        resource.prlimit(trainer.process.pid, resource.RLIMIT_FSIZE, (50_000, hard))
        unsaved = trainer.until_event("unsaved")
        assert "File too large" in unsaved["reason"]
        trainer.until_step(unsaved["step"] + 2)
        resource.prlimit(trainer.process.pid, resource.RLIMIT_FSIZE, (hard, hard))
        trainer.until_event("saved")
        assert trainer.end() == 0
    assert compare(straight, trainer.uri) == (STEPS, [])


def test_drained_on_a_full_disk_it_owns_up_and_the_last_good_one_stays(straight: str, tmp_path: Path) -> None:
    with start(tmp_path, 1) as trainer:
        saved = trainer.until_event("saved")
        _, hard = resource.prlimit(trainer.process.pid, resource.RLIMIT_FSIZE)
        resource.prlimit(trainer.process.pid, resource.RLIMIT_FSIZE, (50_000, hard))
        trainer.until_event("unsaved")
        assert trainer.kill(signal.SIGTERM) == 1
        assert trainer.said("preempted") == []
    with start(tmp_path, 2) as trainer:
        assert trainer.until_event("ready")["step"] >= saved["step"]
        assert trainer.end() == 0
    assert compare(straight, trainer.uri) == (STEPS, [])


def test_a_zombie_leaves_when_its_successor_has_claimed(tmp_path: Path) -> None:
    with start(tmp_path, 1) as trainer:
        trainer.until_event("saved")
        successor = Checkpoints(open_storage(trainer.uri), 2)
        seen = successor.restore()
        assert trainer.end() == 75
        assert "generation 2 has claimed" in trainer.log
        assert seen is not None
        again = successor.restore()
        assert again is not None
        assert again.manifest == seen.manifest, "what the zombie wrote changes nothing"


@pytest.mark.parametrize(
    ("arguments", "environ", "complaint"),
    [
        ([], {"WORLD_SIZE": "4"}, "WORLD_SIZE=4 must be a power of two that divides shards=2"),
        ([], {"WORLD_SIZE": "2"}, "MASTER_PORT is not set"),
        ([], {"RANK": "first"}, "RANK='first' is not a whole number"),
        (["--shards", "3"], {}, "shards=3 must be a power of two"),
        (["--corpus-bytes", "8"], {}, "corpus_bytes=8 must be more than length=32"),
        (["--checkpoint", "ftp://host/x"], {}, "use file://, s3:// or gs://"),
    ],
)
def test_what_no_retry_can_mend_exits_78_and_says_why(
    arguments: list[str], environ: dict[str, str], complaint: str, tmp_path: Path
) -> None:
    with start(tmp_path, 1, *arguments, **environ) as trainer:
        assert trainer.end() == 78
        assert complaint in trainer.log


def test_another_model_does_not_overwrite_this_ones_history(tmp_path: Path) -> None:
    with start(tmp_path, 1) as trainer:
        trainer.until_event("saved")
        trainer.kill(signal.SIGKILL)
    with start(tmp_path, 2, "--preset", "4m") as trainer:
        assert trainer.end() == 78
        assert "this run wants" in trainer.log
