"""The whole daemon on AWS, over HTTP: it sees prices, buys by tag, heeds a drought, and ends what nobody wants."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.aws_world import REGION, SHAPE, ZONES, cloud, present
from tests.support.awscloud.hypervisor import Hypervisor
from tests.support.awscloud.process import CREDENTIALS
from tests.support.house import House, wait_for

pytestmark = pytest.mark.slow

CONFIG = """
local = false
observe_seconds = 0.5
idle_seconds = 1.0
prices_seconds = 1.0
[nodes]
probe = false
[aws]
regions = ["us-east-1"]
shapes = ["g6.xlarge"]
endpoint = "{url}"
"""


@pytest.fixture
def home(tmp_path: Path) -> Iterator[House]:
    present()
    aws = cloud()
    aws.pull("reset")
    for zone in ZONES.values():
        aws.pull("price", shape=SHAPE, zone=zone, usd=0.3)
    aws.pull("on_demand", shape=SHAPE, region=REGION, usd=0.8048)
    home = House(tmp_path / "s", environment=CREDENTIALS)
    home.state.mkdir()
    (home.state / "config.toml").write_text(CONFIG.format(url=aws.url))
    try:
        home.start()
        yield home
    finally:
        home.kill()


def submit(home: House, run: str = "true", **more: Any) -> str:
    return home.submit("train", run, gpus={"type": ["L4"], "count": 1}, capacity=["spot", "on-demand"], **more)


def machines() -> list[Any]:
    import boto3

    ec2 = boto3.client("ec2", region_name=REGION, endpoint_url=cloud().url)
    return [row for found in ec2.describe_instances()["Reservations"] for row in found["Instances"]]


def test_a_job_gets_the_cheapest_machine_and_a_cancelled_one_leaves_none(home: House) -> None:
    cloud().pull("price", shape=SHAPE, zone="us-east-1b", usd=0.2)
    job = submit(home)
    [row] = wait_for(machines, "a machine at AWS")
    tags = {tag["Key"]: tag["Value"] for tag in row["Tags"]}
    assert (row["InstanceLifecycle"], row["InstanceType"]) == ("spot", SHAPE)
    assert tags["dsched:token"]
    home.client.act(job, "cancel")
    wait_for(lambda: all(row["State"]["Name"] == "terminated" for row in machines()), "the machine's end")


def test_a_warned_machine_is_left_in_time_and_the_job_goes_on_elsewhere(home: House, tmp_path: Path) -> None:
    """User-data becomes an agent, which hears the metadata service; the job saves, leaves and resumes on another."""
    run = f"""trap 'echo saved > {tmp_path}/saved; exit 75' TERM
        test -e {tmp_path}/saved && exit 0
        while :; do sleep 0.1; done"""
    with Hypervisor(cloud(), tmp_path / "machines"):
        job = submit(home, run)
        home.wait_state(job, "running")
        [first] = machines()
        cloud().pull("interrupt", region=REGION, name=first["InstanceId"], warn_s=20.0)
        home.wait_state(job, "succeeded")
        [one, two] = home.client.attempts(job)
        assert one["nodes"] != two["nodes"]
        wait_for(lambda: all(row["State"]["Name"] == "terminated" for row in machines()), "the machines' end")


def test_in_a_total_drought_every_pool_is_asked_once(home: House) -> None:
    for zone in ("us-east-1a", "us-east-1b", "us-east-1c", "us-east-1d", "us-east-1e", "us-east-1f"):
        for market in ("spot", "on-demand"):
            cloud().pull("capacity", shape=SHAPE, zone=zone, market=market, free=0)
    submit(home)
    pools = len(home.client.offers())

    def asked_all() -> bool:
        return len(cloud().pull("calls", action="RunInstances")) >= pools

    wait_for(asked_all, "every pool to be asked")
    looks = len(cloud().pull("calls", action="DescribeInstances"))
    wait_for(lambda: len(cloud().pull("calls", action="DescribeInstances")) > looks + 5, "some seconds of the daemon")
    assert Counter(call[3] for call in cloud().pull("calls"))["RunInstances"] == pools
    assert machines() == []
