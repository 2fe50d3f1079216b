"""Keep the embedded cloud going while the daemon lives: its end is heard, and a next one takes its nodes over."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path
from typing import Final

from dsched.providers.local.options import Options
from dsched.providers.local.start import NoCloud, ensure

OTHERS_S: Final = 3.0  # where it is a service of its own, its keeper has started it again by then (RestartSec=1)
AGAIN_MAX_S: Final = 60.0  # longest pause after a start that failed: a full disk is not cured by haste


async def keep(folder: Path, options: Options, say: Callable[[str], None]) -> None:
    """Never returns. `say` hears of each end, and of each start that failed."""
    pause = OTHERS_S
    while True:
        await ended(folder / "cloud.sock")
        say("the embedded cloud has ended; its machines run on, and it is started again")
        await asyncio.sleep(pause)
        try:
            await ensure(folder, options)
            pause = OTHERS_S
        except (NoCloud, OSError) as error:
            say(f"the embedded cloud does not start: {error}")
            pause = min(2 * pause, AGAIN_MAX_S)


async def ended(socket: Path) -> None:
    """Returns once nobody listens there any more. The kernel tells; nothing is asked again and again."""
    with suppress(OSError):
        reader, writer = await asyncio.open_unix_connection(socket)
        with closing(writer):
            await reader.read()  # the cloud says nothing unasked: this ends with its process
