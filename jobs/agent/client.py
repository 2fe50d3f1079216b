"""HTTP/1.1 over a unix socket, TCP or TLS: blocking, one kept connection, answers with a bound.

http.client would cost 15 ms at start and 6 MiB (it parses headers with the email package). Every call of the agent is
safe to repeat, so a connection that the other side closed meanwhile is opened again once without asking.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Mapping
from io import BufferedReader
from typing import Final, NamedTuple
from urllib.parse import urlsplit

BODY_MAX: Final = 16 * 1024 * 1024  # orders and metadata are kilobytes; a bundle goes to a sink with its own bound
LINE_MAX: Final = 16 * 1024
HEADERS_MAX: Final = 100
CONNECT_S: Final = 5.0
PIECE: Final = 256 * 1024

Sink = Callable[[bytes], object]


class LinkError(OSError):
    """No usable answer. Next: the same call again, later."""


class Answer(NamedTuple):
    status: int
    headers: dict[str, str]  # names in lower case
    body: bytes


class Link:
    """One address ("unix:/path", "http://host:port", "https://host:port"), one connection. For one thread at a time.

    `pin`: SHA-256 of the other side's certificate in hexadecimal; then only that one is spoken to, whoever signed it.
    """

    def __init__(self, address: str, pin: str = "") -> None:
        self.address, self._pin = address, pin
        self._socket: socket.socket | None = None
        self._reader: BufferedReader | None = None
        if address.startswith("unix:"):
            self._host = "localhost"
            return
        parts = urlsplit(address)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"not an address: {address!r}; use unix:/path, http://host:port or https://host:port")
        self._host = parts.netloc

    def request(
        self,
        method: str,
        path: str,
        body: bytes = b"",
        headers: Mapping[str, str] | None = None,
        *,
        timeout_s: float,
        sink: Sink | None = None,
        limit: int = BODY_MAX,
    ) -> Answer:
        """`timeout_s` bounds each wait for bytes. A body with status 200 goes to `sink` where one is given."""
        head = [f"{method} {path} HTTP/1.1", f"host: {self._host}", f"content-length: {len(body)}"]
        head += [f"{name}: {value}" for name, value in (headers or {}).items()]
        raw = ("\r\n".join(head) + "\r\n\r\n").encode("latin-1") + body
        try:
            reused = self._socket is not None
            try:
                status_line = self._send(raw, timeout_s)
            except (ConnectionError, EOFError):
                if not reused:
                    raise
                self.close()
                status_line = self._send(raw, timeout_s)
            return self._read(status_line, sink, limit)
        except (OSError, EOFError, ValueError) as error:
            self.close()
            raise LinkError(f"{method} {self.address}{path.partition('?')[0]}: {error}") from error

    def close(self) -> None:
        if self._reader is not None:
            self._reader.close()
        if self._socket is not None:
            self._socket.close()
        self._socket = self._reader = None

    def _send(self, raw: bytes, timeout_s: float) -> bytes:
        if self._socket is None:
            self._socket = self._connect()
            self._reader = self._socket.makefile("rb")
        self._socket.settimeout(timeout_s)
        self._socket.sendall(raw)
        if self._socket.family != socket.AF_UNIX:
            # A server that writes head and body apart waits for our ACK in between: 40 ms per call if we delay it.
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
        return self._line()

    def _connect(self) -> socket.socket:
        if self.address.startswith("unix:"):
            local = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            local.settimeout(CONNECT_S)
            try:
                local.connect(self.address.removeprefix("unix:"))
            except OSError:
                local.close()
                raise
            return local
        parts = urlsplit(self.address)
        assert parts.hostname is not None
        secure = parts.scheme == "https"
        plain = socket.create_connection((parts.hostname, parts.port or (443 if secure else 80)), CONNECT_S)
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if not secure:
            return plain
        import ssl  # only where the daemon is remote: 5 ms and 2 MiB that a local node never pays

        context = ssl.create_default_context()
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        if self._pin:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE  # the handshake still proves that the other side holds its key
        try:
            plain = context.wrap_socket(plain, server_hostname=parts.hostname)  # closes what it was given when it fails
            self._recognise(plain.getpeercert(binary_form=True))
        except OSError:
            plain.close()
            raise
        return plain

    def _recognise(self, certificate: bytes | None) -> None:
        """Raises ConnectionError before anything of ours was said."""
        if not self._pin:
            return
        import hashlib  # here alone, as above

        got = hashlib.sha256(certificate or b"").hexdigest()
        if got != self._pin:
            raise ConnectionError(f"the certificate has the SHA-256 {got}, not {self._pin}: this is not our daemon")

    def _line(self) -> bytes:
        assert self._reader is not None
        line = self._reader.readline(LINE_MAX)
        if not line.endswith(b"\n"):
            raise EOFError("the connection was closed" if not line else "a header line is too long or cut off")
        return line.rstrip(b"\r\n")

    def _read(self, status_line: bytes, sink: Sink | None, limit: int) -> Answer:
        version, _, rest = status_line.partition(b" ")
        if not version.startswith(b"HTTP/1."):
            raise ValueError(f"not HTTP: {status_line[:80]!r}")
        status = int(rest[:3])
        headers = self._headers()
        kept: list[bytes] = []
        take = sink if sink is not None and status == 200 else kept.append
        self._body(status, headers, take, limit)
        if headers.get("connection", "").lower() == "close":
            self.close()
        return Answer(status, headers, b"".join(kept))

    def _headers(self) -> dict[str, str]:
        headers: dict[str, str] = {}
        for _ in range(HEADERS_MAX):
            line = self._line()
            if not line:
                return headers
            name, _, value = line.decode("latin-1").partition(":")
            headers[name.strip().lower()] = value.strip()
        raise ValueError("too many headers")

    def _body(self, status: int, headers: Mapping[str, str], take: Sink, limit: int) -> None:
        if status in (204, 304):
            return
        if headers.get("transfer-encoding", "").lower() == "chunked":
            while size := int(self._line().partition(b";")[0], 16):
                limit -= size
                self._piece(size, take, limit)
                self._line()
            while self._line():  # trailers
                continue
            return
        if "content-length" not in headers:
            raise ValueError("an answer without a length")
        size = int(headers["content-length"])
        self._piece(size, take, limit - size)

    def _piece(self, size: int, take: Sink, left: int) -> None:
        if left < 0 or size < 0:
            raise ValueError("the answer is larger than its bound")
        assert self._reader is not None
        while size:
            data = self._reader.read(min(size, PIECE))
            if not data:
                raise EOFError("the answer was cut off")
            size -= len(data)
            take(data)


class Backoff:
    """Decorrelated jitter: each wait is between the base and three times the last one, up to a cap."""

    def __init__(self, base_s: float, cap_s: float, uniform: Callable[[float, float], float]) -> None:
        self._base, self._cap, self._uniform = base_s, cap_s, uniform
        self._last = base_s

    def next_s(self) -> float:
        self._last = min(self._cap, self._uniform(self._base, self._last * 3))
        return self._last

    def reset(self) -> None:
        self._last = self._base
