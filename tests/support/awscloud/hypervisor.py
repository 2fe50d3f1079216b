"""Real agents behind moto's instances."""

from __future__ import annotations

import base64
import time
from collections.abc import Iterable
from pathlib import Path

from tests.support import hypervisor
from tests.support.awscloud.process import AwsCloud
from tests.support.hypervisor import Machine


class Hypervisor(hypervisor.Hypervisor):
    flavour = "aws"
    look_s = 0.05  # each look is a call

    def __init__(self, cloud: AwsCloud, folder: Path) -> None:
        super().__init__(folder)
        self._cloud = cloud

    def machines(self) -> Iterable[Machine]:
        for row in self._cloud.pull("guests"):
            yield Machine(
                name=row["id"],
                place=row["region"],
                running=True,
                user_data=base64.b64decode(row["user_data"]).decode(),
                index=row["index"],
                taken_in_s=row["taken_at"] - time.time() if row["taken_at"] else None,
            )

    def powered_off(self, machine: Machine) -> None:
        self._cloud.pull("end", region=machine.place, name=machine.name, code="Client.InstanceInitiatedShutdown")
