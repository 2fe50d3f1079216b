"""What the provider must be told: where to buy, which shapes, and what a machine starts with. No secrets: those are
where the AWS libraries look for them (environment, profile, instance role).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from fnmatch import fnmatchcase
from typing import Any, Final

from dsched.scheduler.core.market import Pool
from dsched.scheduler.core.units import HOUR, MINUTE, Millis

SHAPES: Final = (
    "g4dn.*",
    "g5.*",
    "g6.*",
    "g6e.*",
    "p3.*",
    "p3dn.*",
    "p4d.*",
    "p4de.*",
    "p5.*",
    "p5e.*",
    "p5en.*",
    "p6-b200.*",
)
# With a Python that runs the agent (3.12); the one of Ubuntu 22.04 is too old.
IMAGE: Final = "resolve:ssm:/aws/service/deeplearning/ami/{arch}/base-oss-nvidia-driver-gpu-ubuntu-24.04/latest/ami-id"


class SettingsError(ValueError):
    """A setting cannot be used; the message names it and the remedy."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """One account. Prices are asked no more often than the `..._every` say; failures do not make them look fresh."""

    regions: tuple[str, ...]
    shapes: tuple[str, ...] = SHAPES  # globs of instance types
    markets: tuple[str, ...] = ("spot", "on-demand", "reserved")
    profile: str = ""  # of the shared configuration; "": the library's default chain
    endpoint: str = ""  # "": AWS's own
    image: str = IMAGE  # an AMI, or a public parameter; {arch} is x86_64 or arm64
    images: Mapping[str, str] = field(default_factory=dict)  # where it is not `image`: see image_in
    subnets: Mapping[str, str] = field(default_factory=dict)  # zone id -> subnet; absent: the default one
    groups: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  # region -> security groups
    instance_profile: str = ""  # what a machine may do; "": nothing
    placement: str = "cluster"  # strategy of a gang's placement group; "": none
    efa: bool = False  # give the machines of a gang their EFA interfaces; their subnets then need a way out by NAT
    disk_gib: int = 0  # of the root volume; 0: the image's own
    queue: str = ""  # name of the SQS queue of EC2's events in every region; "": no hints but the node's own
    advisor: str = ""  # URL of the spot advisor's public JSON; "": not asked
    scores: tuple[str, ...] = ()  # shapes whose placement scores are asked: AWS allows few a day
    spot_every: Millis = Millis(5 * MINUTE)
    list_every: Millis = Millis(24 * HOUR)  # shapes, zones, on-demand prices
    reserved_every: Millis = MINUTE
    scores_every: Millis = Millis(24 * HOUR)
    launches_per_second: float = 2.0  # EC2 refills RunInstances at this rate, per region
    launches_at_once: int = 5

    def __post_init__(self) -> None:
        if not self.regions:
            raise SettingsError('aws: no regions; name at least one, such as regions = ["us-east-1"]')
        if self.placement not in ("", "cluster", "spread", "partition"):
            raise SettingsError(f'aws: placement = {self.placement!r}; known: cluster, spread, partition, or none: ""')
        unknown = set(self.markets) - {"spot", "on-demand", "reserved"}
        if unknown:
            raise SettingsError(f"aws: markets has {', '.join(sorted(unknown))}; known: spot, on-demand, reserved")
        if self.launches_per_second <= 0 or self.launches_at_once < 1:
            raise SettingsError("aws: launches_per_second and launches_at_once must be above 0")

    def image_in(self, pool: Pool, arch: str) -> str:
        """The image of a pool's machines: that of its region and shape, else of its shape, its region, or any."""
        place = f"{pool.region}/{pool.shape}"
        known = self.images.items()
        found = [
            *(image for key, image in known if "/" in key and fnmatchcase(place, key)),
            *(image for key, image in known if "/" not in key and fnmatchcase(pool.shape, key)),
            *(image for key, image in known if key == pool.region),
            self.image,
        ]
        return found[0].replace("{arch}", arch)


_LISTS: Final = ("regions", "shapes", "markets", "scores")
_TABLES: Final = ("images", "subnets")
_TEXTS: Final = ("profile", "endpoint", "image", "instance_profile", "placement", "queue", "advisor")


def settings_from(table: Mapping[str, Any]) -> Settings:
    """Read the `[aws]` table of the configuration. Raises SettingsError for what is unknown or of the wrong kind."""
    known = {one.name for one in fields(Settings) if not one.name.endswith("_every")}
    read: dict[str, Any] = {}
    for name, value in table.items():
        if name not in known:
            raise SettingsError(f"aws: unknown setting {name!r}; known: {', '.join(sorted(known))}")
        read[name] = _value(name, value)
    return Settings(**{"regions": (), **read})


def _value(name: str, value: Any) -> Any:
    if name in _LISTS:
        return _texts(name, value)
    if name == "groups":
        return {str(key): _texts(name, listed) for key, listed in _table(name, value).items()}
    if name in _TABLES:
        return {str(key): str(text) for key, text in _table(name, value).items()}
    if name == "efa":
        if not isinstance(value, bool):
            raise SettingsError(f"aws: efa = {value!r}: must be true or false")
        return value
    if name in _TEXTS:
        if not isinstance(value, str):
            raise SettingsError(f"aws: {name} = {value!r}: must be a text")
        return value
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise SettingsError(f"aws: {name} = {value!r}: must be a number")
    return value


def _texts(name: str, value: Any) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
        raise SettingsError(f'aws: {name} = {value!r}: must be a list of texts such as ["us-east-1"]')
    return tuple(value)


def _table(name: str, value: Any) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise SettingsError(f"aws: {name} = {value!r}: must be a table")
    return value
