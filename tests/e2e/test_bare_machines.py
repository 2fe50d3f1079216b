"""From user-data to the end of a job: a bare machine's shell, the agent from the daemon's door, and TLS all the way."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.gce.catalog import machine_types, skus
from tests.support.gce.cloud import Gce
from tests.support.gce.hypervisor import Hypervisor
from tests.support.gce.rest import FakeGce
from tests.support.house import House, wait_for

pytestmark = pytest.mark.slow

CONFIG = """\
local = false
[nodes]
listen = "127.0.0.1:{port}"
[gcp]
project = "fake-project"
regions = ["us-central1"]
shapes = ["e2-standard-2"]
advice = false
look_seconds = 0.2
endpoint = "{url}"
billing_endpoint = "{url}"
"""


@dataclass(slots=True)
class Site:
    house: House
    cloud: Gce
    folder: Path
    port: int

    def submit(self, run: str) -> str:
        spec = {"name": "bare", "run": run, "capacity": ["spot"]}
        return str(self.house.client.submit({"spec": spec, "key": "bare"})["id"])

    def disk(self) -> Path:
        """Of the only machine that ever was."""
        [user_data] = (self.folder / "nodes").glob("*/user-data")
        return user_data.parent


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    pytest.importorskip("google.cloud.compute_v1", reason="google-cloud-compute is missing: pip install .[gcp]")
    cloud = Gce(boot=0.1, notice=2.0, shapes=machine_types(["us-central1-a"]), skus=skus(["us-central1"]))
    house = House(tmp_path / "s", ("--observe-seconds", "0.5", "--idle-seconds", "1"))
    house.state.mkdir()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with FakeGce(cloud) as front, Hypervisor(cloud, tmp_path / "nodes"):
        (house.state / "config.toml").write_text(CONFIG.format(port=port, url=front.url))
        try:
            house.start()
            yield Site(house, cloud, tmp_path, port)
        finally:
            house.end()


def test_a_bare_machine_runs_a_job_through_a_restart_of_the_daemon_and_ends_with_it(site: Site, tmp_path: Path) -> None:
    """The launch's secret is used up by then: only what the daemon gave for it at the first hello lets the agent in."""
    job = site.submit(f"while [ ! -e {tmp_path}/go ]; do sleep 0.05; done; echo $RANK > {tmp_path}/ran")
    site.house.wait_state(job, "running")
    secret = json.loads((site.disk() / "node.json").read_text())["secret"]
    assert (site.disk() / "badge").read_text() not in ("", secret)
    before = site.house.client.attempts(job)[0]["nodes"]
    site.house.kill()
    site.house.start()
    (tmp_path / "go").touch()
    assert site.house.wait_state(job, "succeeded", "failed")["state"] == "succeeded"
    assert [attempt["nodes"] for attempt in site.house.client.attempts(job)] == [before]
    assert (tmp_path / "ran").read_text() == "0\n"
    wait_for(lambda: not site.cloud.machines, "the machine to be given back")
    log = [json.loads(line) for line in (site.disk() / "agent.log").read_text().splitlines() if line.startswith("{")]
    welcomes = [line["daemon"] for line in log if line["event"] == "uplink.welcome"]
    assert set(welcomes) == {f"https://127.0.0.1:{site.port}"}
