"""Hear the cloud's warning on the node itself, in a thread of its own: it blocks on the metadata service.

AWS can only be asked (once a second): `spot/instance-action` names the instant, a rebalance recommendation only hints.
GCE holds a GET open until `preempted` changes; the machine then has 30 s, which no field of the service tells.
A service that does not answer is asked again: never a reason to stop, never a reason to guess.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final, Literal, NamedTuple

from dsched.jobs.agent.client import LinkError
from dsched.jobs.agent.clock import wall_ms
from dsched.jobs.agent.identity import Gce, Imds
from dsched.jobs.agent.journal import note

POLL_S: Final = 1.0  # half a second of a two-minute notice on average; AWS's own handler asks every two
HANG_S: Final = 60  # one hanging GET of GCE; then the same again
RETRY_S: Final = 1.0
GCE_NOTICE_MS: Final = 30_000  # ACPI G2 to G3 of a Spot VM
ACTION: Final = "/latest/meta-data/spot/instance-action"
REBALANCE: Final = "/latest/meta-data/events/recommendations/rebalance"


class Warned(NamedTuple):
    what: Literal["interrupt", "rebalance"]
    deadline: int  # wall milliseconds; 0: the cloud named none


def watch(service: Imds | Gce, warn: Callable[[Warned], None]) -> None:
    """Ends after the interruption: there is only one."""
    if isinstance(service, Imds):
        _watch_aws(service, warn)
    else:
        _watch_gce(service, warn)


def _watch_aws(service: Imds, warn: Callable[[Warned], None]) -> None:
    hinted = False
    while True:
        asked = time.monotonic()
        try:
            action = service.get(ACTION)
            if action is not None:
                warn(Warned("interrupt", deadline_of(action)))
                return
            if not hinted and service.get(REBALANCE) is not None:
                hinted = True
                warn(Warned("rebalance", 0))
        except LinkError as error:
            note("notices.silent", error=str(error))
        time.sleep(max(0.0, asked + POLL_S - time.monotonic()))


def _watch_gce(service: Gce, warn: Callable[[Warned], None]) -> None:
    etag = "0"
    while True:
        try:
            wait = f"preempted?wait_for_change=true&timeout_sec={HANG_S}&last_etag={etag}"
            answer = service.get(wait, timeout_s=HANG_S + 10)
            if answer is not None and answer.body.strip().upper() == b"TRUE":
                warn(Warned("interrupt", wall_ms() + _gce_notice_ms(service)))
                return
            etag = answer.headers.get("etag", etag) if answer is not None else etag
            if answer is None:
                time.sleep(RETRY_S)
        except LinkError as error:
            note("notices.silent", error=str(error))
            time.sleep(RETRY_S)


def _gce_notice_ms(service: Gce) -> int:
    """30 s, or what the launch asked for (the attribute preemption-notice-ms)."""
    try:
        told = service.value("attributes/preemption-notice-ms") or b""
    except LinkError:
        return GCE_NOTICE_MS
    return int(told) if told.isdigit() else GCE_NOTICE_MS


def deadline_of(action: bytes) -> int:
    """The instant of {"action": "terminate", "time": "2026-01-01T00:02:00Z"}; now where it cannot be read."""
    try:
        at = datetime.fromisoformat(str(json.loads(action)["time"]).replace("Z", "+00:00"))
    except (ValueError, KeyError, TypeError):
        note("notices.unreadable", action=action.decode("utf-8", "replace"))
        return wall_ms()
    return int(at.replace(tzinfo=at.tzinfo or UTC).timestamp() * 1_000)
