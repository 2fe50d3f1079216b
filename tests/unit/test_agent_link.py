"""The agent's way home, alone: answers in every framing, answers that are none, and what is tried again."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress
from pathlib import Path

import pytest

from dsched.jobs.agent.client import Backoff, Link, LinkError


def serve(path: Path, *answers: bytes) -> None:
    """One answer per connection, whatever is asked."""
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(str(path))
    listening.listen()

    def work() -> None:
        with listening:
            for answer in answers:
                connection, _ = listening.accept()
                with connection, suppress(ConnectionError):  # who has read enough of an answer hangs up
                    connection.recv(65_536)
                    connection.sendall(answer)

    threading.Thread(target=work, daemon=True).start()


@pytest.mark.parametrize(
    ("answer", "body"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", b"hello"),
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nhel\r\n2;x=y\r\nlo\r\n0\r\n\r\n", b"hello"),
        (b"HTTP/1.0 200 OK\ncontent-length: 0\n\n", b""),
        (b"HTTP/1.1 204 No Content\r\n\r\n", b""),
    ],
)
def test_an_answer_is_read_in_every_framing(tmp_path: Path, answer: bytes, body: bytes) -> None:
    serve(tmp_path / "s", answer)
    link = Link(f"unix:{tmp_path}/s")
    assert link.request("GET", "/", timeout_s=5).body == body
    link.close()


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhel",
        b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n\r\nno length",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"a: b\r\n" * 200 + b"\r\n",
        b"HTTP/1.1 " + b"x" * 100_000,
        b"SSH-2.0-OpenSSH\r\n",
    ],
)
def test_an_answer_that_is_none_is_a_link_error(tmp_path: Path, answer: bytes) -> None:
    serve(tmp_path / "s", answer)
    with pytest.raises(LinkError):
        Link(f"unix:{tmp_path}/s").request("GET", "/", timeout_s=5)


def test_a_connection_that_was_closed_meanwhile_is_opened_again(tmp_path: Path) -> None:
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n"
    serve(tmp_path / "s", answer + b"a", answer + b"b")
    link = Link(f"unix:{tmp_path}/s")
    assert [link.request("GET", "/", timeout_s=5).body for _ in range(2)] == [b"a", b"b"]
    link.close()


@pytest.mark.parametrize("address", ["ftp://host", "host:80", "https://", ""])
def test_an_address_that_cannot_be_dialled_is_named(address: str) -> None:
    with pytest.raises(ValueError, match="unix:/path"):
        Link(address)


def test_a_backoff_grows_to_its_cap_and_starts_anew() -> None:
    backoff = Backoff(1.0, 5.0, lambda _low, high: high)
    assert [backoff.next_s() for _ in range(3)] == [3.0, 5.0, 5.0]
    backoff.reset()
    assert backoff.next_s() == 3.0
