"""What a checkpoint costs and how fast a job comes back, beside this machine's own write + fsync in the same run.

    .venv/bin/python bench/checkpoint.py [--state-mib 226] [--rounds 5] [--starts 7]

Stall, write and load are of a state of `--state-mib`; the times from a signal are of the real trainer as a process.
The machine may be shared: figures are medians with the range beside them, except where a percentile is named.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from dsched.jobs.runtime.checkpoint import Checkpoints
from dsched.jobs.runtime.contract import Environment, Runtime
from dsched.jobs.runtime.saver import Saver
from dsched.jobs.runtime.storage import FileStorage
from dsched.jobs.runtime.tensors import Stage, fill
from tests.support.trainer import Trainer

MIB = 1 << 20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--state-mib", type=int, default=226)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--starts", type=int, default=7)
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        store_figures(Path(folder) / "store", options.state_mib, options.rounds)
    signal_figures(options.starts)


def store_figures(root: Path, state_mib: int, rounds: int) -> None:
    state = {f"tensor{i}": torch.randn(state_mib * MIB // 4 // 16) for i in range(16)}
    size = sum(tensor.nbytes for tensor in state.values())
    checkpoints = Checkpoints(FileStorage(root), 1)
    saver, stage = Saver(checkpoints, Runtime(Environment())), Stage()
    stage.copy(state)  # the buffers are allocated once per job
    raw, stall, write = [], [], []
    for step in range(1, rounds + 1):
        raw.append(timed(lambda: raw_write(root / "raw", state)))
        began = time.perf_counter()
        stall.append(saver.save(step, lambda: stage.copy(state)) / 1000)
        saver.wait()
        write.append(time.perf_counter() - began - stall[-1])
    saver.close()

    def restore() -> None:
        restored = Checkpoints(FileStorage(root), 2).restore()
        assert restored is not None
        fill(state, restored.shards)

    load = [timed(restore) for _ in range(rounds)]
    show(f"state {size / 1e6:.0f} MB: stall (copy aside)", [1000 * s for s in stall], "ms")
    show("raw write + fsync of the same bytes", [size / 1e6 / s for s in raw], "MB/s")
    show("checkpoint: hash, write, fsync, commit", [size / 1e6 / s for s in write], "MB/s")
    share = [100 * r / w for r, w in zip(raw, write, strict=True)]
    show("  share of raw", share, "%")
    show("restore: read (page cache), verify, copy", [size / 1e9 / s for s in load], "GB/s")


def raw_write(path: Path, state: dict[str, torch.Tensor]) -> None:
    with open(path, "wb", buffering=0) as file:
        for tensor in state.values():
            view = memoryview(tensor.view(torch.uint8).numpy().data)
            while view:
                view = view[file.write(view) :]
        os.fsync(file.fileno())
    path.unlink()


def signal_figures(starts: int) -> None:
    """The demo's size of model; every start is a new process that restores, as on a new node."""
    model = ["--steps", "1000000", "--corpus-bytes", str(4 * MIB)]
    drained, resumed, ready = [], [], []
    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        for generation in range(1, 2 * starts + 2):
            with Trainer(Path(folder), generation, *model, "--every", "10") as trainer:
                trainer.until_event("ready")
                if generation % 2 == 0:
                    ready.append(time.perf_counter() - began)
                first = trainer.until_event("step")
                if generation % 2 == 0:
                    resumed.append(time.perf_counter() - began)
                trainer.until_step(first["step"] + 15)
                began = time.perf_counter()
                if generation % 2:
                    trainer.kill(signal.SIGKILL)
                else:
                    trainer.process.send_signal(signal.SIGTERM)
                    last = trainer.until_event("preempted")["step"]
                    drained.append(time.perf_counter() - began)
                    assert trainer.said("saved")[-1]["step"] == last, "the drain lost a step"
                    assert trainer.end() == 75
    show("SIGTERM -> step finished, checkpoint durable", [1000 * s for s in drained], "ms", percentiles=True)
    show("SIGKILL -> next process has restored", [1000 * s for s in ready], "ms", percentiles=True)
    show("SIGKILL -> its first new step is done", [1000 * s for s in resumed], "ms", percentiles=True)


def timed(action: Callable[[], None]) -> float:
    began = time.perf_counter()
    action()
    return time.perf_counter() - began


def show(what: str, values: Sequence[float], unit: str, *, percentiles: bool = False) -> None:
    ordered = sorted(values)
    middle, high = ordered[len(ordered) // 2], ordered[min(len(ordered) - 1, int(0.95 * len(ordered)))]
    if percentiles:
        print(f"{what:46} p50 {middle:8.2f}  p95 {high:8.2f} {unit}  (n={len(ordered)})")
    else:
        print(f"{what:46} {middle:8.2f} {unit}  ({ordered[0]:.2f} .. {ordered[-1]:.2f})")


if __name__ == "__main__":
    main()
