"""A machine's price from the parts in Google's list, known answers first."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from dsched.providers import catalog
from dsched.providers.gcp.offers import chosen, duration, fitting, insight, offers, pattern, shape_of
from dsched.providers.gcp.prices import Book, Usage, book
from dsched.providers.gcp.rows import Held, MachineType
from dsched.scheduler.core.hold import SUNK
from dsched.scheduler.core.market import Market
from dsched.scheduler.core.units import HOUR, Instant, Millis
from tests.support.gce.catalog import machine_types, skus

REGION, ZONE = "us-central1", "us-central1-a"
NOW = Instant(1_790_000_000_000)


def kind(name: str) -> MachineType:
    row = machine_types([ZONE])[ZONE][name]
    chips = row["accelerators"] or [{"guestAcceleratorType": "", "guestAcceleratorCount": 0}]
    return MachineType(
        name=name,
        zone=ZONE,
        vcpus=row["guestCpus"],
        memory_mib=row["memoryMb"],
        chip=chips[0]["guestAcceleratorType"],
        chips=chips[0]["guestAcceleratorCount"],
        disks=row.get("bundledLocalSsds", {}).get("partitionCount", 0),
    )


def usual(factor: float = 1.0) -> Book:
    return book(skus([REGION], factor=factor), [REGION], NOW)


def usd(name: str, usage: Usage = Usage.ON_DEMAND, prices: Book | None = None) -> float | None:
    found = (prices or usual()).price(kind(name), REGION, usage)
    return None if found is None else found / 1e6


def test_host_memory_and_accelerator_come_to_the_public_price_of_the_machine() -> None:
    assert usd("a2-highgpu-1g") == pytest.approx(3.673385, abs=2e-6)
    assert usd("e2-standard-2") == pytest.approx(0.067, abs=1e-4)
    assert usd("g2-standard-4") == pytest.approx(0.7068, abs=1e-4)


def test_bundled_disks_are_part_of_the_price_by_the_hour() -> None:
    per_hour = 16 * 375 * 0.08 / 730
    host = 208 * 0.029917 + 1872 * 0.002606
    assert usd("a3-highgpu-8g") == pytest.approx(host + 8 * 9.796551 + per_hour, abs=1e-5)


def test_a_slice_holds_the_hosts_share_and_its_spot_row_is_told_by_its_words() -> None:
    assert usd("a4-highgpu-8g") == pytest.approx(8 * 16.11)
    assert usd("a4-highgpu-8g", Usage.SPOT) == pytest.approx(8 * 4.9542)


def test_commitments_are_prices_of_their_own() -> None:
    one, three = usd("a2-highgpu-1g", Usage.CUD_1Y), usd("a2-highgpu-1g", Usage.CUD_3Y)
    assert one is not None
    assert three is not None
    assert three < one < 3.673385


def test_a_machine_with_a_part_that_has_no_price_has_none() -> None:
    rows = [row for row in skus([REGION]) if not row["description"].startswith("A2 Instance Ram")]
    assert usd("a2-highgpu-1g", prices=book(rows, [REGION], NOW)) is None
    assert usual().price(kind("a2-highgpu-1g"), "europe-west4", Usage.ON_DEMAND) is None
    assert usd("n1-standard-4") is None


def test_rows_for_other_ways_to_buy_price_nothing() -> None:
    """Sole tenancy, calendar mode, custom shapes and reservations are listed beside, here at next to nothing."""
    lowest = usd("a2-highgpu-1g")
    assert lowest is not None
    assert lowest > 3.6


@pytest.mark.parametrize("change", [{"currencyCode": "EUR"}, {"units": "0", "nanos": 0}])
def test_another_currency_and_a_price_of_nothing_are_no_price(change: dict[str, object]) -> None:
    rows = skus([REGION])
    for row in rows:
        row["pricingInfo"][0]["pricingExpression"]["tieredRates"][0]["unitPrice"] |= change
    assert usd("a2-highgpu-1g", prices=book(rows, [REGION], NOW)) is None


def test_a_row_without_a_price_or_with_another_unit_is_passed_over() -> None:
    rows = skus([REGION])
    rows[0]["pricingInfo"] = []
    rows[1]["pricingInfo"][0]["pricingExpression"]["usageUnit"] = "count"
    assert usd("a2-highgpu-1g", prices=book(rows, [REGION], NOW)) is None


def test_what_is_offered_has_an_accelerator_that_we_know_or_is_named_whole() -> None:
    kinds = [kind(name) for name in ("a2-highgpu-1g", "n1-standard-4", "e2-standard-2", "ct6e-standard-4t")]

    def names(*globs: str, tpus: bool = False) -> list[str]:
        return [one.name for one in chosen(kinds, globs, tpus=tpus)]

    assert names("*") == ["a2-highgpu-1g"]
    assert names("*", "e2-standard-2") == ["a2-highgpu-1g", "e2-standard-2"]
    assert names("g2-*") == []
    assert names("*", tpus=True) == ["a2-highgpu-1g", "ct6e-standard-4t"]


def test_the_service_is_asked_for_no_more_machine_types_than_may_be_wanted() -> None:
    def asked(*globs: str, tpus: bool = False) -> list[str]:
        return [name for name in machine_types([ZONE])[ZONE] if re.fullmatch(pattern(globs, tpus=tpus), name)]

    assert asked("*") == ["a2-highgpu-1g", "a2-ultragpu-1g", "a3-highgpu-8g", "a4-highgpu-8g", "g2-standard-4"]
    assert "e2-standard-2" in asked("*", "e2-standard-2")
    assert "ct6e-standard-4t" in asked("*", tpus=True)


def test_a_tpu_machine_is_priced_by_its_chips_and_carries_their_facts() -> None:
    [tpu] = chosen([kind("ct6e-standard-4t")], ["ct6e-*"], tpus=True)
    spot, on_demand = offers([tpu], usual(), [], {}, Millis(30_000), NOW)
    assert (spot.pool.market, on_demand.pool.market) == (Market.SPOT, Market.ON_DEMAND)
    assert on_demand.quote is not None
    assert on_demand.quote.price == 10_800_000
    chip = on_demand.shape.accelerator
    assert chip is not None
    assert (chip.name, chip.memory_gib, chip.bf16_tflops, chip.fp8_tflops) == ("TPU-v6e", 32, 918.0, None)
    assert catalog.tpus().peaks["TPU-v6e"].int8_tops == 1836.0
    assert on_demand.shape.gpus == 4


def test_every_tpu_has_its_facts_with_source_and_date() -> None:
    known = catalog.tpus()
    assert {"TPU-v5e", "TPU-v5p", "TPU-v6e"} == known.accelerators.keys()
    assert all(known.origins[name].source for name in known.accelerators)
    assert all(peaks.int8_tops for peaks in known.peaks.values())
    assert not set(known.listings) & set(catalog.load().listings)


def test_spot_and_on_demand_are_pools_of_their_own_with_the_same_counterfactual() -> None:
    spot, on_demand = offers([kind("a2-highgpu-1g")], usual(), [], {}, Millis(30_000), NOW)
    assert spot.on_demand == on_demand.on_demand == on_demand.quote.price  # type: ignore[union-attr]
    assert (spot.notice, on_demand.notice) == (30_000, 0)
    assert spot.quote is not None
    assert (spot.quote.at, spot.quote.source) == (NOW, "Cloud Billing Catalog")


def test_reservations_of_one_zone_and_shape_are_one_offer_that_costs_nothing_more() -> None:
    rows = [held("one", count=4, used=1), held("two", count=2, used=2), held("foreign", shape="m1-ultramem-40")]
    told = offers([kind("a2-highgpu-1g")], usual(), rows, {}, Millis(0), NOW)
    [offer] = [one for one in told if one.free is not None]
    assert (offer.pool.market, offer.free) == (Market.RESERVED, 3)
    assert offer.quote is not None
    assert offer.quote.price == SUNK
    assert offer.until is None


def test_a_reservation_that_ends_is_an_offer_until_then() -> None:
    rows = [held("open"), replace(held("late"), until=Instant(NOW + 9 * HOUR)), replace(held("soon"), until=NOW)]
    told = offers([kind("a2-highgpu-1g")], usual(), rows, {}, Millis(0), NOW)
    assert [one.until for one in told if one.pool.market is Market.RESERVED] == [NOW]


def test_a_gang_takes_the_reservation_that_it_fills_most() -> None:
    rows = [held("large", count=9), held("small", count=3), held("full", count=3, used=3)]
    found = [fitting(rows, ZONE, "a2-highgpu-1g", count) for count in (2, 5, 10)]
    assert [one and one.name for one in found] == ["small", "large", None]


def held(name: str, *, count: int = 1, used: int = 0, shape: str = "a2-highgpu-1g") -> Held:
    return Held(name=name, zone=ZONE, shape=shape, count=count, used=used, specific=True, until=None)


def test_a_day_with_half_the_machines_taken_back_is_a_hazard_by_the_hour() -> None:
    day = [(Instant(0), Instant(24 * HOUR), 0.5)]
    seen = insight(0.8, "7200s", day)
    assert seen.hazard == pytest.approx(0.6931 / 24, rel=1e-3)
    assert seen.advice is not None
    assert (seen.advice.obtainability, seen.advice.uptime) == (0.8, 7_200_000)


def test_a_history_that_makes_no_sense_is_no_hazard() -> None:
    broken = [(Instant(5), Instant(5), 0.1), (Instant(0), Instant(HOUR), 1.7), (Instant(0), Instant(HOUR), -0.1)]
    assert insight(None, "", broken).hazard is None
    assert insight(None, "", broken).advice is None
    everything = insight(None, "", [(Instant(0), Instant(HOUR), 1.0)]).hazard
    assert everything is not None
    assert everything < 7.0


@pytest.mark.parametrize(
    ("text", "lasting"),
    [("3600s", 3_600_000), ("1.5s", 1_500), ("PT1H30M", 5_400_000), ("P1D", 86_400_000), ("", None), ("soon", None)],
)
def test_a_duration_is_read_in_both_ways_that_the_api_writes_it(text: str, lasting: int | None) -> None:
    assert duration(text) == lasting


def test_a_shape_that_the_catalog_knows_is_the_catalogs() -> None:
    assert shape_of(kind("a3-highgpu-8g")) == catalog.load().shape("a3-highgpu-8g")
    half = {"vcpus": 104, "memory_mib": 958_464, "chip": "nvidia-h100-80gb", "chips": 4, "disks": 8}
    unknown = MachineType(name="a3-highgpu-4g", zone=ZONE, **half)  # type: ignore[arg-type]
    made = shape_of(unknown)
    assert (made.gpus, made.memory_gib, made.accelerator and made.accelerator.name) == (4, 936, "H100")
