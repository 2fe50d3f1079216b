"""The node in numbers: agent start to hello, order to running rank, kill to report, notice to SIGTERM, idle cost.

    python bench/agent.py [rounds]

Real agents against an in-memory daemon on a unix socket; every figure stands beside this machine's own start of Python.
"""

from __future__ import annotations

import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import AbstractContextManager
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from bench.figure import Figure, hand_over
from tests.support.agent import AgentProcess, agent, until

IDLE_S = 10.0
READY = "trap 'date +%s%N; exit 75' TERM; date +%s%N; while :; do sleep 1000 & wait $!; done"


def main(rounds: int) -> None:
    print(f"machine: {os.cpu_count()} cores, load {os.getloadavg()[0]:.2f}")
    show("python -c pass (calibration)", [spawn() for _ in range(rounds)])
    show("agent: exec -> hello answered", [start() for _ in range(rounds)], "goal < 120, limit 300", 120)
    with node() as running:
        show("order -> rank's first command", [order(running, n) for n in range(1, rounds + 1)])
        show("order -> rank ended -> fact at home", [run_true(running, n) for n in range(1, rounds + 1)])
        show("rank kill -9 -> exited at home", [kill(running, n) for n in range(1, rounds + 1)], "goal < 100", 100)
        show("stop ordered -> SIGTERM in the rank", [stop(running, n) for n in range(1, rounds + 1)])
    for flavour in ("aws", "gcp"):
        show(
            f"notice seen -> SIGTERM in the rank, {flavour}",
            [notice(flavour) for _ in range(max(3, rounds // 4))],
            "goal < 50",
            50,
        )
    with node() as running:
        idle(running)


def show(what: str, seconds: list[float], goal: str = "", goal_ms: float | None = None) -> None:
    sample = sorted(seconds)
    if goal_ms is not None:
        hand_over([Figure(name=f"{what}, p50", value=statistics.median(sample) * 1e3, unit="ms", goal=goal_ms)])
    p95 = sample[min(len(sample) - 1, int(len(sample) * 0.95))]
    print(f"{what:42s} p50 {statistics.median(sample) * 1e3:7.1f} ms   p95 {p95 * 1e3:7.1f} ms   {goal}")


def node(flavour: str = "aws") -> AbstractContextManager[AgentProcess]:
    return agent(Path(tempfile.mkdtemp(dir=FOLDER)), flavour=flavour, quiet=True)


def spawn() -> float:
    began = time.monotonic()
    subprocess.run([sys.executable, "-c", "pass"], check=True)
    return time.monotonic() - began


def start() -> float:
    with node() as running:
        running.home.wait(lambda: running.home.hellos)
        return running.home.greeted[0] - running.began


def order(running: AgentProcess, n: int) -> float:
    asked = time.time_ns()
    running.home.start("date +%s%N", job="order", generation=n)
    running.home.fact("exited", job="order", generation=n)
    return (int(logged(running, "order", n)) - asked) / 1e9


def run_true(running: AgentProcess, n: int) -> float:
    asked = time.monotonic()
    running.home.start(":", job="true", generation=n)
    return running.home.arrival(running.home.fact("exited", job="true", generation=n)) - asked


def kill(running: AgentProcess, n: int) -> float:
    running.home.start("echo $$; exec sleep 1000", job="kill", generation=n)
    pid = int(logged(running, "kill", n))
    killed = time.monotonic()
    os.kill(pid, signal.SIGKILL)
    return running.home.arrival(running.home.fact("exited", job="kill", generation=n)) - killed


def stop(running: AgentProcess, n: int) -> float:
    running.home.start(READY, job="stop", generation=n)
    logged(running, "stop", n)
    asked = time.time_ns()
    running.home.stop(job="stop", generation=n)
    running.home.fact("exited", job="stop", generation=n)
    return (int(running.home.log("stop", n).split()[-1]) - asked) / 1e9


def notice(flavour: str) -> float:
    with node(flavour) as running:
        running.home.start(READY)
        logged(running, "job", 1)
        running.meta.interrupt(60)
        running.home.fact("exited")
        until(lambda: len(running.home.log().splitlines()) >= 2)
        caught = int(running.home.log().split()[-1]) / 1e9
        return caught - (time.time() - time.monotonic()) - running.meta.seen_at


def logged(running: AgentProcess, job: str, generation: int) -> bytes:
    running.home.wait(lambda: b"\n" in running.home.log(job, generation))
    return running.home.log(job, generation).split()[0]


def idle(running: AgentProcess) -> None:
    """CPU and memory of an agent that polls its metadata service once a second and its daemon at every heartbeat."""
    running.home.wait(lambda: running.home.hellos)
    pid = running.process.pid
    before, began = ticks(pid), time.monotonic()
    time.sleep(IDLE_S)
    share = (ticks(pid) - before) / os.sysconf("SC_CLK_TCK") / (time.monotonic() - began)
    status = Path(f"/proc/{pid}/smaps_rollup").read_text()
    told = {line.split(":")[0]: int(line.split()[1]) for line in status.splitlines()[1:]}
    private = (told["Private_Dirty"] + told["Private_Clean"]) / 1024
    hand_over(
        [
            Figure(name="agent, idle", value=share * 100, unit="% of a core", goal=0.5),
            Figure(name="agent, resident memory", value=told["Rss"] / 1024, unit="MiB", goal=20),
        ]
    )
    print(f"idle for {IDLE_S:.0f} s: {share:.2%} of a core (goal < 0.5 %)")
    print(f"memory: {told['Rss'] / 1024:.1f} MiB resident (goal < 20), {private:.1f} MiB of it private")


def ticks(pid: int) -> int:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


if __name__ == "__main__":
    with tempfile.TemporaryDirectory(prefix="dsched-bench-") as FOLDER:
        main(int(sys.argv[1]) if len(sys.argv) > 1 else 20)
