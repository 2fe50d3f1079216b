"""The agent's parts, each alone: what they keep, what they bound, what they refuse."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from dsched.jobs.agent import lease as lease_module
from dsched.jobs.agent import outbox, proc, spool
from dsched.jobs.agent.clock import boot_ms, to_boot, wall_ms
from dsched.jobs.agent.control import ControlFile
from dsched.jobs.agent.deadman import Deadman
from dsched.jobs.agent.identity import ConfigurationError, parse
from dsched.jobs.agent.lease import Lease
from dsched.jobs.agent.loop import Loop
from dsched.jobs.agent.notices import deadline_of
from dsched.jobs.agent.outbox import Outbox
from dsched.jobs.agent.progress import Silence
from dsched.jobs.agent.spool import Spool, Stream
from dsched.jobs.agent.uplink import Home, Uplink
from dsched.scheduler.wire.agent import Fact, Progress, Saved
from tests.support.agent import until
from tests.support.home import FakeHome

# -- facts ---------------------------------------------------------------------------------------------------------


def progress(step: int, *, first: bool = False) -> Progress:
    fact: Progress = {"kind": "progress", "job": "j", "generation": 1, "step": step, "at": step}
    return {**fact, "first": True} if first else fact


def saved(step: int) -> Saved:
    return {"kind": "saved", "job": "j", "generation": 1, "step": step, "uri": "u", "at": step}


def test_progress_waits_with_its_last_value_only_and_facts_stay_in_order() -> None:
    box = Outbox()
    facts: list[Fact] = [progress(1, first=True), progress(2), saved(2), progress(3), progress(4)]
    for fact in facts:
        box.put(fact)
    assert box.take() == [progress(1, first=True), saved(2), progress(4)]


def test_a_batch_stays_until_the_daemon_has_answered_for_it() -> None:
    box = Outbox()
    box.put(saved(1))
    taken = box.take()
    box.put(saved(2))
    assert (taken, box.empty()) == ([saved(1)], False)
    box.done()
    assert box.take() == [saved(2)]


def test_a_full_outbox_loses_the_oldest_save_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outbox, "FACTS_MAX", 3)
    box = Outbox()
    start: Fact = {"kind": "started", "job": "j", "generation": 1, "at": 0}
    for fact in (start, saved(1), saved(2), saved(3)):
        box.put(fact)
    assert (box.take(), box.dropped) == ([start, saved(2), saved(3)], 1)


def test_a_batch_is_bounded_in_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outbox, "BATCH_BYTES", 2 * len(json.dumps(saved(1))))
    box = Outbox()
    for step in range(3):
        box.put(saved(step))
    assert len(box.take()) == 2


# -- logs ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def stream(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stream:
    monkeypatch.setattr(spool, "SEGMENT", 10)
    return Spool(tmp_path).stream("j", 1, 0)


def read_all(stream: Stream) -> bytes:
    data, offset = b"", stream.acked
    while piece := stream.read(offset):
        data += piece
        offset += len(piece)
    return data


def test_a_stream_is_read_back_across_its_segments(stream: Stream) -> None:
    text = bytes(range(97, 123))
    stream.append(text[:3])
    stream.append(text[3:])
    assert read_all(stream) == text
    assert stream.tail() == text


def test_what_the_daemon_holds_is_deleted_segment_by_segment(stream: Stream, tmp_path: Path) -> None:
    stream.append(b"x" * 35)
    stream.resume(25)
    assert sorted(path.name for path in (tmp_path / "j/1.0").iterdir()) == ["2", "3"]
    stream.resume(21)  # the daemon lost the end of its file
    assert len(read_all(stream)) == 14
    stream.resume(3)  # more than we still have
    assert stream.acked == stream.floor == 20


def test_output_beyond_the_bound_is_dropped_and_the_stream_says_so(
    stream: Stream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spool, "STREAM_MAX", 100)
    stream.append(b"a" * 90)
    stream.append(b"b" * 50)
    stream.resume(90)
    stream.append(b"c")
    assert read_all(stream) == b"\n[dsched: 50 bytes of output were dropped]\nc"


def test_a_full_disk_drops_output_and_stops_nothing(tmp_path: Path) -> None:
    (tmp_path / "j").write_text("not a directory")
    stream = Spool(tmp_path).stream("j", 1, 0)
    stream.append(b"lost")
    assert (stream.end, stream.dropped, stream.tail()) == (0, 4, b"lost")


# -- the lease -----------------------------------------------------------------------------------------------------


class Timeline:
    """Runs a lease's timers and writes down when they rang, in milliseconds before its end."""

    def __init__(self, left_ms: int, drain_ms: int) -> None:
        self.loop = Loop()
        self.rang: list[str] = []
        self.kill_at = 0
        self.lease = Lease(
            self.loop,
            drain_ms,
            drain=self._drain,
            kill=lambda: self.rang.append("kill"),
            end=self._end,
            moved=lambda _until: None,
        )
        self.lease.begin(wall_ms() + left_ms)

    def _drain(self, kill_at: int) -> None:
        self.rang.append("drain")
        self.kill_at = kill_at

    def _end(self) -> None:
        self.rang.append("end")
        self.loop.stop(0)


def test_a_lease_drains_then_kills_then_ends() -> None:
    line = Timeline(left_ms=60, drain_ms=40)
    line.loop.run()
    assert line.rang == ["drain", "kill", "end"]
    assert line.lease.until - 40 <= line.kill_at <= line.lease.until
    assert boot_ms() >= line.lease.until


def test_a_lease_already_over_ends_at_once() -> None:
    line = Timeline(left_ms=-1_000, drain_ms=40)
    line.loop.run()
    assert line.rang == ["drain", "kill", "end"]


def test_an_answer_extends_and_an_older_one_does_not_shorten() -> None:
    line = Timeline(left_ms=60_000, drain_ms=10)
    line.lease.extend(boot_ms() + 120_000)
    line.lease.extend(boot_ms() + 30_000)
    assert abs(line.lease.until - (boot_ms() + 120_000)) < 1_000


def test_after_a_notice_nothing_extends_and_draining_begins_now() -> None:
    line = Timeline(left_ms=60_000, drain_ms=10)
    line.lease.cut_to(wall_ms() + 50)
    line.lease.extend(boot_ms() + 120_000)
    line.loop.run()
    assert line.rang == ["drain", "kill", "end"]


def test_a_notice_after_the_lease_cannot_lengthen_it() -> None:
    line = Timeline(left_ms=5_000, drain_ms=10)
    until = line.lease.until
    line.lease.cut_to(wall_ms() + 120_000)
    assert line.lease.until == until


def test_a_lease_shorter_than_its_drain_time_still_works_until_its_renewal_is_due() -> None:
    line = Timeline(left_ms=600, drain_ms=120_000)
    renewal = boot_ms() + 600 * 5 // 8  # the latest: when half is over, and the last poll but one came just before
    working: list[str] = []
    line.loop.at(renewal, lambda: working.extend(line.rang))
    line.loop.run()
    assert working == []
    assert line.rang == ["drain", "kill", "end"]
    assert line.lease.until - line.kill_at == 600 // lease_module.DRAIN_PART // 10


def test_a_launchs_word_read_on_a_wrong_clock_is_put_right_by_the_first_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as slow:
        slow.setattr("dsched.jobs.agent.clock.wall_ms", lambda: wall_ms() - 3_600_000)
        line = Timeline(left_ms=60_000, drain_ms=10)
    assert line.lease.until > boot_ms() + 3_600_000
    line.lease.extend(boot_ms() + 50_000)
    assert line.lease.until <= boot_ms() + 50_000
    line.lease.extend(boot_ms() + 20_000)
    assert line.lease.until > boot_ms() + 40_000  # an older answer, overtaken by the first


def test_an_agent_that_was_started_anew_lives_by_the_lease_of_the_one_before(tmp_path: Path) -> None:
    path = tmp_path / "lease"
    assert Deadman("").told() == Deadman(str(path)).told() == 0
    Deadman(str(path)).until(boot_ms() + 60_000)
    assert 57_000 < Deadman(str(path)).told() - wall_ms() <= 60_000
    path.write_text("torn?")
    assert Deadman(str(path)).told() == 0


class Ear:
    """Hears what the uplink has to tell of leases; nothing else is asked of it here."""

    def __init__(self) -> None:
        self.until: list[int] = []

    def __getattr__(self, name: str) -> Any:
        return lambda *_: {}

    def leased(self, until: int) -> None:
        self.until.append(until)


def test_what_is_left_of_a_lease_counts_from_when_it_was_asked_for_on_the_boot_clock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An answer that was long on its way, or that a wall clock which is set overtakes, lengthens nothing."""
    home, ear = FakeHome(tmp_path / "s", lease_ms=60_000), Ear()
    now = [5_000_000]
    monkeypatch.setattr("dsched.jobs.agent.uplink.boot_ms", lambda: now[0])
    uplink = Uplink(Home(f"unix:{home.path}", "n.0", 1_000), Outbox(), Spool(tmp_path / "logs"), ear)
    real = uplink._json

    def slow(*given: Any, **more: Any) -> dict[str, Any]:
        answer = real(*given, **more)
        now[0] += 45_000
        return answer

    monkeypatch.setattr(uplink, "_json", slow)
    monkeypatch.setattr(ear, "greeting", lambda: {"secret": "secret"}, raising=False)
    link = uplink._home.link()
    uplink._hello(link)
    link.close()
    home.close()
    assert ear.until == [5_060_000]


def test_a_jump_of_the_wall_clock_moves_no_lease(monkeypatch: pytest.MonkeyPatch) -> None:
    line = Timeline(left_ms=60_000, drain_ms=10)
    until = line.lease.until
    monkeypatch.setattr("dsched.jobs.agent.clock.wall_ms", lambda: wall_ms() + 3_600_000)
    assert line.lease.until == until
    assert to_boot(wall_ms()) < boot_ms()


# -- words from outside --------------------------------------------------------------------------------------------


USER_DATA = {
    "cluster": "c",
    "token": "t",
    "daemon": "unix:/s",
    "secret": "s",
    "lease_until": 1,
    "drain_ms": 1,
    "heartbeat_ms": 1,
}


@pytest.mark.parametrize(
    ("raw", "place"),
    [
        (b"", "not JSON"),
        (b"[]", "not a JSON object"),
        (json.dumps({**USER_DATA, "lease_until": "soon"}).encode(), "lease_until must be int, not 'soon'"),
        (json.dumps({**USER_DATA, "drain_ms": True}).encode(), "drain_ms must be int"),
        (json.dumps({name: USER_DATA[name] for name in USER_DATA if name != "secret"}).encode(), "secret must be str"),
        (b" " * 20_000, "the limit is 16384"),
    ],
)
def test_user_data_that_cannot_work_is_refused_by_name(raw: bytes, place: str) -> None:
    with pytest.raises(ConfigurationError, match=place):
        parse(raw)


def test_the_deadline_of_an_action_is_read_with_and_without_fractions() -> None:
    assert deadline_of(b'{"action": "terminate", "time": "2026-01-01T00:02:00Z"}') == 1_767_225_720_000
    assert deadline_of(b'{"action": "stop", "time": "2026-01-01T00:02:00.250Z"}') == 1_767_225_720_250


def test_an_action_that_cannot_be_read_means_now() -> None:
    assert abs(deadline_of(b"<html>") - wall_ms()) < 1_000


@pytest.mark.parametrize(
    ("heard_ago", "cpu_ms", "hangs"), [(None, 0, False), (2_000, 0, True), (2_000, 500, False), (0, 0, False)]
)
def test_a_hang_is_silence_after_a_word_and_without_cpu(
    monkeypatch: pytest.MonkeyPatch, heard_ago: int | None, cpu_ms: int, hangs: bool
) -> None:
    now = 1_000_000
    monkeypatch.setattr("dsched.jobs.agent.progress.boot_ms", lambda: now)
    silence = Silence(hang_ms=1_000)
    now += 2_500
    assert silence.hangs(0 if heard_ago is None else now - heard_ago, cpu_ms) is hangs


def test_a_control_file_that_cannot_be_written_stops_nothing(tmp_path: Path) -> None:
    control = ControlFile(tmp_path / "control", 5)
    control.checkpoint_now()
    control.deadline(9)
    assert json.loads(control.path.read_bytes()) == {"interval_ms": 5, "checkpoint": 1, "deadline_ms": 9}
    ControlFile(tmp_path / "missing" / "control", 5).deadline(9)


# -- processes -----------------------------------------------------------------------------------------------------


def test_a_process_is_read_whatever_its_name_is(tmp_path: Path) -> None:
    hostile = tmp_path / "a) Z 1 (b"
    hostile.symlink_to("/bin/sleep")
    pid = os.posix_spawn(str(hostile), ["x", "1000"], {"MARK": "yes", "OTHER": "no"}, setsid=True)
    try:
        row = proc.read(pid)
        assert row is not None
        assert (row.pid, row.ppid, row.session, row.dead) == (pid, os.getpid(), pid, False)
        assert pid in proc.below(os.getpid(), proc.scan())
        until(lambda: proc.marks(pid, ("MARK",)) == {"MARK": "yes"})  # in the middle of its exec it shows none
    finally:
        os.kill(pid, 9)
        os.waitpid(pid, 0)
    assert proc.read(pid) is None


def test_a_broken_callback_does_not_end_the_loop() -> None:
    loop = Loop()
    loop.post(lambda: [][0])
    loop.after(1, lambda: loop.stop(7))
    assert (loop.run(), loop.failures) == (7, 1)
