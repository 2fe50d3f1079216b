"""What a short command loads: nothing heavy, or it would not be short."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.fake_api import serving
from tests.tui import fleet

HEAVY = {"boto3", "botocore", "google", "torch", "numpy", "sqlmodel", "sqlalchemy", "alembic", "fastapi", "starlette",
         "httpx", "textual", "rich", "pydantic", "ruamel", "obstore", "apprise", "asyncio"}  # fmt: skip
CODE = """
import sys
from dsched.scheduler.cli.main import run
code = run(sys.argv[1:])
sys.stderr.write(" ".join(sorted({name.split(".")[0] for name in sys.modules})))
sys.exit(code)
"""


def loaded(*argv: str, **environ: str) -> set[str]:
    done = subprocess.run(
        [sys.executable, "-c", CODE, *argv], capture_output=True, text=True, env=os.environ | environ, check=True
    )
    assert done.stdout
    return set(done.stderr.splitlines()[-1].split())


@pytest.mark.parametrize("argv", [("--help",), ("ps", "--help"), ("submit", "--help"), ("--version",)])
def test_help_loads_nothing_heavy(argv: tuple[str, ...]) -> None:
    assert loaded(*argv) & HEAVY == set()


def test_the_list_of_commands_loads_no_command() -> None:
    names = loaded("--help")
    assert "http" not in names
    assert "json" not in names


@pytest.mark.parametrize(
    "argv", [("ps",), ("ps", "-o", "json"), ("nodes",), ("prices",), ("events",), ("report", "-o", "json"), ("doctor",)]
)
def test_a_list_loads_nothing_heavy(tmp_path: Path, argv: tuple[str, ...]) -> None:
    with serving(tmp_path / "api.sock") as api:
        api.on("GET", "/v1/health", fleet.health())
        api.on("GET", "/v1/jobs", [fleet.job()])
        api.on("GET", "/v1/nodes", [])
        api.on("GET", "/v1/events", fleet.events())
        api.on("GET", "/v1/money", fleet.money())
        api.on("GET", "/v1/offers", fleet.offers())
        api.on("GET", "/v1/checks", [])
        assert loaded(*argv, DSCHED_SERVER=str(api.path)) & HEAVY == set()


@pytest.mark.parametrize("module", ["scheduler.view.columns", "scheduler.view.table", "scheduler.api.client"])
def test_what_cli_and_tui_share_is_light(module: str) -> None:
    code = f"import dsched.{module}, sys; print(*{{n.split('.')[0] for n in sys.modules}})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert set(done.stdout.split()) & HEAVY == set()
