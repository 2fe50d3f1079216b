"""What a test may do to the cloud behind the API's back: POST /levers/NAME with the arguments as JSON."""

from __future__ import annotations

import threading
import time
from typing import Any

from tests.support.awscloud import machines
from tests.support.awscloud.replay import Replay
from tests.support.awscloud.state import Fault, Market, Prices


class Levers:
    def __init__(self, market: Market) -> None:
        self.market = market
        self.replays: list[Replay] = []

    def reset(self) -> None:
        for replay in self.replays:
            replay.stop()
        self.replays.clear()
        with self.market.lock:
            self.market.reset()
            machines.forget_all()

    def fault(self, **what: Any) -> None:
        with self.market.lock:
            self.market.faults.append(Fault(**what))

    def heal(self) -> None:
        with self.market.lock:
            self.market.faults.clear()

    def set(self, **what: Any) -> None:
        """Plain figures: lag_s, page, scores, reservations, blocks, reserved, plans."""
        with self.market.lock:
            for name, value in what.items():
                assert hasattr(self.market, name), name
                setattr(self.market, name, value)

    def capacity(self, shape: str, zone: str, market: str, free: int) -> None:
        with self.market.lock:
            self.market.capacity[shape, zone, market] = free

    def free(self, shape: str, zone: str, market: str) -> int | None:
        return self.market.capacity.get((shape, zone, market))

    def price(self, shape: str, zone: str, usd: float, at: float = 0.0) -> None:
        with self.market.lock:
            self.market.prices.setdefault((shape, zone), Prices()).add(at or time.time(), usd)

    def prices(self, steps: list[tuple[str, str, float, float]]) -> None:
        """Many at once: (shape, zone, seconds since the epoch, USD)."""
        with self.market.lock:
            for shape, zone, at, usd in steps:
                self.market.prices.setdefault((shape, zone), Prices()).add(at, usd)

    def on_demand(self, shape: str, region: str, usd: float) -> None:
        with self.market.lock:
            self.market.on_demand[shape, region] = usd

    def quota(self, region: str, code: str, vcpus: float) -> None:
        self.market.quotas[region, code] = vcpus

    def calls(self, action: str = "") -> list[tuple[float, str, str, str]]:
        with self.market.lock:
            return [call for call in self.market.calls if action in ("", call[3])]

    def interrupt(
        self, region: str, name: str, warn_s: float = 120.0, *, notice: bool = True, event_s: float = 0.0
    ) -> None:
        """The warning now, the end after `warn_s`; without notice the end at once, and untold.

        The event comes `event_s` later than the machine's own metadata service tells it.
        """
        if not notice:
            machines.reclaim(self.market, region, name, "Server.SpotInstanceTermination")
            return
        self.market.taken[name] = time.time() + warn_s
        warning = {"instance-action": "terminate"}
        told = threading.Timer(
            event_s, lambda: machines.tell(region, "EC2 Spot Instance Interruption Warning", [name], **warning)
        )
        told.daemon = True
        (told.start if event_s else told.run)()
        end = (self.market, region, name, "Server.SpotInstanceTermination")
        timer = threading.Timer(warn_s, machines.reclaim, end)
        timer.daemon = True
        timer.start()

    def guests(self) -> list[dict[str, Any]]:
        """What a hypervisor must know of every machine of ours that runs; `taken_at` 0: nobody has warned it."""
        with self.market.lock:
            return [{**row, "taken_at": self.market.taken.get(row["id"], 0.0)} for row in machines.guests()]

    def forget(self, region: str, name: str) -> None:
        """EC2 knows nothing of it any more."""
        with self.market.lock:
            machines.forget(region, name)

    def living(self, cluster: str) -> list[tuple[str, str]]:
        """(token, instance) of every machine of a cluster that lives, whatever the API tells."""
        with self.market.lock:
            return machines.living(cluster)

    def rebalance(self, region: str, name: str) -> None:
        machines.tell(region, "EC2 Instance Rebalance Recommendation", [name])

    def end(self, region: str, name: str, code: str) -> None:
        """End one for another reason, such as Client.InstanceInitiatedShutdown or Server.InternalError."""
        machines.reclaim(self.market, region, name, code)

    def replay(self, trace: dict[str, Any], shape: str, zone: str, scale: float) -> None:
        """Let the spot pool of (shape, zone) do what the trace did, `scale` times as fast; 0: tick by `advance`."""
        replay = Replay(self.market, trace, shape, zone, scale)
        self.replays.append(replay)
        if scale:
            replay.start()
        else:
            replay.advance()

    def advance(self) -> None:
        """The next tick of every replay."""
        for replay in self.replays:
            replay.advance()
