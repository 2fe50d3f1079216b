"""What a job's process loads: torch comes in by one door, and a plain program pays for nothing."""

from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = ("torch", "numpy", "sqlmodel", "fastapi", "boto3", "google", "pydantic", "textual")


def loaded(statement: str) -> set[str]:
    code = f"{statement}\nimport sys; print(*{{name.split('.')[0] for name in sys.modules}})"
    return set(subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.split())


@pytest.mark.parametrize(
    "module", ["contract", "progress", "storage", "manifest", "checkpoint", "saver", "gang", "stall", "zygote"]
)
def test_the_runtime_knows_no_torch(module: str) -> None:
    assert not loaded(f"import dsched.jobs.runtime.{module}").intersection(HEAVY)


def test_the_contract_is_the_standard_library_alone() -> None:
    ours = loaded("from dsched.jobs.runtime import Runtime; Runtime.from_env()")
    assert (
        not {name for name in ours - sys.stdlib_module_names if not name.startswith("_")} - loaded("pass") - {"dsched"}
    )


def test_comparing_two_runs_does_not_wait_for_torch() -> None:
    assert not loaded("import dsched.jobs.train.losses, dsched.jobs.train.__main__").intersection(HEAVY)
