"""The whole daemon against Google Cloud's API: real client library, real agents, a real interruption."""

from __future__ import annotations

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

ZONES = ("us-central1-a", "us-central1-b")
SHAPE = "e2-standard-2"
CONFIG = """\
local = false
[gcp]
project = "fake-project"
regions = ["us-central1"]
shapes = ["{shape}"]
advice = false
look_seconds = 0.2
endpoint = "{url}"
billing_endpoint = "{url}"
"""


@dataclass(slots=True)
class Office:
    house: House
    cloud: Gce
    front: FakeGce


@pytest.fixture
def office(tmp_path: Path) -> Iterator[Office]:
    pytest.importorskip("google.cloud.compute_v1", reason="google-cloud-compute is missing: pip install .[gcp]")
    cloud = Gce(boot=0.1, notice=2.0, shapes=machine_types(ZONES), skus=skus(["us-central1"]))
    house = House(tmp_path / "s", ("--observe-seconds", "0.5", "--idle-seconds", "1"))
    house.state.mkdir()
    with FakeGce(cloud) as front, Hypervisor(cloud, tmp_path / "nodes"):
        (house.state / "config.toml").write_text(CONFIG.format(url=front.url, shape=SHAPE))
        try:
            house.start()
            yield Office(house, cloud, front)
        finally:
            house.end()


def submit(office: Office, name: str, run: str) -> str:
    spec = {"name": name, "run": run, "capacity": ["spot"]}
    return str(office.house.client.submit({"spec": spec, "key": name})["id"])


def test_a_job_runs_on_a_machine_that_was_bought_there_and_is_given_back(office: Office, tmp_path: Path) -> None:
    job = submit(office, "once", f"echo $RANK > {tmp_path}/ran")
    office.house.wait_state(job, "succeeded")
    assert (tmp_path / "ran").read_text() == "0\n"
    assert len([call for call in office.front.calls if call.startswith("POST") and "/instances?" in call]) == 1
    wait_for(lambda: not office.cloud.machines, "the machine to be given back")


def test_an_interrupted_job_goes_on_where_it_was_on_another_machine(office: Office, tmp_path: Path) -> None:
    """SIGTERM at the notice: it saves and leaves, and the next machine reads what it saved."""
    saved = tmp_path / "saved"
    run = (
        f"if [ -e {saved} ]; then exit 0; fi; "
        f"trap 'echo $DSCHED_GENERATION > {saved}; exit 75' TERM; echo up > {tmp_path}/up; while :; do sleep 0.05; done"
    )
    job = submit(office, "survivor", run)
    wait_for((tmp_path / "up").exists, "the job to run")
    with office.cloud.changed:
        [machine] = office.cloud.machines.values()
        office.cloud.preempt(machine.zone, machine.name)
    found = office.house.wait_state(job, "succeeded", "failed")
    assert found["state"] == "succeeded"
    assert saved.read_text().strip() == "1"
    assert machine.preempted


def test_a_daemon_that_is_killed_at_a_launch_finds_its_machine_again(office: Office, tmp_path: Path) -> None:
    job = submit(office, "kept", f"while [ ! -e {tmp_path}/go ]; do sleep 0.05; done")
    wait_for(lambda: office.cloud.machines, "a machine")
    office.house.kill()
    office.house.start()
    office.house.wait_state(job, "running")
    assert len(office.cloud.machines) == 1
    (tmp_path / "go").touch()
    office.house.wait_state(job, "succeeded")
