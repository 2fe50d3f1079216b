"""What every database must do, with the SQLite that pysqlite3 brings and with the machine's own."""

from __future__ import annotations

import importlib
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from dsched.scheduler.core.state import JobState
from dsched.scheduler.core.units import Instant
from dsched.scheduler.store import database
from dsched.scheduler.store.backup import backup, restore
from dsched.scheduler.store.check import check
from dsched.scheduler.store.errors import Damaged, Locked, StoreFailed
from dsched.scheduler.store.writer import Store
from tests.support.events import attempt_ended, attempted, billed, changed, submitted


@pytest.fixture(params=["pysqlite3", "sqlite3"])
def store(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    monkeypatch.setattr(database, "driver", importlib.import_module(request.param))
    opened = Store.open(tmp_path / "state")
    yield opened
    opened.close()


def reopened(store: Store) -> Store:
    store.close()
    return Store.open(store.path.parent)


def test_what_was_committed_is_there_after_a_restart(store: Store) -> None:
    assert store.commit_sync([submitted("j1"), changed("j1", state=JobState.HELD, reason="waits")]) == 2
    again = reopened(store)
    job = again.load().jobs["j1"]
    assert (job.state, job.reason, again.seq) == (JobState.HELD, "waits", 2)
    again.close()


def test_the_log_goes_on_without_a_gap_after_a_restart(store: Store) -> None:
    store.commit_sync([submitted("j1")])
    again = reopened(store)
    assert again.commit_sync([submitted("j2")]) == 2
    assert check(again.path) == []
    again.close()


def test_a_second_live_attempt_of_a_job_is_refused(store: Store) -> None:
    store.commit_sync([submitted("j1"), attempted("j1", 1)])
    with pytest.raises(StoreFailed, match="UNIQUE constraint"):
        store.commit_sync([attempted("j1", 2)])


def test_the_next_attempt_may_start_in_the_commit_that_ends_the_last(store: Store) -> None:
    store.commit_sync([submitted("j1"), attempted("j1", 1)])
    store.commit_sync([attempt_ended("j1", 1), attempted("j1", 2)])
    assert list(store.load().attempts) == ["j1/2"]


def test_an_interval_is_never_billed_twice(store: Store) -> None:
    store.commit_sync([billed("j1", "n", 0)])
    with pytest.raises(StoreFailed, match="ledger"):
        store.commit_sync([billed("j1", "n", 0)])


def test_a_key_makes_one_job_only(store: Store) -> None:
    store.commit_sync([submitted("j1", key="same")])
    with pytest.raises(StoreFailed, match="constraint"):
        store.commit_sync([submitted("j2", key="same")])


def test_a_refused_commit_leaves_nothing_behind(store: Store) -> None:
    store.commit_sync([submitted("j1", key="same")])
    with pytest.raises(StoreFailed):
        store.commit_sync([submitted("j2"), submitted("j3", key="same")])
    again = reopened(store)
    assert (list(again.load().jobs), again.seq) == (["j1"], 1)
    again.close()


def test_a_backup_restores_into_a_new_era(store: Store, tmp_path: Path) -> None:
    store.commit_sync([submitted("j1")])
    backup(store.path, tmp_path / "copy")
    store.commit_sync([submitted("j2")])
    store.close()
    restored = restore(tmp_path / "copy", store.path.parent, wall=Instant(77), era_floor=5)
    again = Store.open(store.path.parent)
    assert (restored.era, again.era, list(again.load().jobs)) == (6, 6, ["j1"])
    assert again.queries.meta("restored") == "77"
    again.close()


def test_a_restore_after_a_crash_takes_nothing_from_the_old_wal(store: Store, tmp_path: Path) -> None:
    store.commit_sync([submitted("j1")])
    backup(store.path, tmp_path / "copy")
    store.commit_sync([submitted(f"lost-{n}") for n in range(50)])
    shutil.copytree(store.path.parent, tmp_path / "crashed")  # as a kill would leave it: much is in the WAL alone
    assert (tmp_path / "crashed" / "state.db-wal").stat().st_size > 0

    restored = restore(tmp_path / "copy", tmp_path / "crashed", wall=Instant(1))
    again = Store.open(tmp_path / "crashed")
    assert list(again.load().jobs) == ["j1"]
    assert check(again.path) == []
    again.close()
    assert restored.kept is not None
    assert len(open_kept(restored.kept)) == 51
    assert sorted(path.name for path in (tmp_path / "crashed").iterdir() if "incoming" in path.name) == []


def open_kept(path: Path) -> list[str]:
    connection = database.open_reader(path)
    jobs = [key for (key,) in connection.execute("SELECT key FROM job")]
    connection.close()
    return jobs


def test_a_damaged_backup_is_refused_and_the_database_stays(store: Store, tmp_path: Path) -> None:
    store.commit_sync([submitted("j1", reason="sound")])
    backup(store.path, tmp_path / "copy")
    content = (tmp_path / "copy").read_bytes()
    (tmp_path / "copy").write_bytes(content.replace(b"a test says so", b"a test says no"))
    store.close()
    before = store.path.read_bytes()
    with pytest.raises(Damaged, match="not what was written"):
        restore(tmp_path / "copy", store.path.parent, wall=Instant(1))
    assert store.path.read_bytes() == before
    forced = restore(tmp_path / "copy", store.path.parent, wall=Instant(1), force=True)
    assert [finding.code for finding in forced.findings] == ["chain"]


def test_no_restore_under_a_running_daemon(store: Store, tmp_path: Path) -> None:
    backup(store.path, tmp_path / "copy")
    with pytest.raises(Locked):
        restore(tmp_path / "copy", store.path.parent, wall=Instant(1))
