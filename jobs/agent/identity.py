"""Who this node is: the user-data and the launch index, read from the cloud's metadata service.

Two dialects: "aws" (IMDSv2, a session token first) and "gcp" (a fixed header). DSCHED_METADATA names the service,
DSCHED_METADATA_FLAVOUR the dialect; without them the agent asks the well-known address of AWS. Where the user-data is
a start script that has laid the agent's part of it down as a file, DSCHED_USER_DATA names that file.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Final, NamedTuple, Protocol, cast
from urllib.parse import urlsplit

from dsched.jobs.agent.client import Answer, Link, LinkError
from dsched.jobs.agent.clock import boot_ms
from dsched.scheduler.wire.agent import UserData

ASK_S: Final = 2.0  # the service is on this host or one hop away
TOKEN_TTL_S: Final = 21_600  # the longest that IMDSv2 grants
TOKEN_RENEW_MS: Final = 21_000_000  # ten minutes before that
USER_DATA_MAX: Final = 16 * 1024  # EC2's own limit

_KINDS: Final[Mapping[str, type]] = {
    "cluster": str,
    "token": str,
    "daemon": str,
    "secret": str,
    "lease_until": int,
    "drain_ms": int,
    "heartbeat_ms": int,
}


class ConfigurationError(Exception):
    """The node was launched with something that cannot work. Next: end; only a new launch helps."""


class Metadata(Protocol):
    flavour: str

    def user_data(self) -> bytes: ...
    def launch_index(self) -> int: ...
    def facts(self) -> dict[str, str]:
        """Instance id, zone, shape and the address that its peers know it by, as far as the service tells them."""
        ...


class Identity(NamedTuple):
    node: str
    data: UserData


class Imds:
    """AWS, version 2 only: a token by PUT, then GETs that carry it."""

    flavour = "aws"

    def __init__(self, base: str) -> None:
        self._link = Link(_origin(base))
        self._token, self._token_until = "", 0

    def close(self) -> None:
        self._link.close()

    def get(self, path: str) -> bytes | None:
        """None where the service answers 404: there is no such value (now). Raises LinkError."""
        answer = self._get(path)
        if answer.status == 401:
            self._token_until = 0  # expired or forgotten: once more with a fresh one
            answer = self._get(path)
        if answer.status == 200:
            return answer.body
        if answer.status == 404:
            return None
        raise LinkError(f"{path}: metadata service answered {answer.status}")

    def _get(self, path: str) -> Answer:
        if boot_ms() >= self._token_until:
            wanted = {"X-aws-ec2-metadata-token-ttl-seconds": str(TOKEN_TTL_S)}
            granted = self._link.request("PUT", "/latest/api/token", headers=wanted, timeout_s=ASK_S)
            if granted.status != 200:
                raise LinkError(f"/latest/api/token: metadata service answered {granted.status}")
            self._token, self._token_until = granted.body.decode("ascii", "replace"), boot_ms() + TOKEN_RENEW_MS
        return self._link.request("GET", path, headers={"X-aws-ec2-metadata-token": self._token}, timeout_s=ASK_S)

    def user_data(self) -> bytes:
        return self.get("/latest/user-data") or b""

    def launch_index(self) -> int:
        return _index(self.get("/latest/meta-data/ami-launch-index"), "/latest/meta-data/ami-launch-index")

    def facts(self) -> dict[str, str]:
        names = {"instance": "instance-id", "zone": "placement/availability-zone", "shape": "instance-type"}
        names["address"] = "local-ipv4"
        return _told({name: self.get(f"/latest/meta-data/{path}") for name, path in names.items()})


class Gce:
    """GCE: every GET carries one header; any value can be waited on."""

    flavour = "gcp"
    ROOT: Final = "/computeMetadata/v1/instance"

    def __init__(self, base: str) -> None:
        self._link = Link(_origin(base))

    def close(self) -> None:
        self._link.close()

    def get(self, path: str, *, timeout_s: float = ASK_S) -> Answer | None:
        """None where the service answers 404. Raises LinkError."""
        wanted = {"Metadata-Flavor": "Google"}
        answer = self._link.request("GET", f"{self.ROOT}/{path}", headers=wanted, timeout_s=timeout_s)
        if answer.status == 200:
            return answer
        if answer.status == 404:
            return None
        raise LinkError(f"{self.ROOT}/{path}: metadata service answered {answer.status}")

    def value(self, path: str) -> bytes | None:
        answer = self.get(path)
        return None if answer is None else answer.body

    def user_data(self) -> bytes:
        return self.value("attributes/user-data") or b""

    def launch_index(self) -> int:
        """Machines that were made in bulk share all attributes: the number at the end of the name tells them apart."""
        told = self.value("attributes/launch-index")
        if told is None:
            number = (self.value("name") or b"").rpartition(b"-")[2]
            return int(number) if number.isdigit() else 0
        return _index(told, f"{self.ROOT}/attributes/launch-index")

    def facts(self) -> dict[str, str]:
        names = {"instance": "id", "zone": "zone", "shape": "machine-type", "address": "network-interfaces/0/ip"}
        told = _told({name: self.value(path) for name, path in names.items()})
        return {name: value.rpartition("/")[2] for name, value in told.items()}  # projects/123/zones/us-east1-b


def metadata(env: Mapping[str, str]) -> Imds | Gce:
    """The metadata service that the environment names."""
    flavour = env.get("DSCHED_METADATA_FLAVOUR", "aws")
    if flavour == "aws":
        return Imds(env.get("DSCHED_METADATA", "http://169.254.169.254"))
    if flavour == "gcp":
        return Gce(env.get("DSCHED_METADATA", "http://metadata.google.internal"))
    raise ConfigurationError(f"DSCHED_METADATA_FLAVOUR: {flavour!r} is not known; use aws or gcp")


def identify(service: Metadata, file: str = "") -> Identity:
    """Raises LinkError (ask again), ConfigurationError (end) or OSError (`file` cannot be read)."""
    data = parse(Path(file).read_bytes() if file else service.user_data())
    index = service.launch_index()
    return Identity(f"{data['token']}.{index}", data)


def parse(raw: bytes) -> UserData:
    if len(raw) > USER_DATA_MAX:
        raise ConfigurationError(f"user-data: {len(raw)} bytes; the limit is {USER_DATA_MAX}")
    try:
        data = json.loads(raw)
    except ValueError as error:
        raise ConfigurationError(f"user-data is not JSON: {error}") from error
    if not isinstance(data, dict):
        raise ConfigurationError("user-data is not a JSON object")
    for name, kind in _KINDS.items():
        value = data.get(name)
        if not isinstance(value, kind) or isinstance(value, bool):
            raise ConfigurationError(f"user-data: {name} must be {kind.__name__}, not {value!r}")
    if not isinstance(data.get("pin", ""), str):
        raise ConfigurationError(f"user-data: pin must be str, not {data['pin']!r}")
    return cast(UserData, data)


def _origin(base: str) -> str:
    parts = urlsplit(base if "//" in base else f"http://{base}")
    return f"{parts.scheme}://{parts.netloc}"


def _index(raw: bytes | None, place: str) -> int:
    text = (raw or b"0").decode("ascii", "replace").strip()
    if not text.isdigit():
        raise ConfigurationError(f"{place}: {text!r} is not a launch index")
    return int(text)


def _told(values: Mapping[str, bytes | None]) -> dict[str, str]:
    return {name: raw.decode("utf-8", "replace").strip() for name, raw in values.items() if raw}
