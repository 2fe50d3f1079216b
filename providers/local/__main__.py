"""The embedded cloud as a process of its own: `python -m dsched.providers.local --state DIR`.

It outlives the daemon, and its nodes outlive it: after a kill -9 the next start takes them over from the journal.
"""

from __future__ import annotations

import argparse
import asyncio
import fcntl
import logging
import os
import signal
import sys
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Final

from dsched.providers.base import ProviderError
from dsched.providers.local.clock import MarketClock, wall_now
from dsched.providers.local.cloud import Cloud
from dsched.providers.local.host import Host
from dsched.providers.local.journal import BadJournal, Journal, Record, read
from dsched.providers.local.levers import BadScript, Levers, bend, read_script
from dsched.providers.local.market import generated, replayed
from dsched.providers.local.options import AGENT, Options
from dsched.providers.local.provider import LocalProvider
from dsched.providers.local.replay import BadTrace
from dsched.providers.local.server import Server
from dsched.providers.local.trade import Trade
from dsched.providers.local.tree import Isolation, best_isolation
from dsched.scheduler.wire.systemd import Watchdog

EXIT_USAGE: Final = 2
EXIT_TAKEN: Final = 3  # another cloud holds the folder
SOCKET_PATH_MAX: Final = 107  # bytes; the kernel's limit for a unix socket

log = logging.getLogger("dsched.providers.local")


class WrongFolder(Exception):
    """The folder belongs to another market: which one, and what to do."""


def main(argv: list[str]) -> int:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(message)s", stream=sys.stderr)
    try:
        folder, options, ready, stop = _arguments(argv)
        return _stop(folder) if stop else _run(folder, options, ready)
    except (BadJournal, BadScript, BadTrace, WrongFolder, ProviderError, OSError, ValueError) as problem:
        log.error("cloud.refused %s", problem)
        return EXIT_USAGE


def _arguments(argv: list[str]) -> tuple[Path, Options, int | None, bool]:
    plain = Options()
    parser = argparse.ArgumentParser(prog="python -m dsched.providers.local", description="the embedded cloud")
    parser.add_argument("--state", type=Path, required=True, metavar="DIR", help="socket, journal and nodes live here")
    parser.add_argument("--seed", type=int, default=plain.seed, help="of the made-up market")
    parser.add_argument("--scale", type=float, default=plain.scale, help="market time per wall time")
    parser.add_argument("--notice-scale", type=float, default=plain.notice_scale, help="how much shorter notices are")
    parser.add_argument("--silent-share", type=float, default=plain.silent_share, help="interruptions without notice")
    parser.add_argument("--max-nodes", type=int, default=plain.max_nodes, help="the account's quota")
    parser.add_argument("--trace", type=Path, metavar="FOLDER", help="replay these traces")
    parser.add_argument("--script", type=Path, metavar="FILE", help="levers to pull, JSON lines")
    parser.add_argument(
        "--isolation", type=Isolation, choices=list(Isolation), help="the best that is permitted if not given"
    )
    parser.add_argument("--stop", action="store_true", help="end the cloud of this folder with all of its nodes")
    parser.add_argument("--ready-fd", type=int, help="a pipe that hears of the start: one line when the socket listens")
    parser.add_argument("--agent", nargs=argparse.REMAINDER, default=list(AGENT), help="what runs on a node (last)")
    given = vars(parser.parse_args(argv))
    folder, ready, stop = given.pop("state").resolve(), given.pop("ready_fd"), given.pop("stop")
    return folder, Options(**{**given, "agent": tuple(given["agent"])}), ready, stop


def _stop(folder: Path) -> int:
    asyncio.run(LocalProvider(folder / "cloud.sock").shutdown())
    return 0


def _run(folder: Path, options: Options, ready: int | None) -> int:
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if len(os.fsencode(folder / "cloud.sock")) > SOCKET_PATH_MAX:
        raise ValueError(f"{folder}: too long for a socket's path; choose a folder nearer to the root")
    lock = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        log.error("cloud.refused another embedded cloud holds %s", folder)
        return EXIT_TAKEN
    asyncio.run(_serve(folder, options, ready))
    return 0


async def _serve(folder: Path, options: Options, ready: int | None) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    cloud, levers, trade = await _open(folder, options)
    market = asyncio.create_task(trade.run())
    server = await Server(cloud, levers, stop.set).listen(folder / "cloud.sock")
    log.info("cloud.ready folder=%s note=%s nodes=%d", folder, cloud.market.note, len(list(cloud.fleet.alive())))
    if ready is not None:
        with suppress(BrokenPipeError):
            os.write(ready, b"ready\n")
        os.close(ready)
    watchdog = Watchdog.from_env()
    watchdog.ready()
    alive = asyncio.create_task(watchdog.stay_alive())
    stopped = asyncio.create_task(stop.wait())
    await asyncio.wait({market, stopped}, return_when=asyncio.FIRST_COMPLETED)
    server.close()
    (folder / "cloud.sock").unlink(missing_ok=True)
    if market.done():
        market.result()  # the market never ends by itself: this raises what broke it
    market.cancel()
    alive.cancel()


async def _open(folder: Path, options: Options) -> tuple[Cloud, Levers, Trade]:
    """Everything as the journal left it."""
    script = read_script(options.script) if options.script else []
    market = replayed(options.trace) if options.trace else generated(options.seed)
    records = read(folder / "journal")
    world = _world([record for record in records if record["kind"] == "world"], options)
    records = [world, *(record for record in records if record["kind"] != "world")]
    cloud = Cloud(options, market, MarketClock(**world["clock"]), Journal(folder / "journal"), records)
    isolation = options.isolation
    if isolation is None:
        isolation = await asyncio.to_thread(best_isolation)
    log.info("cloud.isolation %s", isolation)
    await cloud.open(Host(folder, isolation, options.agent, notice=cloud.notice, ended=cloud.ended))
    for record in records:
        if record["kind"] in ("price", "capacity"):
            bend(cloud, record)
    levers = Levers(cloud)
    played = {record["line"] for record in records if record["kind"] == "script"}
    return cloud, levers, Trade(cloud, levers, script, played)


def _world(found: list[Record], options: Options) -> Record:
    """The market that this folder belongs to, and its clock; made at the first start."""
    kind = f"trace {options.trace.resolve()}" if options.trace else f"seed {options.seed}"
    wall = wall_now()
    if not found:
        clock = MarketClock(birth=wall, origin=wall, origin_wall=wall, scale=options.scale)
    elif found[-1]["market"] != kind:
        raise WrongFolder(
            f"its market is {found[-1]['market']!r}, not {kind!r}: ask for that one, or choose another --state"
        )
    else:
        clock = MarketClock(**found[-1]["clock"])
        clock = clock if clock.scale == options.scale else clock.rescaled(options.scale, wall)
    return {"kind": "world", "market": kind, "clock": asdict(clock)}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
