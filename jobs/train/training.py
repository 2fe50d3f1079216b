"""The state of one run on one worker, and what a step does to it: the same bits for every number of workers."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Final, NamedTuple

import torch
from torch import Tensor

from dsched.jobs.runtime.checkpoint import Shards
from dsched.jobs.runtime.elastic import SHARDS, Flat, World
from dsched.jobs.runtime.manifest import Manifest
from dsched.jobs.runtime.tensors import Mismatch, Stage, encode, fill, numerics
from dsched.jobs.train.data import CORPUS_BYTES, Corpus, standard_library
from dsched.jobs.train.model import Decoder
from dsched.jobs.train.optim import AdamW
from dsched.jobs.train.shape import PRESETS, Precision, Shape

log = logging.getLogger("dsched.train")

WARMUP_STEPS: Final = 20  # Adam's second moment is noise before
COMMON: Final = "common.safetensors"  # what belongs to no shard: the experts' biases
BYTES: Final = 256  # values of a token of this corpus


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """What the bits of a run depend on. It is in every checkpoint, and a resumed run must agree with it."""

    seed: int = 1
    shape: Shape = field(default_factory=lambda: PRESETS["tiny"])
    precision: Precision = Precision.FP32
    shards: int = SHARDS  # micro-batches per step, and the most workers
    rows: int = 1  # per micro-batch
    length: int = 64  # tokens per row that predict
    rate: float = 3e-3  # learning rate after the warm-up; constant, so that a longer run begins like a shorter one
    corpus_bytes: int = CORPUS_BYTES

    def __post_init__(self) -> None:
        if self.corpus_bytes <= self.length + 2:
            raise ValueError(f"corpus_bytes={self.corpus_bytes} must be more than length={self.length} and two")
        if self.shards < 1 or self.shards & (self.shards - 1):
            raise ValueError(f"shards={self.shards} must be a power of two")
        if self.shape.vocabulary < BYTES:
            raise ValueError(f"vocabulary={self.shape.vocabulary}: the corpus is bytes, {BYTES} of them")

    @property
    def tokens(self) -> int:
        """Per step."""
        return self.shards * self.rows * self.length

    def facts(self) -> dict[str, Any]:
        """As JSON gives it back."""
        facts: dict[str, Any] = json.loads(json.dumps(asdict(self)))
        return facts


class Step(NamedTuple):
    """What all workers know after a step."""

    loss: float  # mean over the global batch before the update, nats per token
    norm: float  # of the gradient before it was clipped
    counts: list[list[int]]  # tokens per layer and expert, of the global batch
    flags: int  # every worker's flags, or-ed: how they agree on what comes next
    histogram: list[int]  # of this worker's tokens, by their lowest byte


class Training:
    """Model, optimizer, corpus, and the number of steps that are done."""

    def __init__(self, recipe: Recipe, world: World, *, device: str = "cpu", recompute: bool = False) -> None:
        self.recipe, self.world = recipe, world
        self.corpus: Corpus = standard_library(recipe.corpus_bytes)
        self._device = torch.device(device)
        with self._device:
            self.model = Decoder(recipe.shape, recipe.precision, seed=recipe.seed, recompute=recompute)
        self.flat = Flat(self.model, recipe.shards)
        self.optimizer = AdamW(self.flat, world)
        self.done = 0
        self._stage = Stage()

    def step(self, flags: Callable[[], int] = lambda: 0, before_change: Callable[[], object] = lambda: None) -> Step:
        """One more step. `flags` is this worker's word, asked as late as can be; `before_change` is called when the
        state was read for the last time. Raises PeerLost."""
        fold, losses, counts, seen = self.world.fold(self.flat.release), [], [], []
        for shard in self.world.leaves:
            gradient, tokens = self.flat.gradient(), self._batch(shard)
            outcome = self.model.loss(tokens)
            outcome.loss.backward()  # type: ignore[no-untyped-call]  # torch
            fold.push(gradient.div_(self.recipe.shards))
            losses.append(outcome.next_token)
            counts.append(outcome.counts_LE)
            seen.append(tokens)
        total = fold.result()
        segment = self.world.reduce_scatter(total)
        loss, norm, counts_LE, agreed = self._agree(losses, segment, torch.stack(counts).sum(0), flags())
        before_change()
        for experts, counts_E in zip(self.model.experts, counts_LE, strict=True):
            experts.rebalance(counts_E)
        self.done += 1
        self.optimizer.step(segment, norm, self.done, self._rate(self.done))
        self.flat.release(total)
        histogram = torch.bincount(torch.stack(seen).flatten() % BYTES, minlength=BYTES)
        return Step(loss, norm, counts_LE.tolist(), agreed, histogram.tolist())

    def stage(self) -> Shards:
        """Copy aside what this worker owns, one file per logical shard; valid until the next call."""
        held = self._stage.hold(
            {f"{_file(shard)}/{kind}": part for shard in self.world.owned for kind, part in self._part(shard).items()}
            | ({f"{COMMON}/{name}": bias for name, bias in self._common().items()} if self.world.rank == 0 else {})
        )
        files: dict[str, dict[str, Tensor]] = {}
        for path, tensor in held.items():
            file, _, name = path.partition("/")
            files.setdefault(file, {})[name] = tensor
        return {file: encode(tensors) for file, tensors in files.items()}

    def wants(self, file: str) -> bool:
        """Whether this worker reads a file of a checkpoint."""
        return file == COMMON or file in {_file(shard) for shard in self.world.owned}

    def facts(self) -> dict[str, Any]:
        """What the manifest says beside the tensors. The same for every world size but `world_size` itself."""
        data = {"seed": self.recipe.seed, "position": self.done, "corpus_sha256": self.corpus.sha256}
        layout = {"numel": self.flat.numel, "shards": self.flat.shards, "table": self.flat.table}
        extra = {"recipe": self.recipe.facts(), "layout": layout}
        return {"data": data, "numerics": self.numerics(), "extra": extra, "world_size": self.world.size}

    def numerics(self) -> dict[str, str]:
        return {**numerics(), "precision": self.recipe.precision.value, "summation": self.world.summation.value}

    def resume(self, manifest: Manifest, shards: Mapping[str, bytes]) -> None:
        """Take over a checkpoint of any world size. Raises Mismatch when it is another recipe's, and PeerLost."""
        saved, mine = manifest.extra.get("recipe"), self.recipe.facts()
        if saved != mine:
            raise Mismatch(f"checkpoint of step {manifest.step} was trained with {saved}, this run wants {mine}")
        for shard in self.world.owned:
            fill(self._part(shard), {_file(shard): shards[_file(shard)]})
        fill(self._common(), {COMMON: shards[COMMON]})
        self.world.all_gather(self.flat.weights)
        self.done = manifest.step
        if manifest.data.get("corpus_sha256") != self.corpus.sha256:
            log.warning("the standard library here is not the one this run began with; losses will not repeat exactly")
        if manifest.numerics != self.numerics():
            log.warning("resumed on %s, began on %s: bits may differ", self.numerics(), dict(manifest.numerics))

    def _batch(self, shard: int) -> Tensor:
        recipe = self.recipe  # two tokens more than predict: the next one and the one after are predicted
        tokens = self.corpus.batch(recipe.seed, self.done + 1, shard, rows=recipe.rows, length=recipe.length + 2)
        return tokens.to(self._device, non_blocking=True)

    def _agree(
        self, losses: list[Tensor], segment: Tensor, counts_LE: Tensor, flags: int
    ) -> tuple[float, float, Tensor, int]:
        """One small all-gather carries everything that all workers must know: loss, norm, expert counts, flags."""
        n, counted = len(losses), counts_LE.numel()
        sums = self.optimizer.square_sums(segment)
        told = torch.tensor([float(flags)], dtype=torch.float64, device=segment.device)
        word = torch.cat((torch.stack(losses).double(), sums, counts_LE.flatten().double(), told))
        words = self.world.by_rank(word)
        loss = words[self.world.leaf_order, :n].flatten().mean().item()
        norm = words[:, n : 2 * n].flatten().sum().sqrt().item()
        counts = words[:, 2 * n : 2 * n + counted].sum(0).long().view_as(counts_LE)
        for other in words[:, -1].tolist():
            flags |= int(other)
        return loss, norm, counts.to(counts_LE.device), flags

    def _rate(self, step: int) -> float:
        return self.recipe.rate * min(1.0, step / WARMUP_STEPS)

    def _part(self, shard: int) -> dict[str, Tensor]:
        return self.optimizer.shard_state(shard)

    def _common(self) -> dict[str, Tensor]:
        return {f"bias.{i}": experts.bias for i, experts in enumerate(self.model.experts)}


def _file(shard: int) -> str:
    return f"{shard:05d}.safetensors"
