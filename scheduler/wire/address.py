"""Where the daemon's state and socket are. Daemon, CLI and TUI ask here, so they agree without configuration."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Final

SOCKET: Final = "api.sock"
_SYSTEM: Final = "/var/lib/dsched"  # what the systemd unit sets as DSCHED_STATE


def state_dir(environ: Mapping[str, str]) -> str:
    """DSCHED_STATE, else the user's state directory."""
    if given := environ.get("DSCHED_STATE"):
        return os.path.abspath(given)
    base = environ.get("XDG_STATE_HOME") or os.path.join(os.path.expanduser("~"), ".local", "state")
    return os.path.join(base, "dsched")


def socket_path(server: str | None, environ: Mapping[str, str]) -> str:
    """The socket to call: the one named ("unix:/path" or a path), DSCHED_SERVER's, or the state directory's.

    Where a user has no state of their own, the daemon of the system is meant. Raises ValueError for other sockets.
    """
    given = server or environ.get("DSCHED_SERVER")
    if given:
        path = given.removeprefix("unix:")
        if "://" in path:
            raise ValueError(f"{given!r} is no unix socket; the daemon listens on one: unix:/path/{SOCKET}")
        return os.path.join(path, SOCKET) if os.path.isdir(path) else os.path.abspath(path)
    own = os.path.join(state_dir(environ), SOCKET)
    system = os.path.join(_SYSTEM, SOCKET)
    if "DSCHED_STATE" not in environ and not os.path.exists(own) and os.path.exists(system):
        return system
    return own
