"""Tell systemd that we are ready and alive (sd_notify), where systemd asks for it."""

from __future__ import annotations

import asyncio
import os
import socket
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Watchdog:
    """`alive` is called from the loop, so a blocked loop is restarted."""

    address: str = ""
    patience: float | None = None  # seconds of silence after which systemd restarts us; None: it does not

    @classmethod
    def from_env(cls) -> Watchdog:
        patience = os.environ.get("WATCHDOG_USEC", "")
        return cls(os.environ.get("NOTIFY_SOCKET", ""), int(patience) / 1e6 if patience.isdecimal() else None)

    def ready(self) -> None:
        self._say(b"READY=1\nSTATUS=serving")

    def alive(self) -> None:
        self._say(b"WATCHDOG=1")

    async def stay_alive(self) -> None:
        """Signs of life for as long as the loop turns; for a process without a tick of its own."""
        while self.patience is not None:
            self.alive()
            await asyncio.sleep(self.patience / 3)

    def _say(self, text: bytes) -> None:
        if not self.address:
            return
        path = "\0" + self.address[1:] if self.address.startswith("@") else self.address
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as out:
            try:
                out.sendto(text, path)
            except OSError:
                return  # systemd has gone away: there is nobody to tell
