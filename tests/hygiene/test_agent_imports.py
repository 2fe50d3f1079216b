"""What the agent loads: it travels to every node and starts with it, so it stays small."""

from __future__ import annotations

import json
import subprocess
import sys

HEAVY = {
    "asyncio",
    "concurrent.futures",
    "email",
    "hashlib",
    "http",
    "inspect",
    "logging",
    "random",
    "ssl",
    "subprocess",
}
FOREIGN = {"anyio", "boto3", "fastapi", "google", "msgspec", "pydantic", "sqlmodel", "starlette", "structlog", "torch"}


def loaded() -> set[str]:
    code = "import dsched.jobs.agent.__main__, json, sys; print(json.dumps(sorted(sys.modules)))"
    return set(json.loads(subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout))


def test_the_agent_loads_the_standard_library_and_one_file_of_the_daemons() -> None:
    modules = loaded()
    ours = {name for name in modules if name.startswith("dsched.") and not name.startswith("dsched.jobs")}
    assert ours == {"dsched.scheduler", "dsched.scheduler.wire", "dsched.scheduler.wire.agent"}
    assert not FOREIGN & modules


def test_the_agent_starts_without_the_heavy_parts_of_the_standard_library() -> None:
    assert not HEAVY & loaded()
