"""What a generation needs before its ranks start: the bundle, the set-up commands, the secrets."""

from __future__ import annotations

import hashlib
import io
import tarfile
from pathlib import Path

import pytest

from tests.support.agent import agent
from tests.support.home import FakeHome


def ship(home: FakeHome, files: dict[str, bytes], *, link: str = "") -> str:
    """A bundle with these files at the daemon; its SHA-256."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as tar:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
        if link:
            member = tarfile.TarInfo("link")
            member.type, member.linkname = tarfile.SYMTYPE, link
            tar.addfile(member)
    data = packed.getvalue()
    sha256 = hashlib.sha256(data).hexdigest()
    home.bundles[sha256] = data
    return sha256


def test_ranks_run_in_the_unpacked_bundle_and_set_up_runs_once(tmp_path: Path) -> None:
    with agent(tmp_path) as running:
        home = running.home
        bundle = ship(home, {"src/data": b"payload\n" * 2_000})
        setup = ["echo prepare; echo x >> prepared", 'test -n "$DSCHED_JOB"']
        for generation in (1, 2):
            home.start("wc -l < src/data; cat prepared", bundle=bundle, setup=setup, generation=generation)
            assert home.fact("exited", generation=generation)["exits"] == {"0": 0}
            home.wait(lambda g=generation: b"x\n" in home.log(generation=g))
        assert home.log(generation=1) == b"prepare\n2000\nx\n"
        assert home.log(generation=2) == b"2000\nx\n"
        home.start(
            "ls", bundle=bundle, setup=["echo other"], generation=3
        )  # another set-up: the directory is made anew
        home.fact("exited", generation=3)
        home.wait(lambda: home.log(generation=3) == b"other\nsrc\n")


@pytest.mark.parametrize("name", ["../outside", "/../outside", "a/../../outside"])
def test_a_bundle_that_leaves_its_directory_is_refused(tmp_path: Path, name: str) -> None:
    with agent(tmp_path) as running:
        running.home.start("echo ran", bundle=ship(running.home, {"fine": b"1", name: b"2"}))
        failed = running.home.fact("setup-failed")
        assert "outside" in failed["tail"]
        assert not list(tmp_path.rglob("outside"))
        assert "started" not in running.home.kinds()


def test_a_link_out_of_the_bundle_is_refused(tmp_path: Path) -> None:
    with agent(tmp_path) as running:
        running.home.start("cat link", bundle=ship(running.home, {"fine": b"1"}, link="/etc/passwd"))
        assert "link" in running.home.fact("setup-failed")["tail"]


def test_a_damaged_or_unknown_bundle_is_told(tmp_path: Path) -> None:
    with agent(tmp_path) as running:
        home = running.home
        good = ship(home, {"fine": b"1"})
        home.bundles[good] = home.bundles[good][:-1] + b"?"
        home.start("true", bundle=good, job="damaged")
        assert "SHA-256" in home.fact("setup-failed", job="damaged")["tail"]
        home.start("true", bundle="0" * 64, job="unknown")
        assert "404" in home.fact("setup-failed", job="unknown")["tail"]
        home.start("true", bundle="../../etc/passwd", job="hostile")
        assert "hexadecimal" in home.fact("setup-failed", job="hostile")["tail"]


def test_a_failing_set_up_command_is_told_with_its_last_words_and_tried_again(tmp_path: Path) -> None:
    with agent(tmp_path) as running:
        home = running.home
        setup = ["true", f"echo no such mirror >&2; (setsid sleep 1000 &); test -e {tmp_path}/mirror"]
        home.start("echo ran", setup=setup)
        failed = home.fact("setup-failed")
        assert (failed["command"], failed["code"]) == (setup[1], 1)
        assert "no such mirror" in failed["tail"]
        assert not [p for p in running.survivors() if "sleep" in p.name()]
        (tmp_path / "mirror").touch()
        home.start("echo ran", setup=setup, generation=2)
        home.fact("exited", generation=2, exits={"0": 0})


def test_a_stop_during_set_up_ends_it(tmp_path: Path) -> None:
    with agent(tmp_path) as running:
        running.home.start("echo ran", setup=["echo working; exec sleep 1000"])
        running.home.wait(lambda: b"working" in running.home.log())
        running.home.stop()
        ended = running.home.fact("exited")
        assert (ended["exits"], ended["drained"]) == ({}, True)


def test_secrets_are_resolved_on_the_node_and_told_to_nobody(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("canary-one\n")
    with agent(tmp_path, env={"NODE_TOKEN": "canary-two"}) as running:
        home = running.home
        home.start(
            f'printf %s "$A/$B" > {tmp_path}/got', secrets={"A": f"file:{tmp_path}/token", "B": "env:NODE_TOKEN"}
        )
        home.fact("exited", exits={"0": 0})
        assert (tmp_path / "got").read_text() == "canary-one/canary-two"
        home.start("true", job="lost", secrets={"A": "env:NODE_TOKEN", "C": "file:/nonexistent/token"})
        failed = home.fact("setup-failed", job="lost")
        assert (failed["command"], failed["tail"]) == ("secret C", "file:/nonexistent/token: No such file or directory")
        assert "canary" not in str(home.facts) + str(home.logs) + running.errors.read_text()


def test_a_job_whose_name_is_a_path_is_refused(tmp_path: Path) -> None:
    with agent(tmp_path) as running:
        running.home.start("true", job="../../job")
        assert running.home.fact("setup-failed")["command"] == "start"


def test_an_order_that_makes_no_sense_does_not_lose_the_next_one(tmp_path: Path) -> None:
    with agent(tmp_path) as running:
        running.home.order("start", job="job")
        running.home.order("dance")
        running.home.start("true", job="next")
        running.home.fact("exited", job="next", exits={"0": 0})


def test_a_command_too_long_for_the_kernel_ends_with_127(tmp_path: Path) -> None:
    with agent(tmp_path) as running:
        running.home.start("true " + "x" * 200_000)
        ended = running.home.fact("exited")
        assert ended["exits"] == {"0": 127}
        assert "cannot start" in ended["tail"]


def test_a_notice_during_set_up_ends_it_and_the_next_start_is_refused(tmp_path: Path) -> None:
    with agent(tmp_path) as running:
        home = running.home
        home.start("echo ran", setup=["echo working; exec sleep 1000"])
        home.wait(lambda: b"working" in home.log())
        running.meta.interrupt(4.0)
        ended = home.fact("exited", job="job")
        assert (ended["exits"], ended["drained"]) == ({}, True)
        home.start("echo ran", job="late")
        late = home.fact("exited", job="late")
        assert (late["exits"], late["drained"], late["tail"]) == ({}, True, "refused: the cloud takes this node")
        assert "started" not in home.kinds()
