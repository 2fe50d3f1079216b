"""The typed client, blocking and async, against a scripted daemon: refusals, broken lines, resuming."""

from __future__ import annotations

import io
import json
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dsched.scheduler.api.asynchronous import Client as AsyncClient
from dsched.scheduler.api.client import Client, ClientError, Lost, NoDaemon, Refused
from tests.support.fake_api import FakeApi, Refusal, Request, Stream, serving
from tests.tui import fleet


@pytest.fixture
def api(tmp_path: Path) -> Iterator[FakeApi]:
    with serving(tmp_path / "api.sock") as fake:
        yield fake


def line(offset: int, text: str, generation: int = 1) -> bytes:
    return json.dumps({"generation": generation, "rank": 0, "offset": offset, "text": text}).encode() + b"\n"


def test_a_missing_socket_and_a_stale_one_are_no_daemon(tmp_path: Path) -> None:
    with pytest.raises(NoDaemon, match="no such file or directory"):
        Client(str(tmp_path / "none.sock")).health()
    with socket.socket(socket.AF_UNIX) as left_over:
        left_over.bind(str(tmp_path / "stale.sock"))
    with pytest.raises(NoDaemon, match="connection refused"):
        Client(str(tmp_path / "stale.sock")).health()
    with pytest.raises(NoDaemon, match="too long"):
        Client(str(tmp_path / ("x" * 200))).health()


def test_a_refusal_carries_its_problem(api: FakeApi) -> None:
    def refuse(_: Request) -> None:
        raise Refusal(409, code="E409", message="j1 is paused", hint="dsched resume j1")

    api.on("POST", "/v1/jobs/j1/pause", refuse)
    with pytest.raises(Refused) as refused:
        Client(str(api.path)).act("j1", "pause")
    assert refused.value.status == 409
    assert refused.value.problem["hint"] == "dsched resume j1"


def test_what_is_no_answer_of_ours_is_said(api: FakeApi) -> None:
    api.on("GET", "/v1/health", b"<html>")
    with pytest.raises(Lost, match="not an answer of a dsched daemon"):
        Client(str(api.path), resume=0).health()


@pytest.mark.parametrize("sent", [b"", b'{"items": [', b'{"items": []'])
def test_an_answer_that_breaks_off_is_lost_wherever_it_broke(tmp_path: Path, sent: bytes) -> None:
    path = tmp_path / "api.sock"
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
        server.listen()

        def answer() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(4_096)
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 13\r\n\r\n" + sent)

        daemon = threading.Thread(target=answer)
        daemon.start()
        with pytest.raises(Lost, match="went away in the middle of an answer"):
            Client(str(path), resume=0).nodes()
        daemon.join()


def test_names_are_quoted_into_the_path(api: FakeApi) -> None:
    with pytest.raises(Refused):
        Client(str(api.path)).job("../nodes?x=1#y")
    assert api.seen[0].path == "/v1/jobs/..%2Fnodes%3Fx%3D1%23y"


def _cut_off(times: int, api: FakeApi, path: str, answer: Any) -> Any:
    """An answer whose connection breaks before its end, so many times."""

    def respond(_: Request) -> Any:
        if len([r for r in api.seen if r.path == path]) <= times:
            return Stream(b'{"id"', breaks=True)
        return answer

    return respond


def test_a_submission_with_a_key_is_repeated_until_it_is_answered(api: FakeApi) -> None:
    api.on("POST", "/v1/jobs", _cut_off(2, api, "/v1/jobs", fleet.job()))
    assert Client(str(api.path)).submit({"spec": {}, "key": "k"})["id"] == "j12"
    assert [r.json["key"] for r in api.seen] == ["k", "k", "k"]


def test_what_may_not_be_repeated_is_asked_once(api: FakeApi) -> None:
    api.on("POST", "/v1/jobs", _cut_off(1, api, "/v1/jobs", fleet.job()))
    with pytest.raises(Lost):
        Client(str(api.path)).submit({"spec": {}})
    assert len(api.seen) == 1


def test_a_bundle_goes_up_as_it_is(api: FakeApi) -> None:
    api.on("PUT", "/v1/bundles/ab", None)
    Client(str(api.path)).upload("ab", io.BytesIO(b"x" * 100_000), 100_000)
    assert api.seen[0].body == b"x" * 100_000


def test_a_log_without_follow_does_not_hide_that_it_broke_off(api: FakeApi) -> None:
    api.on("GET", "/v1/jobs/j1/logs", Stream(line(5, "one"), breaks=True))
    lines = Client(str(api.path)).logs("j1")
    assert next(lines)["text"] == "one"
    with pytest.raises(Lost):
        next(lines)


def test_a_line_may_come_in_pieces(api: FakeApi) -> None:
    whole = line(5, "one") + line(9, "zwölf")
    api.on("GET", "/v1/jobs/j1/logs", Stream(*(whole[i : i + 3] for i in range(0, len(whole), 3))))
    assert [entry["text"] for entry in Client(str(api.path)).logs("j1")] == ["one", "zwölf"]


def sse(kind: str, data: Any) -> bytes:
    return f"event: {kind}\ndata: {json.dumps(data)}\n\n".encode()


async def test_the_feed_is_a_snapshot_deltas_and_signs_of_life(api: FakeApi) -> None:
    frames = sse("snapshot", {"seq": 1}), b": alive\n\n", sse("delta", {"seq": 2})
    whole = b"".join(frames)
    api.on("GET", "/v1/feed", Stream(*(whole[i : i + 7] for i in range(0, len(whole), 7)), media="text/event-stream"))
    heard = [(kind, feed and feed["seq"]) async for kind, feed in AsyncClient(str(api.path)).feed()]
    assert heard == [("snapshot", 1), ("", None), ("delta", 2)]


async def test_a_feed_that_breaks_off_is_lost(api: FakeApi) -> None:
    api.on("GET", "/v1/feed", Stream(sse("snapshot", {"seq": 1}), media="text/event-stream", breaks=True))
    heard = []

    async def listen() -> None:
        async for kind, _ in AsyncClient(str(api.path)).feed():
            heard.append(kind)

    with pytest.raises(Lost):
        await listen()
    assert heard == ["snapshot"]


async def test_async_failures_are_the_same_as_blocking_ones(api: FakeApi, tmp_path: Path) -> None:
    async def first(client: AsyncClient) -> object:
        return await anext(client.feed())

    with pytest.raises(NoDaemon, match="no daemon at"):
        await first(AsyncClient(str(tmp_path / "none.sock")))
    with pytest.raises(Refused, match="no such thing: /v1/feed"):
        await first(AsyncClient(str(api.path)))


async def test_async_logs_and_calls(api: FakeApi) -> None:
    api.on("GET", "/v1/jobs/j1/logs", Stream(line(5, "one"), b"\n", line(9, "two")))
    api.on("GET", "/v1/jobs", [fleet.job()])
    client = AsyncClient(str(api.path))
    assert [entry["text"] async for entry in client.logs("j1")] == ["one", "two"]
    assert [job["id"] for job in await client.call(client.calls.jobs, all=True)] == ["j12"]


async def test_what_speaks_no_http_is_lost_and_not_a_crash(tmp_path: Path) -> None:
    import asyncio

    async def rude(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"SSH-2.0-OpenSSH\r\n")
        writer.close()

    async with await asyncio.start_unix_server(rude, str(tmp_path / "api.sock")):
        with pytest.raises(ClientError):
            await anext(AsyncClient(str(tmp_path / "api.sock")).feed())
