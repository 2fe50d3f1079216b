"""A job under an agent, and the same job without one."""

from __future__ import annotations

import json
import os
import select
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from dsched.jobs.runtime.contract import ContractError, Control, ControlFile, Environment, Runtime


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


Start = Callable[..., Runtime]


@pytest.fixture
def agent(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(tmp_path / "reports"))
        listener.setblocking(False)
        yield listener


@pytest.fixture
def start() -> Iterator[Start]:
    """Starts runtimes from the fields of their environment, and closes them."""
    with ExitStack() as stack:

        def begin(clock: Clock | None = None, **fields: Any) -> Runtime:
            run = Runtime(Environment(**fields), monotonic=clock or Clock())
            stack.callback(run.close)
            return run

        yield begin


def heard(agent: socket.socket) -> dict[str, Any]:
    body: dict[str, Any] = json.loads(agent.recv(65_536))
    return body


def write_control(path: Path, **fields: object) -> None:
    fresh = path.with_suffix(".new")
    fresh.write_text(json.dumps(fields))
    fresh.replace(path)


def test_without_an_agent_the_script_is_a_plain_program() -> None:
    env = Environment.read({})
    assert (env.generation, env.rank, env.world_size, env.checkpoint) == (None, 0, 1, "")
    run = Runtime(env)
    run.step(1, loss=2.0, tokens=512)
    run.done(1)
    assert not run.should_stop
    assert run.deadline_ms is None


@pytest.mark.parametrize(("name", "value"), [("RANK", "one"), ("WORLD_SIZE", "-1"), ("DSCHED_GENERATION", "2.5")])
def test_a_variable_that_is_no_number_is_named(name: str, value: str) -> None:
    with pytest.raises(ContractError, match=f"{name}='{value}'"):
        Environment.read({name: value})


def test_a_step_reaches_the_agent_with_its_generation_and_its_pace(
    tmp_path: Path, agent: socket.socket, start: Start
) -> None:
    clock = Clock()
    run = start(clock, job="j1", generation=3, socket=str(tmp_path / "reports"))
    run.step(7, loss=2.5, tokens=512, steps=100)
    first = heard(agent)
    assert (first["event"], first["job"], first["generation"], first["rank"]) == ("step", "j1", 3, 0)
    assert (first["step"], first["steps"], first["loss"]) == (7, 100, 2.5)
    assert "step_ms" not in first
    clock.now += 0.5
    run.step(8, loss=float("nan"), tokens=512)
    second = heard(agent)
    assert (second["step_ms"], second["tokens_per_s"]) == (500.0, 1024.0)
    assert "loss" not in second  # JSON has no NaN


def test_an_agent_that_is_gone_or_deaf_costs_nothing_and_hears_how_much_it_missed(tmp_path: Path, start: Start) -> None:
    run = start(socket=str(tmp_path / "reports"))
    run.step(1)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as late:
        late.bind(str(tmp_path / "reports"))
        for step in range(2, 5_000):  # nobody reads: the socket's queue fills
            run.step(step)
        told = [json.loads(late.recv(65_536))]
        assert told[0]["dropped"] == 1
        late.setblocking(False)
        while len(select.select([late], [], [], 0)[0]):
            late.recv(65_536)
        run.step(5_000)
        assert heard(late)["dropped"] > 4_000


def test_a_reason_of_any_length_is_reported(tmp_path: Path, agent: socket.socket, start: Start) -> None:
    start(socket=str(tmp_path / "reports")).unsaved(4, "no space " * 10_000)
    assert heard(agent)["reason"].startswith("no space")


def test_a_checkpoint_is_due_once_per_interval(tmp_path: Path) -> None:
    clock = Clock()
    write_control(tmp_path / "control", interval_ms=2_000)
    run = Runtime(Environment(control=str(tmp_path / "control")), monotonic=clock)
    assert not run.due(1)
    clock.now += 2.0
    assert run.due(2)
    assert not run.due(3)
    write_control(tmp_path / "control", interval_ms=500)  # the market has become stormier
    clock.now += 0.6
    assert run.due(4)


def test_asking_for_a_checkpoint_makes_one_due_and_only_one(tmp_path: Path) -> None:
    control = tmp_path / "control"
    write_control(control, interval_ms=60_000, checkpoint=4)
    run = Runtime(Environment(control=str(control)), monotonic=Clock())
    assert not run.due(1), "what was asked of an earlier process is not ours"
    write_control(control, interval_ms=60_000, checkpoint=5, deadline_ms=1_700_000_000_000)
    assert run.due(2)
    assert not run.due(3)
    assert run.deadline_ms == 1_700_000_000_000


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b'{"interval_ms": "soon"}', b"\xff", b"[" * 60_000, b" " * 70_000]
)
def test_a_control_file_that_makes_no_sense_changes_nothing(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "control"
    write_control(path, interval_ms=5_000, checkpoint=1)
    file = ControlFile(str(path))
    assert file.read() == Control(5_000, 1)
    path.write_bytes(content)
    assert file.read() == Control(5_000, 1)
    path.unlink()
    assert file.read() == Control(5_000, 1)


def test_sigterm_is_a_wish_that_the_loop_can_see() -> None:
    before = signal.getsignal(signal.SIGTERM)
    try:
        run = Runtime.from_env({})
        assert not run.should_stop
        os.kill(os.getpid(), signal.SIGTERM)
        assert run.should_stop
        run.close()
        os.kill(os.getpid(), signal.SIGTERM)  # too late to change the exit code
    finally:
        signal.signal(signal.SIGTERM, before)
