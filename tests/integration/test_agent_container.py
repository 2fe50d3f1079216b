"""Ranks in a container, by an engine that is only played: no docker runs where the tests do.

The played one does what matters to the agent: what runs in a container is not the engine's command but its service's,
has a session of its own, and no variable but those that were named.
"""

from __future__ import annotations

import json
import os
import socketserver
import subprocess
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.support.agent import agent
from tests.support.house import marked, wait_for

ENGINE = """#!/usr/bin/env python3
import json, os, signal, socket, sys
words = sys.argv[1:]
with open(os.environ["PLAYED"] + "/asked", "a") as log:
    log.write("\\t".join(words) + "\\n")
if words[:2] == ["image", "inspect"]:
    sys.exit(0 if words[2] == "here" else 1)
if words[0] == "pull":
    sys.exit(0 if words[-1] == "there" else 1)
named = [words[n + 1] for n, word in enumerate(words) if word == "--env"]
inside = {name: os.environ[name] for name in named} | {"PATH": os.environ["PATH"], "HOME": "/nowhere"}
told = {"command": words[words.index("-c") + 1], "env": inside, "cwd": words[words.index("--workdir") + 1]}
service = socket.socket(socket.AF_UNIX)
service.connect(os.environ["PLAYED"] + "/engine.sock")
lines = service.makefile("rw")
print(json.dumps(told), file=lines, flush=True)
pid = int(lines.readline())
signal.signal(signal.SIGTERM, lambda *_: os.kill(pid, signal.SIGTERM))
sys.exit(int(lines.readline()))
"""


class Service(socketserver.StreamRequestHandler):
    """Starts what is to run in a container: its child, and not the command's that asked for it."""

    def handle(self) -> None:
        told = json.loads(self.rfile.readline())
        box = subprocess.Popen(
            ["/bin/sh", "-c", told["command"]], env=told["env"], cwd=told["cwd"], start_new_session=True
        )
        self.wfile.write(b"%d\n" % box.pid)
        code = box.wait()
        with suppress(OSError):  # whoever asked may be dead
            self.wfile.write(b"%d\n" % (code if code >= 0 else 128 - code))


@pytest.fixture
def played(tmp_path: Path) -> Iterator[dict[str, str]]:
    engine = tmp_path / "bin" / "docker"
    engine.parent.mkdir()
    engine.write_text(ENGINE)
    engine.chmod(0o755)
    with socketserver.ThreadingUnixStreamServer(str(tmp_path / "engine.sock"), Service) as service:
        serving = threading.Thread(target=service.serve_forever, args=(0.02,))
        serving.start()
        yield {"PATH": f"{engine.parent}:{os.environ['PATH']}", "PLAYED": str(tmp_path)}
        service.shutdown()
        serving.join()


def asked(folder: Path) -> list[list[str]]:
    return [line.split("\t") for line in (folder / "asked").read_text().splitlines()]


def test_a_rank_runs_in_its_image_with_the_contract_and_by_name_alone(tmp_path: Path, played: dict[str, str]) -> None:
    with agent(tmp_path, env=played) as running:
        running.home.start(
            f"env > {tmp_path}/env; pwd > {tmp_path}/pwd", image="here", env={"SECRET": "s3cr3t"} | played
        )
        assert running.home.fact("exited")["exits"] == {"0": 0}
        inside = dict(line.split("=", 1) for line in (tmp_path / "env").read_text().splitlines() if "=" in line)
        assert (inside["SECRET"], inside["RANK"], inside["HOME"]) == ("s3cr3t", "0", "/nowhere")
        assert Path((tmp_path / "pwd").read_text().strip()).name == "job"
    [run] = [words for words in asked(tmp_path) if words[0] == "run"]
    assert "s3cr3t" not in " ".join(run)
    assert {"--rm", "--init", "host"} <= set(run)
    assert "--gpus" not in run


def test_what_runs_in_a_container_is_told_to_stop_and_its_code_is_the_ranks(
    tmp_path: Path, played: dict[str, str]
) -> None:
    with agent(tmp_path, env=played) as running:
        run = f"trap 'exit 75' TERM; touch {tmp_path}/up; while :; do sleep 0.05; done"
        running.home.start(run, image="here", env=played)
        wait_for((tmp_path / "up").exists, "the rank")
        running.home.stop()
        fact = running.home.fact("exited")
        assert (fact["exits"], fact["drained"]) == ({"0": 75}, True)


def test_nothing_of_a_container_outlives_its_generation(tmp_path: Path, played: dict[str, str]) -> None:
    """The engine's processes are not below the agent, and a SIGKILL to its command reaches none of them."""
    with agent(tmp_path, env=played) as running:
        run = f"trap '' TERM; touch {tmp_path}/up; while :; do sleep 0.05; done"
        running.home.start(run, image="here", env=played | {"BOX": str(tmp_path)})
        wait_for((tmp_path / "up").exists, "the rank")
        running.home.stop(grace_ms=100)
        running.home.fact("exited")
        assert not marked(f"BOX={tmp_path}".encode())


def test_an_image_that_cannot_be_had_is_named(tmp_path: Path, played: dict[str, str]) -> None:
    with agent(tmp_path, env=played) as running:
        running.home.start("true", image="nowhere", env=played)
        fact = running.home.fact("setup-failed")
        assert (fact["command"], fact["code"], fact.get("machine", False)) == ("the container's image", 1, False)


def test_a_machine_without_an_engine_says_so_and_is_to_blame(tmp_path: Path) -> None:
    bare = tmp_path / "bare"
    bare.mkdir()
    for tool in ("sh", "env"):
        (bare / tool).symlink_to(f"/bin/{tool}" if tool == "sh" else "/usr/bin/env")
    with agent(tmp_path, env={"PATH": str(bare)}) as running:
        running.home.start("true", image="here")
        fact = running.home.fact("setup-failed")
        assert fact["machine"] is True
        assert "no docker and no podman on this machine" in fact["tail"]
