"""Workdirs, sent before the job that needs them."""

from __future__ import annotations

import errno
from typing import Final

from starlette.responses import Response

from dsched.scheduler.api import answer
from dsched.scheduler.api.context import Api
from dsched.scheduler.api.problem import Fault
from dsched.scheduler.api.route import Call, Route
from dsched.scheduler.auth.permission import Permission
from dsched.scheduler.store.bundles import BadBundle, BundleTooLarge

_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT})


async def put(api: Api, call: Call) -> Response:
    """Keep a packed workdir (tar.gz) under its SHA-256. Sending it twice changes nothing."""
    announced = call.request.headers.get("content-length", "")
    if announced.isdigit() and int(announced) > call.body_max:
        raise Fault(413, f"a workdir may be {call.body_max} bytes packed", "leave data out of it")
    try:
        await api.bundles.put(call.part("sha256"), call.request.stream())
    except BadBundle as error:
        raise Fault(422, str(error), where="sha256") from None
    except BundleTooLarge as error:
        raise Fault(413, str(error), headers={"connection": "close"}) from None
    except OSError as error:
        raise refused_by_disk(error) from error
    return answer.nothing()


def refused_by_disk(error: OSError) -> Fault:
    if error.errno in _FULL:
        return Fault(507, "the daemon's disk is full; nothing was kept", "free space in its state directory")
    return Fault(500, f"the daemon cannot write: {error.strerror}", "see the daemon's log")


ROUTES: Final = (
    Route(
        method="PUT",
        path="/v1/bundles/{sha256}",
        permission=Permission.SUBMIT,
        handler=put,
        body_max=lambda api: api.limits.bundle_bytes,
        counted=True,
        status=204,
    ),
)
