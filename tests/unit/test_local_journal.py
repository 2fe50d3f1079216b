"""The embedded cloud's memory: what a restart knows, and what a crash may cost."""

from __future__ import annotations

import resource
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from dsched.providers.base import EndReason, Launch
from dsched.providers.local import cloud
from dsched.providers.local.clock import MarketClock
from dsched.providers.local.fleet import (
    REMEMBERED,
    Machine,
    fold,
    machines_record,
    node_id,
    sale_record,
)
from dsched.providers.local.journal import BadJournal, Journal, Record, read
from dsched.providers.local.market import LocalMarket
from dsched.providers.local.options import Options
from dsched.providers.local.proc import Process
from dsched.providers.local.tree import Isolation, Roots
from dsched.scheduler.core.market import Market, Pool
from dsched.scheduler.core.units import Instant

POOL = Pool("local", "us-east-1", "use1-az1", "g6.xlarge", Market.SPOT)


def wish(token: str, count: int = 1) -> Launch:
    return Launch(token=token, pool=POOL, count=count, user_data="\u00fc\n", lease_until=Instant(100), tags={"a": "b"})


def machines(want: Launch) -> list[Machine]:
    return [
        Machine(
            id=node_id(want, index),
            name=f"{want.token}.{index}",
            index=index,
            sale=want.token,
            pool=want.pool,
            port=20_000 + index,
            roots=Roots(Process(10 + index, 5), Process(20 + index, 5)),
            isolation=Isolation.NAMESPACE,
            boot="b",
            launched=Instant(7),
            lease_until=want.lease_until,
        )
        for index in range(want.count)
    ]


def gone(want: Launch, index: int, wall: int) -> Record:
    return {"kind": "gone", "id": node_id(want, index), "by": "interrupted", "market": 9, "wall": wall}


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    with closing(Journal(tmp_path / "journal")) as journal:
        yield journal


def test_a_fleet_is_what_its_records_say(journal: Journal, tmp_path: Path) -> None:
    want = wish("a", 2)
    first, second = (node_id(want, index) for index in range(2))
    journal.write(sale_record(want), machines_record(machines(want)))
    journal.write({"kind": "lease", "ids": [first], "until": 200}, {"kind": "notice", "id": second, "deadline": 150})
    journal.write({"kind": "ending", "id": second, "by": "asked"}, gone(want, 1, 9))
    fleet = fold(read(tmp_path / "journal"))
    assert fleet.sales == {"a": want}
    assert fleet.machines[first] == replace(machines(want)[0], lease_until=Instant(200))
    assert fleet.machines[second].ended_by is EndReason.INTERRUPTED
    assert fleet.machines[second].ending is EndReason.ASKED
    assert [machine.id for machine in fleet.alive()] == [first]
    assert fleet.used()[POOL] == 1
    assert fold(list(fleet.records(Instant(10)))) == fleet  # the short form is the same fleet


def test_a_launch_without_machines_is_forgotten_at_a_restart_and_a_dead_one_after_a_day() -> None:
    dead, living, cut_off = wish("dead"), wish("living"), wish("cut-off")
    fleet = fold(
        [
            *(sale_record(want) for want in (dead, living, cut_off)),
            machines_record([*machines(dead), *machines(living)]),
            gone(dead, 0, 1_000),
        ]
    )
    assert set(fold(list(fleet.records(Instant(2_000)))).sales) == {"dead", "living"}
    assert set(fold(list(fleet.records(Instant(1_000 + REMEMBERED)))).sales) == {"living"}


def test_a_torn_last_line_was_never_promised(journal: Journal, tmp_path: Path) -> None:
    journal.write({"kind": "x", "n": 1}, {"kind": "x", "n": 2})
    whole = (tmp_path / "journal").read_bytes()
    for cut in range(len(whole)):
        (tmp_path / "journal").write_bytes(whole[:cut])
        assert [record["n"] for record in read(tmp_path / "journal")] == list(range(1, whole[:cut].count(b"\n") + 1))


def test_a_full_disk_refuses_a_record_whole_and_takes_the_next_one(journal: Journal, tmp_path: Path) -> None:
    first, next_one = {"kind": "a"}, {"kind": "b"}
    journal.write(first)
    size = (tmp_path / "journal").stat().st_size
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size + 10, before[1]))  # room for a part: a short write
    try:
        with pytest.raises(OSError, match="large"):
            journal.write({"kind": "a record that does not fit"})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert (tmp_path / "journal").stat().st_size == size
    journal.write(next_one)
    assert read(tmp_path / "journal") == [first, next_one]


def test_damage_in_the_middle_is_refused_with_the_line_and_the_remedy(tmp_path: Path) -> None:
    (tmp_path / "journal").write_bytes(b'{"kind": "x"}\n{"kind": \n{"kind": "x"}\n')
    with pytest.raises(BadJournal, match=r"line 2: .* move the folder .* away"):
        read(tmp_path / "journal")


def test_a_rewritten_journal_is_appended_to(journal: Journal, tmp_path: Path) -> None:
    journal.write({"kind": "old"})
    journal.rewrite([{"kind": "new"}])
    journal.write({"kind": "newer"})
    assert [record["kind"] for record in read(tmp_path / "journal")] == ["new", "newer"]


def test_ids_look_like_those_of_the_cloud_and_never_collide() -> None:
    gcp = replace(wish("a", 2), pool=replace(POOL, region="us-central1", zone="us-central1-a"))
    assert node_id(gcp, 1) == "us-central1-a/dsched-a-1"
    ids = {node_id(wish(token), index) for token in ("a", "b", "a.1") for index in range(20)}
    assert len(ids) == 60
    assert all(one.startswith("i-") and len(one) == 19 for one in ids)


def test_a_long_journal_is_made_short_while_the_cloud_runs(
    journal: Journal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cloud, "RECORDS_MAX", 10)
    clock = MarketClock(birth=Instant(0), origin=Instant(0), origin_wall=Instant(0), scale=1.0)
    world: Record = {"kind": "world", "market": "seed 1", "clock": {}}
    want, lever = wish("a"), {"kind": "price", "pool": "*", "factor": 2}
    running = cloud.Cloud(Options(), LocalMarket([], ""), clock, journal, [world])
    for record in (sale_record(want), machines_record(machines(want)), lever):
        running.log(record)
    for until in range(1_000, 1_020):
        running.log({"kind": "lease", "ids": [node_id(want, 0)], "until": until})
    records = read(tmp_path / "journal")
    assert len(records) < 15
    assert [record["kind"] for record in records][:4] == ["world", "price", "sale", "machines"]
    assert fold(records) == running.fleet
    assert running.fleet.machines[node_id(want, 0)].lease_until == 1_019
