"""What this node says hello with: the launch's secret once, then the key that the daemon gave for it.

The key is kept on the node's own disk, so that an agent that died, or a machine that was started anew, is known again.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from dsched.jobs.agent.journal import note

KEY_MAX: Final = 256  # characters; ours have 64


class Badge:
    def __init__(self, folder: Path, secret: str) -> None:
        self._path = folder / "badge"
        self.secret = self._kept() or secret

    def keep(self, key: str) -> None:
        """From now on this. Where the disk takes nothing, an agent that dies is not known again: its node ends."""
        if not key or key == self.secret or len(key) > KEY_MAX:
            return
        self.secret = key
        fresh = self._path.with_suffix(".new")
        try:
            with open(fresh, "w", encoding="utf-8", opener=_private) as file:
                file.write(key)
            os.replace(fresh, self._path)
        except OSError as error:
            note("badge.lost", error=str(error))

    def _kept(self) -> str:
        try:
            return self._path.read_text(encoding="utf-8")[:KEY_MAX]
        except (OSError, ValueError):
            return ""


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)
