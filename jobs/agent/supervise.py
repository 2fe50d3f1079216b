"""Which generations run on this node: orders in, groups started and stopped, and never an older one after a newer."""

from __future__ import annotations

import shutil
import threading
from typing import Final

from dsched.jobs.agent import leftover
from dsched.jobs.agent.clock import boot_ms, wall_ms
from dsched.jobs.agent.group import JOB_NAME, Group, Over
from dsched.jobs.agent.host import Host
from dsched.jobs.agent.journal import note
from dsched.scheduler.wire.agent import Control, RankGroup, Start, Stop

OVER_MAX: Final = 256  # ends that can be told again; a daemon asks for the last one of a job that it still has


class Supervisor:
    def __init__(self, host: Host) -> None:
        self._host = host
        self._groups: dict[str, Group] = {}  # by job: the one that runs
        self._waiting: dict[str, Start] = {}  # by job: starts when the older one is reaped
        self._seen: dict[str, int] = {}  # by job: the fence, the highest generation heard of
        self._over: dict[str, Over] = {}  # by job: how the last one ended
        self._closed = ""  # why nothing is started any more

    @property
    def empty(self) -> bool:
        return not self._groups

    def status(self) -> list[RankGroup]:
        ended: list[RankGroup] = [
            {"job": fact["job"], "generation": fact["generation"], "state": "exited", "exits": _exits(fact)}
            for job, fact in self._over.items()
            if job not in self._groups
        ]
        return ended + [group.status() for group in self._groups.values()]

    # -- orders ---------------------------------------------------------------------------------------------------

    def start(self, order: Start) -> None:
        """Idempotent for the running generation; an older or ended one is refused by telling how it ended."""
        job, generation = order["job"], order["generation"]
        if not JOB_NAME.fullmatch(job) or not order["ranks"]:
            self._malformed(order)
            return
        live, waiting = self._groups.get(job), self._waiting.get(job)
        if live is not None and live.generation == generation:
            if live.state == "running":
                live.tell_started()
            return
        if waiting is not None and waiting["generation"] == generation:
            return
        if generation <= self._seen.get(job, -1):
            self._tell_end(job, generation, f"refused: generation {self._seen[job]} is known here")
            return
        self._seen[job] = generation
        if self._closed:
            self._tell_end(job, generation, f"refused: {self._closed}")
        elif live is not None:
            self._drop_waiting(job)
            self._waiting[job] = order
            live.stop(boot_ms() + live.order["drain_ms"], "a newer generation")
        else:
            self._begin(order)

    def stop(self, order: Stop) -> None:
        """Stop this generation and every older one; what never ran or has ended is told as ended."""
        job, generation = order["job"], order["generation"]
        waiting, live = self._waiting.get(job), self._groups.get(job)
        if waiting is not None and waiting["generation"] <= generation:
            self._drop_waiting(job)
        self._seen[job] = max(self._seen.get(job, -1), generation)
        if live is not None and live.generation <= generation:
            live.stop(boot_ms() + order["grace_ms"], order["reason"])
        elif waiting is None or waiting["generation"] > generation:
            self._tell_end(job, generation, "it does not run here")

    def control(self, order: Control) -> None:
        group = self._groups.get(order["job"])
        if group is not None and group.generation == order["generation"]:
            group.control(order.get("interval_ms"), order.get("checkpoint_now", False))

    # -- all of them ----------------------------------------------------------------------------------------------

    def close(self, why: str) -> None:
        """Start nothing from now on."""
        self._closed = why
        for job in list(self._waiting):
            self._drop_waiting(job)

    def stop_all(self, kill_at: int, why: str) -> None:
        """`kill_at` on the boot clock."""
        for job in list(self._waiting):
            self._drop_waiting(job)
        for group in list(self._groups.values()):
            group.stop(kill_at, why)

    def kill_all(self) -> None:
        for group in list(self._groups.values()):
            group.kill()

    def orphaned(self, session: int, code: int) -> None:
        """A process whose parent had ended before it is being reaped: somebody may have waited for it."""
        for group in self._groups.values():
            group.orphaned(session, code)

    # -- ends -----------------------------------------------------------------------------------------------------

    def _begin(self, order: Start) -> None:
        group = Group(self._host, order, self._ended)
        self._groups[order["job"]] = group
        bundles = {live.order["bundle"] for live in self._groups.values()}
        aside = leftover.put_aside(self._host.node_dir, self._groups.keys(), bundles)
        if aside is not None:
            threading.Thread(target=shutil.rmtree, args=(aside, True), name="leftover", daemon=True).start()
        group.begin()

    def _ended(self, group: Group, fact: Over) -> None:
        if self._groups.get(group.job) is group:
            del self._groups[group.job]
        self._over.pop(group.job, None)
        self._over[group.job] = fact
        if len(self._over) > OVER_MAX:
            del self._over[next(iter(self._over))]
        self._host.tell(fact)
        order = self._waiting.pop(group.job, None)
        if order is not None:
            self._begin(order)

    def _drop_waiting(self, job: str) -> None:
        order = self._waiting.pop(job, None)
        if order is not None:
            self._tell_end(job, order["generation"], "it was outdated before it began")

    def _tell_end(self, job: str, generation: int, why: str) -> None:
        """True of any generation that is not the running one: nothing of it is left on this node."""
        note("supervise.not-running", job=job, generation=generation, why=why)
        known = self._over.get(job)
        if known is not None and known["generation"] == generation:
            self._host.tell(known)
            return
        self._host.tell(
            {
                "kind": "exited",
                "job": job,
                "generation": generation,
                "exits": {},
                "drained": True,
                "hung": False,
                "tail": why,
                "at": wall_ms(),
            }
        )

    def _malformed(self, order: Start) -> None:
        self._host.tell(
            {
                "kind": "setup-failed",
                "job": order["job"],
                "generation": order["generation"],
                "command": "start",
                "code": 1,
                "tail": "the order has no ranks" if not order["ranks"] else "the job's name cannot be a directory's",
                "at": wall_ms(),
            }
        )


def _exits(fact: Over) -> dict[str, int]:
    return fact["exits"] if fact["kind"] == "exited" else {}
