"""What each API method that we call needs, and the custom role that grants it and no more.

The table is checked by the contract suite: the methods that the fake cloud was asked for are these, none missing and
none unused. deploy/gcp/role.yaml is `role()` as text.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

_CREATE: Final = (  # what a new machine's parts need: its disk, labels, metadata, network and reservation
    "compute.instances.create",
    "compute.disks.create",
    "compute.images.useReadOnly",
    "compute.instances.setLabels",
    "compute.instances.setMetadata",
    "compute.instances.setServiceAccount",
    "compute.networks.use",
    "compute.networks.useExternalIp",
    "compute.subnetworks.use",
    "compute.subnetworks.useExternalIp",
)
METHODS: Final[dict[str, tuple[str, ...]]] = {
    "instances.insert": _CREATE,
    "instances.bulkInsert": _CREATE,
    "firewalls.insert": ("compute.firewalls.create", "compute.networks.updatePolicy"),
    "firewalls.delete": ("compute.firewalls.delete", "compute.networks.updatePolicy"),
    "firewalls.list": ("compute.firewalls.list",),
    "instances.get": ("compute.instances.get",),
    "instances.delete": ("compute.instances.delete",),
    "instances.aggregatedList": ("compute.instances.list",),
    "zoneOperations.wait": ("compute.zoneOperations.get",),
    "globalOperations.aggregatedList": ("compute.globalOperations.list", "compute.zoneOperations.list"),
    "machineTypes.aggregatedList": ("compute.machineTypes.list",),
    "reservations.aggregatedList": ("compute.reservations.list",),
    "futureReservations.aggregatedList": ("compute.futureReservations.list",),
    "regionCommitments.aggregatedList": ("compute.commitments.list",),
    "regions.get": ("compute.regions.get",),
    "advice.capacity": ("compute.advice.capacity",),
    "advice.capacityHistory": ("compute.advice.capacityHistory",),
    "projects.testIamPermissions": (),  # about oneself, everybody may ask
    "services.skus.list": (),  # the public price list needs a signed-in caller and nothing else
}
_HEAD: Final = """\
# A custom role with what dsched calls in Compute Engine, and no more. Made from the calls; a test keeps it true.
#   gcloud iam roles create dsched --project PROJECT --file deploy/gcp/role.yaml
# Where nodes run as a service account, the daemon also needs roles/iam.serviceAccountUser on that account.
title: dsched
description: Launch, list and delete the machines of a dsched cluster, and read prices, quotas and advice
stage: GA
includedPermissions:
"""


def role(methods: Iterable[str] = tuple(METHODS)) -> str:
    """The role as `gcloud iam roles create --file` reads it."""
    needed = sorted({permission for method in methods for permission in METHODS[method]})
    return _HEAD + "".join(f"  - {permission}\n" for permission in needed)
