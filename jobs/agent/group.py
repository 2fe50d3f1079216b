"""One generation of a job on this node: prepared, started, watched, stopped, reaped, and only then reported as gone.

    starting -> running -> stopping -> exited

A rank that dies (any code but 0 and 75) takes the rest of its generation along at once: a gang without a member only
waits for time-outs. A stop sends SIGTERM to everything and SIGKILL at its deadline. Nothing of a generation outlives
its `exited`: what left its session is found among the agent's descendants, by the mark in its environment.
"""

from __future__ import annotations

import itertools
import os
import re
import signal
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from typing import Final, Literal

from dsched.jobs.agent import proc, vault
from dsched.jobs.agent.children import signal_group
from dsched.jobs.agent.clock import boot_ms, to_wall, wall_ms
from dsched.jobs.agent.container import Container, container
from dsched.jobs.agent.control import ControlFile
from dsched.jobs.agent.guard import MARK
from dsched.jobs.agent.host import Host
from dsched.jobs.agent.journal import note
from dsched.jobs.agent.loop import Timer
from dsched.jobs.agent.members import members
from dsched.jobs.agent.probe import probe
from dsched.jobs.agent.progress import Reports, Silence
from dsched.jobs.agent.spool import Stream
from dsched.jobs.agent.tap import Tap
from dsched.jobs.agent.workdir import PrepareError, Workdir, environment
from dsched.scheduler.wire.agent import EXIT_DONE, EXIT_SAVED, Exited, Fact, RankGroup, SetupFailed, Start

State = Literal["starting", "running", "stopping", "exited"]
Over = Exited | SetupFailed

EXIT_NOT_STARTED: Final = 127  # as a shell says it
MALFORMED: Final = (KeyError, TypeError, ValueError, AttributeError)  # what an order without its fields runs into
SWEEP_MIN_MS: Final = 10  # a SIGKILL takes effect within microseconds, unless the process waits for a disk
SWEEP_MAX_MS: Final = 1_000
JOB_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")  # it becomes a directory's name

_number: Final = itertools.count()  # of a generation on this node: the name of its socket, which must be short


class Group:
    def __init__(self, host: Host, order: Start, over: Callable[[Group, Over], None]) -> None:
        self.order, self.job, self.generation = order, order["job"], order["generation"]
        self.state: State = "starting"
        self.exits: dict[str, int] = {}  # in the order of death: the first one is the cause
        self._host, self._over = host, over
        self._env: dict[str, str] = {}
        self._workdir = Workdir(host.node_dir, order)
        self._container: Container | None = None
        self._steps: list[tuple[str, str]] = []  # of the set-up: as the user wrote it, and as a shell runs it
        self._control: ControlFile | None = None
        self._reports: Reports | None = None
        self._streams: dict[int, Stream] = {}
        self._taps: list[Tap] = []
        self._alive: dict[int, int] = {}  # pid of a leader -> its rank
        self._sessions: dict[int, int] = {}  # of every leader -> its rank; not reused while a member lives
        self._broken = self._drained = self._hung = self._killing = False
        self._saving = False  # in a drain a leader died of the signal: others of its session may still write
        self._failure: PrepareError | None = None
        self._kill_at = 0
        self._kill_timer: Timer | None = None
        self._sweep_timer: Timer | None = None
        self._sweep_ms = SWEEP_MIN_MS
        self._silence = Silence(order["hang_ms"])

    # -- up -------------------------------------------------------------------------------------------------------

    def begin(self) -> None:
        """Prepare and start. What goes wrong is told as a fact."""
        try:
            self._furnish()
            if self.order.get("gpus") or vault.kept(self.order["secrets"]):
                probe(self._host.loop, self.order, self._host.environ, self._probed)
            else:
                self._prepare()
        except PrepareError as error:
            self._fail(error)
        except OSError as error:
            self._fail(PrepareError("the node's directory", 1, str(error), machine=True))
        except MALFORMED as error:  # a daemon of another version; silence would be no answer
            self._fail(PrepareError("the start order", 1, repr(error)))

    def _probed(self, error: PrepareError | None, secrets: Mapping[str, str]) -> None:
        self._env |= secrets
        if error is not None:
            self._fail(error)
        elif self.state == "starting":
            self._prepare()

    def _prepare(self) -> None:
        first = [("the container's image", self._container.pull)] if self._container else []
        self._steps = [*first, *((command, self._shell(command, self._env)) for command in self.order["setup"])]
        if self._workdir.ready:
            self._launch()
        elif not self.order["bundle"] and not self._steps:
            self._unpack()
        else:
            threading.Thread(target=self._unpack, name=f"unpack-{self.job}", daemon=True).start()

    def _furnish(self) -> None:
        order, host = self.order, self._host
        run = host.node_dir / "run"
        name = f"{self.job}.{self.generation}"
        self._env = environment(order, host.environ)
        self._control = ControlFile(run / f"{name}.control", order["interval_ms"])
        for rank in order["ranks"]:
            self._streams[rank] = host.spool.stream(self.job, self.generation, rank)
        self._reports = Reports(
            host.loop,
            host.sockets() / str(next(_number)),
            self.job,
            self.generation,
            tell=self._told,
            say=self._say,
        )
        if order.get("image"):
            self._container = container(order, [host.node_dir, host.sockets()], host.environ)
        self._env.setdefault("PYTHONUNBUFFERED", "1")  # a killed rank's last lines are the ones that matter
        self._env |= {
            MARK: host.mark,
            "DSCHED_JOB": self.job,
            "DSCHED_GENERATION": str(self.generation),
            "DSCHED_SOCKET": str(self._reports.path),
            "DSCHED_CHECKPOINT": order["checkpoint"],
            "DSCHED_CARRY": order.get("carry", ""),
            "DSCHED_RESUME": order["resume"],
            "DSCHED_CONTROL": str(self._control.path),
            "WORLD_SIZE": str(order["world_size"]),
            "MASTER_ADDR": order["master_addr"],
            "MASTER_PORT": str(order["master_port"]),
        }

    def _told(self, fact: Fact) -> None:
        if fact["kind"] == "progress" and fact.get("first") and self._container is None:
            self._host.children.warm_up(self.order["run"], self._workdir.path, self._env)
        self._host.tell(fact)

    def _shell(self, command: str, env: dict[str, str]) -> str:
        return command if self._container is None else self._container.command(command, env, self._workdir.path)

    def _unpack(self) -> None:
        post = self._host.loop.post
        try:
            self._workdir.unpack(self._host.fetch(self._wanted), self._wanted)
        except PrepareError as error:
            failure = error
            post(lambda: self._fail(failure))
        else:
            post(lambda: self._set_up(0))

    def _wanted(self) -> bool:
        return self.state == "starting"

    def _set_up(self, index: int) -> None:
        """Run the set-up commands one after the other, then the ranks."""
        if self.state != "starting":
            return
        if index == len(self._steps):
            self._workdir.mark()
            self._launch()
            return
        command, shell = self._steps[index]

        def ended(code: int) -> None:
            signal_group(pid, signal.SIGKILL)
            self._alive.pop(pid)
            if self.state != "starting":
                self._host.loop.post(self._sweep)
            elif code:
                self._host.loop.post(lambda: self._fail(PrepareError(command, code, "")))
            else:
                self._host.loop.post(lambda: self._set_up(index + 1))

        try:
            pid = self._spawn(shell, self.order["ranks"][0], self._env, ended)
        except (OSError, ValueError) as error:
            self._fail(PrepareError(command, EXIT_NOT_STARTED, str(error)))

    def _launch(self) -> None:
        self.state = "running"
        for local, rank in enumerate(self.order["ranks"]):
            env = self._env | {"RANK": str(rank), "LOCAL_RANK": str(local)}
            try:
                self._spawn(self._shell(self.order["run"], env), rank, env, partial(self._rank_ended, rank))
            except (OSError, ValueError) as error:  # no memory, an argument too long, a NUL byte
                self._streams[rank].append(f"dsched: the rank cannot start: {error}\n".encode())
                self.exits[str(rank)] = EXIT_NOT_STARTED
                self._break("a rank cannot start")
                self._host.loop.post(self._sweep)
                return
        self.tell_started()
        if self.order["hang_ms"] > 0:
            self._host.loop.after(self._silence.look_ms, self._look)

    def tell_started(self) -> None:
        self._host.tell({"kind": "started", "job": self.job, "generation": self.generation, "at": wall_ms()})

    def _spawn(self, command: str, rank: int, env: dict[str, str], ended: Callable[[int], None]) -> int:
        out, into = os.pipe2(os.O_CLOEXEC)
        try:
            pid = self._host.children.spawn(command, self._workdir.path, env, into, ended)
        except (OSError, ValueError):
            os.close(out)
            raise
        finally:
            os.close(into)
        self._alive[pid] = rank
        self._sessions[pid] = rank
        self._taps.append(Tap(self._host.loop, out, self._streams[rank], self._host.spool.ring))
        return pid

    # -- watched --------------------------------------------------------------------------------------------------

    def status(self) -> RankGroup:
        return {"job": self.job, "generation": self.generation, "state": self.state, "exits": dict(self.exits)}

    def control(self, interval_ms: int | None, checkpoint_now: bool) -> None:
        if self._control is None:
            return
        if interval_ms is not None:
            self._control.interval(interval_ms)
        if checkpoint_now:
            self._control.checkpoint_now()

    def _look(self) -> None:
        """Does it hang?"""
        if self.state != "running" or self._reports is None:
            return
        rows = proc.scan()
        spent = sum(rows[pid].ticks for pid in self._members(rows)) * 1_000 // proc.TICKS_PER_S
        if self._silence.hangs(self._reports.heard_at, spent):
            self._hung = True
            self._say(f"no word and no CPU time for {self.order['hang_ms']} ms: killed as hung")
            self._break("hung")
        else:
            self._host.loop.after(self._silence.look_ms, self._look)

    def _rank_ended(self, rank: int, code: int) -> None:
        """Called while the leader is a zombie, so that its process group still has this number."""
        pid = next(pid for pid, its in self._alive.items() if its == rank)
        del self._alive[pid]
        self.exits[str(rank)] = code
        if self._drained and code < 0 and not self._killing:
            self._saving = True
        else:
            signal_group(pid, signal.SIGKILL)
        if self.state == "running" and code not in (EXIT_DONE, EXIT_SAVED):
            self._break(f"rank {rank} ended with {code}")
        self._host.loop.post(self._sweep)

    # -- down -----------------------------------------------------------------------------------------------------

    def stop(self, kill_at: int, why: str) -> None:
        """SIGTERM now, SIGKILL at `kill_at` (boot clock). A repeat can only bring the deadline nearer."""
        if self.state == "exited" or self._broken or (self._kill_at and kill_at >= self._kill_at):
            return
        self._kill_at = kill_at
        if self._control is not None:
            self._control.deadline(to_wall(kill_at))
        if self._kill_timer is not None:
            self._kill_timer.cancel()
        self._kill_timer = self._host.loop.at(kill_at, self.kill)
        if not self._drained:
            self._drained = True
            self.state = "stopping"
            note("group.stop", job=self.job, generation=self.generation, why=why, grace_ms=kill_at - boot_ms())
            for pid in self._alive:
                signal_group(pid, signal.SIGTERM)
            self._host.loop.post(self._warn_escaped)

    def kill(self) -> None:
        """SIGKILL everything of this generation."""
        if self.state == "exited":
            return
        self.state = "stopping"
        self._killing = True
        for pid in self._alive:
            signal_group(pid, signal.SIGKILL)
        self._host.loop.post(self._sweep)

    def _break(self, why: str) -> None:
        note("group.break", job=self.job, generation=self.generation, why=why)
        self._broken = True
        self.kill()

    def _warn_escaped(self) -> None:
        """SIGTERM also to what left its rank's session; then look whether anything is there to wait for."""
        rows = proc.scan()
        proc.send((pid for pid in self._members(rows) if rows[pid].session not in self._sessions), signal.SIGTERM)
        self._sweep()

    def orphaned(self, session: int, code: int) -> None:
        """In a drain a shell dies of the SIGTERM at once; what it ran saves on, and its code is the rank's."""
        if self.state != "stopping":
            return
        rank = str(self._sessions.get(session, ""))
        if self._saving and code >= 0 and self.exits.get(rank, 0) < 0:
            self.exits[rank] = code
        self._host.loop.post(self._sweep)

    def _sweep(self) -> None:
        """Go on towards the end: wait, kill what is left, or report."""
        if self.state == "exited" or (self._alive and not self._killing):
            return
        members = self._members(proc.scan())
        if not members and not self._alive:
            self._finish()
            return
        if self._killing or not self._saving or boot_ms() >= self._kill_at:
            proc.send(members, signal.SIGKILL)
            if self._sweep_timer is not None:
                self._sweep_timer.cancel()
            self._sweep_timer = self._host.loop.after(self._sweep_ms, self._sweep)
            self._sweep_ms = min(SWEEP_MAX_MS, self._sweep_ms * 2)

    def _members(self, rows: dict[int, proc.Row]) -> list[int]:
        boxed = self._container is not None
        return members(self._host, rows, self.job, self.generation, self._sessions, anywhere=boxed)

    def _fail(self, error: PrepareError) -> None:
        if self.state != "starting":
            return
        note("group.unprepared", job=self.job, generation=self.generation, command=error.command, error=error.reason)
        self._failure = error
        self.kill()

    def _finish(self) -> None:
        self.state = "exited"
        for timer in (self._kill_timer, self._sweep_timer):
            if timer is not None:
                timer.cancel()
        for tap in self._taps:
            tap.close()
        for stream in self._streams.values():
            with suppress(
                OSError
            ):  # here and below: a disk that fails at the end must not keep the end from being told
                stream.close()
        if self._reports is not None:
            self._reports.close()
        if self._control is not None:
            with suppress(OSError):
                self._control.path.unlink()
        self._host.spool.ring(urgent=True)
        self._over(self, self._exited() if self._failure is None else self._setup_failed(self._failure))

    def _exited(self) -> Exited:
        cause = next((int(rank) for rank, code in self.exits.items() if code), self.order["ranks"][0])
        return {
            "kind": "exited",
            "job": self.job,
            "generation": self.generation,
            "exits": dict(self.exits),
            "drained": self._drained,
            "hung": self._hung,
            "tail": self._tail(cause),
            "at": wall_ms(),
        }

    def _setup_failed(self, failure: PrepareError) -> SetupFailed:
        return {
            "kind": "setup-failed",
            "job": self.job,
            "generation": self.generation,
            "command": failure.command,
            "code": failure.code,
            "tail": failure.reason or self._tail(self.order["ranks"][0]),
            "machine": failure.machine,
            "at": wall_ms(),
        }

    def _tail(self, rank: int) -> str:
        stream = self._streams.get(rank)
        return "" if stream is None else stream.tail().decode("utf-8", "replace")

    def _say(self, line: str) -> None:
        """A line of the agent's own in the job's log."""
        if self._streams:
            self._streams[self.order["ranks"][0]].append(f"[dsched: {line}]\n".encode())
            self._host.spool.ring()
