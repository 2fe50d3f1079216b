"""A daemon as an agent sees it: the wire contract over a unix socket, in memory; a test can take it away and back."""

from __future__ import annotations

import json
import os
import socket
import socketserver
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

WAIT_S = 60.0  # a fact that does not come within this never comes


class FakeHome:
    """Keeps every fact and log byte. `down()`, `up()`: a daemon that restarts; `forget()`: only the session is lost."""

    def __init__(self, path: Path, *, lease_ms: int = 60_000) -> None:
        self.path, self.lease_ms = path, lease_ms
        self.facts: list[dict[str, Any]] = []
        self.arrived: list[float] = []  # monotonic, beside `facts`
        self.hellos: list[dict[str, Any]] = []
        self.greeted: list[float] = []  # monotonic, beside `hellos`
        self.logs: dict[tuple[str, int, int], bytearray] = {}
        self.bundles: dict[str, bytes] = {}
        self.status = 200  # of every call, where it is not 200
        self.log_status = 200
        self.refuse: Callable[[dict[str, Any]], bool] = lambda _fact: False  # 422 for the report that holds such a fact
        self.breaks: Callable[[dict[str, Any]], bool] = lambda _fact: False  # 500 for the report that holds such a fact
        self.turn_away = 0  # answer this many hellos with 429, a second to wait
        self.turned_away: list[float] = []  # monotonic
        self.lose_answers = 0  # take this many reports and close the connection instead of an answer
        self.changed = threading.Condition()
        self._orders: list[dict[str, Any]] = []
        self._reports: set[int] = set()
        self._session = 0
        self._server: _Server | None = None
        self.up()

    # -- the test's side ------------------------------------------------------------------------------------------

    def order(self, kind: str, **fields: Any) -> None:
        with self.changed:
            self._orders.append({"kind": kind, "seq": len(self._orders) + 1, **fields})
            self.changed.notify_all()

    def start(self, run: str, *, job: str = "job", generation: int = 1, **fields: Any) -> None:
        order: dict[str, Any] = {
            "job": job,
            "generation": generation,
            "run": run,
            "setup": [],
            "env": {},
            "secrets": {},
            "bundle": "",
            "ranks": [0],
            "world_size": 1,
            "master_addr": "127.0.0.1",
            "master_port": 29500,
            "checkpoint": "file:///nowhere",
            "resume": "",
            "interval_ms": 60_000,
            "drain_ms": 10_000,
            "hang_ms": 0,
        }
        self.order("start", **{**order, **fields})

    def stop(self, *, job: str = "job", generation: int = 1, grace_ms: int = 10_000) -> None:
        self.order("stop", job=job, generation=generation, grace_ms=grace_ms, reason="asked")

    def wait(self, what: Callable[[], Any]) -> Any:
        """The first true value of `what`, looked at after every change."""
        with self.changed:
            found = self.changed.wait_for(what, WAIT_S)
        assert found, f"never came; facts: {self.facts}"
        return found

    def fact(self, kind: str, **fields: Any) -> dict[str, Any]:
        """The first fact of this kind with these fields; waits for it."""
        return self.wait(
            lambda: next((f for f in self.facts if f["kind"] == kind and f.items() >= fields.items()), None)
        )

    def arrival(self, fact: dict[str, Any]) -> float:
        return self.arrived[self.facts.index(fact)]

    def log(self, job: str = "job", generation: int = 1, rank: int = 0) -> bytes:
        return bytes(self.logs.get((job, generation, rank), b""))

    def kinds(self, *without: str) -> list[str]:
        return [fact["kind"] for fact in self.facts if fact["kind"] not in without]

    def down(self) -> None:
        assert self._server is not None
        self._server.end()
        self._server = None

    def up(self) -> None:
        self.path.unlink(missing_ok=True)
        self.forget()
        self._server = _Server(self)

    def forget(self) -> None:
        """Like a restart: the next call with the old session is 401."""
        with self.changed:
            self._session += 1
            self.changed.notify_all()

    def close(self) -> None:
        if self._server is not None:
            self.down()

    # -- the wire ---------------------------------------------------------------------------------------------------

    def lease(self) -> dict[str, Any]:
        return {"lease_ms": self.lease_ms}

    def hello(self, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        with self.changed:
            if body["secret"] != "secret":
                return 403, {}
            if self.turn_away:
                self.turn_away -= 1
                self.turned_away.append(time.monotonic())
                return 429, {}
            self.hellos.append(body)
            self.greeted.append(time.monotonic())
            self.changed.notify_all()
            seq = 0 if len(self.hellos) == 1 else len(self._orders)
            return 200, {"session": str(self._session), "seq": seq, **self.lease()}

    def poll(self, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        with self.changed:
            if body["session"] != str(self._session):
                return 401, {}
            mine = self._session
            self.changed.wait_for(
                lambda: len(self._orders) > body["after"] or self._session != mine or self.status != 200,
                body["wait_ms"] / 1_000,
            )
            if self._session != mine:
                return 401, {}
            return self.status, {"orders": self._orders[body["after"] :], **self.lease()}

    def report(self, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        with self.changed:
            if body["session"] != str(self._session):
                return 401, {}
            if any(self.refuse(fact) for fact in body["facts"]):
                return 422, {}
            if any(self.breaks(fact) for fact in body["facts"]):
                return 500, {}
            if body["id"] not in self._reports:
                self._reports.add(body["id"])
                self.facts += body["facts"]
                self.arrived += [time.monotonic()] * len(body["facts"])
                self.changed.notify_all()
            if self.lose_answers:
                self.lose_answers -= 1
                return 0, {}
            return 200, self.lease()

    def take_log(self, query: dict[str, str], data: bytes) -> tuple[int, dict[str, Any]]:
        with self.changed:
            if query["session"] != str(self._session):
                return 401, {}
            if self.log_status != 200:
                return self.log_status, {}
            held = self.logs.setdefault((query["job"], int(query["generation"]), int(query["rank"])), bytearray())
            offset = int(query["offset"])
            if offset <= len(held):
                held[offset:] = data
            self.changed.notify_all()
            return 200, {"offset": len(held)}


class _Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True
    request_queue_size = 64

    def __init__(self, home: FakeHome) -> None:
        self._open: set[socket.socket] = set()
        super().__init__(str(home.path), _handler(home))
        self._thread = threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True)
        self._thread.start()

    def process_request(self, request: Any, client_address: Any) -> None:
        self._open.add(request)
        super().process_request(request, client_address)

    def handle_error(self, request: Any, client_address: Any) -> None:
        return  # an agent that was killed in the middle of a call

    def end(self) -> None:
        """As a kill does it: every connection breaks."""
        self.shutdown()
        self.server_close()
        for connection in list(self._open):
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue


def _chunked(data: bytes) -> bytes:
    pieces = [data[start : start + 1_000] for start in range(0, len(data), 1_000)]
    return b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in [*pieces, b""])


def _handler(home: FakeHome) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            url = urlsplit(self.path)
            raw = self.rfile.read(int(self.headers["Content-Length"]))
            if home.status != 200:
                self._answer(home.status, b"{}")
            elif url.path == "/agent/v1/logs":
                query = {name: values[0] for name, values in parse_qs(url.query).items()}
                self._json(home.take_log(query, raw))
            else:
                calls = {"hello": home.hello, "poll": home.poll, "report": home.report}
                self._json(calls[url.path.rpartition("/")[2]](json.loads(raw)))

        def do_GET(self) -> None:
            data = home.bundles.get(os.path.basename(self.path))
            if data is None:
                self._answer(404, b"")
            else:  # as a streaming framework does it
                self.send_response(200)
                self.send_header("Transfer-Encoding", "chunked")
                self.end_headers()
                self.wfile.write(_chunked(data))

        def _json(self, answer: tuple[int, dict[str, Any]]) -> None:
            self._answer(answer[0], json.dumps(answer[1]).encode())

        def _answer(self, status: int, body: bytes) -> None:
            if status == 0:
                self.close_connection = True
                return
            self.send_response(status)
            if status == 429:
                self.send_header("Retry-After", "1")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            return

        def address_string(self) -> str:
            return "agent"

    return Handler
