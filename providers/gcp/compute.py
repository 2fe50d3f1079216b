"""The bodies of the calls that make machines. Plain functions from a launch to JSON.

One machine is `instances.insert`; a gang is one `instances.bulkInsert` with minCount = count, which the service
itself makes whole or not at all. Machines of a bulk share labels and metadata, so that only the name tells their
index.
"""

from __future__ import annotations

from typing import Any, Final

from dsched.providers.base import Launch
from dsched.providers.gcp import names
from dsched.providers.gcp.rows import Held
from dsched.providers.gcp.settings import Settings
from dsched.scheduler.core.market import Market
from dsched.scheduler.core.units import Millis

Json = dict[str, Any]

SCOPE: Final = "https://www.googleapis.com/auth/cloud-platform"
NOTICE: Final = Millis(30_000)  # of a Spot VM: ACPI soft off to the end
NOTICE_FIELD: Final = "preemptionNoticeDuration"  # as the service writes it in a refusal


def notice_of(settings: Settings, *, longer: bool) -> Millis:
    """The warning that a spot machine gets. `longer`: as far as we know the service grants the one asked for."""
    return Millis(settings.notice_seconds * 1_000) if longer and settings.notice_seconds else NOTICE


def machine(want: Launch, settings: Settings, cluster: str, *, longer: bool, reservation: Held | None) -> Json:
    """The body of `instances.insert`."""
    zone = want.pool.zone
    rest = _properties(want, settings, cluster, longer=longer, reservation=reservation)
    return {"name": names.name(want, 0), **rest, "machine_type": f"zones/{zone}/machineTypes/{want.pool.shape}"}


def gang(want: Launch, settings: Settings, cluster: str, *, longer: bool, reservation: Held | None) -> Json:
    """The body of `instances.bulkInsert`. Its machine type is a bare name, not an URL."""
    rest = _properties(want, settings, cluster, longer=longer, reservation=reservation)
    return {
        "count": want.count,
        "min_count": want.count,
        "per_instance_properties": {names.name(want, index): {} for index in range(want.count)},
        "instance_properties": {**rest, "machine_type": want.pool.shape},
    }


def _properties(want: Launch, settings: Settings, cluster: str, *, longer: bool, reservation: Held | None) -> Json:
    notice = notice_of(settings, longer=longer)
    told = {"user-data": want.user_data, "preemption-notice-ms": str(notice)}
    body: Json = {
        "labels": names.labels(want, cluster),
        "scheduling": _scheduling(
            want.pool.market, settings, longer=longer, bound=bool(reservation and reservation.bound)
        ),
        "disks": [_disk(settings)],
        "network_interfaces": [_network(settings)],
        "metadata": {"items": [{"key": key, "value": value} for key, value in told.items()]},
        "reservation_affinity": _affinity(reservation),
    }
    if want.count > 1:
        body["tags"] = {"items": [names.gang(want.token)]}
        if settings.placement:
            body["resource_policies"] = [settings.placement]
    if settings.service_account:
        body["service_accounts"] = [{"email": settings.service_account, "scopes": [SCOPE]}]
    return body


def _scheduling(market: Market, settings: Settings, *, longer: bool, bound: bool) -> Json:
    """DELETE, not STOP: a stopped machine bills its disk until somebody deletes it, and the daemon may be dead.

    The run duration is the dead man's switch on the cloud's side. Accelerators cannot migrate, so maintenance
    terminates. A machine that is bound to a booking ends with it and takes no duration of its own.
    """
    scheduling: Json = {
        "provisioning_model": "SPOT" if market is Market.SPOT else "STANDARD",
        "instance_termination_action": "DELETE",
        "max_run_duration": {"seconds": settings.run_s},
        "on_host_maintenance": "TERMINATE",
        "automatic_restart": False,  # a machine that broke is replaced by a plan, never behind its back
    }
    if bound:
        del scheduling["max_run_duration"]
        scheduling["provisioning_model"] = "RESERVATION_BOUND"
    if market is Market.SPOT and longer and settings.notice_seconds:
        scheduling["preemption_notice_duration"] = {"seconds": settings.notice_seconds}
    return scheduling


def _disk(settings: Settings) -> Json:
    made: Json = {"source_image": settings.image, "disk_size_gb": settings.disk_gb}
    if settings.disk_type:
        made["disk_type"] = settings.disk_type
    return {"boot": True, "auto_delete": True, "initialize_params": made}


def _network(settings: Settings) -> Json:
    network: Json = {"subnetwork": settings.subnetwork} if settings.subnetwork else {"network": settings.network}
    if settings.external_ip:
        network["access_configs"] = [{"type_": "ONE_TO_ONE_NAT", "name": "external"}]
    return network


def _affinity(reservation: Held | None) -> Json:
    """What is not bought as reserved must not eat a reservation that a plan counts on."""
    if reservation is None:
        return {"consume_reservation_type": "NO_RESERVATION"}
    key = "compute.googleapis.com/reservation-name"
    return {"consume_reservation_type": "SPECIFIC_RESERVATION", "key": key, "values": [reservation.name]}
