"""What `dsched top` loads: Textual and nothing else that is heavy."""

from __future__ import annotations

import subprocess
import sys

HEAVY = (
    "boto3", "botocore", "google", "torch", "numpy", "sqlmodel", "sqlalchemy", "fastapi", "starlette", "pydantic",
    "uvicorn", "apprise", "apscheduler", "alembic", "httpx",
)  # fmt: skip


def test_the_tui_loads_no_cloud_no_database_and_no_server() -> None:
    code = "import sys, dsched.tui.app; print(*sorted({m.split('.')[0] for m in sys.modules}))"
    loaded = set(
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    )
    assert "textual" in loaded
    assert sorted(loaded & set(HEAVY)) == []


def test_help_and_a_wrong_address_are_answered_without_a_terminal() -> None:
    top = [sys.executable, "-m", "dsched.tui.app"]
    told = subprocess.run([*top, "--help"], capture_output=True, text=True, check=True).stdout
    assert "--readonly" in told
    wrong = subprocess.run([*top, "--server", "https://host:1"], capture_output=True, text=True, check=False)
    assert wrong.returncode == 2
    assert "is no unix socket" in wrong.stderr
