"""What the daemon loads: no machine learning, no cloud that it was not told of, no terminal."""

from __future__ import annotations

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
