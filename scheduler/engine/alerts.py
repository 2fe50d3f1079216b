"""Deliver alerts from the outbox: one signed webhook of our own, everything else through Apprise. At least once."""

from __future__ import annotations

import asyncio
import hmac
import json
import time
from collections.abc import Sequence
from hashlib import sha256
from typing import Final
from urllib.parse import urlsplit

from dsched.scheduler.core.message import AlertTried
from dsched.scheduler.core.snapshot import Alert
from dsched.scheduler.engine.loop import Loop
from dsched.scheduler.log import log

TIMEOUT: Final = 5.0  # seconds per channel; a slow channel must not hold up the next alert


class Alerts:
    """Channels are URLs: `webhook+https://host/path#secret` is ours (HMAC-signed), any other scheme is Apprise's."""

    def __init__(self, loop: Loop, channels: Sequence[str]) -> None:
        self._loop = loop
        self._channels = tuple(channels)
        self._sending: set[str] = set()  # a tick may ask again while a slow channel still thinks
        self._reached: dict[str, set[str]] = {}  # alert -> channels that have it: only the others are tried again

    async def send(self, name: str) -> None:
        alert = self._loop.state.alerts.get(name)
        if alert is None or name in self._sending:
            return
        self._sending.add(name)
        errors = ["a fault of ours: the log has it"]
        try:
            errors = await self._send(alert)
        finally:  # an alert is tried until it is delivered, whatever went wrong
            self._sending.discard(name)
            log.warning("alert", id=alert.id, title=alert.title, text=alert.text, errors=errors)
            self._loop.post(AlertTried(id=name, ok=not errors, error="; ".join(errors)))

    async def _send(self, alert: Alert) -> list[str]:
        """To every channel that has not got it yet. Returns why some did not."""
        reached = self._reached.setdefault(alert.id, set())
        errors = []
        for url in self._channels:
            if url in reached:
                continue
            if error := await self._deliver(url, alert):
                errors.append(error)
            else:
                reached.add(url)
        if not errors:
            del self._reached[alert.id]
        return errors

    async def _deliver(self, url: str, alert: Alert) -> str:
        """ "" or why it failed."""
        try:
            async with asyncio.timeout(TIMEOUT + 1):
                if url.startswith("webhook+"):
                    return await _webhook(url.removeprefix("webhook+"), alert)
                return await asyncio.to_thread(_apprise, url, alert)
        except TimeoutError:
            return f"{_name(url)}: no answer in {TIMEOUT:.0f} s"


def _name(url: str) -> str:
    """The channel without what may be secret in it."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return "a channel that is no URL"
    return f"{parts.scheme}://{parts.hostname or ''}"


def sign(secret: str, at: int, body: bytes) -> str:
    """X-Dsched-Signature: t=<seconds>,v1=<hex HMAC-SHA256 of "t.body">."""
    digest = hmac.new(secret.encode(), f"{at}.".encode() + body, sha256).hexdigest()
    return f"t={at},v1={digest}"


async def _webhook(url: str, alert: Alert) -> str:
    import httpx

    target, _, secret = url.partition("#")
    body = json.dumps(
        {"v": 1, "id": alert.id, "severity": alert.severity, "title": alert.title, "text": alert.text}
    ).encode()
    headers = {"content-type": "application/json", "idempotency-key": alert.id}
    if secret:
        headers["x-dsched-signature"] = sign(secret, int(time.time()), body)
    try:
        async with httpx.AsyncClient(timeout=TIMEOUT, follow_redirects=False) as client:
            answer = await client.post(target, content=body, headers=headers)
    except (httpx.HTTPError, httpx.InvalidURL, OSError, UnicodeError) as error:
        return f"{_name(url)}: {str(error) or type(error).__name__}"
    return "" if answer.is_success else f"{_name(url)}: HTTP {answer.status_code}"


def _apprise(url: str, alert: Alert) -> str:
    import apprise

    channel = apprise.Apprise()
    if not channel.add(url):
        return f"{_name(url)}: not a channel that Apprise knows"
    kind = {"critical": apprise.NotifyType.FAILURE, "warning": apprise.NotifyType.WARNING}.get(
        alert.severity, apprise.NotifyType.INFO
    )
    return (
        "" if channel.notify(body=alert.text, title=alert.title, notify_type=kind) else f"{_name(url)}: not delivered"
    )
