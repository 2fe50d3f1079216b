"""The training loop: resume, step, save when due, leave when told, all workers together.

Same recipe, same bits: however often it is interrupted, and on however many workers it goes on.
"""

from __future__ import annotations

import json
import logging
import math
import time
from collections.abc import Mapping
from typing import Final

import torch

from dsched.jobs.runtime.carry import open_checkpoints
from dsched.jobs.runtime.checkpoint import Checkpoints, Conflict, Superseded
from dsched.jobs.runtime.contract import EXIT_CORRUPT, EXIT_DONE, EXIT_PEER_LOST, EXIT_SAVED, Runtime
from dsched.jobs.runtime.elastic import Board, Summation, World
from dsched.jobs.runtime.gang import ALONE, Gang, PeerLost
from dsched.jobs.runtime.manifest import Manifest
from dsched.jobs.runtime.saver import Saver
from dsched.jobs.runtime.stall import StallWatch
from dsched.jobs.train import gauges
from dsched.jobs.train.losses import LossLog
from dsched.jobs.train.training import Recipe, Step, Training

log = logging.getLogger("dsched.train")

EXIT_FAILED: Final = 1  # the job's own failure: tried again with backoff
LOG_STEPS: Final = 10

STOP: Final = 1  # flags of a step: somebody was told to leave; rank 0 finds a checkpoint due
SAVE: Final = 2


class Record:
    """What a run leaves behind: the loss of every step, and checkpoints."""

    def __init__(self, run: Runtime, checkpoints: Checkpoints, training: Training) -> None:
        self._training = training
        self._losses = LossLog(checkpoints.store, checkpoints.generation) if checkpoints.leads else None
        self._saver = Saver(checkpoints, run, first=self._flush)
        self._saved = training.done  # what was resumed from is durable

    def loss(self, loss: float) -> None:
        if self._losses is not None:
            self._losses.add(self._training.done, loss)

    def save(self) -> None:
        """Begin to save the present state. Raises Superseded, Conflict and PeerLost, about the save before."""
        self._saver.begin(self._training.done, self._training.stage, **self._training.facts())
        self._saved = self._training.done

    def copied(self) -> None:
        """Wait until the state may change."""
        self._saver.copied()

    def settle(self) -> bool:
        """Make the present state durable, unless it is; False if that cannot be done."""
        if self._saved != self._training.done or not self._saver.wait():
            self.save()
        return self._saver.wait()

    def close(self, *, abandon: bool) -> None:
        self._saver.close(abandon=abandon)
        if not abandon:  # else the writer may be at it, and the steps since the last checkpoint are computed again
            self._flush()

    def _flush(self) -> None:
        if self._losses is not None:
            self._losses.flush()


class Telling:
    """Reports each step, to the agent and now and then to the log."""

    def __init__(self, run: Runtime, training: Training, steps: int) -> None:
        self._run, self._training, self._steps = run, training, steps
        self._drift, self._leak = gauges.Drift(), gauges.Leak()
        recipe = training.recipe
        self._flops = recipe.shape.flops_per_token(recipe.length)
        self._peak = gauges.peak_of(torch.cuda.get_device_name()) if torch.cuda.is_available() else None

    def step(self, step: Step) -> None:
        run, training = self._run, self._training
        more = {
            "mfu": gauges.mfu(run.tokens_per_s, self._flops, self._peak, training.world.size),
            "grad_norm": round(step.norm, 4),
            "expert_load": gauges.imbalance(step.counts),
            "drift": self._drift.look(step.histogram),
            "memory_mib_per_h": self._leak.look(),
        }
        run.step(training.done, loss=step.loss, tokens=training.recipe.tokens, steps=self._steps, **more)
        if training.done % LOG_STEPS == 0 and training.world.rank == 0:
            rate = f", {run.tokens_per_s:,.0f} tokens/s" if run.tokens_per_s else ""
            told = "".join(f", {name} {value:g}" for name, value in more.items() if value is not None)
            log.info("step %d loss %.4f%s%s", training.done, step.loss, rate, told)


def train(
    run: Runtime,
    place: str,
    recipe: Recipe,
    *,
    steps: int,
    every: int = 0,
    device: str = "cpu",
    summation: Summation = Summation.TREE,
    recompute: bool = False,
    pace_ms: float = 0.0,
) -> int:
    """Train up to `steps` with checkpoints at `place`, also after each `every` steps unless that is 0; the exit code.

    `pace_ms`: a step takes at least so long, for demonstrations.

    Raises ContractError, NothingValid, Mismatch, Superseded and StorageError from the start; from then on failures of
    the store are reported. After EXIT_PEER_LOST leave by os._exit: threads may still wait for the lost one.
    """
    try:
        world = World.join(run.env, shards=recipe.shards, summation=summation, device=device)
        board = Board(run.env) if world.size > 1 else None
        gang: Gang = board or ALONE
        checkpoints = open_checkpoints(run.env, place, gang=gang)
        training = Training(recipe, world, device=device, recompute=recompute)
        warn_of_mixture(gang, training.numerics())
        resumed = _resume(run, checkpoints, training)
        code = _go(run, checkpoints, training, resumed, steps=steps, every=every, pace_s=pace_ms / 1000)
        if board is not None:
            board.close()
        return code
    except PeerLost as e:
        log.warning("a peer is lost: %s", e)
        return EXIT_PEER_LOST


def _go(
    run: Runtime,
    checkpoints: Checkpoints,
    training: Training,
    resumed: Manifest | None,
    *,
    steps: int,
    every: int,
    pace_s: float,
) -> int:
    record, watch, telling = Record(run, checkpoints, training), StallWatch(), Telling(run, training, steps)
    lost = True
    try:
        # Alone it may leave at once; a gang agrees in its first step.
        flags = STOP if run.should_stop and training.world.size == 1 else 0
        while training.done < steps and not flags & STOP:
            began = time.monotonic()
            with watch:
                step = training.step(lambda: _flags(run, training.done), record.copied)
            flags = step.flags
            record.loss(step.loss)
            if not (math.isfinite(step.loss) and math.isfinite(step.norm)):
                lost = False
                return _diverged(run, checkpoints, training, resumed, step)
            resumed = None
            telling.step(step)
            time.sleep(max(0.0, began + pace_s - time.monotonic()))
            due = flags & SAVE or (every > 0 and training.done % every == 0)
            if due and training.done < steps and not flags & STOP:
                record.save()
        durable = record.settle()
        lost = False
    except Superseded as e:
        log.warning("%s", e)
        return EXIT_SAVED
    except Conflict as e:
        log.error("%s", e)
        return EXIT_FAILED
    finally:
        watch.close()
        record.close(abandon=lost)
    return _leave(run, training.done, finished=training.done >= steps, durable=durable)


def _diverged(run: Runtime, checkpoints: Checkpoints, training: Training, resumed: Manifest | None, step: Step) -> int:
    """The weights are spoilt, or are now. They are not saved: two saves later the last good state would be pruned."""
    if resumed and not math.isfinite(step.loss):
        checkpoints.reject(resumed, f"loss {step.loss} at the first step after it")
        return EXIT_CORRUPT
    reason = f"loss {step.loss}, gradient norm {step.norm}: the run diverged, its last good checkpoint stays"
    log.error("step %d: %s", training.done, reason)
    if checkpoints.leads:
        run.alarm(training.done, reason)
    return EXIT_FAILED


def warn_of_mixture(gang: Gang, numerics: Mapping[str, str]) -> None:
    """Equal bits need equal machines: say so when the ranks of a gang have different ones. Raises PeerLost."""
    told = sorted(set(gang.exchange(json.dumps(numerics, sort_keys=True))))
    if len(told) > 1 and gang.rank == 0:
        log.warning("the ranks compute on different machines, so bits depend on their places: %s", "; ".join(told))


def _flags(run: Runtime, done: int) -> int:
    """This worker's word in a step's all-gather. Rank 0 alone minds the interval: the others' clocks differ."""
    return (STOP if run.should_stop else 0) | (SAVE if run.env.rank == 0 and run.due(done) else 0)


def _resume(run: Runtime, checkpoints: Checkpoints, training: Training) -> Manifest | None:
    restored = checkpoints.restore(training.wants)
    if restored is None:
        run.ready(0)
        return None
    training.resume(restored.manifest, restored.shards)
    world, before = training.world.size, restored.manifest.world_size
    log.info("resumed after step %d on %d workers%s", training.done, world, f", {before} before" * (before != world))
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
