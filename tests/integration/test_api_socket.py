"""The socket: who may connect, who is at the other end, and what becomes of an old one."""

from __future__ import annotations

import asyncio
import os
import socket
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from dsched.scheduler.api.serve import SocketTaken, listening
from tests.support.office import office

ASK = """
import http.client, os, socket, sys
os.setgroups([]); os.setgid(int(sys.argv[2])); os.setuid(int(sys.argv[2]))
sock = socket.socket(socket.AF_UNIX); sock.connect(sys.argv[1])
call = http.client.HTTPConnection("x"); call.sock = sock
call.request("PUT", "/v1/budgets/default", '{"limit": "1"}')
answer = call.getresponse(); print(answer.status, answer.read().decode())
"""


async def test_the_socket_is_for_owner_and_group(tmp_path: Path) -> None:
    async with office(tmp_path) as built:
        mode = built.socket.stat().st_mode
        assert (stat.S_ISSOCK(mode), stat.S_IMODE(mode)) == (True, 0o660)
    assert not built.socket.exists()


def test_a_dead_daemons_socket_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "api.sock"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(os.fspath(path))
    with listening(path), socket.socket(socket.AF_UNIX) as client:
        client.connect(os.fspath(path))


def test_a_living_daemons_socket_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "api.sock"
    with listening(path):
        with pytest.raises(SocketTaken, match="a daemon answers"), listening(path):
            pass
        assert path.exists()
    assert not path.exists()


def test_a_file_in_the_sockets_place_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "api.sock"
    path.write_text("mine")
    with pytest.raises(SocketTaken, match="not a socket"), listening(path):
        pass
    assert path.read_text() == "mine"


def test_a_path_too_long_for_a_socket_is_said(tmp_path: Path) -> None:
    with pytest.raises(SocketTaken, match="DSCHED_STATE"), listening(tmp_path / ("x" * 110)):
        pass


def test_a_successors_socket_is_not_removed(tmp_path: Path) -> None:
    path = tmp_path / "api.sock"
    with listening(path):
        path.unlink()
        with socket.socket(socket.AF_UNIX) as successor:
            successor.bind(os.fspath(path))
    assert path.exists()


@pytest.mark.skipif(os.getuid() != 0, reason="needs to become another user")
async def test_another_user_is_a_viewer_and_may_not_set_budgets(tmp_path: Path) -> None:
    async with office(tmp_path) as built:
        os.chmod(built.socket, 0o666)
        for folder in (tmp_path, *tmp_path.parents[:-2]):
            os.chmod(folder, 0o755)
        call = [sys.executable, "-c", ASK, str(built.socket), "4000000"]
        asked = await asyncio.to_thread(subprocess.run, call, capture_output=True, text=True, check=True)
        status, _, body = asked.stdout.partition(" ")
        assert status == "403"
        assert "uid-4000000 is a viewer and may not budget" in body
        assert "default" not in built.state.budgets


async def test_a_request_cut_in_the_middle_harms_nobody(tmp_path: Path) -> None:
    async with office(tmp_path) as built, built.client() as http:
        reader, writer = await asyncio.open_unix_connection(built.socket)
        writer.write(b"POST /v1/jobs HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\n{")
        await writer.drain()
        writer.close()
        assert (await http.get("/v1/health")).status_code == 200
        reader, writer = await asyncio.open_unix_connection(built.socket)
        writer.write(b"\x00\xff nonsense\r\n\r\n")
        assert b"400" in await reader.readline()
        writer.close()
