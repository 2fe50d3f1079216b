"""What an interruption costs an elastic training, beside torch's own tools in the same run.

    .venv/bin/python bench/training.py [--quick] [--no-torchrun]

Gangs are real processes forked from a warm zygote on this machine; state is written to its disk. The first new step
includes fork, meeting, reading and verifying the checkpoint, and the step itself. Raw is write + fsync of the same
bytes by the same number of writers. DCP is torch.distributed.checkpoint with the same tensors; it has no checksums.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from bench.figure import Figure, hand_over, share, table
from dsched.jobs.runtime.checkpoint import STREAMS, Checkpoints, newest_manifest
from dsched.jobs.runtime.contract import Environment, Runtime
from dsched.jobs.runtime.saver import Saver
from dsched.jobs.runtime.storage import FileStorage, open_storage
from dsched.jobs.runtime.tensors import Stage, fill
from dsched.jobs.train.shape import PRESETS
from dsched.scheduler.demo.training.gang import Blow, Kind, run, warmed

MIB = 1 << 20
PATIENCE_S = 60.0  # with torchrun, whose workers at times find each other's ports closed again and again
TRAIN = ["--preset", "tiny", "--shards", "4", "--every", "5"]


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="fewer interruptions, a smaller state")
    parser.add_argument("--no-torchrun", dest="torchrun", action="store_false")
    parser.add_argument("--no-gangs", dest="gangs", action="store_false")
    options = parser.parse_args()
    torch.set_num_threads(1)
    found: list[Figure] = []
    with tempfile.TemporaryDirectory(prefix="dsched-bench-") as name:
        folder = Path(name)
        if options.gangs:
            found += gangs(folder, interruptions=4 if options.quick else 20)
        if options.gangs and options.torchrun:
            found += torchrun(folder, kills=1 if options.quick else 3)
        found += storage(folder / "store", mib=64 if options.quick else 226, rounds=3 if options.quick else 5)
    print(table(found))
    hand_over(found)
    return 0


def gangs(folder: Path, *, interruptions: int) -> Iterator[Figure]:
    kinds: list[Kind] = ["kill", "notice"]
    plan = [Blow(6 + 4 * i, kinds[i % 2], (1, 2)[i // 2 % 2]) for i in range(interruptions)]
    with warmed(folder) as zygote:
        seen = run(zygote, folder / "gang", [*TRAIN, "--steps", str(10 + 4 * interruptions)], 2, plan)
    for kind, name, goal in (("kill", "kill -> first new step, 1 or 2 workers, p50", 500.0), ("notice", "", None)):
        values = seen.recovered_ms[kind]  # type: ignore[index]
        label = name or "notice -> first new step of the next generation, p50"
        note = f"p95 {share(values, 0.95):.0f}, n={len(values)}"
        yield Figure(name=label, value=share(values, 0.5), unit="ms", goal=goal, note=note)
    note = f"p95 {share(seen.saved_ms, 0.95):.0f}; {seen.lost_by_notice} steps lost"
    label = "notice -> committed by all, processes gone, p50"
    yield Figure(name=label, value=share(seen.saved_ms, 0.5), unit="ms", goal=30_000, note=note)
    step = share(seen.steps_ms, 0.5)
    stall = share(seen.stalls_ms, 0.5) / step
    note = f"stall p50 {share(seen.stalls_ms, 0.5):.2f} ms of a step of {step:.0f} ms"
    yield Figure(name="checkpoint stall, share of a step", value=100 * stall, unit="%", goal=1.0, note=note)
    manifest = newest_manifest(open_storage(seen.uri))
    assert manifest is not None
    shape = PRESETS["tiny"]
    parameters = shape.parameters + shape.mtp_parameters
    size = sum(shard.size for shard in manifest.shards)
    yield Figure(name="checkpoint bytes per parameter", value=size / parameters, unit="B", note="headers included")


def storage(root: Path, *, mib: int, rounds: int) -> Iterator[Figure]:
    """The same state by us, raw, and by DCP, round by round, so that a busy disk is busy for all."""
    state = {f"tensor{i}": torch.randn(mib * MIB // 4 // 16) for i in range(16)}
    size = sum(tensor.nbytes for tensor in state.values())
    checkpoints = Checkpoints(FileStorage(root / "ours"), 1)
    saver, stage = Saver(checkpoints, Runtime(Environment())), Stage()
    stage.copy(state)  # the buffers are allocated once per job
    ours, raw, dcp, stall = [], [], [], []
    for step in range(1, rounds + 1):
        raw.append(timed(lambda: write_raw(root / "raw", state)))
        began = time.perf_counter()
        stall.append(saver.save(step, lambda: stage.copy(state)))
        saver.wait()
        ours.append(time.perf_counter() - began)
        dcp.append(timed(lambda step=step: dcp_save(root / f"dcp{step}", state)))  # type: ignore[misc]
    saver.close()
    write, limit = size / 1e6 / share(ours, 0.5), size / 1e6 / share(raw, 0.5)
    note = f"stall {share(stall, 0.5):.1f} ms; DCP {size / 1e6 / share(dcp, 0.5):.0f} MB/s, without checksums or fsync"
    name = f"write {size / 1e6:.0f} MB: hash, fsync, commit"
    yield Figure(
        name=name, value=write, unit="MB/s", goal=0.9 * limit, at_least=True, limit=limit, beside="raw", note=note
    )

    def load() -> None:
        restored = Checkpoints(FileStorage(root / "ours"), 2).restore()
        assert restored is not None
        fill(state, restored.shards)

    mine = size / 1e9 / share([timed(load) for _ in range(rounds)], 0.5)
    theirs = size / 1e9 / share([timed(lambda: dcp_load(root / "dcp1", state)) for _ in range(rounds)], 0.5)
    note = f"DCP {theirs:.2f} GB/s, verifying nothing; both from the page cache"
    yield Figure(name="load, every byte verified", value=mine, unit="GB/s", note=note)


def write_raw(path: Path, state: dict[str, torch.Tensor]) -> None:
    """By as many writers as a checkpoint has, each its half with fsync."""

    def one(part: int) -> None:
        with open(path.with_suffix(f".{part}"), "wb", buffering=0) as file:
            for tensor in list(state.values())[part::STREAMS]:
                view = memoryview(tensor.view(torch.uint8).numpy().data)
                while view:
                    view = view[file.write(view) :]
            os.fsync(file.fileno())

    with ThreadPoolExecutor(STREAMS) as pool:
        list(pool.map(one, range(STREAMS)))
    for part in range(STREAMS):
        path.with_suffix(f".{part}").unlink()


def dcp_save(path: Path, state: dict[str, torch.Tensor]) -> None:
    import torch.distributed.checkpoint as dcp

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        dcp.save(state, storage_writer=dcp.FileSystemWriter(path, thread_count=STREAMS), no_dist=True)


def dcp_load(path: Path, state: dict[str, torch.Tensor]) -> None:
    import torch.distributed.checkpoint as dcp

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        dcp.load(state, storage_reader=dcp.FileSystemReader(path), no_dist=True)


WORKER = """
import os, time, torch, torch.distributed as dist
torch.set_num_threads(1)
dist.init_process_group("gloo")
x = torch.ones(1000)
while True:
    dist.all_reduce(x)
    x /= dist.get_world_size()
    with open(os.environ["STEPS"], "a") as file:
        file.write(f"{os.getpid()} {time.time()}\\n")
    time.sleep(0.05)
"""


def torchrun(folder: Path, *, kills: int) -> Iterator[Figure]:
    """The same blow to torchrun with two workers on one node and a monitor that looks ten times a second.

    Its workers have no model and no checkpoint to load: what is measured is noticing, meeting and importing alone.
    """
    script, steps = folder / "worker.py", folder / "steps"
    script.write_text(WORKER)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    command += ["--monitor-interval=0.1", "--max-restarts=100", str(script)]
    env = os.environ | {"STEPS": str(steps), "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(command, env=env, stderr=subprocess.DEVNULL, start_new_session=True)
    taken: list[float] = []
    known: set[int] = set()
    never = 0
    try:
        alive = new_pids(steps, known)
        for _ in range(kills):
            known |= alive
            began = time.time()
            os.kill(min(alive), signal.SIGKILL)
            alive = new_pids(steps, known)
            taken.append((time.time() - began) * 1000)
        known |= alive
    except TimeoutError:
        never = 1
        taken.append(PATIENCE_S * 1000)
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        for pid in known:
            subprocess.run(["kill", "-9", str(pid)], stderr=subprocess.DEVNULL, check=False)
    note = f"n={len(taken)}, {never} not within {PATIENCE_S:.0f} s; no checkpoint is loaded"
    yield Figure(name="  torchrun, tuned: kill -> first new step, p50", value=share(taken, 0.5), unit="ms", note=note)


def new_pids(steps: Path, known: set[int]) -> set[int]:
    """The workers of the next generation, once both have stepped."""
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        lines = steps.read_text().splitlines() if steps.exists() else []
        fresh = {int(line.split()[0]) for line in lines if line.endswith(tuple("0123456789"))} - known
        if len(fresh) == 2:
            return fresh
        time.sleep(0.01)
    raise TimeoutError(f"no new step within {PATIENCE_S:.0f} s")


def timed(action: Callable[[], None]) -> float:
    began = time.perf_counter()
    action()
    return time.perf_counter() - began


if __name__ == "__main__":
    sys.exit(main())
