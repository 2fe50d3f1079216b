"""This computer as a data centre: starts the machines of a launch, serves their metadata, sees them end, clears up."""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
from collections.abc import Callable, Collection, Coroutine, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from dsched.providers.base import Launch
from dsched.providers.local.fleet import Machine, node_id
from dsched.providers.local.keeper import MARK
from dsched.providers.local.metadata import Facts, Gce, Imds, Metadata
from dsched.providers.local.proc import boot_id
from dsched.providers.local.tree import Isolation, NoTree, Tree, adopt, spawn
from dsched.providers.local.web import Site
from dsched.scheduler.core.units import Instant, Millis

LOOPBACK: Final = "127.0.0.1"
# Below the range from which Linux takes ports for outgoing connections, above that of the gangs' rendezvous.
PORTS: Final = range(30_000, 32_000)
PORT_TRIES: Final = 500
CONSOLES_KEPT: Final = 256  # of dead machines; the agent's words on how a node ended
NAMES: Final = Path("/tmp")  # noqa: S108 - where agents put links to disks whose paths are too long for a socket
AGAIN_S: Final = 1.0  # until an end that the full disk did not take is written down
PASSED_ON: Final = ("PATH", "LANG", "LC_ALL", "TZ", "LD_LIBRARY_PATH", "PYTHONPATH", "VIRTUAL_ENV")

log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Running:
    tree: Tree
    metadata: Metadata
    site: Site
    disk: Path


class Host:
    """The machines that run here now, by id. `ended(id, exit code)` is called once for each, when all of it is dead."""

    def __init__(
        self,
        folder: Path,
        isolation: Isolation,
        program: tuple[str, ...],
        *,
        notice: Callable[[str], Millis],
        ended: Callable[[str, int | None], None],
    ) -> None:
        self._disks, self._consoles = folder / "nodes", folder / "consoles"
        self._isolation, self._program = isolation, program
        self._notice = notice  # wall time of a notice, by cloud
        self._ended = ended
        self._running: dict[str, _Running] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._ports = _ports()
        self._boot = boot_id()
        for path in (self._disks, self._consoles):
            path.mkdir(mode=0o700, parents=True, exist_ok=True)

    async def raise_up(self, want: Launch, cloud: str, now: Instant) -> list[Machine]:
        """All machines of a launch, up and waiting for `let_go`. Raises NoTree; then none is left."""
        starts = [asyncio.ensure_future(self._start(want, index, cloud, now)) for index in range(want.count)]
        try:
            return list(await asyncio.gather(*starts))
        except BaseException:
            for start in starts:
                start.cancel()
            await asyncio.gather(*starts, return_exceptions=True)
            await self.take_down(want)
            raise

    async def take_down(self, want: Launch) -> None:
        """End the machines of a launch that have not been let go."""
        await asyncio.gather(*(self._drop(node_id(want, index)) for index in range(want.count)))

    def let_go(self, machine: Machine) -> None:
        """Start its program, and watch it."""
        running = self._running[machine.id]
        self._watch(machine.id, running)
        running.tree.let_go()

    async def adopt(self, machine: Machine, want: Launch, cloud: str) -> bool:
        """Take over a machine that an earlier process started. False: it is dead, and what it left has been cleared."""
        disk = self._disks / machine.name
        tree = adopt(machine.roots, machine.isolation, disk) if machine.boot == self._boot else None
        if tree is None:
            await self._clear(disk)
            return False
        metadata, site = self._metadata(want, machine.index, cloud)
        try:
            await site.listen(LOOPBACK, machine.port)
        except OSError as problem:
            log.warning("metadata.lost machine=%s port=%d problem=%s", machine.id, machine.port, problem)
        if machine.rebalance is not None:
            metadata.rebalance(machine.rebalance)
        if machine.notice is not None:
            metadata.interrupt(machine.notice)
        self._running[machine.id] = running = _Running(tree, metadata, site, disk)
        self._watch(machine.id, running)
        return True

    async def forget_others(self, names: Collection[str]) -> None:
        """Clear the disks of machines that no launch knows: the cloud died before it wrote them down."""
        for disk in await asyncio.to_thread(lambda: list(self._disks.iterdir())):
            if disk.name not in names:
                await self._clear(disk)

    def metadata(self, one: str) -> Metadata | None:
        running = self._running.get(one)
        return None if running is None else running.metadata

    def kill(self, one: str) -> None:
        """SIGKILL everything of it, now; `ended` tells when it is done."""
        if running := self._running.get(one):
            self._task(running.tree.kill())

    async def settle(self) -> None:
        """Wait for what is being cleared up."""
        while self._tasks:
            await asyncio.wait(self._tasks)

    async def _start(self, want: Launch, index: int, cloud: str, now: Instant) -> Machine:
        one, name = node_id(want, index), f"{want.token}.{index}"
        disk = self._disks / name
        with suppress(FileExistsError):
            disk.mkdir(mode=0o700)
        metadata, site = self._metadata(want, index, cloud)
        port = await self._listen(site)
        try:
            tree = await spawn(
                self._isolation,
                self._program,
                env=self._environment(disk, port, cloud),
                disk=disk,
                console=self._consoles / f"{name}.log",
            )
        except BaseException:
            site.close()
            raise
        self._running[one] = _Running(tree, metadata, site, disk)
        return Machine(
            id=one,
            name=name,
            index=index,
            sale=want.token,
            pool=want.pool,
            port=port,
            roots=tree.roots,
            isolation=self._isolation,
            boot=self._boot,
            launched=now,
            lease_until=want.lease_until,
        )

    def _metadata(self, want: Launch, index: int, cloud: str) -> tuple[Metadata, Site]:
        one = node_id(want, index)
        facts = Facts(
            id=one,
            name=one.rpartition("/")[2],
            index=index,
            region=want.pool.region,
            zone=want.pool.zone,
            shape=want.pool.shape,
            market=want.pool.market,
            user_data=want.user_data,
            notice=self._notice(cloud),
        )
        metadata: Metadata = Imds(facts) if cloud == "aws" else Gce(facts)
        return metadata, Site(metadata.handle)

    async def _listen(self, site: Site) -> int:
        for _ in range(PORT_TRIES):
            port = next(self._ports)
            with suppress(OSError):
                await site.listen(LOOPBACK, port)
                return port
        raise NoTree(f"no free port for a metadata service between {PORTS.start} and {PORTS.stop}")

    def _environment(self, disk: Path, port: int, cloud: str) -> Mapping[str, str]:
        """What a fresh machine has: nothing of the daemon's, least of all its secrets."""
        return {
            **{name: os.environ[name] for name in PASSED_ON if name in os.environ},
            "HOME": str(disk),
            MARK: str(disk),
            "DSCHED_METADATA": f"http://{LOOPBACK}:{port}",
            "DSCHED_METADATA_FLAVOUR": cloud,
        }

    def _watch(self, one: str, running: _Running) -> None:
        loop = asyncio.get_running_loop()

        def dead() -> None:
            loop.remove_reader(running.tree.pidfd)
            self._task(self._bury(one, running))

        loop.add_reader(running.tree.pidfd, dead)

    async def _bury(self, one: str, running: _Running) -> None:
        await running.tree.finish()
        running.site.close()
        code = await running.tree.exit_code()
        running.tree.close()
        self._running.pop(one, None)
        self._tell(one, code)
        await self._clear(running.disk)
        await asyncio.to_thread(self._forget_consoles, {other.disk.name for other in self._running.values()})

    def _tell(self, one: str, code: int | None) -> None:
        """Again and again while the disk is full: an end that is not written down is billed for ever."""
        try:
            self._ended(one, code)
        except OSError as problem:
            log.error("machine.unwritten id=%s problem=%s", one, problem)
            asyncio.get_running_loop().call_later(AGAIN_S, self._tell, one, code)

    def _forget_consoles(self, running: Collection[str]) -> None:
        dead = [path for path in self._consoles.glob("*.log") if path.stem not in running]
        for path in sorted(dead, key=lambda path: path.stat().st_mtime_ns)[:-CONSOLES_KEPT]:
            path.unlink(missing_ok=True)

    async def _drop(self, one: str) -> None:
        """A machine of a launch that failed as a whole; it has never been let go."""
        if running := self._running.pop(one, None):
            running.site.close()
            await running.tree.kill()
            await running.tree.exit_code()
            running.tree.close()
            await self._clear(running.disk)

    async def _clear(self, disk: Path) -> None:
        """The disk of a machine ends with it, and so do the short names that lead to it from outside."""
        await asyncio.to_thread(shutil.rmtree, disk, ignore_errors=True)
        await asyncio.to_thread(_forget_names, disk)

    def _task(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _ports() -> Iterator[int]:
    """Round and round, from a place that differs between clouds on one computer."""
    at = os.getpid() % len(PORTS)
    while True:
        yield PORTS[at]
        at = (at + 1) % len(PORTS)


def _forget_names(disk: Path) -> None:
    for name in os.listdir(NAMES):
        link = NAMES / name
        with suppress(OSError):  # no link, or another user's
            if Path(os.readlink(link)).is_relative_to(disk):
                link.unlink()
