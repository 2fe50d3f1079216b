"""Capacity that is paid for whether it is used or not: what more of it would have saved, and what a spend covers.

A reserved machine displaces the dearest one that runs at each moment, the second one the next dearest, and so on. So
the k-th pays when the k-th dearest machine's price, averaged over all of the window with nothing counted where fewer
ran, is above the reserved price. Discounted spot counts at what it cost, so idle nights and cheap spot speak against.

A spend commitment (savings plan, CUD) covers usage at its own lower rates until it is used up, the usage with the
largest saving first; what lies beyond is paid at the ordinary rate, and what is not used is lost. So its marginal price
is 0 until it is used, and then the step to the ordinary one (AWS, "How Savings Plans apply to your usage").
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from dsched.scheduler.core.hold import sunk
from dsched.scheduler.core.market import Market, Offer
from dsched.scheduler.core.units import HOUR, Instant, MicroUsd, MicroUsdPerHour, Millis

MARGIN: Final = 0.95  # of the average paid that a reservation must stay below: the past is no promise


CHIP: Final = "gpu:"  # how `covers` begins where a contract counts accelerators of one model: "gpu:H100"


class Paid(NamedTuple):
    """One machine at one rate for a while, as the ledger has it."""

    provider: str
    region: str
    shape: str
    rate: MicroUsdPerHour
    start: Instant  # market
    end: Instant


@dataclass(frozen=True, slots=True, kw_only=True)
class Advice:
    """So many reserved machines of a shape would have cost less than what was paid."""

    provider: str
    region: str
    shape: str
    machines: int
    reserved: MicroUsdPerHour  # each
    paid: MicroUsdPerHour  # the average of what one of them displaces
    saving: MicroUsd  # over the window
    used: float  # share of the window in which the last of them would have been used
    breaks_even: float  # share of the window that a machine must be used to pay, at the mean price of its use


def advice(paid: Iterable[Paid], offers: Mapping[str, Offer], now: Instant, window: Millis) -> tuple[Advice, ...]:
    """Where reserved capacity is on sale: what buying it would have saved over the window, the best first."""
    begin = Instant(now - window)
    by_kind: defaultdict[tuple[str, str, str], list[Paid]] = defaultdict(list)
    for one in paid:
        if one.end > begin and one.start < now and one.end > one.start:
            by_kind[one.provider, one.region, one.shape].append(one)
    found = []
    for (provider, region, shape), price in sorted(_reserved(offers).items()):
        ranks = _ranks(by_kind[provider, region, shape], begin, now)
        worth = [rank for rank in ranks if price < MARGIN * rank.cost / window]
        if not worth:
            continue
        mean = sum(rank.cost for rank in worth) / window / len(worth)
        while_used = sum(rank.cost for rank in worth) / sum(rank.used for rank in worth)
        found.append(
            Advice(
                provider=provider,
                region=region,
                shape=shape,
                machines=len(worth),
                reserved=price,
                paid=MicroUsdPerHour(round(mean)),
                saving=MicroUsd(round((mean - price) * len(worth) * window / HOUR)),
                used=worth[-1].used / window,
                breaks_even=min(1.0, price / while_used),
            )
        )
    return tuple(sorted(found, key=lambda one: (-one.saving, one.provider, one.region, one.shape)))


def _reserved(offers: Mapping[str, Offer]) -> dict[tuple[str, str, str], MicroUsdPerHour]:
    """The least reserved price of each shape in each region."""
    least: dict[tuple[str, str, str], MicroUsdPerHour] = {}
    for offer in offers.values():
        if offer.pool.market is Market.RESERVED and offer.quote is not None and not sunk(offer.quote.price):
            key = offer.pool.provider, offer.pool.region, offer.pool.shape
            least[key] = min(least.get(key, offer.quote.price), offer.quote.price)
    return least


class Rank(NamedTuple):
    """The k-th dearest machine over the window."""

    cost: int  # rate x ms
    used: int  # ms


def _ranks(paid: Sequence[Paid], begin: Instant, now: Instant) -> list[Rank]:
    """By how dear the machine was at each moment; [0] is the dearest."""
    steps: list[tuple[int, int, MicroUsdPerHour]] = []
    for one in paid:
        steps += [(max(begin, one.start), 1, one.rate), (min(now, one.end), -1, one.rate)]
    steps.sort()
    running: list[MicroUsdPerHour] = []
    costs: list[list[int]] = []
    last = int(begin)
    for at, change, rate in steps:
        if at > last:
            for place, price in enumerate(sorted(running, reverse=True)):
                if place == len(costs):
                    costs.append([0, 0])
                costs[place][0] += price * (at - last)
                costs[place][1] += at - last
            last = at
        if change > 0:
            running.append(rate)
        else:
            running.remove(rate)
    return [Rank(cost, used) for cost, used in costs]


class Usage(NamedTuple):
    """What ran in an hour that a spend commitment could cover."""

    name: str
    ordinary: MicroUsdPerHour  # what it costs without
    covered: MicroUsdPerHour  # what it uses up of the commitment
    machines: float  # hours of machines within the hour


@dataclass(frozen=True, slots=True)
class Bill:
    """One hour under a spend commitment. Micro-dollars."""

    committed: float  # paid in any case
    ordinary: float  # beyond it
    unused: float  # of the commitment: paid for nothing

    @property
    def total(self) -> float:
        return self.committed + self.ordinary


def waterfall(usage: Iterable[Usage], commitment: MicroUsdPerHour) -> Bill:
    """Cover the usage with the largest saving in per cent first, then by the lower covered rate, then by name."""
    left, ordinary = float(commitment), 0.0
    for one in sorted(usage, key=lambda u: (u.covered / u.ordinary if u.ordinary else 1.0, u.covered, u.name)):
        wanted = one.covered * one.machines
        share = 1.0 if wanted <= left else left / wanted if wanted else 1.0
        left -= wanted * share
        ordinary += one.ordinary * one.machines * (1.0 - share)
    return Bill(float(commitment), ordinary, left)


def marginal(usage: Sequence[Usage], commitment: MicroUsdPerHour, one_more: Usage) -> float:
    """What one more machine would cost in this hour: 0 while the commitment lasts, then the step. Micro-dollars."""
    return waterfall([*usage, one_more], commitment).total - waterfall(usage, commitment).total


@dataclass(frozen=True, slots=True, kw_only=True)
class Contract:
    """Spend, or machines, that are promised to a provider until an end."""

    provider: str
    kind: str  # as the provider names it: "reserved-instances", "EC2Instance", "Compute", "cud-3y", ...
    id: str
    region: str = ""  # "": any
    covers: str = ""  # a shape, a family of shapes, or an accelerator's name at its provider; "": all
    count: int = 0  # machines or accelerators
    per_hour: MicroUsdPerHour = MicroUsdPerHour(0)  # of spend, where that is what was promised
    until: Instant | None = None


class Running(NamedTuple):
    """A machine that is billed on demand now."""

    provider: str
    region: str
    shape: str
    chip: str  # its accelerator's name; "": none
    gpus: int
    listed: MicroUsdPerHour
    ours: MicroUsdPerHour  # what it costs us by contract, as the settings' discounts say


def used(contract: Contract, running: Iterable[Running]) -> float:
    """The share of a contract that is used now, 0..1: of its machines or accelerators, else of its spend."""
    fits = [one for one in running if _covered(contract, one)]
    if contract.count:
        units = sum(one.gpus if contract.covers.startswith(CHIP) else 1 for one in fits)
        return min(1.0, units / contract.count)
    if not contract.per_hour:
        return 0.0
    usage = [Usage(f"{one.shape} {number}", one.listed, one.ours, 1.0) for number, one in enumerate(fits)]
    return 1.0 - waterfall(usage, contract.per_hour).unused / contract.per_hour


def _covered(contract: Contract, one: Running) -> bool:
    if one.provider != contract.provider or contract.region not in ("", one.region):
        return False
    if contract.covers.startswith(CHIP):
        return one.chip == contract.covers.removeprefix(CHIP)
    return contract.covers in ("", one.shape, one.shape.partition(".")[0])
