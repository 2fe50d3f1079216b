"""What is asked of a cloud besides offers and machines: quotas, contracts; and that old answers do not look new."""

from __future__ import annotations

from random import Random

from dsched.providers.base import Finding, NodeRef, Notice, ProviderError
from dsched.scheduler.core.commitment import Contract
from dsched.scheduler.core.market import Offer
from dsched.scheduler.core.quota import Quota
from dsched.scheduler.core.units import HOUR, MINUTE, SECOND
from dsched.scheduler.engine.control import Control
from dsched.scheduler.engine.observe import LIMITS_AGAIN, LIMITS_EVERY, Observer
from tests.support.office import HandClock
from tests.support.rig import Rig, settle
from tests.support.stage import offer

P5 = Quota("local/*/p5*/spot", 16, "gpus", "P5 spot")


class Cloud:
    """Answers what it is told to answer."""

    name = "local"

    def __init__(self, *offers: Offer) -> None:
        self.told, self.quotas, self.asked = list(offers), [P5], 0
        self.error: ProviderError | None = None
        self.ailing = {"us-west-2": "InternalError"}

    async def offers(self) -> list[Offer]:
        return self.told

    async def nodes(self, tokens: object = None) -> list[object]:
        return []

    async def limits(self) -> list[Quota]:
        self.asked += 1
        if self.error is not None:
            raise self.error
        return self.quotas

    async def commitments(self) -> list[Contract]:
        return [Contract(provider="local", kind="cud-3y", id="c")]

    async def doctor(self) -> list[Finding]:
        raise ProviderError("Broken")

    async def launch(self, want: object) -> list[object]:
        raise AssertionError

    async def terminate(self, refs: list[NodeRef]) -> None: ...

    def events(self) -> Notice: ...  # type: ignore[empty-body]


async def test_quotas_are_asked_now_and_then_and_the_old_ones_stand_while_nobody_answers() -> None:
    clock = HandClock()
    async with Rig(clock) as rig:
        cloud = Cloud()
        seen = Observer(cloud, rig.loop)  # type: ignore[arg-type]
        await seen.refresh()
        await settle()
        assert rig.loop.state.quotas == {"local": (P5,)}
        assert seen.contracts[0].kind == "cud-3y"
        await seen._ask_limits()
        assert cloud.asked == 1
        clock.move(LIMITS_EVERY)
        cloud.error = ProviderError("AccessDenied")
        await seen._ask_limits()
        await settle()
        assert seen.limits_fault == "AccessDenied"
        assert rig.loop.state.quotas == {"local": (P5,)}
        cloud.error, cloud.quotas = None, []
        clock.move(LIMITS_AGAIN)
        await seen._ask_limits()
        await settle()
        assert (seen.limits_fault, rig.loop.state.quotas) == ("", {"local": ()})


async def test_an_answer_is_as_old_as_its_newest_quote() -> None:
    """A cloud that repeats what it knew before does not look fresh."""
    clock = HandClock()
    now = clock.now().market
    async with Rig(clock) as rig:
        cloud = Cloud(offer("a", 1.0, at=now - 3 * HOUR), offer("b", 1.0, at=now - 30 * MINUTE))
        seen = Observer(cloud, rig.loop)  # type: ignore[arg-type]
        await seen.refresh()
        await settle()
        [told] = Control(rig.loop, {"local": seen}, Random(1)).health()["providers"].values()
        assert told["prices_age_s"] == 30 * MINUTE / SECOND
        assert told["stale"] == 1
        assert told["ailing"] == {"us-west-2": "InternalError"}


async def test_a_check_up_that_breaks_is_a_line() -> None:
    async with Rig(HandClock()) as rig:
        [line] = await Observer(Cloud(), rig.loop).examine()  # type: ignore[arg-type]
        assert (line.status, line.message) == ("fail", "Broken")
