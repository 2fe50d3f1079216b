"""Folders of made-up traces that a bench over markets must survive: each kind is bad in its own way.

    python -m tests.support.folders DIR [SEED]     writes every kind into a folder of its own under DIR

Runs last as the age law says, so that ratios mean something where a kind does not say otherwise.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

import numpy as np

DAY: Final = 86_400
Runs = list[list[int | None]]


class Folder:
    """Writes zones of about so many days into a folder."""

    def __init__(self, path: Path, luck: np.random.Generator, days: int) -> None:
        self.path, self.luck, self.days = path, luck, days
        path.mkdir(parents=True, exist_ok=True)

    def zone(self, name: str, runs: Runs, gap: float = 600, **more: Any) -> None:
        raw = {
            "schema": "dsched.trace/1",
            "name": name,
            "gap_seconds": gap,
            "counts_rle": runs,
            "start": "2031-01-01T00:00:00Z",
            "spot_price": 1.0,
            "od_price": 3.0,
        } | more
        kept = {key: value for key, value in raw.items() if value is not ...}
        (self.path / f"{len(list(self.path.iterdir())):03}.json").write_text(json.dumps(kept))

    def lively(self, days: float, gap: float = 600, *, wild: float = 1.0, most: int = 1) -> Runs:
        """Up and down in turns, each for about as long as capacity of the public traces lasts."""
        left, up, runs = int(days * DAY / gap), bool(self.luck.random() < 0.5), []
        while left > 0:
            span = min(left, max(1, int(600 * self.luck.pareto(0.75) / wild / gap)))
            runs.append([int(self.luck.integers(1, most + 1)) if up else 0, span])
            left, up = left - span, not up
        return runs


def one_zone(f: Folder) -> None:
    f.zone("a/us-east-1a", f.lively(f.days))


def never_up(f: Folder) -> None:
    for place in "abc":
        f.zone(f"a/us-east-1{place}", [[0, f.days * 144]])


def always_up(f: Folder) -> None:
    for place in "ab":
        f.zone(f"a/us-east-1{place}", [[1, f.days * 144]])


def tiny(f: Folder) -> None:
    f.zone("three/us-east-1a", [[1, 2], [0, 1]])
    f.zone("three/us-east-1b", [[0, 1], [1, 2]])
    f.zone("single/us-east-1a", [[1, 1]])
    f.zone("hours/us-east-1a", f.lively(0.2, 60, wild=5), 60)
    f.zone("hours/us-east-1b", f.lively(0.2, 60, wild=5), 60)
    f.zone("day/us-east-1a", f.lively(1, 300), 300)


def odd_gaps(f: Folder) -> None:
    for gap, part in ((32, 0.25), (45.5, 0.25), (61, 0.25), (701, 1), (3600, 1), (7200, 2)):
        for place in "ab":
            f.zone(f"g{gap}/us-east-1{place}", f.lively(f.days * part, gap), gap)


def blind(f: Folder) -> None:
    for place in "abc":
        runs: Runs = []
        for count, span in f.lively(f.days):
            assert span is not None
            for _ in range(span):
                runs.append([count if f.luck.random() < 0.15 else None, 1])
        f.zone(f"a/us-east-1{place}", runs)
    f.zone("a/us-east-1d", [[None, f.days * 144]])


def silence(f: Folder) -> None:
    for place in "ab":
        f.zone(f"a/us-east-1{place}", [*f.lively(f.days * 3 / 8), [None, f.days * 72], *f.lively(f.days * 3 / 8)])


def flicker(f: Folder) -> None:
    f.zone("a/us-east-1a", [[1, 1], [0, 1]] * (f.days * 72))
    f.zone("a/us-east-1b", [[0, 1], [1, 1]] * (f.days * 72))
    f.zone("a/us-west-2a", [[1, 2], [0, 7]] * (f.days * 16))


def dear_spot(f: Folder) -> None:
    for place, price in (("1a", 3.0), ("1b", 3.3), ("1c", 3000.0), ("2a", 2.9)):
        f.zone(f"a/us-east-{place}", f.lively(f.days), spot_price=price)


def cheap_spot(f: Folder) -> None:
    for place, price in (("1a", 0.03), ("1b", 0.3), ("2a", 0.0001)):
        f.zone(f"a/us-east-{place}", f.lively(f.days), spot_price=price)


def two_tiers(f: Folder) -> None:
    for place, price in (("1a", 1.38), ("1b", 1.38), ("2a", 1.0), ("2b", 1.0)):
        f.zone(f"a/us-east-{place}", f.lively(f.days), spot_price=price)


def no_prices(f: Folder) -> None:
    f.zone("a/us-east-1a", f.lively(f.days), spot_price=...)
    f.zone("a/us-east-1b", f.lively(f.days), od_price=None)
    f.zone("a/us-east-1c", f.lively(f.days), spot_price=..., spot_price_series=[None, None], spot_price_stride=576)
    f.zone("a/us-east-1d", f.lively(f.days))
    f.zone("a/us-east-1e", f.lively(f.days), spot_price=..., spot_price_rle=[[None, 10], [1.1, 800], [1.3, 10_000]])


def jumpy_prices(f: Folder) -> None:
    for place in "abc":
        series = [float(x) if f.luck.random() < 0.8 else None for x in f.luck.choice([0.3, 1.0, 1.1, 9.0], f.days * 24)]
        f.zone(f"a/us-east-1{place}", f.lively(f.days), spot_price=..., spot_price_series=series, spot_price_stride=6)


def apart(f: Folder) -> None:
    f.zone("a/us-east-1a", f.lively(f.days), start="2031-01-01T00:03:00Z")
    f.zone("a/us-east-1b", f.lively(f.days), start="2031-01-02T11:59:59+02:00")
    f.zone("a/us-east-1c", f.lively(f.days), start="2032-01-01")
    f.zone("a/us-east-1d", f.lively(f.days), start="2032-01-01")
    f.zone("a/us-east-1e", f.lively(f.days), start=1_900_000_000_000)
    f.zone("b/us-east-1a", f.lively(f.days), start=None)
    f.zone("b/us-east-1b", f.lively(f.days))


def lengths(f: Folder) -> None:
    for place, part in (("1a", 2.5), ("1b", 2.4), ("1c", 0.01), ("2a", 1.5), ("2b", 0.5)):
        f.zone(f"a/us-east-{place}", f.lively(f.days * part))


def names(f: Folder) -> None:
    for name in (
        "basement",
        "my lab/rack 7",
        "my lab/rack 8_v100",
        "\u00e9t\u00e9/nord-a",
        "a/b/c/us-east-1a",
        "/",
        "x/",
    ):
        f.zone(name, f.lively(f.days))
    f.zone("a/us-east-1a", f.lively(f.days))
    f.zone("a/us-east-1b", f.lively(f.days, 300), 300)
    f.zone("a/us-east-1c", f.lively(f.days))
    f.zone("a/us-east-1d", f.lively(f.days, 300), 300)


def many_machines(f: Folder) -> None:
    for place in "abc":
        f.zone(f"a/us-east-1{place}", f.lively(f.days, most=1000), max_count=1000)


def dies(f: Folder) -> None:
    f.zone("a/us-east-1a", [[1, f.days * 72], [0, f.days * 72]])
    f.zone("a/us-east-1b", [[0, f.days * 108], [1, f.days * 36]])
    f.zone("a/us-west-2a", [*f.lively(f.days / 2), [0, f.days * 72]])


KINDS: Final[Mapping[str, Callable[[Folder], None]]] = MappingProxyType(
    {
        made.__name__: made
        for made in (
            one_zone, never_up, always_up, tiny, odd_gaps, blind, silence, flicker, dear_spot, cheap_spot, two_tiers,
            no_prices, jumpy_prices, apart, lengths, names, many_machines, dies,
        )
    }
)  # fmt: skip


def made(path: Path, kind: str, *, seed: int = 1, days: int = 8) -> Path:
    """The folder `path`, filled with one kind."""
    KINDS[kind](Folder(path, np.random.default_rng([seed, len(kind)]), days))
    return path


if __name__ == "__main__":
    for one in KINDS:
        made(Path(sys.argv[1]) / one, one, seed=int(sys.argv[2]) if len(sys.argv) > 2 else 1)
