"""`dsched db` as a process: what it says, and how it ends."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path


def db(state: Path, *argv: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "dsched", "db", "--state", str(state), *argv]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_no_database_is_said_with_its_remedy(tmp_path: Path) -> None:
    done = db(tmp_path, "check")
    assert done.returncode == 5
    assert f"error[E404] no database at {tmp_path / 'state.db'}" in done.stderr


def test_a_damaged_database_is_found_out(tmp_path: Path) -> None:
    (tmp_path / "state.db").write_bytes(b"not a database" * 1_000)
    done = db(tmp_path, "check")
    assert done.returncode == 1
    assert "Traceback" not in done.stderr


def test_help_is_its_own() -> None:
    done = subprocess.run([sys.executable, "-m", "dsched", "db", "--help"], capture_output=True, text=True, check=True)
    assert "backup" in done.stdout
