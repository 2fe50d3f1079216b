"""The log holds what it was given, and `check` sees what is not so any more."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from dsched.scheduler.core.event import Change
from dsched.scheduler.core.state import JobState
from dsched.scheduler.store.check import check, check_open
from dsched.scheduler.store.log import Log
from dsched.scheduler.store.snapshot import load
from dsched.scheduler.store.writer import Store
from tests.support.events import attempted, billed, changed, decided, event, submitted

MEMORY = Path("memory")


@pytest.fixture
def log() -> Log:
    log = Log.in_memory()
    log.append([submitted("j1"), attempted("j1", 1), changed("j1", state=JobState.RUNNING)])
    log.append([billed("j1", "n", 0), decided("j1", "d1", lines=[1, 2])])
    return log


def codes(log: Log) -> list[tuple[str, str]]:
    return [(finding.code, finding.where) for finding in check_open(log.connection, MEMORY)]


def test_a_sound_log_has_no_findings(log: Log) -> None:
    assert log.seq == 5
    assert codes(log) == []


@pytest.mark.parametrize("column", ["wall", "market", "kind", "job", "node", "why", "body", "prev_hash", "hash"])
def test_a_changed_column_of_an_event_breaks_the_chain(log: Log, column: str) -> None:
    value = {"wall": 1, "market": 1, "prev_hash": bytes(32), "hash": bytes(32), "body": '{"changes":[],"data":{}}'}
    log.connection.execute(f"UPDATE event SET {column} = ? WHERE seq = 3", (value.get(column, "x"),))
    assert any(code == "chain" and where in ("event 3", "event 4") for code, where in codes(log))


def test_a_missing_event_is_a_gap(log: Log) -> None:
    log.connection.execute("DELETE FROM event WHERE seq = 3")
    assert ("gap", "event 4") in codes(log)


def test_a_row_that_was_changed_behind_the_log_is_found(log: Log) -> None:
    log.connection.execute("UPDATE job SET body = replace(body, '\"spent\":0', '\"spent\":1')")
    assert check_open(log.connection, MEMORY)[0].text == "differs from the log in spent"


def test_a_lost_row_and_an_invented_one_are_found(log: Log) -> None:
    log.connection.execute("UPDATE ledger SET key = 'other'")
    assert codes(log) == [("row", "ledger other"), ("row", "ledger n/0/compute")]


def test_a_change_of_a_row_that_never_was_is_reported(log: Log) -> None:
    log.append([changed("ghost", reason="boo")])
    assert codes(log) == [("event", "event 6")]
    assert "ghost" not in load(log.connection).jobs


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (Change("job", "j1", {"colour": "red"}), "no field 'colour'"),
        (Change("jobs", "j1", {"state": "queued"}), "'jobs' is no table"),
        (Change("job", "j1", {"state": object()}), "job j1"),
        (Change("job", "j1", {"state": "elsewhere"}), "Invalid enum value 'elsewhere'"),
        (Change("job", "j1", {"spent": 1.5}), "Expected `int`"),
        (Change("job", "j1", {"reason": "\ud800"}), "surrogates"),
        (Change("job", "j2", {"id": "j2"}, new=True), "missing"),
    ],
)
def test_what_could_not_be_read_again_is_never_taken(log: Log, change: Change, complaint: str) -> None:
    with pytest.raises(TypeError, match=complaint):
        log.append([submitted("j9"), event("bad", change)])
    assert log.seq == 5


def test_a_bad_detail_of_an_event_is_refused_by_its_kind(log: Log) -> None:
    with pytest.raises(TypeError, match=r"event 'bad\.detail'"):
        log.append([event("bad.detail", detail=object())])


def flipped(content: bytes, at: int) -> bytes:
    return content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :]


@pytest.mark.parametrize("victim", ["j1 waits", "key-j1", '"generation":0', "a test says so", "job.changed"])
def test_a_flipped_bit_on_disk_is_found(tmp_path: Path, victim: str) -> None:
    store = Store.open(tmp_path)
    store.commit_sync([submitted("j1"), changed("j1", reason="j1 waits")])
    store.close()
    content = store.path.read_bytes()
    at = content.index(victim.encode())
    store.path.write_bytes(flipped(content, at))
    assert check(store.path) != []


def test_a_file_that_cannot_be_read_is_a_finding(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"nonsense" * 1_000)
    assert [finding.code for finding in check(tmp_path / "x")] == ["file"]
    assert [finding.code for finding in check(tmp_path / "missing")] == ["file"]


def test_a_running_daemon_can_be_checked(tmp_path: Path) -> None:
    store = Store.open(tmp_path)
    store.commit_sync([submitted("j1")])
    assert check(store.path) == []
    assert store.commit_sync([submitted("j2")]) == 2
    store.close()


def counters(log: Log) -> Any:
    state = load(log.connection)
    return state.jobs_made, state.launches_made, state.era, len(state.cluster)


def test_the_counters_come_back_with_the_state(log: Log) -> None:
    assert counters(log) == (1, 0, 1, 32)


def test_an_event_cannot_be_linked_to_another_one_before_it(log: Log) -> None:
    log.connection.execute("DELETE FROM event WHERE seq = 3")
    log.connection.execute("UPDATE event SET prev_hash = (SELECT hash FROM event WHERE seq = 2) WHERE seq = 4")
    assert ("chain", "event 4") in codes(log)


def test_an_event_cannot_take_another_place(log: Log) -> None:
    log.connection.execute("UPDATE event SET seq = 6 WHERE seq = 5")
    assert ("chain", "event 6") in codes(log)
