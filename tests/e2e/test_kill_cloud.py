"""kill -9 of the embedded cloud: jobs go on, people are told, and the next cloud takes over every machine."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from tests.support.cloud import alive, bought, cloud_pids
from tests.support.house import House, house, wait_for


def cloud_pid(home: House) -> int:
    (pid,) = cloud_pids(home)
    return pid


@pytest.mark.slow
def test_the_daemon_says_that_the_cloud_is_dead_starts_it_again_and_the_job_goes_on(tmp_path: Path) -> None:
    out, go = tmp_path / "ran", tmp_path / "go"
    with house(tmp_path, "--idle-seconds", "1", "--lease-seconds", "600") as home:
        run = f"echo begun >> {out}; until [ -e {go} ]; do sleep 0.05; done; echo ended >> {out}"
        job = home.submit("steady", run)
        home.wait_state(job, "running")
        wait_for(out.exists, "the first line")
        first, before = cloud_pid(home), bought(home)
        os.kill(first, signal.SIGKILL)
        wait_for(lambda: not home.client.health()["providers"]["local"]["ok"], "health to say that the cloud is dead")
        told = {check["name"]: check for check in home.client.checks()}["cloud local"]
        late = home.submit("late", "true")  # nothing can be bought for it yet, and nothing is lost
        wait_for(lambda: home.client.health()["providers"]["local"]["ok"], "the next cloud")
        home.wait_state(late, "succeeded")
        assert home.client.job(job)["state"] == "running"
        go.touch()
        home.wait_state(job, "succeeded")
        assert home.client.job(job)["generation"] == 1
        assert cloud_pid(home) != first
        assert set(before) < set(bought(home))
        assert len(bought(home)) == 2
        wait_for(lambda: not home.client.nodes() and not alive(home), "every machine to be given back")
        wait_for(lambda: not home.node_processes(), "every process of a machine to end")
    assert told["status"] == "fail"
    assert "CloudUnreachable" in told["message"]
    assert out.read_text().split() == ["begun", "ended"]


@pytest.mark.slow
def test_a_daemon_that_finds_its_cloud_dead_starts_one_that_takes_the_machines_over(tmp_path: Path) -> None:
    out, go = tmp_path / "ran", tmp_path / "go"
    with house(tmp_path, "--idle-seconds", "1", "--lease-seconds", "600") as home:
        run = f"echo begun >> {out}; until [ -e {go} ]; do sleep 0.05; done; echo ended >> {out}"
        job = home.submit("steady", run)
        home.wait_state(job, "running")
        wait_for(out.exists, "the first line")
        before = bought(home)
        home.kill()
        os.kill(cloud_pid(home), signal.SIGKILL)
        home.start()
        assert alive(home) == before
        go.touch()
        home.wait_state(job, "succeeded")
        assert home.client.job(job)["generation"] == 1
        assert bought(home) == before
        wait_for(lambda: not home.client.nodes() and not alive(home), "the machine to be given back")
        wait_for(lambda: not home.node_processes(), "every process of a machine to end")
    assert out.read_text().split() == ["begun", "ended"]
