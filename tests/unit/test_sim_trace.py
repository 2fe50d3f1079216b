"""Reading market traces: what they may leave open, and what is refused with the file's name and the remedy."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dsched.scheduler.core.deadline.view import DOWN, UNKNOWN, UP
from dsched.scheduler.sim.sets import can_end, draw, sets
from dsched.scheduler.sim.trace import BadTrace, read, read_folder
from dsched.scheduler.sim.world import in_a_row, normalised, world

TRACE: dict[str, Any] = {
    "schema": "dsched.trace/1",
    "name": "aws31/us-east-1a",
    "gap_seconds": 300,
    "counts_rle": [[1, 4], [0, 2], [1, 6]],
    "start": "2031-01-01T00:00:00Z",
    "spot_price": 1.0,
    "od_price": 3.0,
}


def wrote(folder: Path, **changes: Any) -> Path:
    raw = {key: value for key, value in (TRACE | changes).items() if value is not ...}
    file = folder / (str(raw.get("name", "x")).replace("/", "_") + ".json")
    file.write_text(json.dumps(raw))
    return file


@pytest.mark.parametrize(
    ("name", "family", "region", "provider"),
    [
        ("aws22/us-west-2a_k80_8", "aws22/k80_8", "us-west-2", "aws"),
        ("aws23/us-east-1a", "aws23", "us-east-1", "aws"),
        ("h100/us-central1-a", "h100", "us-central1", "gcp"),
        ("gov/us-gov-west-1b", "gov", "us-gov-west-1", "aws"),
        ("x/basement", "x", "basement", "unknown"),
        ("basement", "traces", "basement", "unknown"),
    ],
)
def test_a_zones_name_tells_family_and_region(
    tmp_path: Path, name: str, family: str, region: str, provider: str
) -> None:
    zone = read(wrote(tmp_path, name=name))
    assert (zone.family, zone.region, zone.provider) == (family, region, provider)


def test_a_journal_says_outright_where_it_is_from(tmp_path: Path) -> None:
    zone = read(
        wrote(tmp_path, name="journal/local_use1-az1_p5", cloud="aws", region="us-east-1", zone="use1-az1", shape="p5")
    )
    assert (zone.family, zone.place, zone.region, zone.provider) == ("journal/p5", "use1-az1", "us-east-1", "aws")


def test_a_count_of_null_or_unknown_is_not_known(tmp_path: Path) -> None:
    zone = read(wrote(tmp_path, counts_rle=[[1, 1], [None, 1], ["unknown", 1], [0, 1]]))
    assert world([zone]).state[:, 0].tolist() == [UP, UNKNOWN, UNKNOWN, DOWN]
    assert world([zone]).up[:, 0].tolist() == [True, False, False, False]


def test_a_price_nobody_saw_is_the_last_one_seen(tmp_path: Path) -> None:
    zone = read(wrote(tmp_path, spot_price=..., spot_price_series=[None, 1.0, None, 2.0], spot_price_stride=3))
    assert zone.prices.tolist() == [1.0] * 9 + [2.0] * 3


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"counts_rle": [[1, 0]]}, "clock jumped"),
        ({"counts_rle": [[1, -3]]}, "clock jumped"),
        ({"counts_rle": [[math.nan, 3]]}, "null where nobody looked"),
        ({"counts_rle": []}, "0 ticks"),
        ({"counts_rle": 5}, "schema"),
        ({"gap_seconds": 0}, "gap_seconds"),
        ({"gap_seconds": math.nan}, "gap_seconds"),
        ({"od_price": 0.0}, "od_price"),
        ({"spot_price": math.nan}, "spot_price"),
        ({"gap_seconds": 0.2}, "1 to 86400 seconds"),
        ({"spot_price": ..., "spot_price_rle": [[1.0, 5], [2.0, 6]]}, "spot_price_rle covers 11 of 12 ticks"),
        ({"spot_price": ..., "spot_price_rle": [[1.0, 5], [2.0, 0.5]]}, r"spot_price_rle\[1\]"),
        ({"spot_price": ..., "spot_price_series": [1.0, 1.0], "spot_price_stride": 3}, "covers 6 of 12 ticks"),
        ({"spot_price": ..., "spot_price_series": [1.0, math.nan], "spot_price_stride": 6}, r"spot_price_series\[1\]"),
        ({"start": "soon"}, "ISO"),
        ({"schema": "other/1"}, "dsched.trace/1"),
        ({"name": ...}, "name is missing"),
        ({"counts_rle": [[10**30, 12]]}, "write a count"),
    ],
)
def test_what_cannot_be_true_is_refused_by_name(tmp_path: Path, changes: dict[str, Any], says: str) -> None:
    file = wrote(tmp_path, **changes)
    with pytest.raises(BadTrace, match=says) as refusal:
        read(file)
    assert str(file) in str(refusal.value)


def test_a_refusal_names_the_line(tmp_path: Path) -> None:
    file = wrote(tmp_path)
    lines = ["{", *(f'  "{key}": {json.dumps(value)},' for key, value in TRACE.items() if key != "counts_rle")]
    runs = '  "counts_rle": [\n    [1, 4],\n    [0, 2], [-7,\n 6]\n  ]\n}'
    file.write_text("\n".join([*lines, runs]))
    with pytest.raises(BadTrace, match=rf"{file}:{len(lines) + 3}: counts_rle\[2\]: -7 machines"):
        read(file)
    file.write_text('{\n "schema": "dsched.trace/1",\n "name": "x",\n "gap_seconds": 0')
    with pytest.raises(BadTrace, match="line 4"):
        read(file)


def test_runs_of_prices_are_read_like_runs_of_counts(tmp_path: Path) -> None:
    zone = read(wrote(tmp_path, spot_price=..., spot_price_rle=[[None, 2], [1.5, 3], [None, 1], [2.5, 99]]))
    assert zone.prices.tolist() == [1.5] * 6 + [2.5] * 6


@pytest.mark.parametrize(
    "changes",
    [
        {"od_price": None},
        {"spot_price": ...},
        {"spot_price": ..., "spot_price_series": [None, None], "spot_price_stride": 720},
    ],
)
def test_a_zone_without_prices_plays_alone_and_is_left_out_of_company(tmp_path: Path, changes: dict[str, Any]) -> None:
    runs = [[1, 12], [0, 6]] * 80
    for place, more in (("a", {}), ("b", {}), ("c", changes)):
        wrote(tmp_path, name=f"aws31/us-east-1{place}", counts_rle=runs, **({"gap_seconds": 600} | more))
    found, left_out = sets(read_folder(tmp_path))
    assert [len(one.worlds) for one in found if one.single] == [3]
    assert [one.name for one in found if not one.single] == ["2 zones: aws31"]
    assert left_out == ["aws31/us-east-1c has no price: it plays alone only"]


def test_broken_json_and_folders_without_traces_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BadTrace, match="holds 0"):
        read_folder(tmp_path)
    with pytest.raises(BadTrace, match="no folder"):
        read_folder(tmp_path / "nowhere")
    (tmp_path / "a.json").write_text('{"schema": ')
    with pytest.raises(BadTrace, match="JSON"):
        read_folder(tmp_path)


def test_zones_are_aligned_by_their_starts(tmp_path: Path) -> None:
    one = read(wrote(tmp_path))
    later = read(wrote(tmp_path, name="aws31/us-east-1b", start="2031-01-01T00:10:00Z"))
    both = world([one, later])
    assert both.first == (2, 0)
    assert both.up[:, 0].tolist() == both.up[:, 0].tolist()
    assert both.ticks == 10
    assert both.up[:, 1].tolist() == later.counts[:10].astype(bool).tolist()


def test_zones_of_different_times_are_no_world(tmp_path: Path) -> None:
    one = read(wrote(tmp_path))
    later = read(wrote(tmp_path, name="aws31/us-east-1b", start="2032-01-01"))
    with pytest.raises(BadTrace, match="in common"):
        world([one, later])


def test_zones_of_different_times_stand_in_sets_of_their_own(tmp_path: Path) -> None:
    for index, start in enumerate(("2031-01-01", "2031-01-02", "2032-01-01", "2032-01-01", "2033-01-01")):
        runs = [[1, 12], [0, 6]] * 80
        wrote(tmp_path, name=f"aws31/us-east-1{'abcde'[index]}", gap_seconds=600, counts_rle=runs, start=start)
    found, left_out = sets(read_folder(tmp_path))
    assert [one.worlds[0].zones[0][-1] for one in found if not one.single] == ["a", "c"]
    assert len({one.name for one in found}) == len(found) == 3
    assert left_out == ["aws31/us-east-1e shares too little time with the other zones of aws31"]


def test_a_trace_too_short_for_its_familys_jobs_does_not_shorten_them(tmp_path: Path) -> None:
    for place, times in (("a", 80), ("b", 80), ("c", 2)):
        wrote(tmp_path, name=f"aws31/us-east-1{place}", gap_seconds=600, counts_rle=[[1, 12], [0, 6]] * times)
    found, left_out = sets(read_folder(tmp_path))
    single = next(one for one in found if one.single)
    assert single.work == 24 * 3600
    assert len(single.worlds) == 2
    assert "aws31/us-east-1c alone: 36 ticks, where others of its family have 1440" in left_out


def test_jobs_that_nobody_could_end_in_time_are_not_played(tmp_path: Path) -> None:
    wrote(tmp_path, gap_seconds=600, counts_rle=[[1, 12], [0, 6]] * 2)
    one = next(one for one in sets(read_folder(tmp_path))[0] if one.single)
    assert one.work == 3600.0
    assert not can_end(one, 1.1, 720.0)
    assert can_end(one, 1.25, 600.0)
    assert not can_end(one, 1.25, 720.0)


def test_ages_and_lives_count_from_the_change(tmp_path: Path) -> None:
    whole = world([read(wrote(tmp_path))])
    assert (whole.age[:, 0] / 300).tolist() == [0, 1, 2, 3, 0, 1, 0, 1, 2, 3, 4, 5]
    assert (whole.life[:, 0] / 300).tolist() == [4, 3, 2, 1, 0, 0, 6, 5, 4, 3, 2, 1]


def test_worlds_in_a_row_forget_one_another(tmp_path: Path) -> None:
    one = world([read(wrote(tmp_path))])
    row, offsets = in_a_row([normalised(one, 2.0), normalised(one, 5.0)])
    assert offsets.tolist() == [0, 12]
    assert row.on_demand[[0, 12], 0].tolist() == [2.0, 5.0]
    assert np.array_equal(row.age[12:], one.age)
    assert np.array_equal(row.life[:12], one.life)


def folder(path: Path) -> Path:
    """Ten days of a family of four zones in two continents, each up two hours of three; one never, one always up."""
    for index, place in enumerate(("us-east1-a", "us-east1-b", "us-west1-a", "europe-west4-a")):
        runs = [[16 - index, 12], [3, 6]] * 80
        wrote(path, name=f"h/{place}", gap_seconds=600, counts_rle=runs, max_count=16)
    wrote(path, name="h/asia-south1-a", gap_seconds=600, counts_rle=[[0, 1440]])
    wrote(path, name="h/asia-south1-b", gap_seconds=600, counts_rle=[[16, 1440]])
    return path


def test_sets_follow_from_any_folder(tmp_path: Path) -> None:
    found, left_out = sets(read_folder(folder(tmp_path)))
    names = [one.name for one in found]
    assert "1 zone: h x8" in names
    assert "6 zones: h x16" in names
    assert "3 zones: h x16 in america" in names
    assert sum("nothing to decide" in line for line in left_out) == 2 + 5  # at 8 the dead and the eternal; at 16 more
    assert all(len(one.worlds) == 1 for one in found if not one.single)


def test_starts_have_history_behind_them_and_the_deadline_in_the_trace(tmp_path: Path) -> None:
    one = next(one for one in sets(read_folder(folder(tmp_path)))[0] if one.single)
    drawn = draw(one, 1.5, 40, seed=7)
    assert drawn is not None
    assert drawn.start.min() >= 72 * 6
    assert (drawn.start + drawn.ticks).max() <= 1440
    assert np.bincount(drawn.world).tolist() == [10, 10, 10, 10]
    again, other = draw(one, 1.5, 40, seed=7), draw(one, 1.5, 40, seed=8)
    assert again is not None and other is not None  # noqa: PT018
    assert np.array_equal(drawn.start, again.start)
    assert not np.array_equal(drawn.start, other.start)
