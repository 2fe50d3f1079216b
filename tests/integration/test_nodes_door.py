"""The door for machines far away: what an agent says there by TLS, and what everybody else is not told."""

from __future__ import annotations

import asyncio
import json
import socket
import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from dsched.jobs.agent.client import Answer, Link, LinkError
from dsched.scheduler.api import nodes
from dsched.scheduler.api.nodes import serve_nodes
from dsched.scheduler.api.ports import Extras
from dsched.scheduler.bringup.certificate import own_certificate
from dsched.scheduler.wire.agent import SECRET_HEADER
from tests.support.office import SPEC, Office, office
from tests.support.stage import offer

CODE = b"the agent"


@dataclass
class Door:
    built: Office
    port: int
    pin: str
    node: str

    @property
    def address(self) -> str:
        return f"https://127.0.0.1:{self.port}"

    async def ask(self, method: str, path: str, body: Any = None, *, session: str = "", pin: str = "") -> Answer:
        """By the agent's own client, in a thread."""
        link = Link(self.address, pin or self.pin)
        raw = b"" if body is None else json.dumps(body).encode()
        headers = {"content-type": "application/json", SECRET_HEADER: session}
        try:
            return await asyncio.to_thread(lambda: link.request(method, path, raw, headers, timeout_s=20))
        finally:
            link.close()

    async def hello(self) -> dict[str, Any]:
        body = {"node": self.node, "secret": self.built.secret(self.node), "boot": "b", "pid": 1, "cpus": 1}
        answer = await self.ask(
            "POST", "/agent/v1/hello", {**body, "memory_mib": 1, "gpus": [], "running": [], "metadata": {}}
        )
        assert answer.status == 200, answer.body
        welcome: dict[str, Any] = json.loads(answer.body)
        return welcome


@pytest.fixture
async def door(tmp_path: Path) -> AsyncIterator[Door]:
    certificate, ready = own_certificate(tmp_path), asyncio.get_running_loop().create_future()
    async with office(tmp_path, extras=Extras(code={sha256(CODE).hexdigest(): CODE})) as built:
        serving = serve_nodes(built.app, "127.0.0.1", 0, certificate.context(), built.stop, ready=ready)
        listening = asyncio.create_task(serving)
        await built.offers(offer("use1-az1", 20.0))
        async with built.client() as http:
            assert (await http.post("/v1/jobs", json={"spec": SPEC})).status_code == 201
        (node,) = await built.launch()
        yield Door(built, await ready, certificate.pin, node)
        built.stop.set()
        await listening


async def test_an_agent_says_all_that_it_has_to_say(door: Door) -> None:
    session = (await door.hello())["session"]
    polled = await door.ask(
        "POST", "/agent/v1/poll", {"node": door.node, "session": session, "after": 0, "wait_ms": 0}, session=session
    )
    (order,) = json.loads(polled.body)["orders"]
    assert (order["kind"], order["run"]) == ("start", "train")
    fact = {"kind": "started", "job": order["job"], "generation": 1, "at": 1}
    told = {"node": door.node, "session": session, "id": 1, "facts": [fact]}
    assert (await door.ask("POST", "/agent/v1/report", told, session=session)).status == 200


async def test_nobody_but_the_pinned_daemon_hears_a_word(door: Door) -> None:
    with pytest.raises(LinkError, match="this is not our daemon"):
        await door.ask("POST", "/agent/v1/hello", {}, pin="0" * 64)


async def test_without_a_pin_a_certificate_of_nobody_is_not_trusted(door: Door) -> None:
    link = Link(door.address)
    with pytest.raises(LinkError, match="CERTIFICATE_VERIFY_FAILED"):
        await asyncio.to_thread(lambda: link.request("GET", "/", timeout_s=20))


async def test_older_tls_and_plain_http_get_no_answer(door: Door) -> None:
    def older() -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        with socket.create_connection(("127.0.0.1", door.port), 20) as plain:
            context.wrap_socket(plain)

    with pytest.raises((ssl.SSLError, ConnectionError)):
        await asyncio.to_thread(older)
    link = Link(f"http://127.0.0.1:{door.port}")
    with pytest.raises(LinkError):
        await asyncio.to_thread(lambda: link.request("GET", "/agent/v1/hello", timeout_s=20))


async def test_without_a_session_only_a_hello_is_heard_and_the_code_handed_out(door: Door) -> None:
    got = await door.ask("GET", f"/agent/v1/code/{sha256(CODE).hexdigest()}")
    assert (got.status, got.body) == (200, CODE)
    assert (await door.ask("GET", f"/agent/v1/code/{'0' * 64}")).status == 404
    for method, path in (
        ("POST", "/agent/v1/poll"),
        ("GET", "/v1/jobs"),
        ("GET", "/openapi.json"),
        ("GET", "/v1/health"),
    ):
        assert (await door.ask(method, path, {}, session="made up")).status == 401, path


async def test_what_people_ask_is_not_there_for_an_agent_either(door: Door) -> None:
    session = (await door.hello())["session"]
    for path in ("/v1/jobs", "/v1/health", "/v1/events", "/openapi.json"):
        assert (await door.ask("GET", path, session=session)).status == 404, path


@pytest.mark.parametrize("said", [b"", b"POST /agent/v1/hello HTTP/1.1\r\nhost: h\r\ncontent-length: 100\r\n\r\n{"])
async def test_who_does_not_say_what_they_want_is_let_go(
    door: Door, monkeypatch: pytest.MonkeyPatch, said: bytes
) -> None:
    monkeypatch.setattr(nodes, "ASKING_S", 0.2)

    def wait() -> bytes:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        with (
            socket.create_connection(("127.0.0.1", door.port), 20) as plain,
            context.wrap_socket(plain) as secure,
        ):
            secure.sendall(said)
            return secure.recv(64)

    assert await asyncio.to_thread(wait) == b""


async def test_a_stranger_is_answered_before_its_body_is_read(door: Door) -> None:
    def announce() -> bytes:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        with (
            socket.create_connection(("127.0.0.1", door.port), 20) as plain,
            context.wrap_socket(plain) as secure,
        ):
            secure.sendall(b"POST /agent/v1/report HTTP/1.1\r\nhost: h\r\ncontent-length: 1000000\r\n\r\n")
            return secure.recv(64)

    assert (await asyncio.to_thread(announce)).startswith(b"HTTP/1.1 401")
