"""The clouds that the settings switch on. A cloud that is off costs nothing: its library is never loaded."""

from __future__ import annotations

from dsched.providers.base import Provider
from dsched.scheduler.config import Config, ConfigError


def clouds(config: Config, cluster: str) -> dict[str, Provider]:
    """By name. `cluster` marks the machines that are ours. Raises ConfigError, as `check` does."""
    found: dict[str, Provider] = {}
    check(config)
    if not config.aws and not config.gcp:
        return found
    from dsched.scheduler.pricebook import Imported

    known = Imported(config.state)
    if config.aws:
        from dsched.providers.aws.provider import AwsProvider
        from dsched.providers.aws.settings import settings_from

        found[AwsProvider.name] = AwsProvider(settings_from(config.aws), cluster, known=known)
    if config.gcp:
        from dsched.providers.gcp.provider import GcpProvider
        from dsched.providers.gcp.settings import read

        found[GcpProvider.name] = GcpProvider(read(config.gcp), cluster, known=known)
    return found


def check(config: Config) -> None:
    """Raises ConfigError for a cloud's settings that cannot work."""
    _check_aws(config)
    _check_gcp(config)
    _check_nodes(config)
    on = "[aws]" if config.aws else "[gcp]" if config.gcp else ""
    if on and config.local:
        raise ConfigError(f"local = true beside {on}: the embedded cloud has a clock of its own; set local = false")


def _check_aws(config: Config) -> None:
    if not config.aws:
        return
    from dsched.providers.aws.settings import SettingsError, settings_from

    try:
        settings_from(config.aws)
    except SettingsError as error:
        raise ConfigError(str(error)) from error


def _check_gcp(config: Config) -> None:
    if not config.gcp:
        return
    from dsched.providers.gcp.settings import SettingsError, read

    try:
        read(config.gcp)
    except SettingsError as error:
        raise ConfigError(str(error)) from error


def _check_nodes(config: Config) -> None:
    from dsched.scheduler.bringup.settings import SettingsError, read

    try:
        read(config.nodes)
    except SettingsError as error:
        raise ConfigError(str(error)) from error
