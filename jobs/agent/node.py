"""The agent as a whole: who may start what, and when everything ends. Every decision is taken in the loop's thread."""

from __future__ import annotations

import os
import signal
import threading
import time
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from dsched.jobs.agent import notices, nvml, proc, telemetry
from dsched.jobs.agent.badge import Badge
from dsched.jobs.agent.children import Children
from dsched.jobs.agent.client import LinkError
from dsched.jobs.agent.clock import boot_ms, wall_ms
from dsched.jobs.agent.deadman import Deadman
from dsched.jobs.agent.group import MALFORMED
from dsched.jobs.agent.guard import Guard, kill_marked
from dsched.jobs.agent.host import Host
from dsched.jobs.agent.identity import Gce, Identity, Imds, metadata
from dsched.jobs.agent.journal import note
from dsched.jobs.agent.lease import Lease
from dsched.jobs.agent.loop import Loop
from dsched.jobs.agent.notices import Warned
from dsched.jobs.agent.outbox import Outbox
from dsched.jobs.agent.sockets import Sockets
from dsched.jobs.agent.spool import Spool
from dsched.jobs.agent.supervise import Supervisor
from dsched.jobs.agent.uplink import Home, Refused, Uplink
from dsched.jobs.agent.workdir import Fetch, PrepareError
from dsched.scheduler.wire.agent import Fact, Hello, Order, RankGroup

LINGER_MS: Final = 10_000  # when everything has ended: for the last facts and logs, if the daemon is there to take them
GUARD_END_MS: Final = 1_000
THREAD_AGAIN_S: Final = 1.0


class Node:
    def __init__(self, loop: Loop, service: Imds | Gce, node_dir: Path, environ: Mapping[str, str]) -> None:
        self.boot = os.urandom(8).hex()
        self._mark = mark = os.urandom(8).hex()  # ranks know it, and with the boot id they could speak in our place
        self._leaving = self._lingering = self._ended = False
        self._gpus: nvml.Nvml | None = None
        self._loop, self._service = loop, service
        self._children = Children(loop)
        sockets = Sockets(node_dir, mark)
        self._guard = Guard(mark, sockets.litter)
        self._deadman = Deadman(environ.get("DSCHED_LEASE", ""))
        self._start_guard()
        self._outbox, self._spool = Outbox(), Spool(node_dir / "logs")
        self._host = Host(
            loop, self._children, self._spool, self._tell, self._fetch, node_dir, sockets.place, mark, environ
        )
        self._supervisor = Supervisor(self._host)
        self._children.on_orphan = self._supervisor.orphaned

    def live(self, identity: Identity) -> int:
        """From the first arming of the lease to the end. Returns the exit code."""
        data = identity.data
        self._identity = identity
        self._badge = Badge(self._host.node_dir, data["secret"])
        self._lease = Lease(
            self._loop,
            data["drain_ms"],
            drain=self._drain,
            kill=self._supervisor.kill_all,
            end=lambda: self._end("the lease has ended"),
            moved=self._moved,
        )
        self._lease.begin(max(data["lease_until"], self._deadman.told()))
        for number in (signal.SIGTERM, signal.SIGINT):
            self._loop.on_signal(number, lambda: self._leave(data["drain_ms"], "the agent was told to end"))
        self._uplink = Uplink(
            Home(data["daemon"], identity.node, data["heartbeat_ms"], data.get("pin", "")),
            self._outbox,
            self._spool,
            self,
        )
        self._uplink.start()
        self._thread("notices", lambda: notices.watch(metadata(self._host.environ), self._warned))
        self._thread("telemetry", self._measure)
        return self._loop.run()

    # -- heard from threads: everything is posted to the loop ----------------------------------------------------------

    def greeting(self) -> Hello:
        self._gpus = self._gpus or nvml.find()
        told = {"flavour": self._service.flavour, **self._facts()}
        running = self._loop.ask(self._running)
        return {
            "node": self._identity.node,
            "secret": self._badge.secret,
            "boot": self.boot,
            "pid": os.getpid(),
            "cpus": os.cpu_count() or 1,
            "memory_mib": os.sysconf("SC_PHYS_PAGES") * proc.PAGE // telemetry.MIB,
            "gpus": self._gpus.names() if self._gpus else [],
            "running": running,
            "metadata": told,
        }

    def admitted(self, key: str) -> None:
        self._badge.keep(key)

    def leased(self, until: int) -> None:
        self._loop.post(lambda: self._lease.extend(until))

    def ordered(self, orders: list[Order]) -> None:
        self._loop.post(lambda: self._obey(orders))

    def dismissed(self, why: str) -> None:
        self._loop.post(lambda: self._leave(self._identity.data["drain_ms"], why))

    def settled(self) -> None:
        self._loop.post(self._end_when_done)

    def _warned(self, warned: Warned) -> None:
        self._loop.post(lambda: self._take_notice(warned))

    # -- decided in the loop ------------------------------------------------------------------------------------------

    def _obey(self, orders: list[Order]) -> None:
        for order in orders:
            try:
                self._obey_one(order)
            except MALFORMED as error:  # a daemon of another version; the other orders count
                note("order.malformed", fields=sorted(order), error=repr(error))  # its values are the user's

    def _obey_one(self, order: Order) -> None:
        match order["kind"]:
            case "start":
                self._supervisor.start(order)
            case "stop":
                self._supervisor.stop(order)
            case "control":
                self._supervisor.control(order)
            case "leave":
                self._leave(order["grace_ms"], "the daemon told the node to leave")

    def _take_notice(self, warned: Warned) -> None:
        """At an interruption the node acts on its own, at once, and tells afterwards."""
        note("node.noticed", what=warned.what, deadline=warned.deadline)
        if warned.what == "interrupt":
            self._supervisor.close("the cloud takes this node")
            self._lease.cut_to(warned.deadline)
        self._tell({"kind": "noticed", "what": warned.what, "deadline": warned.deadline, "at": wall_ms()})

    def _moved(self, until: int) -> None:
        self._guard.until(until)
        self._deadman.until(until)

    def _drain(self, kill_at: int) -> None:
        self._supervisor.stop_all(kill_at, "the cloud takes this node" if self._lease.cut else "the lease ends")

    def _leave(self, grace_ms: int, why: str) -> None:
        note("node.leave", why=why, grace_ms=grace_ms)
        self._leaving = True
        self._supervisor.close(why)
        self._supervisor.stop_all(boot_ms() + grace_ms, why)
        self._end_when_done()

    def _end_when_done(self) -> None:
        if not self._leaving or not self._supervisor.empty:
            return
        if self._uplink.dismissed or (self._outbox.empty() and self._spool.empty()):
            self._end("everything has ended and is told")
        elif not self._lingering:
            self._lingering = True
            self._loop.after(LINGER_MS, lambda: self._end("everything has ended; the daemon did not listen"))

    def _end(self, why: str) -> None:
        """Unconditional: nothing of this node runs after it. Once, however many reasons there are."""
        if self._ended:
            return
        note("node.end", why=why)
        self._ended = True
        self._supervisor.kill_all()
        if os.getpid() == 1:
            proc.send([-1], signal.SIGKILL)  # everything in this namespace but the agent
        kill_marked(self._mark)
        self._guard.close(GUARD_END_MS)
        self._loop.stop(0)

    def _tell(self, fact: Fact) -> None:
        self._outbox.put(fact)
        if self._leaving:
            self._loop.post(self._end_when_done)

    def _running(self) -> list[RankGroup]:
        """An end that the daemon has not heard of is still "stopping": how it ended comes in its own fact."""
        groups = self._supervisor.status()
        for group in groups:
            if group["state"] == "exited" and self._outbox.owes_exit(group["job"], group["generation"]):
                group["state"] = "stopping"
        return groups

    def _start_guard(self) -> None:
        if not self._ended:  # and again whenever it ends before the agent
            self._guard.start()
            self._children.adopt(self._guard.pid, lambda _code: self._loop.post(self._start_guard))

    # -- in threads ---------------------------------------------------------------------------------------------------

    def _fetch(self, wanted: Callable[[], bool]) -> Fetch:
        def fetch(sha256: str, target: Path) -> None:
            try:
                self._uplink.bundle(sha256, target, wanted)
            except Refused as error:
                raise PrepareError(f"bundle {sha256[:12]}", 1, str(error)) from error

        return fetch

    def _facts(self) -> dict[str, str]:
        try:
            return self._service.facts()
        except LinkError as error:
            note("node.facts", error=str(error))
            return {}

    def _measure(self) -> None:
        telemetry.measure(lambda: self._gpus, self._outbox.put)

    def _thread(self, name: str, work: Callable[[], None]) -> None:
        def forever() -> None:
            while True:
                try:
                    work()
                    return
                except Exception:  # the outermost loop of a thread
                    note("thread.failure", thread=name, trace=traceback.format_exc())
                    time.sleep(THREAD_AGAIN_S)

        threading.Thread(target=forever, name=name, daemon=True).start()
