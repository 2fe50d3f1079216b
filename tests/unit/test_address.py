"""Where the daemon is looked for."""

from __future__ import annotations

from pathlib import Path

import pytest

from dsched.scheduler.wire.address import socket_path, state_dir


def test_what_is_named_wins(tmp_path: Path) -> None:
    environ = {"DSCHED_SERVER": "unix:/srv/a.sock", "DSCHED_STATE": "/state"}
    assert socket_path("unix:/named.sock", environ) == "/named.sock"
    assert socket_path(None, environ) == "/srv/a.sock"
    assert socket_path(None, {"DSCHED_STATE": "/state"}) == "/state/api.sock"
    assert socket_path(str(tmp_path), {}) == str(tmp_path / "api.sock")


def test_the_users_state_is_the_default() -> None:
    assert state_dir({"XDG_STATE_HOME": "/home/ana/.state"}) == "/home/ana/.state/dsched"


def test_only_unix_sockets_are_called() -> None:
    with pytest.raises(ValueError, match="no unix socket"):
        socket_path("http://localhost:80", {})
