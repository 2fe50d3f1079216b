"""A workdir by a link near the machine: taken where it is right, and never trusted."""

from __future__ import annotations

import hashlib
import io
import tarfile
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.support.agent import agent


def bundle(word: bytes) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as tar:
        entry = tarfile.TarInfo("word")
        entry.size = len(word)
        tar.addfile(entry, io.BytesIO(word))
    return packed.getvalue()


class Near(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.body: bytes | None = b""
        self.asked: list[str] = []


class Handler(BaseHTTPRequestHandler):
    server: Near

    def do_GET(self) -> None:
        self.server.asked.append(self.path)
        self.send_response(404 if self.server.body is None else 200)
        body = self.server.body or b""
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        return


@pytest.fixture
def near() -> Iterator[Near]:
    with Near() as near:
        serving = threading.Thread(target=near.serve_forever, args=(0.02,))
        serving.start()
        yield near
        near.shutdown()
        serving.join()


@pytest.mark.parametrize("there", [b"right", b"wrong", None])
def test_the_workdir_is_the_right_one_wherever_it_came_from(near: Near, tmp_path: Path, there: bytes | None) -> None:
    right = bundle(b"right")
    near.body = None if there is None else bundle(there)
    link = f"http://127.0.0.1:{near.server_address[1]}/bucket/x?sig=1&n=2"
    digest = hashlib.sha256(right).hexdigest()
    with agent(tmp_path) as running:
        if there != b"right":
            running.home.bundles[digest] = right
        running.home.start(f"cat word > {tmp_path}/got", bundle=digest, bundle_link=link)
        assert running.home.fact("exited")["exits"] == {"0": 0}
    assert (tmp_path / "got").read_bytes() == b"right"
    assert near.asked == ["/bucket/x?sig=1&n=2"]
