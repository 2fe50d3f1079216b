"""What systemd hears from us, and that nobody else's absence disturbs us."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from dsched.scheduler.wire.systemd import Watchdog


@pytest.fixture
def ear(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(str(tmp_path / "notify"))
        listening.settimeout(5)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        yield listening


def test_ready_and_alive_are_said(ear: socket.socket) -> None:
    watchdog = Watchdog.from_env()
    watchdog.ready()
    assert ear.recv(100).startswith(b"READY=1")
    watchdog.alive()
    assert ear.recv(100) == b"WATCHDOG=1"


async def test_signs_of_life_go_on_while_the_loop_turns(ear: socket.socket, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WATCHDOG_USEC", "3000")
    task = asyncio.create_task(Watchdog.from_env().stay_alive())
    for _ in range(3):
        assert await asyncio.to_thread(ear.recv, 100) == b"WATCHDOG=1"
    task.cancel()


async def test_without_a_watchdog_nothing_is_repeated(ear: socket.socket) -> None:
    await Watchdog.from_env().stay_alive()


def test_an_abstract_address_is_understood(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ear:
        ear.bind("\0dsched-test-notify")
        monkeypatch.setenv("NOTIFY_SOCKET", "@dsched-test-notify")
        Watchdog.from_env().alive()
        assert ear.recv(100) == b"WATCHDOG=1"


def test_nobody_to_tell_is_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    Watchdog.from_env().ready()
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "gone"))
    Watchdog.from_env().ready()
