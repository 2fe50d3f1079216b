"""The process that makes outlooks: `python -m dsched.scheduler.engine.seer`, a worker of the daemon's.

It is asked with (Request, the journal's folder) and answers with the Outlook.
"""

from __future__ import annotations

from pathlib import Path

from dsched.scheduler.core.deadline.outlook import Library, Outlook
from dsched.scheduler.core.timely.foresight import PAST, Request, outlook
from dsched.scheduler.core.trace import GAP, traces
from dsched.scheduler.core.units import SECOND, Instant
from dsched.scheduler.engine.journal import read
from dsched.scheduler.engine.worker import serve


def main() -> None:
    library = Library()
    serve(lambda asked: foreseen(asked[0], Path(asked[1]), library))


def foreseen(request: Request, folder: Path, library: Library) -> Outlook:
    """The outlook as the journal of this folder stood at the request's moment."""
    since = Instant(int(request.made - PAST * SECOND) // GAP * GAP)
    first = next(read(folder, since), None)
    begin = Instant((first.at if first is not None and first.at < request.made else request.made) // GAP * GAP)
    found = traces(read(folder, since), gap=GAP, begin=begin, end=request.made) if first is not None else []
    return outlook(request, found, library, begin=begin, gap=GAP / SECOND)


if __name__ == "__main__":
    main()
