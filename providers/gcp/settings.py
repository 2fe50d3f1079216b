"""What the operator says of his project: the table [gcp] of config.toml. Without it this cloud is off."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Final

PROJECT: Final = re.compile(r"([a-z0-9.-]+:)?[a-z][a-z0-9-]{4,28}[a-z0-9]")
RUN_HOURS: Final = (0.1, 24.0 * 120)  # what Compute Engine takes as maxRunDuration ends at 120 days
NOTICE_SECONDS_MAX: Final = 120  # the longest preemptionNoticeDuration that is documented


class SettingsError(ValueError):
    """A setting of [gcp] that cannot be used; the message names it and the remedy."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    project: str
    regions: tuple[str, ...] = ("us-central1",)
    shapes: tuple[str, ...] = ("*",)  # globs over machine types; those without a known accelerator must be named whole
    image: str = (
        "projects/ubuntu-os-accelerator-images/global/images/family/ubuntu-accelerator-2404-amd64-with-nvidia-570"
    )
    disk_gb: int = 100  # the boot disk; checkpoints are in a bucket
    disk_type: str = ""  # "hyperdisk-balanced" where a machine family knows no other; "": the service's own choice
    network: str = "global/networks/default"
    subnetwork: str = ""
    placement: str = ""  # a placement policy of yours for gangs: projects/P/regions/R/resourcePolicies/NAME
    external_ip: bool = True  # nodes dial out; without an address of their own they need Cloud NAT
    service_account: str = ""  # what the nodes may do (read and write the checkpoint bucket); "": nothing
    run_hours: float = 24.0 * 7  # after that the cloud itself deletes a node, whoever has forgotten it
    notice_seconds: int = 0  # asks for a longer notice (preview); refused by the service, it is left out
    prices_seconds: float = 3_600.0  # list and spot prices move at most daily; the list has tens of thousands of rows
    look_seconds: float = 5.0  # interruptions and ends are looked for so often
    advice: bool = True  # ask for obtainability, uptime and preemption history: one call per zone and shape an hour
    tpus: bool = False  # offer TPU machines, too
    endpoint: str = ""  # of Compute Engine, where it is not the public one (private access, tests)
    billing_endpoint: str = ""
    resource_endpoint: str = ""  # of the Resource Manager, which `dsched doctor` asks for permissions

    @property
    def run_s(self) -> int:
        return round(self.run_hours * 3_600)


def read(table: Mapping[str, Any]) -> Settings:
    """The table as settings. Raises SettingsError."""
    known = {field.name: str(field.type) for field in fields(Settings)}
    for name, value in table.items():
        if name not in known:
            raise SettingsError(f"gcp.{name}: unknown setting; known: {', '.join(sorted(known))}")
        if not _fits(value, known[name]):
            raise SettingsError(f"gcp.{name} = {value!r}: must be {_WORDS[known[name]]}")
    given: dict[str, Any] = {name: tuple(value) if isinstance(value, list) else value for name, value in table.items()}
    if not PROJECT.fullmatch(str(given.get("project", ""))):
        raise SettingsError(
            f"gcp.project = {given.get('project')!r}: must be the id of a project, such as my-project-1"
        )
    settings = Settings(**given)
    _check(settings)
    return settings


def _check(settings: Settings) -> None:
    if not settings.regions:
        raise SettingsError("gcp.regions: name at least one, such as us-central1")
    for region in settings.regions:
        if not re.fullmatch(r"[a-z]+-[a-z]+\d+", region):
            raise SettingsError(f"gcp.regions: {region!r} is no region; a region looks like us-central1")
    if not RUN_HOURS[0] <= settings.run_hours <= RUN_HOURS[1]:
        raise SettingsError(f"gcp.run_hours = {settings.run_hours}: must lie between {RUN_HOURS[0]} and {RUN_HOURS[1]}")
    if not 0 <= settings.notice_seconds <= NOTICE_SECONDS_MAX:
        raise SettingsError(
            f"gcp.notice_seconds = {settings.notice_seconds}: must lie between 0 and {NOTICE_SECONDS_MAX}"
        )
    for name in ("prices_seconds", "look_seconds", "disk_gb"):
        if not getattr(settings, name) > 0:
            raise SettingsError(f"gcp.{name} = {getattr(settings, name)}: must be above 0")


_WORDS: Final = {
    "str": "a text",
    "bool": "true or false",
    "int": "a whole number",
    "float": "a number",
    "tuple[str, ...]": "a list of texts",
}


def _fits(value: object, kind: str) -> bool:
    match kind:
        case "str":
            return isinstance(value, str)
        case "bool":
            return isinstance(value, bool)
        case "int":
            return isinstance(value, int) and not isinstance(value, bool)
        case "float":
            return isinstance(value, int | float) and not isinstance(value, bool)
        case _:
            return isinstance(value, list | tuple) and all(isinstance(one, str) for one in value)
