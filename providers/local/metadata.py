"""What a node can ask about itself: Amazon's IMDSv2 and Google's metadata server, each as its documentation has it.

A node of an AWS-like zone hears AWS only, one of a GCP-like zone GCE only. AWS can only be polled; GCE answers a
hanging GET at the moment of the change.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Final, Protocol

from dsched.providers.local.clock import wall_now
from dsched.providers.local.web import Request, Response
from dsched.scheduler.core.units import Instant, Millis

TTL_MAX_S: Final = 21_600  # IMDSv2's own limit
TOKENS_MAX: Final = 1_024  # per node; the oldest is forgotten first
GCE_ROOT: Final = "/computeMetadata/v1/"
NOTICE_MS: Final = "instance/attributes/preemption-notice-ms"  # GCE itself tells no deadline
GCE_HEADERS: Final = {"Metadata-Flavor": "Google", "Server": "Metadata Server for VM"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What does not change while the node lives."""

    id: str
    name: str
    index: int
    region: str
    zone: str
    shape: str
    market: str
    user_data: str
    notice: Millis  # wall: how long before its end an interrupted node hears of it


class Metadata(Protocol):
    async def handle(self, request: Request) -> Response: ...

    def interrupt(self, deadline: Instant) -> None:
        """From now on the node can read that it will be taken at `deadline` (wall)."""
        ...

    def rebalance(self, at: Instant) -> None:
        """From now on the node can read that it may be taken soon; AWS only."""
        ...


def timestamp(at: Instant) -> str:
    """ISO 8601 in UTC as AWS writes it; milliseconds only where there are any."""
    text = datetime.fromtimestamp(at / 1000, UTC).isoformat(timespec="milliseconds" if at % 1000 else "seconds")
    return text.replace("+00:00", "Z")


class Imds:
    """IMDSv2, tokens required."""

    def __init__(self, facts: Facts) -> None:
        self._tokens: dict[str, float] = {}
        self._user_data = facts.user_data.encode()
        self._values = {
            "ami-launch-index": str(facts.index),
            "hostname": facts.name,
            "instance-id": facts.id,
            "instance-life-cycle": "spot" if facts.market == "spot" else "on-demand",
            "instance-type": facts.shape,
            "placement/availability-zone-id": facts.zone,
            "placement/availability-zone": facts.zone,
            "placement/region": facts.region,
        }

    async def handle(self, request: Request) -> Response:
        if request.path == "/latest/api/token":
            return self._token(request)
        if self._tokens.get(request.headers.get("x-aws-ec2-metadata-token", ""), 0.0) < time.monotonic():
            return Response(HTTPStatus.UNAUTHORIZED)
        if request.method not in ("GET", "HEAD"):
            return Response(HTTPStatus.METHOD_NOT_ALLOWED)
        if request.path == "/latest/user-data":
            return Response(HTTPStatus.OK, self._user_data, {"Content-Type": "application/octet-stream"})
        return self._meta_data(request.path)

    def interrupt(self, deadline: Instant) -> None:
        action = json.dumps({"action": "terminate", "time": timestamp(deadline)})
        self._values["spot/instance-action"] = action
        self._values["spot/termination-time"] = timestamp(deadline)

    def rebalance(self, at: Instant) -> None:
        self._values.setdefault("events/recommendations/rebalance", json.dumps({"noticeTime": timestamp(at)}))

    def _token(self, request: Request) -> Response:
        if request.method != "PUT":
            return Response(HTTPStatus.METHOD_NOT_ALLOWED)
        if "x-forwarded-for" in request.headers:
            return Response(HTTPStatus.FORBIDDEN)
        ttl = request.headers.get("x-aws-ec2-metadata-token-ttl-seconds", "")
        if not ttl.isdigit() or not 1 <= int(ttl) <= TTL_MAX_S:
            return Response(HTTPStatus.BAD_REQUEST)
        token = secrets.token_urlsafe(32)
        self._tokens[token] = time.monotonic() + int(ttl)
        if len(self._tokens) > TOKENS_MAX:
            del self._tokens[next(iter(self._tokens))]
        return Response(HTTPStatus.OK, token.encode(), {"X-Aws-Ec2-Metadata-Token-Ttl-Seconds": ttl})

    def _meta_data(self, path: str) -> Response:
        root = "/latest/meta-data"
        if not (path + "/").startswith(root + "/"):
            return Response(HTTPStatus.NOT_FOUND)
        return _file_or_folder(self._values, path.removeprefix(root).strip("/"))


class Gce:
    """Google's metadata server, with its hanging GET."""

    def __init__(self, facts: Facts, project: str = "dsched") -> None:
        zone, shape = f"projects/{project}/zones/{facts.zone}", f"projects/{project}/machineTypes/{facts.shape}"
        self._changed = asyncio.Event()  # set and replaced at every change
        self._values = {
            "project/project-id": project,
            "instance/id": str(int(hashlib.sha256(facts.id.encode()).hexdigest()[:15], 16)),
            "instance/name": facts.name,
            "instance/hostname": f"{facts.name}.c.{project}.internal",
            "instance/zone": zone,
            "instance/machine-type": shape,
            "instance/preempted": "FALSE",
            "instance/maintenance-event": "NONE",
            "instance/scheduling/preemptible": "TRUE" if facts.market == "spot" else "FALSE",
            "instance/attributes/user-data": facts.user_data,
            "instance/attributes/launch-index": str(facts.index),
            NOTICE_MS: str(facts.notice),
        }

    async def handle(self, request: Request) -> Response:
        if request.headers.get("metadata-flavor") != "Google" or "x-forwarded-for" in request.headers:
            return Response(HTTPStatus.FORBIDDEN, b"Missing Metadata-Flavor:Google header.", GCE_HEADERS)
        if request.method not in ("GET", "HEAD"):
            return Response(HTTPStatus.METHOD_NOT_ALLOWED, b"", GCE_HEADERS)
        if not request.path.startswith(GCE_ROOT):
            return Response(HTTPStatus.NOT_FOUND, b"", GCE_HEADERS)
        path = request.path.removeprefix(GCE_ROOT).strip("/")
        response = _file_or_folder(self._values, path)
        if request.query.get("wait_for_change", "").lower() == "true" and response.status is HTTPStatus.OK:
            response = await self._changed_from(path, response, request.query)
        return Response(response.status, response.body, {**GCE_HEADERS, "ETag": _etag(response)})

    def interrupt(self, deadline: Instant) -> None:
        self._values[NOTICE_MS] = str(max(0, deadline - wall_now()))
        self._values["instance/preempted"] = "TRUE"
        self._changed.set()
        self._changed = asyncio.Event()

    def rebalance(self, at: Instant) -> None:
        """Google gives no such hint."""

    async def _changed_from(self, path: str, now: Response, query: Mapping[str, str]) -> Response:
        """The first response whose ETag is not `last_etag` (or, without one, not the present one)."""
        old = query.get("last_etag", _etag(now))
        seconds = query.get("timeout_sec", "")
        try:
            async with asyncio.timeout(int(seconds) if seconds.isdigit() else None):
                while _etag(now) == old:
                    await self._changed.wait()
                    now = _file_or_folder(self._values, path)
        except TimeoutError:
            pass  # as documented: the present value, when the time is over
        return now


def _file_or_folder(values: Mapping[str, str], path: str) -> Response:
    """A value, or the names below a folder, one per line, folders with a slash."""
    if path in values:
        return Response(HTTPStatus.OK, values[path].encode())
    prefix = f"{path}/" if path else ""
    below = [key.removeprefix(prefix).partition("/") for key in values if key.startswith(prefix)]
    names = sorted({name + slash for name, slash, _ in below})
    return Response(HTTPStatus.OK, "\n".join(names).encode()) if names else Response(HTTPStatus.NOT_FOUND)


def _etag(response: Response) -> str:
    return hashlib.sha256(response.body).hexdigest()[:16]
