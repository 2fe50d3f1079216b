"""What is known of the market, as the API tells it: predictions judged, capacity held, contracts in force."""

from __future__ import annotations

from typing import TypedDict


class CalibrationRow(TypedDict):
    """Predictions of about one size: honest ones come true as often as they say."""

    low: float  # chance, 0..1
    high: float
    count: int
    predicted: float  # mean chance
    happened: float  # share


class Cooling(TypedDict):
    pool: str
    left_s: float  # market
    why: str
    refusals: int  # in a row
    interruptions: int


class Calibration(TypedDict):
    count: int  # predictions judged
    brier: float | None  # 0 is perfect
    base: float | None  # of whoever always says the average
    skill: float | None  # 1 - brier / base
    rows: list[CalibrationRow]
    cooling: list[Cooling]


class Commitment(TypedDict):
    """So many reserved machines would have cost less than what was paid. Dollars as decimal strings."""

    provider: str
    region: str
    shape: str
    machines: int
    reserved: str  # per hour, each
    paid: str  # per hour: the average of what one of them would have displaced
    saving: str  # over the window
    used: float  # share of the window in which the last of them would have been used, 0..1
    breaks_even: float  # share of the window that a machine must be used to pay


class Holding(TypedDict):
    """Capacity that is held for us, over the window. Dollars as decimal strings."""

    name: str
    pool: str  # glob over provider/zone/shape
    paid: str  # in any case
    used: float  # share of the slots' time, 0..1
    beside: str  # what ran there would have cost on demand


class Contract(TypedDict):
    """What has been promised to a provider, as it tells it. Dollars as decimal strings."""

    provider: str
    kind: str
    id: str
    region: str  # "": any
    covers: str  # a shape, a family, "gpu:H100", or "" for all
    count: int  # machines or accelerators; 0: it is spend
    per_hour: str
    until: int | None  # market ms
    used: float  # share that is used now, 0..1


class Commitments(TypedDict):
    window_s: float  # market
    rows: list[Commitment]  # the best first
    held: list[Holding]
    contracts: list[Contract]
