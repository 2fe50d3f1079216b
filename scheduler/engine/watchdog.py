"""Tell systemd that we are ready and alive (sd_notify), where systemd asks for it."""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Watchdog:
    """`alive` is called after a tick of the loop, so a blocked loop is restarted."""

    address: str = ""

    @classmethod
    def from_env(cls) -> Watchdog:
        return cls(os.environ.get("NOTIFY_SOCKET", ""))

    def ready(self) -> None:
        self._say(b"READY=1\nSTATUS=serving")

    def alive(self) -> None:
        self._say(b"WATCHDOG=1")

    def _say(self, text: bytes) -> None:
        if not self.address:
            return
        path = "\0" + self.address[1:] if self.address.startswith("@") else self.address
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as out:
            try:
                out.sendto(text, path)
            except OSError:
                return  # systemd has gone away: there is nobody to tell
