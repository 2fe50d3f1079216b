"""The training loop: resume, step, save when due, leave when told. Same seed, same bits, however often interrupted."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field

import torch
from torch import Tensor

from dsched.jobs.runtime.checkpoint import Checkpoints, Conflict, Superseded
from dsched.jobs.runtime.contract import EXIT_CORRUPT, EXIT_DONE, EXIT_SAVED, Runtime
from dsched.jobs.runtime.manifest import Manifest
from dsched.jobs.runtime.saver import Saver
from dsched.jobs.runtime.tensors import Mismatch, Stage, fill, numerics
from dsched.jobs.train.data import Corpus, standard_library
from dsched.jobs.train.losses import LossLog
from dsched.jobs.train.model import Decoder, Shape
from dsched.jobs.train.optim import AdamW

log = logging.getLogger("dsched.train")

EXIT_FAILED = 1  # the job's own failure: tried again with backoff
LOG_STEPS = 10
WARMUP_STEPS = 20  # Adam's second moment is noise before


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """What the bits of a run depend on. It is in every checkpoint, and a resumed run must agree with it."""

    seed: int = 1
    shape: Shape = field(default_factory=Shape)
    rows: int = 4  # per step
    length: int = 128  # bytes per row
    rate: float = 3e-3  # learning rate after the warm-up; constant, so that a longer run begins like a shorter one
    corpus_bytes: int = 4 << 20

    def __post_init__(self) -> None:
        if self.corpus_bytes <= self.length:
            raise ValueError(f"corpus_bytes={self.corpus_bytes} must be more than length={self.length}")


class Training:
    """The state of one run: model, optimizer, corpus, and the number of steps that are done."""

    def __init__(self, recipe: Recipe) -> None:
        self.recipe = recipe
        self.corpus: Corpus = standard_library(recipe.corpus_bytes)
        self.model = Decoder(recipe.shape, seed=recipe.seed)
        self.optimizer = AdamW(self.model)
        self.done = 0
        torch.manual_seed(recipe.seed)
        self._random = torch.get_rng_state()

    def step(self) -> float:
        """One more step; its loss before the update, in nats per byte."""
        recipe, step = self.recipe, self.done + 1
        loss = self.model.loss(self.corpus.batch(recipe.seed, step, rows=recipe.rows, length=recipe.length))
        loss.backward()  # type: ignore[no-untyped-call]  # torch
        self.optimizer.step(step, recipe.rate * min(1.0, step / WARMUP_STEPS))
        self.done = step
        return loss.item()

    def state(self) -> dict[str, Tensor]:
        self._random.copy_(torch.get_rng_state())
        return {**self.optimizer.state(), "random": self._random}

    def facts(self) -> dict[str, object]:
        """What the manifest says beside the tensors."""
        data = {"seed": self.recipe.seed, "position": self.done, "corpus_sha256": self.corpus.sha256}
        return {"data": data, "numerics": numerics(), "extra": {"recipe": asdict(self.recipe)}}

    def resume(self, manifest: Manifest, shards: Mapping[str, bytes]) -> None:
        """Take over a checkpoint. Raises Mismatch when it is another recipe's."""
        saved, mine = manifest.extra.get("recipe"), asdict(self.recipe)
        if saved != mine:
            raise Mismatch(f"checkpoint of step {manifest.step} was trained with {saved}, this run wants {mine}")
        fill(self.state(), shards)
        torch.set_rng_state(self._random)
        self.done = manifest.step
        if manifest.data.get("corpus_sha256") != self.corpus.sha256:
            log.warning("the standard library here is not the one this run began with; losses will not repeat exactly")
        if manifest.numerics != numerics():
            log.warning("resumed on %s, began on %s: bits may differ", numerics(), dict(manifest.numerics))


class Record:
    """What a run leaves behind: the loss of every step, and checkpoints."""

    def __init__(self, run: Runtime, checkpoints: Checkpoints, training: Training) -> None:
        self._training = training
        self._saver = Saver(checkpoints, run)
        self._losses = LossLog(checkpoints.store, checkpoints.generation)
        self._stage = Stage()
        self._saved = training.done  # what was resumed from is durable

    def loss(self, loss: float) -> None:
        self._losses.add(self._training.done, loss)

    def save(self) -> None:
        """Begin to save the present state. Raises Superseded and Conflict, about the save before."""
        self._losses.flush()
        training = self._training
        self._saver.save(training.done, lambda: self._stage.copy(training.state()), **training.facts())
        self._saved = training.done

    def settle(self) -> bool:
        """Make the present state durable, unless it is; False if that cannot be done."""
        if self._saved != self._training.done or not self._saver.wait():
            self.save()
        return self._saver.wait()

    def close(self) -> None:
        self._losses.flush()
        self._saver.close()


def train(run: Runtime, checkpoints: Checkpoints, recipe: Recipe, *, steps: int, every: int = 0) -> int:
    """Train up to `steps`, saving after each `every` steps too where that is not 0; the exit code.

    Raises NothingValid, Mismatch and StorageError from the start; from then on failures of the store are reported.
    """
    training = Training(recipe)
    resumed = _resume(run, checkpoints, training)
    record = Record(run, checkpoints, training)
    try:
        while training.done < steps and not run.should_stop:
            loss = training.step()
            record.loss(loss)
            if resumed and not math.isfinite(loss):
                checkpoints.reject(resumed, f"loss {loss} at the first step after it")
                return EXIT_CORRUPT
            resumed = None
            run.step(training.done, loss=loss, tokens=recipe.rows * recipe.length, steps=steps)
            if training.done % LOG_STEPS == 0:
                log.info("step %d loss %.4f", training.done, loss)
            due = run.due(training.done) or (every > 0 and training.done % every == 0)
            if due and training.done < steps and not run.should_stop:
                record.save()
        durable = record.settle()
    except Superseded as e:
        log.warning("%s", e)
        return EXIT_SAVED
    except Conflict as e:
        log.error("%s", e)
        return EXIT_FAILED
    finally:
        record.close()
    return _leave(run, training.done, finished=training.done >= steps, durable=durable)


def _resume(run: Runtime, checkpoints: Checkpoints, training: Training) -> Manifest | None:
    restored = checkpoints.restore()
    if restored is None:
        run.ready(0)
        return None
    training.resume(restored.manifest, restored.shards)
    log.info("resumed after step %d", training.done)
    if restored.fallback:
        log.warning("%s", restored.fallback)
    run.ready(training.done, uri=checkpoints.uri(restored.manifest), fallback=restored.fallback)
    return restored.manifest


def _leave(run: Runtime, step: int, *, finished: bool, durable: bool) -> int:
    if not durable:
        log.error("leaving after step %d without having saved it; the last good checkpoint stays", step)
        return EXIT_FAILED
    if finished:
        run.done(step)
        return EXIT_DONE
    run.preempted(step)
    log.info("told to stop: saved after step %d", step)
    return EXIT_SAVED
