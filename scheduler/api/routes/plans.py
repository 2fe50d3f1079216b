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


async def plan(api: Api, call: Call) -> Response:
    """Where the job would run now, what every other offer lacks, and the expected cost. Changes nothing."""
    body = await call.read(wire.Submit)
    return answer.one(api.control.dry_run(read_spec(api, call, body, ships=False)))


ROUTES: Final = (
    Route(
        method="POST",
        path="/v1/plan",
        permission=Permission.PLAN,
        handler=plan,
        body=wire.Submit,
        answer=wire.Plan,
        body_max=lambda api: api.limits.spec_bytes,
        counted=True,
    ),
)
