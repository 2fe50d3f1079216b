"""From what the core says to what an agent hears: the order of a start holds all that its ranks are given."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Collection
from typing import Final

from dsched.scheduler.core.effect import TellCheckpoint, TellLeave, TellStart, TellStop
from dsched.scheduler.core.hardware import BY_NAME
from dsched.scheduler.core.snapshot import Job, Node, State
from dsched.scheduler.wire.agent import Control, Leave, Order, Start, Stop

LOOPBACK: Final = "127.0.0.1"
PORTS: Final = range(20_000, 30_000)  # rendezvous ports of gangs, below the ephemeral range

Tell = TellStart | TellStop | TellCheckpoint | TellLeave


class Scribe:
    """`address`: of a node, as its peers find it, or "". `checkpoints`, `probed` and `shelf`: see Desk."""

    def __init__(
        self,
        state: Callable[[], State],
        address: Callable[[str], str],
        checkpoints: Callable[[str, str], str],
        probed: Collection[str],
        shelf: Callable[[str, str], str] = lambda _provider, _sha256: "",
    ) -> None:
        self._state, self._address = state, address
        self._checkpoints, self._probed, self._shelf = checkpoints, probed, shelf

    def bundle_link(self, provider: str, job: Job) -> str:
        """Where a node of this provider finds the workdir, beside the daemon. To ask for it has it put there."""
        return self._shelf(provider, job.spec.bundle) if job.spec.bundle else ""

    def order(self, effect: Tell, seq: int) -> Order | None:
        match effect:
            case TellStart():
                return self._start(effect, seq)
            case TellStop(job=job, generation=generation, grace=grace, why=why):
                return Stop(kind="stop", seq=seq, job=job, generation=generation, grace_ms=grace, reason=why)
            case TellCheckpoint(job=job, generation=generation, interval=int(interval)):
                return Control(kind="control", seq=seq, job=job, generation=generation, interval_ms=interval)
            case TellCheckpoint(job=job, generation=generation):
                return Control(kind="control", seq=seq, job=job, generation=generation, checkpoint_now=True)
            case TellLeave(grace=grace):
                return Leave(kind="leave", seq=seq, grace_ms=grace)

    def _start(self, effect: TellStart, seq: int) -> Start | None:
        job = self._state().jobs.get(effect.job)
        node = self._state().nodes.get(effect.node)
        if job is None or node is None or job.generation != effect.generation:
            return None  # outdated while it waited for the disk
        spec = job.spec
        start = Start(
            kind="start",
            seq=seq,
            job=job.id,
            generation=effect.generation,
            run=spec.run,
            setup=list(spec.setup),
            env=dict(spec.env),
            secrets=dict(spec.secrets),
            bundle=spec.bundle,
            ranks=list(effect.ranks),
            world_size=effect.world_size,
            master_addr=self._rank_0(job, effect),
            master_port=PORTS[zlib.crc32(f"{job.id}/{effect.generation}".encode()) % len(PORTS)],
            checkpoint=self._place(job, node.pool.provider),
            resume="1" if effect.resume else "",
            interval_ms=effect.interval,
            drain_ms=spec.drain,
            hang_ms=spec.hang,
        )
        if link := self.bundle_link(node.pool.provider, job):
            start["bundle_link"] = link
        if spec.image:
            start["image"] = spec.image
        if gpus := self._gpus(node):
            start["gpus"] = gpus
        before = self._place(job, job.checkpoint_at.partition("/")[0]) if job.checkpoint_at else start["checkpoint"]
        return start if before == start["checkpoint"] else Start(**start, carry=before)

    def _rank_0(self, job: Job, effect: TellStart) -> str:
        """Its address. A gang of one needs none; where nobody told it, all are on one host: the embedded cloud's."""
        return (self._address(effect.master) if len(job.nodes) > 1 else "") or LOOPBACK

    def _gpus(self, node: Node) -> int:
        """That must answer on it before ranks start: of a real machine, NVIDIA's."""
        offer = self._state().offers.get(node.pool.id)
        chip = offer.shape.accelerator if offer else None
        return node.gpus if node.pool.provider in self._probed and chip and chip.name not in BY_NAME else 0

    def _place(self, job: Job, provider: str) -> str:
        return job.spec.checkpoint.uri or self._checkpoints(job.id, provider)
