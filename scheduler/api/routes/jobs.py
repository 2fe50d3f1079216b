"""Jobs: submit, list, show, act, and their story (explain, attempts, bill)."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import replace
from difflib import get_close_matches
from heapq import nlargest
from itertools import islice
from typing import Annotated, Any, Final, Literal

import msgspec
from starlette.responses import Response

from dsched.scheduler.api import answer
from dsched.scheduler.api.context import Api
from dsched.scheduler.api.find import find, own
from dsched.scheduler.api.fleet import attempt_row
from dsched.scheduler.api.money import bill
from dsched.scheduler.api.problem import Fault
from dsched.scheduler.api.route import Call, Route, decoded
from dsched.scheduler.api.routes.plans import read_spec
from dsched.scheduler.api.rows import burn, held_nodes, shown, spent
from dsched.scheduler.api.watch import encoded_rows
from dsched.scheduler.auth.permission import Permission
from dsched.scheduler.core.message import Act, Action, Refusal, Submit
from dsched.scheduler.core.snapshot import Job, State
from dsched.scheduler.core.state import JobState
from dsched.scheduler.core.units import Moment, text, usd
from dsched.scheduler.core.wishes import migratable
from dsched.scheduler.wire import api as wire
from dsched.scheduler.wire.api import JOBS_MAX

KEY_MAX: Final = 200  # characters of an idempotency key


class JobsQuery(msgspec.Struct, forbid_unknown_fields=True):
    all: bool = False  # every job ever, from the store
    state: str = ""
    user: str = ""
    limit: Annotated[int, msgspec.Meta(ge=1, le=JOBS_MAX)] = 1_000
    after: str = ""  # id: the page behind it
    first: Literal["", "oldest", "dearest"] = ""  # "": what holds machines, then the newest


async def submit(api: Api, call: Call) -> Response:
    """Submit a job. The same key gives the same job."""
    body = await call.read(wire.Submit)
    spec = read_spec(api, call, body)
    key = body.get("key", "")
    if len(key) > KEY_MAX:
        raise Fault(422, f"a key has at most {KEY_MAX} characters", where="key")
    # a key belongs to its user: nobody is answered with another one's job
    key = f"{call.principal.name}/{key or secrets.token_hex(16)}"
    known = await _known(api, key) if body.get("key") else None
    try:
        job = known or await api.control.send(Submit(spec=spec, key=key, plan=body.get("plan", "")))
    except Refusal as refusal:
        raise _with_remedy(refusal, body["spec"], api.control.now()) from None
    return answer.encoded(await _row(api, job), 201)


def _with_remedy(refusal: Refusal, spec: Mapping[str, Any], now: Moment) -> Refusal:
    """A deadline that nothing can meet: the nearest one, in the words of the field that the spec has."""
    from dsched.scheduler.wire.quantity import within, written  # loaded with the spec's reader, by the first submission

    if refusal.nearest is None:
        return refusal
    field = "within" if spec.get("within") else "finish_by"
    least = within(refusal.nearest, now.market) if field == "within" else written(refusal.nearest)
    hint = f"{field}: {least} or later, or allow more GPUs or other capacity"
    return Refusal(refusal.code, refusal.message, hint, field, refusal.nearest)


async def _known(api: Api, key: str) -> str | None:
    """The job that this key made, when it has left the core's memory."""
    state = api.control.state
    if key in state.keys or state.jobs_made == len(state.jobs):
        return None
    job = await asyncio.to_thread(api.queries.job_with_key, key)
    return None if job is None else job.id


async def list_jobs(api: Api, call: Call) -> Response:
    """The unfinished and the recently ended jobs, newest last; with `all` every job. `more`: so many have no room."""
    query: JobsQuery = call.query
    wanted = _states(query.state)
    if query.all:
        jobs, more = await _stored(api, query, wanted)
    else:
        jobs, more = _current(api, query, wanted)
    return answer.encoded_items(await encoded_rows(api.control, api.rows, jobs), more)


def _states(names: str) -> frozenset[JobState]:
    """ "running,draining" as states; none means any. Raises Fault 422 with the nearest name."""
    try:
        return frozenset(JobState(name) for name in names.split(",") if name)
    except ValueError:
        known = [state.value for state in JobState]
        wrong = next(name for name in names.split(",") if name and name not in known)
        near = get_close_matches(wrong, known, n=1)
        hint = f"did you mean {near[0]}?" if near else f"states: {', '.join(known)}"
        raise Fault(422, f"no such state: {wrong[:40]!r}", hint, "state") from None


def _current(api: Api, query: JobsQuery, wanted: frozenset[JobState]) -> tuple[list[Job], int]:
    """From memory, in order of submission unless the dearest are asked for; and how many more there are."""
    state, now = api.control.state, api.control.now()
    if not (wanted or query.user or query.after or query.first):
        return _foremost(state, query.limit, now)
    jobs = iter(state.jobs.values())
    if query.after in state.jobs:
        any(job.id == query.after for job in jobs)  # moves past it
    fitting = [
        job
        for job in jobs
        if (not wanted or job.state in wanted)
        and (not query.user or job.spec.user == query.user)
        and shown(state, job, now)
    ]
    more = max(0, len(fitting) - query.limit)
    if query.first == "dearest":
        return _dearest(api, fitting, query.limit), more
    if query.after or query.first == "oldest":
        return fitting[: query.limit], more
    active = [job for job in fitting if job.id in state.active]
    return _page(active, (job for job in reversed(fitting) if job.id not in state.active), query.limit), more


def _foremost(state: State, limit: int, now: Moment) -> tuple[list[Job], int]:
    """The default page, without a look at every job: thousands may wait, and of the ended few are in memory."""
    over = {name for name in state.ended if not shown(state, state.jobs[name], now)}
    active = sorted((state.jobs[name] for name in state.active), key=_made)
    idle = (job for job in reversed(state.jobs.values()) if job.id not in state.active and job.id not in over)
    page = _page(active, idle, limit)
    return page, len(state.jobs) - len(over) - len(page)


def _page(active: list[Job], newest: Iterable[Job], limit: int) -> list[Job]:
    """What holds machines, then the newest of the others: a thousand that wait must not hide the one that runs."""
    first = active[-limit:]
    return sorted([*first, *islice(newest, limit - len(first))], key=_made)


def _made(job: Job) -> tuple[int, str]:
    """Ids are numbered: the order of submission, whatever clocks said."""
    return len(job.id), job.id


def _dearest(api: Api, jobs: Iterable[Job], limit: int) -> list[Job]:
    state, now = api.control.state, api.control.now()
    held = held_nodes(state)
    return nlargest(limit, jobs, key=lambda job: spent(state, job, held.get(job.id, ()), now))


async def _stored(api: Api, query: JobsQuery, wanted: frozenset[JobState]) -> tuple[list[Job], int]:
    """From the store, with the row in memory where there is one: it is the newer."""
    state = api.control.state
    page, more = await asyncio.to_thread(
        api.queries.page_of_jobs,
        states=wanted,
        user=query.user,
        after=query.after,
        first=query.first,
        limit=query.limit,
        known=state.jobs,
    )
    if query.first != "dearest":
        return list(page), more
    # what runs has spent more than is booked
    running = (state.jobs[name] for name in state.active)
    found = {job.id: job for job in page} | {
        job.id: job
        for job in running
        if (not wanted or job.state in wanted) and (not query.user or job.spec.user == query.user)
    }
    return _dearest(api, found.values(), query.limit), more


async def show(api: Api, call: Call) -> Response:
    """One job, by id or by a name that only one job has."""
    return answer.encoded(_encoded(api, await find(api, call.part("id"))))


async def act(api: Api, call: Call) -> Response:
    """Cancel, pause, resume, migrate or checkpoint a job."""
    action = _action(call.part("action"))
    given = await call.body()
    body = decoded(given, wire.Act) if given else wire.Act()
    job = await find(api, call.part("id"))
    own(call, job, Permission.ACT_ANY)
    to = (body["to"],) if body.get("to") else ()
    if body.get("dry_run"):
        return answer.one(_would_migrate(api, action, job, to))
    wish = Act(job=job.id, action=action, by=call.principal.name, now=body.get("now", False), to=to)
    await api.control.send(wish)
    return answer.encoded(await _row(api, job.id))


def _action(name: str) -> Action:
    try:
        return Action(name)
    except ValueError:
        known = [action.value for action in Action]
        near = get_close_matches(name, known, n=1)
        hint = f"did you mean {near[0]}?" if near else f"actions: {', '.join(known)}"
        raise Fault(404, f"a job cannot be told to {name[:40]!r}", hint) from None


def _would_migrate(api: Api, action: Action, job: Job, to: tuple[str, ...]) -> dict[str, Any]:
    """The plan that a migration would follow, and what it would save per hour at today's prices."""
    if action is not Action.MIGRATE:
        raise Fault(422, f"dry_run is for migrate, not for {action}", where="dry_run")
    migratable(job)
    spec = replace(job.spec, need=replace(job.spec.need, places=to)) if to else job.spec
    plan = api.control.dry_run(spec)
    now = burn(held_nodes(api.control.state).get(job.id, ()))
    price = next((line["price"] for line in plan["lines"] if line["verdict"] == "chosen"), None)
    gain = None if price is None else text(now - usd(price))
    return {"plan": {**plan, "job": job.id}, "gain": {"per_hour": gain, "from": text(now), "to": price}}


class ExplainQuery(msgspec.Struct, forbid_unknown_fields=True):
    flips: bool = False
    whole: bool = False


async def explain(api: Api, call: Call) -> Response:
    """The stored decisions about a job, newest last.

    Of jobs that wait for the same, only the first has a decision stored: the others are answered with what holds now.
    With `flips` the newest decision under a deadline is made again, and what would change it is searched. Of a large
    market a decision keeps the best offers: with `whole` the newest is asked again as the market is now, about all.
    """
    job = await find(api, call.part("id"))
    stored = await asyncio.to_thread(api.queries.decisions, job.id)
    made = [(one.report, one.id, one.at.market) for one in stored]
    if not made and job.state is JobState.QUEUED:
        made = [(api.control.dry_run(job.spec), "", api.control.now().market)]
    plans = [{**report, "id": id, "job": job.id, "name": job.spec.name, "at": at} for report, id, at in made]
    if call.query.flips and plans and (told := plans[-1].get("deadline")):
        plans[-1]["deadline"] = {**told, **await api.extras.again(told)}
    if call.query.whole and plans and plans[-1].get("kept"):
        plans[-1]["now"] = {**api.control.dry_run(job.spec), "job": job.id}
    return answer.items(plans)


async def attempts(api: Api, call: Call) -> Response:
    """Every run of a job: where, on what, and how it ended."""
    job = await find(api, call.part("id"))
    return answer.items(map(attempt_row, await asyncio.to_thread(api.queries.attempts, job.id)))


async def show_bill(api: Api, call: Call) -> Response:
    """Every interval that the job paid for, beside the on-demand price of the same machines."""
    job = await find(api, call.part("id"))
    booked = await asyncio.to_thread(lambda: api.queries.ledger(job=job.id))
    control = api.control
    return answer.one(bill(control.state, job.id, booked, control.now(), control.market_note))


async def _row(api: Api, name: str) -> bytes:
    return _encoded(api, await find(api, name))


def _encoded(api: Api, job: Job) -> bytes:
    state = api.control.state
    # a job that was never placed holds nothing: a submission need not look through all nodes
    mine = [node for node in state.nodes.values() if node.job == job.id] if job.generation else []
    held = {job.id: mine} if mine else {}
    return api.rows.encoded(state, job, api.control.now(), held)


_P: Final = Permission
ROUTES: Final = (
    Route(
        method="POST",
        path="/v1/jobs",
        permission=_P.SUBMIT,
        handler=submit,
        body=wire.Submit,
        answer=wire.Job,
        body_max=lambda api: api.limits.spec_bytes,
        counted=True,
        status=201,
    ),
    Route(method="GET", path="/v1/jobs", permission=_P.SEE, handler=list_jobs, query=JobsQuery, answer=list[wire.Job]),
    Route(method="GET", path="/v1/jobs/{id}", permission=_P.SEE, handler=show, answer=wire.Job),
    Route(
        method="GET",
        path="/v1/jobs/{id}/explain",
        permission=_P.SEE,
        handler=explain,
        query=ExplainQuery,
        answer=list[wire.Plan],
    ),
    Route(method="GET", path="/v1/jobs/{id}/attempts", permission=_P.SEE, handler=attempts, answer=list[wire.Attempt]),
    Route(method="GET", path="/v1/jobs/{id}/bill", permission=_P.SEE, handler=show_bill, answer=wire.Bill),
    Route(
        method="POST",
        path="/v1/jobs/{id}/{action}",
        permission=_P.ACT,
        handler=act,
        body=wire.Act,
        answer=wire.Job,
        counted=True,
    ),
)
