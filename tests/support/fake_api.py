"""A daemon that answers from a script over a real unix socket: what a client meets, without a daemon."""

from __future__ import annotations

import json
import socketserver
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit


@dataclass
class Request:
    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Stream:
    """An answer in parts, chunked. `breaks`: the connection ends without the last chunk."""

    def __init__(self, *parts: bytes, media: str = "application/x-ndjson", breaks: bool = False) -> None:
        self.parts, self.media, self.breaks = parts, media, breaks


def log_line(generation: int, offset: int, text: str) -> bytes:
    """A part of a stream of logs, of rank 0."""
    return json.dumps({"generation": generation, "rank": 0, "offset": offset, "text": text}).encode() + b"\n"


class Refusal(Exception):
    def __init__(self, status: int, **problem: Any) -> None:
        self.status, self.problem = status, {"retryable": False, **problem}


Answer = Callable[[Request], Any]


@dataclass
class FakeApi:
    path: Path
    answers: dict[tuple[str, str], Answer] = field(default_factory=dict)
    seen: list[Request] = field(default_factory=list)

    def on(self, method: str, path: str, answer: Any) -> None:
        """`answer` is a value, or a function of the request; a list becomes the list answer."""
        self.answers[method, path] = answer if callable(answer) else lambda _: answer

    def answer(self, method: str, path: str) -> Answer | None:
        """The answer for a path, else the one of its folder ("/v1/bundles/*")."""
        folder = path.rpartition("/")[0] + "/*"
        return self.answers.get((method, path)) or self.answers.get((method, folder))

    def asked(self, method: str, path: str) -> list[Request]:
        return [r for r in self.seen if (r.method, r.path) == (method, path)]


class _Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True
    block_on_close = False  # a client that hangs on purpose holds up no other test
    api: FakeApi

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away in the middle is part of the play."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def address_string(self) -> str:
        return "unix"

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def _serve(self) -> None:
        url = urlsplit(self.path)
        body = self.rfile.read(int(self.headers.get("content-length") or 0))
        query = {k: v[0] for k, v in parse_qs(url.query).items()}
        headers = {k.lower(): v for k, v in self.headers.items()}
        request = Request(self.command, url.path, query, headers, body)
        api = self.server.api
        api.seen.append(request)
        answer = api.answer(self.command, url.path)
        self.close_connection = True
        try:
            if answer is None:
                raise Refusal(404, code="E404", message=f"no such thing: {url.path}", hint="dsched ps -a")
            made = answer(request)
        except Refusal as e:
            self._send(e.status, json.dumps({"error": e.problem}).encode())
            return
        if isinstance(made, Stream):
            self._stream(made)
        elif isinstance(made, bytes):
            self._send(200, made)
        else:
            value = {"v": 1, "items": made} if isinstance(made, list) else made
            self._send(200 if made is not None else 204, b"" if made is None else json.dumps(value).encode())

    do_GET = do_POST = do_PUT = _serve

    def _send(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _stream(self, stream: Stream) -> None:
        self.send_response(200)
        self.send_header("content-type", stream.media)
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()
        for part in stream.parts:
            self.wfile.write(b"%x\r\n%s\r\n" % (len(part), part))
            self.wfile.flush()
        if not stream.breaks:
            self.wfile.write(b"0\r\n\r\n")


@contextmanager
def serving(path: Path) -> Iterator[FakeApi]:
    api = FakeApi(path)
    server = _Server(str(path), _Handler)
    server.api = api
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield api
    finally:
        server.shutdown()
        server.server_close()
        thread.join(5)
