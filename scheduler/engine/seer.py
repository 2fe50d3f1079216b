"""The process that makes outlooks: `python -m dsched.scheduler.engine.seer`, a daemon's child on two pipes.

    stdin   (length, pickle of (Request, the journal's folder)), again and again; its end ends the process
    stdout  (length, pickle of Outlook)

Seconds of arithmetic would hold up everybody in the daemon's loop. Both ends of the pipes are ours, so pickle is safe.
"""

from __future__ import annotations

import os
import pickle
import struct
import sys
from pathlib import Path
from typing import BinaryIO, Final

from dsched.scheduler.core.deadline.outlook import Library, Outlook
from dsched.scheduler.core.timely.foresight import PAST, Request, outlook
from dsched.scheduler.core.trace import GAP, traces
from dsched.scheduler.core.units import SECOND, Instant
from dsched.scheduler.engine.journal import read

LENGTH: Final = struct.Struct("<Q")
NICE: Final = 10  # the daemon and the jobs on this machine come first


def main() -> None:
    os.nice(NICE)
    library = Library()
    source, sink = sys.stdin.buffer, sys.stdout.buffer
    while (asked := receive(source)) is not None:
        request, folder = pickle.loads(asked)  # noqa: S301 - from our own parent
        made = pickle.dumps(foreseen(request, Path(folder), library))
        sink.write(LENGTH.pack(len(made)) + made)
        sink.flush()


def foreseen(request: Request, folder: Path, library: Library) -> Outlook:
    """The outlook as the journal of this folder stood at the request's moment."""
    since = Instant(int(request.made - PAST * SECOND) // GAP * GAP)
    first = next(read(folder, since), None)
    begin = Instant((first.at if first is not None and first.at < request.made else request.made) // GAP * GAP)
    found = traces(read(folder, since), gap=GAP, begin=begin, end=request.made) if first is not None else []
    return outlook(request, found, library, begin=begin, gap=GAP / SECOND)


def receive(source: BinaryIO) -> bytes | None:
    head = source.read(LENGTH.size)
    return source.read(LENGTH.unpack(head)[0]) if len(head) == LENGTH.size else None


if __name__ == "__main__":
    main()
