"""Real agents behind the fake's machines."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from tests.support import hypervisor
from tests.support.gce.cloud import Gce, Refused
from tests.support.hypervisor import Machine
from tests.support.metadata import FakeMetadata


class Hypervisor(hypervisor.Hypervisor):
    flavour = "gcp"
    look_s = 0.01

    def __init__(self, cloud: Gce, folder: Path) -> None:
        super().__init__(folder)
        self._cloud = cloud

    def machines(self) -> Iterable[Machine]:
        with self._cloud.changed:
            self._cloud.settle()
            return [
                Machine(
                    name=one.name,
                    place=one.zone,
                    running=one.status == "RUNNING",
                    user_data=one.metadata["user-data"],
                    taken_in_s=self._cloud.notice if one.preempted else None,
                )
                for one in self._cloud.machines.values()
                if one.status != "TERMINATED" and "user-data" in one.metadata
            ]

    def powered_off(self, machine: Machine) -> None:
        with self._cloud.changed, suppress(Refused):  # it was deleted meanwhile
            self._cloud.guest_exit(machine.place, machine.name)

    def metadata(self, machine: Machine) -> FakeMetadata:
        service = super().metadata(machine)
        service.gce_name = machine.name  # of a machine that was made in bulk: it has no attribute for its index
        return service
