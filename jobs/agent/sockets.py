"""Where the reports' sockets lie: on the node's own disk, under a short name where its path is too long for a socket.

The short name is a symbolic link: it is there whole or not at all, so that another agent that clears away dead nodes'
names never meets one that is half made; and it is dead for certain when it leads nowhere, since the disk comes first.
"""

from __future__ import annotations

import os
import shutil
from contextlib import suppress
from pathlib import Path
from typing import Final

PATH_MAX: Final = 107 - 17  # of a directory, so that a name of 16 characters fits into sun_path
SHORT: Final = Path("/tmp")  # noqa: S108 - short is the point; below it a random name that is ours alone
PREFIX: Final = "dsched-"


class Sockets:
    def __init__(self, node_dir: Path, mark: str) -> None:
        """Anew: what an agent left that was killed here goes first."""
        self._run = node_dir / "run"
        self._link = None if len(os.fsencode(self._run)) <= PATH_MAX else SHORT / f"{PREFIX}{mark}"
        shutil.rmtree(self._run, ignore_errors=True)
        self._run.mkdir(parents=True)
        forget_dead(self._run)
        self.place()

    @property
    def litter(self) -> str:
        """What lies outside the node's own disk, so that nobody removes it after a kill -9; "": nothing."""
        return "" if self._link is None else str(self._link)

    def place(self) -> Path:
        """The folder for a next socket. Made again where it is missing: /tmp has cleaners, and nodes live for weeks."""
        self._run.mkdir(parents=True, exist_ok=True)
        if self._link is None:
            return self._run
        with suppress(FileExistsError):
            self._link.symlink_to(self._run)
        return self._link


def forget_dead(run: Path) -> None:
    """Remove the names of nodes whose own disk is gone (killed as a whole, they could not), and older ones of `run`."""
    for name in os.listdir(SHORT):
        if not name.startswith(PREFIX):
            continue
        link = SHORT / name
        with suppress(OSError):  # no link, or another user's, or removed meanwhile
            if os.readlink(link) == str(run) or not link.exists():
                link.unlink()
