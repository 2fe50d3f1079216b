"""The invariant sum: one tree over the shards, whoever adds. Real gangs are in tests/e2e/test_train_gang.py."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from threading import current_thread, main_thread

import pytest

pytest.importorskip("torch")

import torch
from torch import Tensor

from dsched.jobs.runtime.checkpoint import Checkpoints, newest_manifest
from dsched.jobs.runtime.contract import ContractError, Environment, Runtime
from dsched.jobs.runtime.elastic import Flat, Fold, Summation, World
from dsched.jobs.runtime.storage import FileStorage
from dsched.jobs.train.__main__ import _device
from dsched.jobs.train.loop import EXIT_FAILED, Record, train, warn_of_mixture
from dsched.jobs.train.losses import read
from dsched.jobs.train.optim import AdamW
from dsched.jobs.train.shape import PRESETS
from dsched.jobs.train.training import Recipe, Training

torch.set_num_threads(1)


def leaves(count: int) -> list[Tensor]:
    dice = torch.Generator().manual_seed(0)
    return [torch.randn(64, generator=dice) * 10.0 ** (i % 7) for i in range(count)]


def tree(parts: list[Tensor]) -> Tensor:
    half = len(parts) // 2
    return parts[0] if len(parts) == 1 else tree(parts[:half]) + tree(parts[half:])


def fold(parts: list[Tensor]) -> Tensor:
    total = Fold()
    for part in parts:
        total.push(part.clone())
    return total.result()


@pytest.mark.parametrize("count", [1, 2, 4, 8, 16])
def test_a_fold_brackets_like_a_balanced_tree(count: int) -> None:
    assert torch.equal(fold(leaves(count)), tree(leaves(count)))


@pytest.mark.parametrize("size", [1, 2, 4, 8])
def test_folding_subtrees_and_then_their_sums_is_the_same_tree(size: int) -> None:
    parts = leaves(8)
    per = 8 // size
    subtrees = [fold(parts[at : at + per]) for at in range(0, 8, per)]
    assert torch.equal(fold(subtrees), fold(parts))


def test_adding_up_as_they_come_is_another_sum() -> None:
    running = World(summation=Summation.ALL_REDUCE).fold()
    for part in leaves(8):
        running.push(part.clone())
    assert not torch.equal(running.result(), fold(leaves(8)))


@pytest.mark.parametrize("size", [1, 2, 4, 8])
def test_every_leaf_and_every_segment_has_one_owner(size: int) -> None:
    worlds = [World(rank, size) for rank in range(size)]
    assert sorted(leaf for world in worlds for leaf in world.leaves) == list(range(8))
    assert [shard for world in worlds for shard in world.owned] == list(range(8))
    assert [leaf for rank in worlds[0].leaf_order for leaf in worlds[rank].leaves] == list(range(8))


@pytest.mark.parametrize("size", [2, 4, 8])
def test_halving_joins_neighbours_of_the_tree_first(size: int) -> None:
    """The first exchange is with rank ^ size/2, so those two must own neighbouring subtrees."""
    for rank in range(size):
        mine, peer = World(rank, size).leaves, World(rank ^ size // 2, size).leaves
        low, high = sorted((mine, peer), key=lambda r: r.start)
        assert low.stop == high.start
        assert low.start % (2 * len(low)) == 0


@pytest.mark.parametrize(("size", "shards"), [(3, 8), (16, 8), (2, 6), (0, 8)])
def test_a_world_that_does_not_divide_the_shards_is_refused(size: int, shards: int) -> None:
    with pytest.raises(ContractError, match=f"WORLD_SIZE={size} must be a power of two that divides shards={shards}"):
        World(0, size, shards=shards)


def test_parameters_are_views_of_one_buffer_with_decayed_ones_first() -> None:
    model = torch.nn.Sequential(torch.nn.LayerNorm(8), torch.nn.Linear(8, 8))
    wanted = {name: p.detach().clone() for name, p in model.named_parameters()}
    flat = Flat(model, 4)
    assert flat.numel % (4 * 64) == 0
    assert flat.table["1.weight"] == (0, (8, 8))
    assert flat.decayed == 64
    flat.weights += 1
    assert all(torch.equal(p, wanted[name] + 1) for name, p in model.named_parameters())


def test_a_gradients_buffer_is_used_again_and_empty() -> None:
    model = torch.nn.Linear(8, 8, bias=False)
    flat = Flat(model, 1)
    first = flat.gradient()
    model(torch.ones(1, 8)).sum().backward()
    assert first.count_nonzero() == 64
    flat.release(first)
    again = flat.gradient()
    assert again.data_ptr() == first.data_ptr()
    assert again.count_nonzero() == 0


def test_a_step_is_what_adamw_does_with_eight_bytes_of_state() -> None:
    model = torch.nn.Linear(16, 16, bias=False)
    flat = Flat(model, 1)
    ours, reference = AdamW(flat, World(shards=1)), flat.weights.clone().requires_grad_()
    theirs = torch.optim.AdamW([reference], lr=1e-2, betas=(0.9, 0.95), eps=1e-8, weight_decay=0.1, foreach=False)
    for step in range(1, 4):
        gradient = torch.randn(flat.numel, generator=torch.Generator().manual_seed(step)) * 0.01
        reference.grad = gradient.clone()
        theirs.step()
        ours.step(gradient, gradient.norm().item(), step, 1e-2)
    assert torch.allclose(flat.weights, reference, atol=2e-4)  # the moments are bf16 here
    held = [ours.master, ours.mean, ours.square]
    assert sum(part.element_size() for part in held) == 8


def test_a_large_gradient_is_clipped_by_the_norm_of_the_whole() -> None:
    model = torch.nn.Linear(16, 16, bias=False)
    flat = Flat(model, 1)
    optimizer = AdamW(flat, World(shards=1))
    gradient = torch.full((flat.numel,), 5.0)
    optimizer.step(gradient.clone(), 100.0, 1, 1e-3)
    assert optimizer.mean.float().max() == pytest.approx(5.0 / 100 * 0.1, rel=1e-2)


def test_a_state_that_was_saved_by_shards_goes_on_with_the_same_bits() -> None:
    recipe = Recipe(shape=PRESETS["tiny"], shards=2, length=16, corpus_bytes=100_000)
    straight = Training(recipe, World(shards=2))
    losses = [straight.step().loss for _ in range(4)]

    first = Training(recipe, World(shards=2))
    assert [first.step().loss for _ in range(2)] == losses[:2]
    files = {name: b"".join(bytes(chunk) for chunk in chunks) for name, chunks in first.stage().items()}
    assert sorted(files) == ["00000.safetensors", "00001.safetensors", "common.safetensors"]

    from dsched.jobs.runtime.manifest import Manifest

    second = Training(recipe, World(shards=2))
    second.resume(Manifest(step=2, generation=1, shards=(), **first.facts()), files)
    assert [second.step().loss for _ in range(2)] == losses[2:]
    assert torch.equal(second.flat.weights, straight.flat.weights)


def test_a_run_that_diverges_stops_and_saves_nothing_of_it(tmp_path: Path) -> None:
    recipe = Recipe(shape=PRESETS["tiny"], shards=1, length=16, corpus_bytes=100_000, rate=1e36)
    assert train(Runtime(Environment(generation=1)), str(tmp_path), recipe, steps=6, every=1) == EXIT_FAILED
    newest = newest_manifest(FileStorage(tmp_path))
    assert newest is not None
    assert newest.step == 1, "its loss was still a number"


@pytest.mark.parametrize("wanted", ["cuda", "cuda:1"])
def test_a_gpu_that_is_named_repeats_its_bits_too(wanted: str) -> None:
    try:
        with suppress(RuntimeError, AssertionError, AttributeError):  # where there is none
            _device(wanted, 0)
        assert torch.are_deterministic_algorithms_enabled()
    finally:
        torch.use_deterministic_algorithms(False)
    assert _device("cpu", 3) == "cpu"
    assert not torch.are_deterministic_algorithms_enabled()


class Slow(FileStorage):
    """A store where an append takes long, as on S3."""

    appends_cheaply = False

    def append(self, path: str, data: bytes) -> None:
        assert current_thread() is not main_thread(), "a rank that waits for a bucket is lost to the others"
        super().append(path, data)


def test_losses_that_are_dear_to_write_are_written_behind_the_training(tmp_path: Path) -> None:
    training = Training(Recipe(shape=PRESETS["tiny"], shards=1, length=16, corpus_bytes=100_000), World(shards=1))
    store = Slow(tmp_path)
    record = Record(Runtime(Environment()), Checkpoints(store, 1), training)
    record.loss(training.step().loss)
    record.save()
    assert record.settle()
    assert list(read(store).by_step) == [1]
    record.close(abandon=False)


class Others:
    """A gang whose other rank says what it is told to."""

    rank = 0

    def __init__(self, other: str) -> None:
        self._other = other

    def exchange(self, text: str) -> list[str]:
        return [text, self._other or text]


@pytest.mark.parametrize(("other", "warnings"), [("", 0), ('{"chip": "another"}', 1)])
def test_a_gang_of_different_machines_is_told(other: str, warnings: int, caplog: pytest.LogCaptureFixture) -> None:
    warn_of_mixture(Others(other), {"chip": "this one"})
    assert len(caplog.records) == warnings
    assert all("on different machines" in record.message for record in caplog.records)
