"""Whose process is it: which of those that live belong to one generation of a job."""

from __future__ import annotations

import os
from collections.abc import Collection

from dsched.jobs.agent import proc
from dsched.jobs.agent.guard import MARK
from dsched.jobs.agent.host import Host
from dsched.jobs.agent.warm import GENERATION as WARM


def members(
    host: Host, rows: dict[int, proc.Row], job: str, generation: int, sessions: Collection[int], *, anywhere: bool
) -> list[int]:
    """Every living process of this generation: by session, by mark; and orphans that hide their mark.

    Such an orphan could be another job's. It is taken nevertheless: `exited` is a proof, and a proof must hold.
    `anywhere`: the mark counts on processes that are not below us, too, which an engine of containers has started.
    """
    ours, children = os.getpid(), host.children
    below = proc.below(ours, rows)
    found = []
    for pid in rows if anywhere else below:
        row = rows[pid]
        if row.dead or pid == ours:
            continue
        if row.session in sessions:
            found.append(pid)
        elif not children.known(pid) and not children.known(row.session):
            told = proc.marks(pid, (MARK, "DSCHED_JOB", "DSCHED_GENERATION"))
            marked = told.get(MARK) == host.mark
            hidden = not marked and row.ppid == ours
            its = told.get("DSCHED_JOB") == job and told.get("DSCHED_GENERATION") in (str(generation), WARM)
            if hidden or (its and (marked or pid in below)):
                found.append(pid)
    return found
