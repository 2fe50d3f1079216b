"""Jobs that mean harm, or stumble: each costs itself and nobody else on the node."""

from __future__ import annotations

import os
from pathlib import Path

from dsched.jobs.agent.leftover import KEPT_MAX, put_aside
from tests.support.agent import agent, until


def test_a_fact_that_the_daemon_refuses_costs_itself_and_not_its_batch(tmp_path: Path) -> None:
    with agent(tmp_path) as running:
        home = running.home
        home.refuse = lambda fact: fact.get("exits") == {"0": 3}
        for job, code in (("bad", 3), ("good", 4)):
            home.start(f"until test -e {tmp_path}/go; do sleep 0.01; done; exit {code}", job=job)
            home.fact("started", job=job)
        home.down()
        (tmp_path / "go").touch()
        until(lambda: not list(running.node_dir.glob("run/*.control")))  # both have ended, and nobody has heard
        home.up()
        home.wait(lambda: len(home.hellos) == 2)
        home.order("leave", grace_ms=5_000)
        assert running.wait() == 0
        assert [fact["job"] for fact in home.facts if fact["kind"] == "exited"] == ["good"]
        assert "loop.failure" not in running.errors.read_text()


def test_a_fact_that_the_daemon_breaks_at_is_given_up_loudly_and_the_next_ones_get_through(tmp_path: Path) -> None:
    with agent(tmp_path) as running:
        home = running.home
        home.breaks = lambda fact: fact.get("exits") == {"0": 3}
        home.start("exit 3", job="bad")
        home.start("exit 4", job="good")
        home.fact("exited", job="good")
        lost = home.fact("dropped", job="bad")
        assert (lost["fact"], lost["generation"]) == ("exited", 1)
        assert "500" in lost["error"]
        assert [fact["job"] for fact in home.facts if fact["kind"] == "exited"] == ["good"]


def test_a_secret_that_is_a_pipe_holds_nobody(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with agent(tmp_path) as running:
        running.home.start("true", secrets={"A": f"file:{tmp_path}/pipe"})
        assert running.home.fact("setup-failed")["tail"].endswith("pipe: not a file")
        running.home.start("true", job="nul", secrets={"A": "file:/a\0b"})
        assert "null byte" in running.home.fact("setup-failed", job="nul")["tail"]
        running.home.start("true", job="next")
        running.home.fact("exited", job="next", exits={"0": 0})


def test_a_set_up_command_that_no_kernel_takes_is_told(tmp_path: Path) -> None:
    with agent(tmp_path) as running:
        running.home.start("true", setup=["echo a\0b"])
        assert "null byte" in running.home.fact("setup-failed")["tail"]


def test_a_start_order_that_lacks_something_is_answered(tmp_path: Path) -> None:
    with agent(tmp_path) as running:
        running.home.start("true", env=None)
        assert running.home.fact("setup-failed")["command"] == "the start order"


def test_a_rank_that_deletes_its_log_costs_the_log_and_nothing_else(tmp_path: Path) -> None:
    with agent(tmp_path) as running:
        home = running.home
        home.log_status = 500
        home.start(f"echo before; until rm -r {running.node_dir}/logs/job 2>/dev/null; do sleep 0.01; done; sleep 1000")
        home.start("echo beside", job="beside")
        home.fact("exited", job="beside")
        home.log_status = 200
        home.wait(lambda: home.log("beside") == b"beside\n")
        home.stop()
        home.fact("exited", job="job")


def test_a_rank_does_not_know_by_what_its_agent_is_known_to_the_daemon(tmp_path: Path) -> None:
    with agent(tmp_path) as running:
        running.home.start(f"env > {tmp_path}/env")
        running.home.fact("exited")
        assert running.home.hellos[0]["boot"] not in (tmp_path / "env").read_text()


def test_a_node_keeps_the_directories_of_its_latest_jobs_only(tmp_path: Path) -> None:
    with agent(tmp_path) as running:
        home = running.home
        home.start("touch here; sleep 1000", job="alive")
        home.fact("started", job="alive")
        for number in range(KEPT_MAX + 4):
            home.start("touch here", job=f"j{number}")
            home.fact("exited", job=f"j{number}")
        kept = {path.name for path in (running.node_dir / "work").iterdir() if path.is_dir()}
        marks = {path.name.removesuffix(".ready") for path in (running.node_dir / "work").glob("*.ready")}
        assert kept == marks == {"alive", *(f"j{number}" for number in range(3, KEPT_MAX + 4))}
        home.wait(lambda: not list(running.node_dir.glob("aside.*")))


def test_what_is_in_use_or_being_unpacked_is_never_put_aside(tmp_path: Path) -> None:
    for name in ("work/j", "work/j.7", "bundles/used", "bundles/used.7.part"):
        (tmp_path / name).mkdir(parents=True)
        os.utime(tmp_path / name, (0, 0))
    for number in range(KEPT_MAX):
        (tmp_path / "work" / f"o{number}").mkdir()
        (tmp_path / "bundles" / f"o{number}").touch()
    assert put_aside(tmp_path, {"j"}, {"used"}) is None


def test_what_vanishes_while_it_is_looked_at_keeps_no_job_from_its_start(tmp_path: Path) -> None:
    (tmp_path / "bundles").mkdir()
    (tmp_path / "bundles" / "gone").symlink_to(tmp_path / "nowhere")  # listed, and not to be found
    for number in range(KEPT_MAX):
        (tmp_path / "bundles" / f"o{number}").touch()
    aside = put_aside(tmp_path, {"j"}, {"used"})
    assert aside is not None
    assert [path.name for path in aside.iterdir()] == ["bundles.gone"]


def test_an_agent_that_is_turned_away_waits_as_asked_and_gets_in(tmp_path: Path) -> None:
    with agent(tmp_path) as running:
        until(lambda: running.home.hellos)
        running.home.turn_away = 1
        running.home.forget()
        until(lambda: len(running.home.hellos) == 2)
        [away] = running.home.turned_away
        assert running.home.greeted[1] - away >= 1.0
        assert running.process.poll() is None


def test_a_machine_on_which_no_job_can_start_says_that_it_is_to_blame(tmp_path: Path) -> None:
    with agent(tmp_path) as running:
        until(lambda: running.home.hellos)
        (running.node_dir / "run").rmdir()
        (running.node_dir / "run").write_text("not a folder")
        running.home.start("true")
        failed = running.home.fact("setup-failed")
        assert (failed["command"], failed["machine"]) == ("the node's directory", True)
        (running.node_dir / "run").unlink()
        running.home.start("true", generation=2)
        running.home.fact("exited", generation=2)
