"""A metadata service of both dialects on loopback; the test decides when the notice comes."""

from __future__ import annotations

import json
import secrets
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit


class FakeMetadata:
    def __init__(self, user_data: dict[str, object] | str, *, index: int = 0) -> None:
        """`user_data`: the agent's configuration, or a text that is told as it is."""
        text = user_data if isinstance(user_data, str) else json.dumps(user_data)
        self.user_data, self.index = text.encode(), index
        self.seen_at = 0.0  # monotonic: when the notice first went out
        self.gce_notice_ms = 0  # the attribute, where it is set
        self.gce_name = ""  # of a machine that was made in bulk: it has no attribute for its index
        self.tokens_granted = 0
        self.more: dict[str, bytes] = {}  # paths of AWS's dialect that a test adds
        self._changed = threading.Condition()
        self._tokens: set[str] = set()
        self._deadline: float | None = None
        self._rebalance = False
        self._server = _Server(("127.0.0.1", 0), _handler(self))
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def interrupt(self, in_s: float) -> None:
        with self._changed:
            self._deadline = time.time() + in_s
            self.gce_notice_ms = int(in_s * 1_000)
            self._changed.notify_all()

    def rebalance(self) -> None:
        self._rebalance = True

    def forget_tokens(self) -> None:
        self._tokens.clear()

    def close(self) -> None:
        self.interrupt(0)  # lets a hanging GET go
        self._server.shutdown()
        self._server.server_close()

    def put(self) -> tuple[int, bytes]:
        token = secrets.token_hex(8)
        self._tokens.add(token)
        self.tokens_granted += 1
        return 200, token.encode()

    def aws(self, path: str, token: str) -> tuple[int, bytes]:
        if token not in self._tokens:
            return 401, b""
        at = self._deadline
        if path.endswith("/spot/instance-action") and at is not None:
            self.seen_at = self.seen_at or time.monotonic()
            stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(at)) + f".{int(at % 1 * 1_000):03d}Z"
            return 200, json.dumps({"action": "terminate", "time": stamp}).encode()
        if path.endswith("/rebalance") and self._rebalance:
            return 200, json.dumps({"noticeTime": "2026-01-01T00:00:00Z"}).encode()
        told = {
            "/latest/user-data": self.user_data,
            "/latest/meta-data/ami-launch-index": str(self.index).encode(),
            "/latest/meta-data/instance-id": b"i-0123",
            "/latest/meta-data/instance-type": b"p5.48xlarge",
            "/latest/meta-data/local-ipv4": b"127.0.0.1",
            **self.more,
        }
        return (200, told[path]) if path in told else (404, b"")

    def gce(self, path: str, query: dict[str, list[str]]) -> tuple[int, bytes]:
        name = path.removeprefix("/computeMetadata/v1/instance/")
        if name == "preempted":
            if "wait_for_change" in query:
                with self._changed:
                    self._changed.wait_for(lambda: self._deadline is not None, float(query["timeout_sec"][0]))
            gone = self._deadline is not None
            if gone:
                self.seen_at = self.seen_at or time.monotonic()
            return 200, b"TRUE" if gone else b"FALSE"
        told = {
            "attributes/user-data": self.user_data,
            "attributes/launch-index": str(self.index).encode(),
            "zone": b"projects/1/zones/us-east5-a",
            "network-interfaces/0/ip": b"127.0.0.1",
        }
        if self.gce_name:
            told["name"] = self.gce_name.encode()
            del told["attributes/launch-index"]
        if self.gce_notice_ms:
            told["attributes/preemption-notice-ms"] = str(self.gce_notice_ms).encode()
        return (200, told[name]) if name in told else (404, b"")


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        return  # an agent that was killed in the middle of a call


def _handler(meta: FakeMetadata) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_PUT(self) -> None:
            self._answer(*meta.put())

        def do_GET(self) -> None:
            url = urlsplit(self.path)
            if url.path.startswith("/latest/"):
                self._answer(*meta.aws(url.path, self.headers.get("X-aws-ec2-metadata-token", "")))
            elif self.headers.get("Metadata-Flavor") != "Google":
                self._answer(403, b"")
            else:
                self._answer(*meta.gce(url.path, parse_qs(url.query)))

        def _answer(self, status: int, body: bytes) -> None:
            try:
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.send_header("ETag", body[:8].hex() or "0")
                self.end_headers()
                self.wfile.write(body)
            except OSError:
                self.close_connection = True  # the agent was killed meanwhile

        def log_message(self, *_: object) -> None:
            return

    return Handler
