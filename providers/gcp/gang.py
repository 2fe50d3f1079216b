"""The network of a gang: a firewall rule that lets its own machines reach each other, by a tag that only they have.

Named by the launch's token, with our mark in its description, since rules carry no labels. It is asked for before the
machines and in force before they are up; it goes once no machine of the gang has been seen for a while. Networks with a
rule that opens everything within (as `default` has) need none, and are not made any narrower by it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection
from typing import Any, Final

import structlog

from dsched.providers.base import Invalid, Launch, ProviderError
from dsched.providers.gcp import names
from dsched.providers.gcp.client import Client
from dsched.providers.gcp.errors import ALREADY
from dsched.providers.gcp.settings import Settings
from dsched.scheduler.core.units import MINUTE, Instant, Millis

SWEEP_EVERY: Final = Millis(10 * MINUTE)
UNUSED: Final = Millis(10 * MINUTE)  # without a machine for so long; a launch is over within two

Run = Callable[..., Awaitable[Any]]  # a blocking call with its arguments, in a thread

log = structlog.get_logger()


class Gangs:
    def __init__(self, client: Client, run: Run, settings: Settings, cluster: str) -> None:
        self._client, self._run, self._settings = client, run, settings
        self._mark = f"{names.CLUSTER}={names.label(cluster)}"
        self._swept: Instant | None = None
        self._unused: dict[str, Instant] = {}  # token -> since when no machine of it has been seen
        self.tidying: asyncio.Task[None] | None = None

    async def open(self, want: Launch) -> None:
        """Let the machines of this launch reach each other; a repeat finds the rule. Raises ProviderError."""
        if want.count == 1:
            return
        self._unused.pop(want.token, None)
        try:
            await self._run(self._client.open_rule, self._rule(want))
        except Invalid as error:
            if error.code not in ALREADY:
                raise

    def tidy(self, living: Collection[str], now: Instant) -> None:
        """Every now and then, take away the rules of gangs that are gone: beside everything else, nobody waits."""
        due = self._swept is None or now - self._swept >= SWEEP_EVERY
        if due and (self.tidying is None or self.tidying.done()):
            self._swept = now
            self.tidying = asyncio.get_running_loop().create_task(self._tidied(frozenset(living), now))

    async def _tidied(self, living: Collection[str], now: Instant) -> None:
        try:
            await self.sweep(living, now)
        except ProviderError as error:  # the next sweep comes back to it
            log.warning("gcp.leftover", error=str(error))

    async def sweep(self, living: Collection[str], now: Instant) -> None:
        """Raises ProviderError."""
        rules = [name for name, description in await self._run(self._client.rules) if self._mark in description]
        tokens = {names.gang_of(rule) for rule in rules} - set(living) - {""}
        self._unused = {token: self._unused.get(token, now) for token in tokens}
        for token, since in list(self._unused.items()):
            if now - since >= UNUSED:
                await self._close(names.gang(token))

    async def _close(self, rule: str) -> None:
        try:
            await self._run(self._client.close_rule, rule)
        except Invalid as error:
            if error.code != "notFound":  # somebody else was first
                raise

    def _rule(self, want: Launch) -> dict[str, Any]:
        tag = names.gang(want.token)
        return {
            "name": tag,
            "description": f"machines of one gang, among themselves; {self._mark}",
            "network": self._settings.network,
            "direction": "INGRESS",
            "source_tags": [tag],
            "target_tags": [tag],
            "allowed": [{"I_p_protocol": "all"}],
        }
