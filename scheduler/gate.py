"""What machines far away see of the daemon: its address and certificate, their start script, where their jobs save.

Without `[nodes] listen` nothing is open and machines are told of the unix socket: right for nodes on this host, and of
no use to those of a cloud, which the daemon says when it starts.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Final

from dsched.scheduler.bringup.certificate import Certificate, CertificateError, own_certificate
from dsched.scheduler.bringup.code import agent_code
from dsched.scheduler.bringup.script import start_script
from dsched.scheduler.bringup.settings import read
from dsched.scheduler.config import Config, ConfigError
from dsched.scheduler.core.snapshot import Intent
from dsched.scheduler.engine.desk import Desk
from dsched.scheduler.engine.loop import Loop
from dsched.scheduler.log import log
from dsched.scheduler.shelf import Shelf
from dsched.scheduler.wire.agent import UserData

if TYPE_CHECKING:
    from dsched.scheduler.api.app import Application

FLAVOURS: Final = ("aws", "gcp")  # clouds whose machines begin bare, each with its dialect of the metadata service
CODE_PATH: Final = "/agent/v1/code"


class Gate:
    """Raises ConfigError where no certificate can be had."""

    def __init__(self, config: Config) -> None:
        self._state, self._socket = config.state, config.socket
        self._nodes = read(config.nodes)
        self._shelf = Shelf(self._nodes.checkpoints, config.state / "bundles")
        self._certificate: Certificate | None = None
        self.pin = ""
        if self._nodes.listen:
            try:
                pair = self._nodes.pair()
                self._certificate = Certificate(*pair) if pair else own_certificate(config.state)
                self._tls = self._certificate.context()
                self.pin = self._certificate.pin
            except CertificateError as error:
                raise ConfigError(str(error)) from error
        elif config.aws or config.gcp:
            log.warning("nodes.unreachable", remedy="machines of a cloud cannot call a unix socket: set [nodes] listen")

    @property
    def address(self) -> str:
        """Where agents call in."""
        return self._nodes.home if self._nodes.listen else f"unix:{self._socket}"

    @property
    def code(self) -> dict[str, bytes]:
        """What is handed out to bare machines, by its digest."""
        return {agent_code().sha256: agent_code().data} if self._nodes.listen else {}

    def desk(self, loop: Loop) -> Desk:
        """Where agents call in, whichever way they came."""
        return Desk(
            loop,
            signing_key(self._state / "key"),
            address=self.address,
            pin=self.pin,
            checkpoints=self.checkpoints,
            probed=FLAVOURS if self._nodes.probe else (),
            shelf=self._shelf.link,
        )

    def checkpoints(self, job: str, provider: str) -> str:
        """Where a job saves that runs there and names no place of its own."""
        near = self._nodes.checkpoints.get(provider)
        return f"{near.rstrip('/')}/{job}" if near else (self._state / "checkpoints" / job).as_uri()

    def user_data(self, told: Callable[[Intent], UserData]) -> Callable[[Intent], str]:
        """What a launch carries: a start script for a bare machine, the agent's configuration alone for a node here."""

        def made(intent: Intent) -> str:
            data = told(intent)
            if not self._nodes.listen or intent.provider not in FLAVOURS:
                return json.dumps(data, sort_keys=True)
            return start_script(
                data, flavour=intent.provider, sha256=agent_code().sha256, sources=self._sources(agent_code().sha256)
            )

        return made

    def _sources(self, sha256: str) -> list[str]:
        return [
            *(f"{place.rstrip('/')}/{sha256}.pyz" for place in self._nodes.code),
            f"{self.address}{CODE_PATH}/{sha256}",
        ]

    async def serve(self, app: Application, stop: asyncio.Event) -> None:
        """The door of nodes, if there is one. Raises OSError for an address that cannot be had."""
        if self._certificate is None:
            return
        from dsched.scheduler.api.nodes import serve_nodes

        await serve_nodes(app, self._nodes.host, self._nodes.port, self._tls, stop)


def signing_key(path: Path) -> bytes:
    """The key that signs bootstrap secrets, nodes' keys and sessions: made once, readable by the daemon alone."""
    with contextlib.suppress(FileExistsError):
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(secrets.token_bytes(32))
            file.flush()
            os.fsync(file.fileno())
    key = path.read_bytes()
    if len(key) < 32:  # a kill between create and write; nothing was signed with it yet
        path.unlink()
        return signing_key(path)
    return key
