"""What the settings ask of every plan, as the core's policy."""

from __future__ import annotations

from dsched.providers.catalog import places
from dsched.scheduler.config import Config
from dsched.scheduler.core.discount import Discount
from dsched.scheduler.core.placement import Policy
from dsched.scheduler.core.quota import read as read_quota
from dsched.scheduler.held import read as read_hold


def policy_of(config: Config) -> Policy:
    """Raises ValueError for what `config.check` refuses."""
    return Policy(
        lease=config.lease,
        restart=config.restart,
        write=config.write,
        deadline_policy=config.policy,
        launch_fails=config.launch_fails,
        energy_price=config.energy_usd_per_kwh,
        carbon_price=config.carbon_usd_per_tonne,
        discounts=tuple(Discount(pattern, factor) for pattern, factor in config.discounts.items()),
        facts=places.load(),
        weights=tuple(sorted(config.shares.items())),
        spot_shares=tuple(config.spot_shares.items()),
        solver=config.solver,
        held=tuple(read_hold(row) for row in config.held),
        quotas=tuple(read_quota(pattern, text) for pattern, text in config.quotas.items()),
    )
