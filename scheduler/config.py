"""The daemon's settings: defaults, then `config.toml` in the state directory, then the command line.

Under systemd a credential named `config.toml` comes between file and command line: the place for alert channels with
secrets in them. Each name tells its unit.
"""

from __future__ import annotations

import argparse
import os
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Final

from dsched.scheduler.core.quota import read as read_quota
from dsched.scheduler.core.units import Millis
from dsched.scheduler.held import read as read_hold

FILE: Final = "config.toml"
DEADLINE_POLICY: Final = "slack"
SOLVER_MARKET: Final = 30.0  # market seconds: a price step comes every few minutes, and waiting is paid in finish times
SOLVER_LEAST: Final = 0.25  # wall: a small puzzle takes 0.1 s, the start of its process 0.5 s once


class ConfigError(Exception):
    """A setting cannot be used; the message names the place and the remedy."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    state: Path  # the state directory
    lease_seconds: float = 0.0  # the most a machine outlives a dead daemon; 0: see `lease`
    idle_seconds: float = 0.0  # how long a machine without a job is kept; 0: see `idle`
    observe_seconds: float = 5.0  # every provider is looked at this often, hints or not
    prices_seconds: float = 60.0
    restart_seconds: float = 3.0  # lost per interruption besides the boot: detect, restore, first step
    write_seconds: float = 0.1  # one checkpoint's stall, until the job has told its own
    energy_usd_per_kwh: float = 0.0  # what a kWh weighs when offers are compared, beside what is paid
    carbon_usd_per_tonne: float = 0.0  # what a tonne of CO2 weighs
    discounts: Mapping[str, float] = field(default_factory=dict)
    """Private prices: globs over "provider/shape/market" -> share of the list price, first match first."""
    shares: Mapping[str, float] = field(default_factory=dict)  # user -> weight of the fair share; 1 where not named
    spot_shares: Mapping[str, float] = field(default_factory=dict)
    """Globs over users -> of each of their jobs' machine hours, the most that may be spot; first match first."""
    quotas: Mapping[str, str] = field(default_factory=dict)
    """What our accounts may run: globs over "provider/region/shape/market" -> "768 vcpus", "64 gpus" or "8 nodes"."""
    held: tuple[Mapping[str, Any], ...] = ()
    """Reservations, blocks and commitments: [[held]] with pool, count, price, from, until; see core/hold.py."""
    solver_seconds: float = 2.0  # so long jobs that compete wait for a better plan, by HiGHS; 0: never; see `solver`
    policy: str = DEADLINE_POLICY  # what decides for jobs with a deadline; the safety net is always around it
    record: Path | None = None  # all that the core is told, to run it again: dsched simulate --replay
    alerts: tuple[str, ...] = ()  # channels: webhook+https://host/path#secret, or an Apprise URL
    aws: Mapping[str, Any] = field(default_factory=dict)  # see providers/aws/settings.py; empty: AWS is off
    gcp: Mapping[str, Any] = field(default_factory=dict)  # see providers/gcp/settings.py; empty: Google Cloud is off
    nodes: Mapping[str, Any] = field(default_factory=dict)  # see bringup/settings.py; empty: no port is open
    # the embedded cloud
    local: bool = True
    seed: int = 1
    scale: float = 1.0  # market seconds per wall second
    notice_scale: float = 1.0  # notices are shortened by this
    max_nodes: int = 64
    trace: Path | None = None
    script: Path | None = None

    @property
    def socket(self) -> Path:
        return self.state / "api.sock"

    @property
    def lease(self) -> Millis:
        """Wall. 20 minutes of market time, since a lease is spend set aside; but a minute for a daemon to come back."""
        return _ms(self.lease_seconds or max(60.0, 1200.0 / self.scale))

    @property
    def idle(self) -> Millis:
        """Wall. Two minutes of market time, since idle is paid; but ten seconds for a next job to come."""
        return _ms(self.idle_seconds or max(10.0, 120.0 / self.scale))

    @property
    def launch_fails(self) -> Millis:
        """Wall. A minute of market time, two time limits of a call; the embedded cloud answers within a second."""
        return _ms(max(1.0, 60.0 / self.scale) if self.local else 60.0)

    @property
    def restart(self) -> Millis:
        return _ms(self.restart_seconds)

    @property
    def solver(self) -> Millis:
        """Wall. At most half a minute of market time; where that is less than an answer takes, nobody waits for one."""
        seconds = min(self.solver_seconds, SOLVER_MARKET / self.scale)
        return _ms(seconds if seconds >= SOLVER_LEAST else 0.0)

    @property
    def write(self) -> Millis:
        return _ms(self.write_seconds)


def _ms(seconds: float) -> Millis:
    return Millis(round(seconds * 1000))


def default_state() -> Path:
    """DSCHED_STATE, else /var/lib/dsched for root's service, else the user's state directory."""
    given = os.environ.get("DSCHED_STATE") or os.environ.get("STATE_DIRECTORY")
    if given:
        return Path(given)
    base = os.environ.get("XDG_STATE_HOME") or os.path.expanduser("~/.local/state")
    return Path(base) / "dsched"


def read(argv: Sequence[str]) -> Config:
    """The command line over the file over the defaults. Raises ConfigError; --help exits as argparse does."""
    parser = argparse.ArgumentParser(prog="dsched daemon", description="Run the dsched daemon in the foreground.")
    parser.add_argument("--state", type=Path, default=None, help="state directory (default: DSCHED_STATE)")
    for name, kind, text in _FLAGS:
        parser.add_argument(f"--{name.replace('_', '-')}", dest=name, type=kind, default=None, help=text)
    parser.add_argument("--no-local", dest="local", action="store_false", default=None, help="no embedded cloud")
    parser.add_argument("--alert", dest="alerts", action="append", default=None, help="alert channel, repeatable")
    given = {key: value for key, value in vars(parser.parse_args(argv)).items() if value is not None}
    state = Path(given.pop("state", None) or default_state()).absolute()
    if "alerts" in given:
        given["alerts"] = tuple(given["alerts"])
    config = from_file(state / FILE, Config(state=state))
    if secrets := os.environ.get("CREDENTIALS_DIRECTORY"):
        config = from_file(Path(secrets) / FILE, config)
    config = replace(config, **given)
    check(config)
    return config


_FLAGS = (
    ("policy", str, "what decides for jobs with a deadline: slack, up, greedy, on-demand, ..."),
    ("seed", int, "seed of the embedded market"),
    ("scale", float, "market seconds per wall second of the embedded cloud"),
    ("notice_scale", float, "divides the embedded cloud's notice times"),
    ("max_nodes", int, "machines the embedded cloud may run at a time"),
    ("trace", Path, "folder of market traces to replay"),
    ("record", Path, "write down all that the core is told, for dsched simulate --replay"),
    ("script", Path, "market events to inject, JSON lines"),
    ("lease_seconds", float, "lease of a machine"),
    ("idle_seconds", float, "how long an idle machine is kept"),
    ("observe_seconds", float, "how often machines are listed"),
    ("prices_seconds", float, "how often prices are asked"),
)


def from_file(path: Path, config: Config) -> Config:
    """The file's settings over `config`; a missing file is fine. Raises ConfigError."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return config
    try:
        found: dict[str, Any] = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path}: not TOML: {error}") from error
    known = {f.name: f for f in fields(Config)}
    for key, value in found.items():
        if key not in known or key == "state":
            raise ConfigError(f"{path}: unknown setting {key!r}; known: {', '.join(sorted(known))}")
        if key in ("alerts", "held") and isinstance(value, list):
            found[key] = tuple(value)
        elif key in ("trace", "script"):
            found[key] = Path(value)
    return replace(config, **found)


def check(config: Config) -> None:
    """Raises ConfigError for a number that makes no sense."""
    for name in (
        "lease_seconds",
        "idle_seconds",
        "observe_seconds",
        "prices_seconds",
        "restart_seconds",
        "write_seconds",
        "scale",
        "notice_scale",
    ):
        value = getattr(config, name)
        least = 0 if name in ("lease_seconds", "idle_seconds") else 1e-9
        if not isinstance(value, int | float) or not least <= value < float("inf"):
            raise ConfigError(f"{name} = {value!r}: must be a number above 0")
    _check_weights(config)
    _check_policy(config.policy)
    for name in ("trace", "script"):
        path = getattr(config, name)
        if path is not None and not path.exists():
            raise ConfigError(f"{name}: {path} does not exist")


def _check_weights(config: Config) -> None:
    for name in ("energy_usd_per_kwh", "carbon_usd_per_tonne", "solver_seconds"):
        value = getattr(config, name)
        if type(value) not in (int, float) or not 0 <= value < float("inf"):
            raise ConfigError(f"{name} = {value!r}: must be a number of at least 0")
    for name in ("shares", "spot_shares", "quotas", "aws", "gcp", "nodes"):
        if not isinstance(getattr(config, name), Mapping):
            raise ConfigError(f"{name}: must be a table, [{name}]")
    _check_users_and_quotas(config)
    _check_held(config.held)
    if not isinstance(config.discounts, Mapping):
        raise ConfigError('discounts: must be a table such as "aws/p5*/on-demand" = 0.85')
    for pattern, factor in config.discounts.items():
        if pattern.count("/") != 2:
            raise ConfigError(f"discounts: {pattern!r} is no glob over provider/shape/market such as aws/p5*/on-demand")
        if type(factor) not in (int, float) or not 0 < factor <= 1:
            raise ConfigError(f"discounts: {pattern} = {factor!r}: must be the share of the list price, such as 0.85")


def _check_users_and_quotas(config: Config) -> None:
    for user, weight in config.shares.items():
        if type(weight) not in (int, float) or not 0 < weight < float("inf"):
            raise ConfigError(f"shares: {user} = {weight!r}: must be a weight above 0, such as 2.0")
    for user, share in config.spot_shares.items():
        if type(share) not in (int, float) or not 0 <= share <= 1:
            raise ConfigError(f"spot_shares: {user} = {share!r}: must be a share of 0 to 1, such as 0.5")
    for pattern, text in config.quotas.items():
        try:
            read_quota(pattern, text)
        except ValueError as error:
            raise ConfigError(f"quotas: {error}") from error


def _check_held(held: object) -> None:
    if not isinstance(held, tuple) or not all(isinstance(row, Mapping) for row in held):
        raise ConfigError("held: must be tables, [[held]] with pool, count and price")
    names: set[str] = set()
    for row in held:
        try:
            name = read_hold(row).name
        except ValueError as error:
            raise ConfigError(f"held: {error}") from error
        if name in names:
            raise ConfigError(f"held: two are called {name!r}; give each a name")
        names.add(name)


def _check_policy(name: object) -> None:
    if name == DEADLINE_POLICY:
        return
    from dsched.scheduler.core.deadline.policies import named  # loads numpy, which other readers of settings need not

    try:
        named(str(name))
    except ValueError as error:
        raise ConfigError(f"policy: {error}") from error
