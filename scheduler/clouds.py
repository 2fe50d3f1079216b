"""The clouds that the settings switch on. A cloud that is off costs nothing: its library is never loaded."""

from __future__ import annotations

from dsched.providers.base import Provider
from dsched.scheduler.config import Config, ConfigError


def clouds(config: Config, cluster: str) -> dict[str, Provider]:
    """By name. `cluster` marks the machines that are ours. Raises ConfigError, as `check` does."""
    found: dict[str, Provider] = {}
    if config.aws:
        from dsched.providers.aws.provider import AwsProvider
        from dsched.providers.aws.settings import settings_from

        check(config)
        found[AwsProvider.name] = AwsProvider(settings_from(config.aws), cluster)
    return found


def check(config: Config) -> None:
    """Raises ConfigError for a cloud's settings that cannot work."""
    if not config.aws:
        return
    from dsched.providers.aws.settings import SettingsError, settings_from

    try:
        settings_from(config.aws)
    except SettingsError as error:
        raise ConfigError(str(error)) from error
    if config.local:
        raise ConfigError("local = true beside [aws]: the embedded cloud has a clock of its own; set local = false")
