"""What is known of the market: how good the predictions were, and which pools are left alone for now."""

from __future__ import annotations

from dataclasses import asdict
from typing import Final, cast

from starlette.responses import Response

from dsched.scheduler.api import answer
from dsched.scheduler.api.context import Api
from dsched.scheduler.api.route import Call, Route
from dsched.scheduler.auth.permission import Permission
from dsched.scheduler.wire import api as wire


async def calibration(api: Api, call: Call) -> Response:
    """Predictions of an interruption within the hour against what happened, and the cool-downs that run."""
    known = api.extras.calibration()
    state, now = api.control.state, api.control.now()
    cooling = [
        wire.Cooling(
            pool=memory.pool,
            left_s=(memory.cool_until - now.market) / 1000,
            why=memory.why,
            refusals=memory.refusals,
            interruptions=memory.interruptions,
        )
        for memory in state.pools.values()
        if memory.cool_until > now.market
    ]
    return answer.one(
        wire.Calibration(
            count=known.count,
            brier=known.brier,
            base=known.base,
            skill=known.skill,
            rows=[cast(wire.CalibrationRow, asdict(row)) for row in known.rows],
            cooling=sorted(cooling, key=lambda row: (row["left_s"], row["pool"])),
        )
    )


ROUTES: Final = (
    Route(
        method="GET",
        path="/v1/market/calibration",
        permission=Permission.SEE,
        handler=calibration,
        answer=wire.Calibration,
    ),
)
