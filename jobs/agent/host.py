"""What every generation on this node shares: the loop, the reaper, the spool, the way home, and where things lie."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

from dsched.jobs.agent.children import Children
from dsched.jobs.agent.loop import Loop
from dsched.jobs.agent.spool import Spool
from dsched.jobs.agent.workdir import Fetch
from dsched.scheduler.wire.agent import Fact


class Host(NamedTuple):
    loop: Loop
    children: Children
    spool: Spool
    tell: Callable[[Fact], None]
    fetch: Callable[[Callable[[], bool]], Fetch]  # given "is it still wanted?"
    node_dir: Path
    sockets: Callable[[], Path]  # the folder for a next one; short: a unix socket's path has at most 107 bytes
    mark: str  # of this agent start; in the environment of every process that it starts
    environ: Mapping[str, str]  # the agent's own
