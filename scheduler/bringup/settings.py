"""What the daemon is told about its nodes: the table [nodes] of config.toml. Without `listen` no port is open."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

_LISTEN: Final = re.compile(r"(\[[0-9a-fA-F:]*\]|[^:\s]*):(\d{1,5})")
_ANY: Final = ("", "0.0.0.0", "[::]")  # noqa: S104 - compared, not bound
_CLOUDS: Final = ("aws", "gcp")
SOURCES_MAX: Final = 4  # user-data has little room, and every launch carries these; see script.py
CODE_MAX: Final = 500  # characters of all of them together
ADDRESS_MAX: Final = 260  # characters: a host's name has 253 at most


class SettingsError(ValueError):
    """A setting of [nodes] that cannot be used; the message names it and the remedy."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Nodes:
    listen: str = ""  # "host:port" for agents alone, by TLS 1.3; "": none
    address: str = ""  # how nodes reach it, "host:port"; "": as `listen` says
    certificate: str = ""  # PEM; "": made by openssl in the state directory
    key: str = ""
    code: tuple[str, ...] = ()  # more places that hold the agent's code, as folders: https://host/path
    probe: bool = True  # no rank starts before as many GPUs answer as were bought; false: where GPUs are pretended
    checkpoints: Mapping[str, str] = field(default_factory=dict)  # cloud -> s3:// or gs:// folder near its machines

    def __post_init__(self) -> None:
        for name, text in (("listen", self.listen), ("address", self.address)):
            if text and (not (found := _LISTEN.fullmatch(text)) or not int(found[2]) < 65_536):
                raise SettingsError(f"nodes: {name} = {text!r}: must be host:port, such as 0.0.0.0:7443")
            if len(text) > ADDRESS_MAX:
                raise SettingsError(f"nodes: {name} has {len(text)} characters, {ADDRESS_MAX} are the most: shorten it")
        if self.listen and not self.address and self.host in _ANY:
            raise SettingsError(f"nodes: listen = {self.listen!r} cannot be called; say how nodes reach it: address")
        if self.address and not self.listen:
            raise SettingsError("nodes: address without listen; say where to listen, such as listen = 0.0.0.0:7443")
        if bool(self.certificate) != bool(self.key):
            raise SettingsError("nodes: certificate and key belong together; name both, or neither")
        if (size := sum(map(len, self.code))) > CODE_MAX:
            raise SettingsError(
                f"nodes: code has {size} characters together, {CODE_MAX} are the most: user-data is small"
            )
        if len(self.code) > SOURCES_MAX or not all(urlsplit(one).scheme in ("https", "http") for one in self.code):
            raise SettingsError(f"nodes: code: at most {SOURCES_MAX} folders such as https://bucket.example/agent")
        for cloud, uri in self.checkpoints.items():
            if cloud not in _CLOUDS or urlsplit(uri).scheme not in ("s3", "gs") or not urlsplit(uri).netloc:
                raise SettingsError(
                    f"nodes: checkpoints: {cloud} = {uri!r}: must be a cloud ({' or '.join(_CLOUDS)}) and a folder "
                    "such as s3://bucket/dsched or gs://bucket/dsched"
                )

    @property
    def host(self) -> str:
        return self.listen.rpartition(":")[0]

    @property
    def port(self) -> int:
        """0: any free one; only of use where `address` is not said, in tests."""
        return int(self.listen.rpartition(":")[2] or 0)

    @property
    def home(self) -> str:
        """What nodes are told."""
        return f"https://{self.address or self.listen}"

    def pair(self) -> tuple[Path, Path] | None:
        return (Path(self.certificate), Path(self.key)) if self.certificate else None


def read(table: Mapping[str, Any]) -> Nodes:
    """The table [nodes]. Raises SettingsError for what is unknown or of the wrong kind."""
    known = {one.name for one in fields(Nodes)}
    told: dict[str, Any] = {}
    for name, value in table.items():
        if name not in known:
            raise SettingsError(f"nodes: unknown setting {name!r}; known: {', '.join(sorted(known))}")
        told[name] = _value(name, value)
    return Nodes(**told)


def _value(name: str, value: Any) -> Any:
    if name == "code":
        if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
            raise SettingsError(f"nodes: code = {value!r}: must be a list of texts")
        return tuple(value)
    if name == "checkpoints":
        if not isinstance(value, Mapping) or not all(isinstance(one, str) for one in value.values()):
            raise SettingsError(f"nodes: checkpoints = {value!r}: must be a table of texts, [nodes.checkpoints]")
        return dict(value)
    if name == "probe":
        if not isinstance(value, bool):
            raise SettingsError(f"nodes: probe = {value!r}: must be true or false")
        return value
    if not isinstance(value, str):
        raise SettingsError(f"nodes: {name} = {value!r}: must be a text")
    return value
