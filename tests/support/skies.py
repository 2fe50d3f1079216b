"""Two clouds as one process: EC2, SQS and S3 by moto, Compute Engine and Cloud Storage by fakes, and their machines.

`python -m tests.support.skies FOLDER` prints one line of JSON (where everything is), then answers one line of JSON to
each line of its input, and ends with it: machines, processes, buckets and all. scheduler/demo/clouds is the other end.

What is real: the APIs over HTTP, the user-data of every launch (run by a shell on a machine that is only a folder), the
processes that it starts, the metadata services, the kills. What is not: the clouds.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import Any, Final

import boto3

from tests.support.awscloud.hypervisor import Hypervisor as Ec2Hypervisor
from tests.support.awscloud.process import CREDENTIALS, AwsCloud
from tests.support.gce.catalog import machine_types, skus
from tests.support.gce.cloud import Gce
from tests.support.gce.gcs import FakeGcs
from tests.support.gce.hypervisor import Hypervisor as GceHypervisor
from tests.support.gce.rest import FakeGce
from tests.support.hypervisor import Machine
from tests.support.metadata import FakeMetadata

REGION: Final = "us-east-1"
ZONE: Final = "us-east-1a"
SHAPES: Final = {"aws": "g6.xlarge", "gcp": "g2-standard-4"}  # one L4 each
SPOT_USD: Final = 0.20  # below what the same accelerator costs as spot at Google
ON_DEMAND_USD: Final = 0.8048  # the list price of that shape
QUEUE: Final = "dsched-demo"
BUCKET: Final = "checkpoints"
GCP_REGION: Final = "us-central1"
NOTICE_S: Final = 120.0  # what EC2 gives
EVENT_S: Final = 1.5  # how far the event bus is behind the metadata service: nobody promises which is the first


class Watched(Ec2Hypervisor):
    """Keeps the metadata services of the machines that are gone, too: they know when a warning was read."""

    def __init__(self, cloud: AwsCloud, folder: Path) -> None:
        super().__init__(cloud, folder)
        self.services: list[FakeMetadata] = []

    def metadata(self, machine: Machine) -> FakeMetadata:
        self.services.append(super().metadata(machine))
        return self.services[-1]


class Skies:
    def __init__(self, folder: Path) -> None:
        os.environ.update(CREDENTIALS)
        self.aws, self.gcs = AwsCloud(), FakeGcs()
        zones = (f"{GCP_REGION}-a", f"{GCP_REGION}-b")
        self.gce = Gce(boot=0.3, notice=30.0, shapes=machine_types(zones), skus=skus([GCP_REGION]))
        self.front = FakeGce(self.gce)
        self.ec2_machines = Watched(self.aws, folder / "aws")
        self.gce_machines = GceHypervisor(self.gce, folder / "gcp")
        self.warned_at = 0.0  # wall

    def open(self) -> None:
        self.aws.pull("price", shape=SHAPES["aws"], zone=ZONE, usd=SPOT_USD, at=time.time() - 3_600)
        self.aws.pull("on_demand", shape=SHAPES["aws"], region=REGION, usd=ON_DEMAND_USD)
        sqs, events = self._client("sqs"), self._client("events")
        url = sqs.create_queue(QueueName=QUEUE)["QueueUrl"]
        arn = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
        events.put_rule(Name=QUEUE, EventPattern=json.dumps({"source": ["aws.ec2"]}))
        events.put_targets(Rule=QUEUE, Targets=[{"Id": "queue", "Arn": arn}])
        self._client("s3").create_bucket(Bucket=BUCKET)
        self.front.__enter__()
        self.ec2_machines.start()
        self.gce_machines.start()

    def close(self) -> None:
        for machines in (self.ec2_machines, self.gce_machines):
            machines.__exit__()
        self.front.__exit__()
        self.gcs.close()
        self.aws.close()

    def told(self) -> dict[str, Any]:
        return {
            "aws": {"endpoint": self.aws.url, "regions": [REGION], "shapes": [SHAPES["aws"]], "queue": QUEUE},
            "gcp": {
                "project": "fake-project",
                "regions": [GCP_REGION],
                "shapes": [SHAPES["gcp"]],
                "endpoint": self.front.url,
                "billing_endpoint": self.front.url,
                "advice": False,
                "look_seconds": 0.5,
            },
            "checkpoints": {"aws": f"s3://{BUCKET}/dsched", "gcp": f"gs://{BUCKET}/dsched"},
            "environment": {
                **CREDENTIALS,
                "AWS_REGION": REGION,
                "AWS_ENDPOINT_URL": self.aws.url,
                "GOOGLE_SERVICE_ACCOUNT_KEY": self.gcs.account_key,
            },
        }

    def warn(self) -> dict[str, Any]:
        """EC2 wants the only machine back in two minutes: its metadata service says so now, an event soon."""
        [row] = self.aws.pull("guests")
        self.warned_at = time.time()
        self.aws.pull("interrupt", region=row["region"], name=row["id"], warn_s=NOTICE_S, event_s=EVENT_S)
        return {"machine": row["id"], "at": self.warned_at, "event_s": EVENT_S}

    def seen(self) -> dict[str, Any]:
        """What the clouds saw of us: wall seconds, and counts."""
        calls = self.aws.pull("calls")
        read = [at for at, _, service, action in calls if service == "sqs" and action.startswith("DeleteMessage")]
        with self.gce.changed:
            self.gce.settle()
            inserts = [op.born for op in self.gce.operations.values() if op.kind == "insert"]
            left = len(self.gce.machines)
        return {
            "metadata_heard": self._heard(),
            "queue_read": min((at for at in read if at >= self.warned_at + EVENT_S), default=None),
            "aws_launches": sum(action == "RunInstances" for *_, action in calls),
            "gcp_launches": sorted(inserts),
            "left": left + len(self.aws.pull("guests")),
            "gcs_objects": len(self.gcs.objects),
        }

    def _heard(self) -> float | None:
        """When a machine's own watcher first read the warning of EC2."""
        since = [service.seen_at for service in self.ec2_machines.services if service.seen_at]
        return time.time() - (time.monotonic() - min(since)) if since else None

    def _client(self, service: str) -> Any:
        return boto3.client(service, region_name=REGION, endpoint_url=self.aws.url)


def main() -> None:
    skies = Skies(Path(sys.argv[1]))
    skies.open()
    try:
        _say(skies.told())
        for line in sys.stdin:
            _say(getattr(skies, json.loads(line)["do"])())
    finally:
        skies.close()


def _say(told: Any) -> None:
    sys.stdout.write(json.dumps(told) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
