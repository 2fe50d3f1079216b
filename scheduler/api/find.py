"""Which job a caller means: an id, or a name that only one job has."""

from __future__ import annotations

import asyncio

from dsched.scheduler.api.context import Api
from dsched.scheduler.api.problem import Fault
from dsched.scheduler.api.route import Call, denied
from dsched.scheduler.auth.permission import Permission, allows
from dsched.scheduler.core.snapshot import Job, live
from dsched.scheduler.store.errors import AmbiguousName

NAMESAKES_SHOWN = 5  # ids in the error for a name that is not unique


async def find(api: Api, ref: str) -> Job:
    """The job, even an old one. A name means its only unfinished bearer, else its only bearer. Raises Fault."""
    jobs = api.control.state.jobs
    if ref in jobs:
        return jobs[ref]
    bearers = [job for job in jobs.values() if job.spec.name == ref and live(job)]
    if len(bearers) == 1:
        return bearers[0]
    if bearers:
        raise _ambiguous(ref, [job.id for job in bearers])
    try:
        stored = await asyncio.to_thread(api.queries.job, ref)
    except AmbiguousName as error:
        raise _ambiguous(ref, list(error.ids)) from None
    if stored is None:
        raise Fault(404, f"no job {ref[:80]!r}", "`dsched ps --all` lists every job")
    return jobs.get(stored.id, stored)


def own(call: Call, job: Job, otherwise: Permission) -> None:
    """Raises Fault 403 unless the job is the caller's own or the caller has the wider permission."""
    if job.spec.user != call.principal.name and not allows(call.principal, otherwise):
        raise denied(call.principal, otherwise)


def _ambiguous(name: str, ids: list[str]) -> Fault:
    newest = ", ".join(ids[-NAMESAKES_SHOWN:])
    return Fault(404, f"no one job is {name!r}: {len(ids)} jobs are named so", f"use an id: {newest}")
