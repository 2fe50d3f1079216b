"""SIGKILL the real daemon just before its n-th durable or outward system call, for every n of a small run.

    python -m tests.support.crashpoints [--stride 10] [--sample N --seed S] [--seconds LIMIT]

Three phases. `first`: a daemon starts on an empty state directory, under strace from its first instruction, until it is
ready. `again`: the same for one that finds jobs running which its dead predecessor started. `work`: strace takes hold
of one thread of a ready daemon, two jobs are submitted, run and give their machines back. strace counts per thread,
so the points are (phase, thread, call, n) and in `work` none hides behind another. After each death the daemon is
started again and everything has to come out right.

The writes of one commit into the WAL are all alike (no frame counts before the last one is synced), so only every
`stride`-th of them is taken; 1 takes them all.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from dsched.providers.local.options import Options
from dsched.providers.local.start import ensure
from dsched.scheduler.api.client import ClientError
from dsched.scheduler.store.check import check
from dsched.scheduler.wire.api import Job
from tests.support.cloud import alive, bought
from tests.support.house import House, Late, wait_for

CALLS = "pwrite64,pwritev,fsync,fdatasync,write,writev,sendto,sendmsg,connect,unlink,unlinkat,ftruncate,rename,renameat"
CALLS += ",renameat2,mkdir,bind,listen"
JOBS = 2  # on demand: nothing but the kill may interrupt them
THREADS = ("main", "store", "worker")  # in the order of their birth
OPTIONS = ("--scale", "60", "--observe-seconds", "0.5", "--idle-seconds", "0.1", "--lease-seconds", "600")
SETTLE_S = 120.0  # a point usually takes three seconds; beyond this it is a violation, not a slow machine


@dataclass(frozen=True, slots=True, order=True)
class Point:
    phase: str
    thread: str
    call: str
    n: int

    def __str__(self) -> str:
        return f"{self.phase}/{self.thread}/{self.call}#{self.n}"


@dataclass(slots=True)
class Result:
    point: Point
    died: bool
    wrong: list[str]


class Range:
    """A house whose cloud already runs, so that only the daemon is ever under strace."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ran = folder / "ran"
        self.ran.touch()
        self.home = House(folder / "s", OPTIONS, resume=0)
        self.home.state.mkdir(parents=True, mode=0o700)
        self.acked: dict[str, str] = {}
        asyncio.run(ensure(self.home.state / "cloud", Options(scale=60.0)))

    @property
    def pid(self) -> int:
        assert self.home.process is not None
        return self.home.process.pid

    def submit(self, names: Sequence[str], gate: str = "") -> None:
        """A client that repeats with the same key until it has an answer. A dead daemon is started again."""
        deadline = time.monotonic() + SETTLE_S
        while missing := [name for name in names if name not in self.acked]:
            if time.monotonic() > deadline:
                raise Late(f"no answer to the submission of {', '.join(missing)}")
            self.revive()
            with contextlib.suppress(ClientError):
                run = f"{gate} echo {missing[0]} $DSCHED_JOB >> {self.ran}"
                self.acked[missing[0]] = self.home.submit(missing[0], run, capacity=["on-demand"])
                continue
            time.sleep(0.01)

    def revive(self) -> bool:
        """Whether it was dead."""
        if self.home.process is not None and self.home.process.poll() is None:
            return False
        self.home.start(wait=False)
        return True

    def settle(self, names: Sequence[str]) -> None:
        """Until the jobs have succeeded and every machine is given back, whatever dies meanwhile."""

        def over() -> bool:
            self.revive()
            jobs = {job["name"]: job for job in self.jobs()}
            done = all(jobs[name]["state"] == "succeeded" for name in names)
            return done and not self.home.client.nodes() and self.home.client.health()["ready"]

        wait_for(
            over, f"{', '.join(names)} to succeed and their machines to be given back", patience=SETTLE_S, every=0.1
        )

    def wrong(self) -> list[str]:
        """Every promise that is broken now, each as a sentence."""
        found = []
        jobs = {job["name"]: job["id"] for job in self.jobs()}
        if jobs != self.acked:
            found.append(f"the client and the daemon differ in {sorted(set(jobs.items()) ^ set(self.acked.items()))}")
        ran = Counter(self.ran.read_text().splitlines())
        once = Counter(f"{name} {job}" for name, job in self.acked.items())
        if ran != once:
            found.append(f"ran too often: {dict(ran - once)}, too seldom: {dict(once - ran)}")
        if left := alive(self.home):
            found.append(f"machines left over: {left}")
        if (count := len(bought(self.home))) > len(self.acked):
            found.append(f"{count} machines were bought for {len(self.acked)} jobs")
        with contextlib.suppress(Late):
            wait_for(lambda: not self.home.node_processes(), "the processes' end")
        if pids := self.home.node_processes():
            found.append(f"processes left over: {pids}")
        return found + [f"database: {finding}" for finding in check(self.home.state / "state.db")]

    def jobs(self) -> list[Job]:
        """The point may be in this very answer: then the next daemon gives it."""

        def ask() -> list[Job]:
            self.revive()
            return self.home.client.jobs(all=True, limit=1000)

        found: list[Job] = wait_for(ask, "the list of jobs", patience=SETTLE_S)
        return found

    def threads(self) -> dict[str, int]:
        tids = sorted(int(entry.name) for entry in Path(f"/proc/{self.pid}/task").iterdir())
        return dict(zip(THREADS, tids, strict=False))


@contextlib.contextmanager
def shooting_range() -> Iterator[Range]:
    folder = Path(tempfile.mkdtemp(prefix="dsched-"))
    built = Range(folder)
    try:
        yield built
    finally:
        built.home.end()
        shutil.rmtree(folder)


# -- counting the points of a clean run --------------------------------------------------------------------------------


def clean_run() -> list[Point]:
    """Every point of all phases, counted."""
    counted: Counter[tuple[str, str, str]] = Counter()
    with shooting_range() as place:
        trace = place.folder / "trace"
        place.home.start(wrapper=_strace(trace, "-f"))
        calls = _calls(trace)
        counted.update(("first", "main", call) for tid, call in calls if tid == calls[0][0])
        place.home.kill()
        place.home.start()
        threads = {tid: thread for thread, tid in place.threads().items()}
        names = _names("clean")
        with _held(trace, list(threads)):
            place.submit(names)
            place.settle(names)
        counted.update(("work", threads[tid], call) for tid, call in _calls(trace))
        names = _names("clean-again")
        _orphan_jobs(place, names, "again")
        place.home.start(wrapper=_strace(trace, "-f"))
        place.settle(names)
        for (_, call), count in Counter(_calls(trace)).items():
            counted["again", "any", call] = max(count, counted["again", "any", call])
        if wrong := place.wrong():
            raise AssertionError(f"the clean run is not clean: {wrong}")
    return sorted(Point(*kind, n) for kind, last in counted.items() for n in range(1, last + 1))


def _names(prefix: str) -> list[str]:
    return [f"{prefix}-{number}" for number in range(JOBS)]


def thinned(points: Sequence[Point], stride: int) -> list[Point]:
    return [point for point in points if point.call != "pwrite64" or point.n % stride == 1 % stride]


def sampled(points: Sequence[Point], count: int, seed: int) -> list[Point]:
    """One of each kind first, the rest drawn from all."""
    rng = random.Random(seed)
    kinds: dict[tuple[str, str, str], list[Point]] = {}
    for point in points:
        kinds.setdefault((point.phase, point.thread, point.call), []).append(point)
    chosen = [rng.choice(of_kind) for of_kind in kinds.values()]
    rng.shuffle(chosen)
    rest = [point for point in points if point not in chosen]
    return sorted((chosen + rng.sample(rest, min(len(rest), max(0, count - len(chosen)))))[:count])


def _strace(trace: Path, *how: str) -> list[str]:
    return ["strace", "-qq", "-o", str(trace), "-e", f"trace={CALLS}", *how]


def _calls(trace: Path) -> list[tuple[int, str]]:
    return [
        (int(found[1]), found[2])
        for line in trace.read_text(errors="replace").splitlines()
        if (found := re.match(r"(\d+) +(\w+)\(", line))
    ]


@contextlib.contextmanager
def _held(trace: Path, tids: Sequence[int], *how: str) -> Iterator[None]:
    """strace on these threads and no others, from when it has hold of them."""
    options = [word for tid in tids for word in ("-p", str(tid))]
    trace.unlink(missing_ok=True)
    holder = subprocess.Popen(_strace(trace, *how, *options), stderr=subprocess.DEVNULL)
    try:
        wait_for(lambda: all(_traced(tid) for tid in tids), "strace to take hold")
        yield
    finally:
        holder.send_signal(signal.SIGINT)  # detach: the daemon runs on
        holder.wait()


def _traced(tid: int) -> bool:
    try:
        return "TracerPid:\t0\n" not in Path(f"/proc/{tid}/status").read_text()
    except FileNotFoundError:
        return True  # it was killed already


# -- one point ---------------------------------------------------------------------------------------------------------


def shoot(place: Range, point: Point) -> Result:
    """Kill there, start again, and see whether everything came out right."""
    names = _names(str(point).replace("/", "-").replace("#", "-"))
    inject = ("-e", f"inject={point.call}:signal=KILL:when={point.n}")
    trace = place.folder / "trace"
    try:
        if point.phase == "work":
            died = _shoot_work(place, trace, point.thread, inject, names)
        else:
            died = _shoot_start(place, point, _strace(trace, "-f", *inject), names)
        wrong = place.wrong()
    except (Late, ClientError) as error:
        return Result(point, True, [str(error)])
    if point.phase != "work":
        place.home.kill()  # the next point wants a daemon without strace
    return Result(point, died, wrong)


def _shoot_start(place: Range, point: Point, wrapper: Sequence[str], names: Sequence[str]) -> bool:
    if point.phase == "again":
        _orphan_jobs(place, names, names[0])
    place.home.start(wrapper=wrapper, wait=False)
    victim = place.home.process
    assert victim is not None
    if point.phase == "first":
        wait_for(lambda: victim.poll() is not None or place.home.client.health()["ready"], "a ready or dead daemon")
    place.submit(names)
    place.settle(names)
    return victim.poll() is not None


def _orphan_jobs(place: Range, names: Sequence[str], gate: str) -> None:
    """Jobs that run, a daemon that does not, and nothing that holds the jobs back any more."""
    place.revive()
    place.home.wait_ready()
    opened = place.folder / gate
    place.submit(names, gate=f"until [ -e {opened} ]; do sleep 0.05; done;")
    for name in names:
        place.home.wait_state(place.acked[name], "running")
    place.home.kill()
    opened.touch()


def _shoot_work(place: Range, trace: Path, thread: str, inject: Sequence[str], names: Sequence[str]) -> bool:
    place.revive()
    place.home.wait_ready()
    victim, threads = place.pid, place.threads()
    if thread not in threads:
        return False  # this daemon has not needed it
    with _held(trace, [threads[thread]], *inject):
        place.submit(names)
        place.settle(names)
    return place.pid != victim


def shoot_all(points: Sequence[Point], seconds: float = float("inf"), say: bool = False) -> list[Result]:
    """`first` needs an empty directory each time; the others go on with the daemon that came back."""
    results: list[Result] = []
    until = time.monotonic() + seconds
    with contextlib.ExitStack() as stack:
        shared: Range | None = None
        for point in points:
            if time.monotonic() > until:
                break
            if point.phase == "first":
                with shooting_range() as place:
                    results.append(shoot(place, point))
            else:
                if shared is None or results[-1].wrong:  # what is broken must not be blamed on the next point
                    shared = stack.enter_context(shooting_range())
                results.append(shoot(shared, point))
            if say and results[-1].wrong:
                print("VIOLATION", point, results[-1].wrong, flush=True)
            if say and len(results) % 50 == 0:
                print(f"  {len(results)} of {len(points)} done, at {point}", flush=True)
    return results


def summary(results: Sequence[Result], counted: int) -> str:
    died = sum(result.died for result in results)
    wrong = [result for result in results if result.wrong]
    return f"{counted} crash points counted, {len(results)} taken, daemon died at {died}, violations {len(wrong)}"


def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--stride", type=int, default=10, help="take every n-th write into the WAL; 1: all")
    parser.add_argument("--sample", type=int, default=0, help="only so many points, one of each kind first")
    parser.add_argument("--seed", type=int, default=1, help="of the sample")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="stop after that")
    given = parser.parse_args(argv)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # sweep up then, too
    began = time.monotonic()
    points = clean_run()
    kinds = Counter(f"{point.phase}/{point.thread}/{point.call}" for point in points)
    print("points of a clean run:", ", ".join(f"{kind} {count}" for kind, count in kinds.items()), flush=True)
    chosen = sampled(points, given.sample, given.seed) if given.sample else thinned(points, given.stride)
    results = shoot_all(chosen, given.seconds, say=True)
    print(f"{summary(results, len(points))}, {time.monotonic() - began:.0f} s")
    return 1 if any(result.wrong for result in results) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
