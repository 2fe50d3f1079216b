"""The catalogue's facts: sourced, dated, and as the clouds publish them."""

from __future__ import annotations

from datetime import date

import pytest

from dsched.providers import catalog
from dsched.scheduler.core.units import price

CHIPS = """
[sources]
sheet = "a data sheet"
[accelerator.X1]
memory_gib = 80
bandwidth_gb_s = 1000
bf16_tflops = 100.0
tdp_watts = 400
source = "sheet"
as_of = 2026-01-01
"""
MACHINE = """
[sources]
list = "a price list"
[[shape]]
name = "x.large"
provider = "aws"
accelerator = "X1"
gpus = 8
vcpus = 8
memory_gib = 64
source = "list"
as_of = 2026-01-01
"""


def test_every_row_names_its_source_and_a_date_that_is_not_in_the_future() -> None:
    cat = catalog.load()
    origins = [*cat.origins.values(), *(listing.origin for listing in cat.listings.values())]
    assert len(origins) == len(cat.accelerators) + len(cat.listings)
    assert all(origin.source and date(2026, 1, 1) <= origin.as_of <= date(2026, 12, 31) for origin in origins)


def test_users_spellings_lead_to_one_model() -> None:
    cat = catalog.load()
    assert cat.accelerator("a100-80gb") is cat.accelerator("A100-80") is cat.accelerators["A100-80"]
    assert cat.accelerator("H10O") is None


def test_only_the_chips_that_have_fp8_say_so() -> None:
    have = {name for name, chip in catalog.load().accelerators.items() if chip.fp8_tflops}
    assert have == {"L4", "L40S", "H100", "H200", "B200"}


def test_a_price_that_is_not_listed_is_unknown_and_not_zero() -> None:
    cat = catalog.load()
    assert cat.on_demand("p5.48xlarge", "us-east-1") == price("55.04")
    assert cat.on_demand("p5.48xlarge", "mars-north1") is None
    assert cat.on_demand("p5e.48xlarge", "us-east-1") is None
    assert all(usd > 0 for listing in cat.listings.values() for usd in listing.on_demand.values())


def test_both_clouds_sell_gpus_and_plain_machines() -> None:
    for provider in ("aws", "gcp"):
        shapes = [listing.shape for listing in catalog.load().listings.values() if listing.provider == provider]
        assert {"H100", "H200", "L4", "A100-80"} <= {s.accelerator.name for s in shapes if s.accelerator}
        assert any(s.accelerator is None and s.gpus == 0 for s in shapes)


@pytest.mark.parametrize(
    ("wrong", "complaint"),
    [
        (MACHINE.replace('"X1"', '"X2"'), "x.large names the accelerator X2"),
        (MACHINE.replace("gpus = 8", "gpus = 0"), "x.large has 0 GPUs of X1"),
        (MACHINE.replace('source = "list"', 'source = "hearsay"'), "x.large lacks its source"),
        (MACHINE + MACHINE.split('price list"')[1], "x.large is listed twice"),
    ],
)
def test_a_row_that_cannot_be_true_is_named(wrong: str, complaint: str) -> None:
    with pytest.raises(catalog.CatalogError, match=complaint):
        catalog.read(CHIPS, wrong)
