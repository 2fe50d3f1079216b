"""Plans: what would happen to this spec now. And reading a spec, which submitting does too."""

from __future__ import annotations

from importlib import import_module
from typing import Final

from starlette.responses import Response

from dsched.scheduler.api import answer
from dsched.scheduler.api.context import Api
from dsched.scheduler.api.problem import Fault
from dsched.scheduler.api.route import Call, Route
from dsched.scheduler.auth.permission import Permission
from dsched.scheduler.core.job import Spec
from dsched.scheduler.core.whatif import Change
from dsched.scheduler.wire import api as wire


def warm() -> None:
    """Load the reader of specs. It takes 80 ms: after the socket answers, not before."""
    import_module("dsched.scheduler.wire.spec")


def read_spec(api: Api, call: Call, body: wire.Submit, *, ships: bool = True) -> Spec:
    """The spec of a request, checked; the user is who the kernel says. Raises Fault 422 with the field."""
    from dsched.scheduler.wire.document import SpecError
    from dsched.scheduler.wire.spec import from_wire, to_core

    try:
        spec = to_core(from_wire(body["spec"], ships=ships), api.control.now(), call.principal.name)
    except SpecError as error:
        first, *more = error.faults
        also = "; ".join(f"{fault.field}: {fault.message}" for fault in more)
        raise Fault(422, str(first), first.hint or (f"also: {also}" if also else ""), first.field) from None
    if spec.bundle and api.bundles.get(spec.bundle) is None:
        hint = f"PUT /v1/bundles/{spec.bundle}; `dsched submit` does it by itself"
        raise Fault(409, "the workdir has not been uploaded", hint, "workdir")
    return spec


def read_changes(texts: list[str]) -> tuple[Change, ...]:
    """The changes to try. Raises Fault 422 with the one that cannot be read."""
    from dsched.scheduler.wire.document import SpecError
    from dsched.scheduler.wire.whatif import changes

    try:
        return changes(texts)
    except SpecError as error:
        fault = error.faults[0]
        raise Fault(422, fault.message, fault.hint, fault.field) from None


async def plan(api: Api, call: Call) -> Response:
    """Where the job would run now, what every other offer lacks, and the expected cost. Changes nothing.

    With `what_if`, the same beside it for a world in which those changes are true.
    """
    body = await call.read(wire.Trial)
    changes = read_changes(body.get("what_if") or [])
    spec = read_spec(api, call, body, ships=False)
    made = api.control.dry_run(spec)
    if changes:
        then = api.control.dry_run(spec, changes)
        made["what_if"] = wire.WhatIf(changes=[change.text for change in changes], plan=then)
    return answer.one(made)


ROUTES: Final = (
    Route(
        method="POST",
        path="/v1/plan",
        permission=Permission.PLAN,
        handler=plan,
        body=wire.Trial,
        answer=wire.Plan,
        body_max=lambda api: api.limits.spec_bytes,
        counted=True,
    ),
)
