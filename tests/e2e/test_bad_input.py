"""What people and disks do wrong, through the real command line: one useful sentence each, and nothing is lost."""

from __future__ import annotations

import itertools
import os
import re
import shlex
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from dsched.scheduler.api.client import ClientError
from dsched.scheduler.store.check import check
from dsched.scheduler.wire.api import Event
from tests.support.disk import small_disk
from tests.support.house import House, house, wait_for
from tests.support.shell import SGR, dsched, on_terminal
from tests.support.trainer import SMALL

GPUS = "gpus: {type: H100, count: 8}\n"
Write = Callable[[str], Path]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """One daemon for all that does not end it."""
    with house(tmp_path_factory.mktemp("bad")) as built:
        yield built


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def spec(text: str) -> Path:
        path = tmp_path / "job.yaml"
        path.write_text(text)
        return path

    return spec


def names(home: House) -> list[str]:
    return [job["name"] for job in home.client.jobs(all=True, limit=1000)]


# -- refused at the door -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "code", "sentence"),
    [
        ("name: bad\nrun: [x\n", 2, r"job.yaml:3:1 not valid YAML: expected ',' or '\]'"),
        ("name: bad\n" + GPUS, 2, r"job.yaml:1:1 run: is missing"),
        ("name: bad\nrun: ''\n" + GPUS, 2, r"job.yaml:2:6 run: must not be empty"),
        (
            "name: bad\nrun: x\ngpus: {type: H1000, count: 8}\n",
            2,
            r"job.yaml:3:14 gpus.type.0: unknown GPU 'H1000'; did you mean H100\?",
        ),
        (
            "name: bad\nrun: x\ngpus: {type: H100, count: 8000}\n",
            6,
            r"none of \d+ offers fits 8000 x H100: .*too-few-gpus",
        ),
        ("name: bad\nrun: x\nenv: {A: '" + "y" * 71_680 + "'}\n" + GPUS, 2, r"job.yaml: larger than 64 KiB"),
    ],
    ids=["unreadable", "no-command", "empty-command", "unknown-gpu", "impossible-gang", "70-KiB"],
)
def test_a_spec_that_cannot_be_taken_says_where_and_what(
    home: House, write: Write, text: str, code: int, sentence: str
) -> None:
    said = dsched(home, "submit", write(text), "-d")
    assert said.code == code, said.err
    assert re.search(r"error\[E\d+\] .*" + sentence, said.err), said.err
    assert "Traceback" not in said.err
    assert "bad" not in names(home)


def test_a_file_that_cannot_be_read_is_named(home: House, tmp_path: Path) -> None:
    (tmp_path / "latin.yaml").write_bytes(b"name: a\nrun: \xff\n")
    for path, sentence in (
        (tmp_path / "none.yaml", "none.yaml: no such file or directory"),
        (tmp_path, f"{tmp_path}: is a directory"),
        (tmp_path / "latin.yaml", "latin.yaml:2: not UTF-8 text"),
    ):
        said = dsched(home, "submit", path, "-d")
        assert said.code == 2
        assert sentence in said.err


def test_a_deadline_that_cannot_be_met_names_the_nearest_that_can_and_that_one_is_taken(
    home: House, write: Write
) -> None:
    spec = GPUS + "name: late\nrun: 'true'\nduration: 10h\nwithin: "
    said = dsched(home, "submit", write(spec + "1h"), "-d")
    assert said.code == 6
    found = re.search(
        r"error\[E407\] no offer finishes by the deadline; the earliest finish is ([\d.]+) h later", said.err
    )
    assert found, said.err
    assert "late" not in names(home)
    remedy = re.search(r"within: (\w+) or later", said.err)
    assert remedy, said.err
    said = dsched(home, "submit", write(spec + remedy[1]), "-d")
    assert said.code == 0, said.err
    assert dsched(home, "wait", "late", "--timeout", "60s").code == 0


def test_a_workdir_beyond_the_limit_names_the_limit_and_the_remedy(home: House, write: Write, tmp_path: Path) -> None:
    work = tmp_path / "work"
    work.mkdir()
    with (work / "data.bin").open("wb") as data:
        data.truncate(513 << 20)  # a hole: nothing of it is on the disk
    said = dsched(home, "submit", write("name: heavy\nrun: x\nworkdir: work\n" + GPUS), "-d")
    assert said.code == 2
    assert "work' holds more than 20,000 files or 512 MiB" in said.err
    assert "keep data in a bucket" in said.err
    assert "heavy" not in names(home)


def test_a_job_that_nobody_or_more_than_one_bears_ends_5_and_says_what_to_write(home: House) -> None:
    twins = [home.client.submit({"spec": _waiting("twin"), "key": key})["id"] for key in ("one", "two")]
    for command in ("cancel", "explain", "logs"):
        said = dsched(home, command, "twin")
        assert said.code == 5
        assert "no one job is 'twin': 2 jobs are named so" in said.err
        assert ", ".join(twins) in said.err
        said = dsched(home, command, "j99999")
        assert said.code == 5
        assert "no job 'j99999'" in said.err
        assert "dsched ps --all" in said.err
    assert all(home.client.job(job)["state"] not in ("cancelled", "draining") for job in twins)
    for job in twins:
        assert dsched(home, "cancel", job, "--now").code == 0


def _waiting(name: str) -> dict[str, object]:
    return {"name": name, "run": "sleep 600", "gpus": {"type": ["H100"], "count": 8}}


# -- jobs that fail ----------------------------------------------------------------------------------------------------


def test_a_command_that_does_not_exist_fails_with_127_and_its_name_after_its_retries(home: House) -> None:
    job = home.submit("typo", "frobnicate --fast", retries=1)
    home.wait_state(job, "failed")
    ended = home.client.job(job)
    assert ended["exit_code"] == 127
    assert re.search(
        r"2 ends in a row without a newer checkpoint, last exit 127: .*frobnicate: not found", ended["reason"]
    )
    assert [attempt["outcome"] for attempt in home.client.attempts(job)] == ["exit 127", "exit 127"]
    said = dsched(home, "wait", "typo")
    assert said.code == 100
    assert "frobnicate: not found" in said.out + said.err


def test_exit_78_is_never_tried_again(home: House) -> None:
    job = home.submit("never", "echo the licence is missing; exit 78")
    home.wait_state(job, "failed")
    assert home.client.job(job)["reason"] == "user exit 78: the licence is missing"
    assert len(home.client.attempts(job)) == 1


@pytest.mark.slow
def test_a_job_that_always_crashes_is_stopped_after_five_strikes_without_progress(home: House, tmp_path: Path) -> None:
    ran = tmp_path / "ran"
    job = home.submit("crashes", f"echo x >> {ran}; echo no luck; exit 3")
    home.wait_state(job, "failed")
    ended = home.client.job(job)
    assert ended["reason"] == "crash loop: 5 ends in a row without a newer checkpoint, last exit 3: no luck"
    assert ended["failures"] == 5
    assert ran.read_text().count("x") == 5


def test_a_budget_of_nothing_holds_the_job_and_says_so_until_it_is_raised(home: House) -> None:
    assert dsched(home, "budget", "set", "empty", "0", "-y").code == 0
    job = home.submit("poor", "true", budget="empty")
    held = home.client.job(job)
    assert (held["state"], held["reason"]) == ("held", "the budget is spent")
    refused = dsched(home, "resume", "poor")
    assert refused.code == 7
    assert "budget empty is spent" in refused.err
    assert "dsched budget set empty AMOUNT" in refused.err
    assert dsched(home, "budget", "set", "empty", "500", "-y").code == 0
    home.wait_state(job, "succeeded")


# -- hostile text ------------------------------------------------------------------------------------------------------


def test_hostile_text_from_a_job_reaches_no_terminal_raw(home: House) -> None:
    evil = r"\033[2J\033]0;owned\007 \033[31mred \302\233\302\205 \342\200\256drawkcab [/bold] \b\b"
    run = f"printf '{evil}\\n\\200\\376\\n{evil}\\rover\\n{evil}' ; exit 78"
    with pytest.raises(ClientError, match="lower-case letters, digits and dashes"):
        home.submit("\x1b]0;owned\x07", "true")
    job = home.submit("hostile", run, setup=["true # \x85 \u202e"])
    home.wait_state(job, "failed")
    for argv in (
        ["ps", "-a"],
        ["ps", "-a", "-o", "wide"],
        ["logs", job],
        ["events", "--job", job],
        ["explain", job],
        ["wait", job],
    ):
        colourless = SGR.sub(b"", on_terminal(home, *argv))
        text = colourless.decode("utf-8")  # strictly: no stray byte either
        harmful = {c for c in text if c not in "\n\t" and (not c.isprintable())}
        assert not harmful, (argv, harmful)
        assert text.strip()
    assert r"\x1b]0;owned\x07" in dsched(home, "logs", job).out


# -- the daemon is not there -------------------------------------------------------------------------------------------


def test_without_a_daemon_every_command_ends_3_and_says_how_to_start_one(tmp_path: Path, write: Write) -> None:
    nobody = House(tmp_path / "s")
    nobody.state.mkdir()
    for argv in (["ps"], ["submit", str(write("name: a\nrun: x\n" + GPUS)), "-d"], ["logs", "j1"], ["info"]):
        said = dsched(nobody, *argv)
        assert said.code == 3
        assert f"no daemon at {nobody.state}/api.sock" in said.err
        assert "dsched daemon" in said.err


# -- disks -------------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_full_disk_ends_the_daemon_with_75_and_nothing_acknowledged_is_lost(tmp_path: Path) -> None:
    with small_disk(tmp_path / "s", "3m") as state:
        home = House(state, ("--scale", "60", "--observe-seconds", "0.5", "--idle-seconds", "1"))
        try:
            _fill_and_recover(home)
        finally:
            home.end()


def _fill_and_recover(home: House) -> None:
    home.start()
    assert home.process is not None
    filler = home.state / "filler"
    acked: dict[str, str] = {}
    _fill(filler, leave=400_000)
    with pytest.raises(ClientError):
        _submit_for_ever(home, acked)
    assert home.process.wait(30) == 75
    assert "database or disk is full; free some space there and start again" in home.log.read_text()
    assert acked, "nothing was acknowledged before: the disk was too small for this test"
    _fill(filler, leave=0)
    home.start(wait=False)
    assert home.process.wait(30) == 75, "it cannot work yet, and may be started again"
    filler.unlink()
    home.start()
    for job in acked.values():
        home.wait_state(job, "succeeded")
    wait_for(lambda: not home.client.nodes(), "every machine to be given back")
    home.kill()
    assert check(home.state / "state.db") == []


def _submit_for_ever(home: House, acked: dict[str, str]) -> None:
    for number in itertools.count():
        acked[f"job-{number}"] = home.submit(f"job-{number}", "true")


def _fill(path: Path, *, leave: int) -> None:
    disk = os.statvfs(path.parent)
    with path.open("ab", buffering=0) as file:
        for _ in range(max(0, disk.f_bavail * disk.f_frsize - leave) // 4_096):
            file.write(b"\0" * 4_096)


@pytest.mark.slow
def test_a_disk_that_is_full_at_the_first_start_asks_for_another_start(tmp_path: Path) -> None:
    with small_disk(tmp_path / "s", "256k") as state:
        _fill(state / "filler", leave=0)
        home = House(state, ("--no-local",))
        try:
            home.start(wait=False)
            assert home.process is not None
            assert home.process.wait(30) == 75
            assert "No space left on device; free some space there and start again" in home.log.read_text()
            (state / "filler").unlink()
            home.start()
        finally:
            home.end()


@pytest.mark.slow
def test_a_damaged_checkpoint_is_refused_the_one_before_is_taken_and_people_are_told(home: House) -> None:
    pytest.importorskip("torch")
    run = f"{shlex.quote(sys.executable)} -m dsched.jobs.train {' '.join(SMALL)} --steps 100000 --every 10"
    job = home.submit("train", run)
    wait_for(lambda: home.client.job(job)["checkpoint_step"] >= 20, "a second checkpoint")
    home.client.act(job, "pause")
    home.wait_state(job, "paused")
    newest = home.client.job(job)["checkpoint_step"]
    shards = sorted((home.state / "checkpoints" / job / "shards").glob("*/*.safetensors"))
    _flip_a_bit(shards[-1])
    home.client.act(job, "resume")
    told = wait_for(lambda: _fallbacks(home, job), "the fallback to be told")
    taken = int(re.fullmatch(rf"step {newest} refused: .*SHA-256 differs; took step (\d+)", told[0]["why"])[1])
    assert 0 < taken < newest
    assert f"step {newest} refused" in dsched(home, "events", "--job", job, COLUMNS="400").out
    logged = wait_for(lambda: _line(dsched(home, "logs", job).out, f"step {newest} refused"), "the log to say so")
    assert f"took step {taken}" in logged
    wait_for(lambda: home.client.job(job)["checkpoint_step"] > newest, "the job to get beyond the damage")
    assert dsched(home, "cancel", job, "--now").code == 0
    home.wait_state(job, "cancelled")


def _flip_a_bit(shard: Path) -> None:
    data = bytearray(shard.read_bytes())
    data[len(data) // 2] ^= 1
    shard.chmod(0o600)
    shard.write_bytes(data)


def _fallbacks(home: House, job: str) -> list[Event]:
    return [event for event in home.client.events(job=job, limit=1000) if event["kind"] == "checkpoint.fallback"]


def _line(text: str, part: str) -> str:
    return next((line for line in text.splitlines() if part in line), "")
