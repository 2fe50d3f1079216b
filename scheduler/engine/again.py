"""Make a stored decision again, with the outlook that it had: asked by `explain`, in a thread, so that nobody waits."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import Any

from dsched.scheduler.core.timely import words
from dsched.scheduler.core.timely.flip import again
from dsched.scheduler.core.timely.foresight import Request
from dsched.scheduler.engine.foresee import Foreseer
from dsched.scheduler.engine.loop import Loop
from dsched.scheduler.engine.worker import FAULTS

GONE = "it cannot be made again: the market journal does not reach back so far, or it was decided by another version"
OTHER = "made again it comes out differently: more is known of the market of that time now, or another version decided"


class Remaker:
    """Implements the API's `again`."""

    def __init__(self, loop: Loop, foreseer: Foreseer) -> None:
        self._loop, self._foreseer = loop, foreseer

    async def again(self, told: Mapping[str, Any]) -> dict[str, Any]:
        """For the `deadline` part of a stored plan: whether the same is decided again, and what would flip it."""
        try:
            seen, terms = words.from_wire(dict(told), None)
            seen = replace(seen, outlook=await self._outlook(told["outlook"]))
        except (KeyError, TypeError, *FAULTS):
            return {"same": None, "flips": [], "note": GONE}
        policy = replace(self._loop.policy, deadline_policy=str(told["rule"]))
        try:
            made = await asyncio.to_thread(again, seen, terms, policy, scale=self._loop.state.scale)
        except ValueError:
            return {"same": None, "flips": [], "note": GONE}
        same = made.decision.target == told["target"]
        flips = [asdict(flip) for flip in made.flips] if same else []  # else they are another decision's
        return {"same": same, "flips": flips, "note": "" if same else OTHER}

    async def _outlook(self, told: Mapping[str, Any] | None) -> Any:
        """The outlook that was used: still held, or made anew of the journal as it stood then."""
        if told is None:
            return None
        request = Request.from_wire(told)
        held = self._loop.state.outlooks.get(request.base)
        if held is not None and held.request == request:
            return held.outlook
        return await self._foreseer.make(request)
