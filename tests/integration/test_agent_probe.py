"""A machine that does not have what was paid for: its agent says so before a rank starts."""

from __future__ import annotations

from pathlib import Path

import pytest

from dsched.jobs.agent import nvml
from tests.support.agent import agent


def test_where_no_driver_answers_no_rank_starts_and_the_machine_is_to_blame(tmp_path: Path) -> None:
    if nvml.find() is not None:
        pytest.skip("this machine has an NVIDIA driver")
    with agent(tmp_path) as running:
        running.home.start(f"touch {tmp_path}/ran", gpus=8)
        fact = running.home.fact("setup-failed")
        assert (fact["machine"], fact["command"]) == (True, "the probe of its GPUs")
        assert "no NVIDIA driver answers; 8 GPUs were bought" in fact["tail"]
        assert not (tmp_path / "ran").exists()
        running.home.start("true", job="another")  # which wants none
        assert running.home.fact("exited", job="another")["exits"] == {"0": 0}
