"""The short names of nodes' socket folders: made, taken by cleaners, and cleared away when their node is dead."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from dsched.jobs.agent import sockets
from dsched.jobs.agent.sockets import PATH_MAX, Sockets, forget_dead

MARK = "0123456789abcdef"


@pytest.fixture
def deep(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A node's directory with a long path; short names lie in a folder of this test's own."""
    short = tmp_path / "short"
    short.mkdir()
    monkeypatch.setattr(sockets, "SHORT", short)
    return tmp_path / ("d" * PATH_MAX) / "node"


def bind(folder: Path) -> None:
    """A socket in this folder, by whatever path is short enough for the test's own folder."""
    before = Path.cwd()
    os.chdir(folder)
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as one:
            one.bind("0")
    finally:
        os.chdir(before)


@contextmanager
def at_every_line(act: Callable[[], object]) -> Iterator[None]:
    """`act` runs before each line of Python that the block executes, in the library too: as another process might."""

    def trace(_frame: FrameType, event: str, _arg: Any) -> Any:
        if event == "line":
            sys.settrace(None)
            act()
            sys.settrace(trace)
        return trace

    sys.settrace(trace)
    try:
        yield
    finally:
        sys.settrace(None)


def test_a_name_that_is_just_being_made_is_not_taken_for_a_dead_nodes(deep: Path, tmp_path: Path) -> None:
    with at_every_line(lambda: forget_dead(tmp_path / "another" / "run")):
        made = Sockets(deep, MARK)
    assert made.litter
    assert Path(made.litter).is_dir()
    bind(Path(made.litter))


def test_a_name_that_a_cleaner_took_is_made_again_for_the_next_socket(deep: Path) -> None:
    made = Sockets(deep, MARK)
    Path(made.litter).unlink()
    bind(made.place())


def test_the_names_of_dead_nodes_and_of_an_agent_that_was_killed_here_are_cleared_away(deep: Path) -> None:
    short = sockets.SHORT
    (short / "dsched-dead").symlink_to(deep.parent / "gone")
    (short / "dsched-strange").mkdir()
    (short / "another").symlink_to(deep.parent / "gone")
    first = Sockets(deep, MARK)
    second = Sockets(deep, MARK[::-1])
    assert {path.name for path in short.iterdir()} == {"dsched-strange", "another", Path(second.litter).name}
    assert first.litter != second.litter


def test_a_short_path_needs_no_second_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    made = Sockets(Path("node"), MARK)
    assert made.litter == ""
    assert made.place() == Path("node/run")
