"""What the daemon loads: no machine learning, no cloud that it was not told of, no terminal."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.house import house, marked

HEAVY = {"torch", "safetensors", "boto3", "botocore", "google", "textual", "hypothesis", "pytest"}
WORKERS = {"highspy"}  # a fault in the solver must not be one of the daemon
LATE = {"apscheduler", "numpy", "rich", "structlog"}  # half of a start: loaded once the daemon is ready


def test_the_daemon_imports_no_torch_and_no_clouds_library() -> None:
    code = "import sys, dsched.scheduler.daemon; print(*{name.split('.')[0] for name in sys.modules})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert set(done.stdout.split()) & (HEAVY | WORKERS) == set()


def test_a_daemon_is_ready_before_it_loads_numpy_and_what_ticks_and_logs() -> None:
    code = "import sys, dsched.scheduler.daemon, dsched.scheduler.api.serve; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert {name.split(".")[0] for name in done.stdout.split()} & LATE == set()


@pytest.mark.parametrize(("on", "off"), [("aws", "google"), ("gcp", "boto3")])
def test_a_cloud_that_is_off_is_not_loaded_though_the_other_is_asked(on: str, off: str) -> None:
    """Nobody answers there, but the libraries have been loaded and have tried."""
    pytest.importorskip("boto3" if on == "aws" else "google.cloud.compute_v1", reason=f"{on} needs its extra")
    code = f"""
import asyncio, sys
from pathlib import Path
from dsched.providers.base import ProviderError
from dsched.scheduler.clouds import clouds
from dsched.scheduler.config import Config
tables = {{"aws": {{"regions": ["us-east-1"], "endpoint": "http://127.0.0.1:9"}},
           "gcp": {{"project": "my-project-1", "endpoint": "http://127.0.0.1:9", "billing_endpoint": "http://127.0.0.1:9"}}}}
config = Config(state=Path("/nowhere"), local=False, **{{{on!r}: tables[{on!r}]}})
[provider] = clouds(config, "cluster").values()
async def ask():
    try:
        await provider.offers()
    except ProviderError:
        pass
asyncio.run(ask())
print(*{{name.split(".")[0] for name in sys.modules}})
"""
    told = {"AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "x"}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=os.environ | told
    )
    loaded = set(done.stdout.split())
    assert ("boto3" if on == "aws" else "google") in loaded
    assert off not in loaded
    assert loaded & {"torch", "textual"} == set()


@pytest.mark.slow
def test_no_process_of_ours_maps_torch_while_a_plain_job_runs(tmp_path: Path) -> None:
    """Daemon, embedded cloud and agents: only the ranks of a job that asks for it load torch."""
    with house(tmp_path) as home:
        home.wait_state(home.submit("idle", "exec sleep 60"), "running")
        assert home.process is not None
        control_plane = {home.process.pid, *marked(str(home.state).encode(), where="cmdline")}
        nodes = home.node_processes()
        assert len(control_plane) >= 2
        assert nodes
        for pid in [*control_plane, *nodes]:
            assert "torch" not in Path(f"/proc/{pid}/maps").read_text()
