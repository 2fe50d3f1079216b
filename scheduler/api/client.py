"""The daemon's API as typed calls over its unix socket. Blocking, and light enough for a command that lives 100 ms.

Every failure is a ClientError that carries a Problem: what happened, what to do, and whether to try again. A connection
that breaks in the middle of a repeatable call is tried again for a few seconds: the daemon may just be restarting.
"""

from __future__ import annotations

import errno
import http.client
import json
import re
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from typing import IO, Any, Final, cast
from urllib.parse import quote, urlencode

from dsched.scheduler.api.decode import Decoder, Message
from dsched.scheduler.wire.api import (
    JOBS_MAX,
    Act,
    Attempt,
    Bill,
    Budget,
    Check,
    Event,
    Health,
    Job,
    LogLine,
    Money,
    Node,
    Offer,
    Plan,
    Problem,
    Submit,
    Trial,
)
from dsched.scheduler.wire.knowledge import Calibration, Commitments

TIMEOUT_S: Final = 15.0  # an answer takes milliseconds; a plan over a full market well under a second
STREAM_TIMEOUT_S: Final = 45.0  # the daemon says something every 10 s, if only that it is there
RESUME_S: Final = 10.0  # how long a restart of the daemon may take before we give up; its goal is 1 s
_PAUSE_S: Final = 0.1  # between attempts within RESUME_S
_PART: Final = 65_536  # bytes read at a time of a stream
_PAGE: Final = re.compile(r'\{"v": ?\d+, ?(?:"more": ?(\d+), ?)?"items": ?\[')  # how an answer with a list begins
ANSWER_MAX: Final = 256 * 1024 * 1024  # bytes; 10,000 jobs are 10 MB


class ClientError(Exception):
    """The call did not succeed; `problem` says why and what to do."""

    def __init__(self, problem: Problem, status: int = 0) -> None:
        self.problem = problem
        self.status = status  # HTTP, 0 when there was no answer
        super().__init__(problem["message"])


class NoDaemon(ClientError):
    """Nobody listens. Next: start a daemon."""


class Lost(ClientError):
    """The connection broke before the answer was complete. Next: ask again; a submission with a key may be repeated."""


class Refused(ClientError):
    """The daemon answered, and the answer is no."""


class Client:
    """One daemon. Opens a connection per call: over a unix socket that costs 40 microseconds."""

    def __init__(self, path: str, timeout: float = TIMEOUT_S, *, resume: float = RESUME_S) -> None:
        self.path = path
        self._timeout = timeout
        self._resume = resume

    def health(self) -> Health:
        return cast(Health, self._get("/v1/health"))

    def jobs(self, *, all: bool = False, state: str = "", user: str = "", limit: int = 0) -> list[Job]:
        return self.page_of_jobs(all=all, state=state, user=user, limit=limit)[0]

    def page_of_jobs(
        self, *, all: bool = False, state: str = "", user: str = "", limit: int = 0, first: str = ""
    ) -> tuple[list[Job], int]:
        """At most `limit` jobs, and how many more there are; `first` says which: "", oldest, dearest."""
        query = {"all": "1" if all else "", "state": state, "user": user, "limit": limit or "", "first": first}
        page = self._get("/v1/jobs", query)
        return page["items"], page.get("more", 0)

    def every_job(self, *, all: bool = False, state: str = "", user: str = "") -> Iterator[str]:
        """However many there are, by submission: the JSON of the rows page by page, without the list's brackets.

        Each row is on a line of its own where the daemon writes it so. Nothing is parsed that need not be: ten
        thousand rows take a tenth of a second to read and as much to write again.
        """
        query: dict[str, object] = {"all": "1" if all else "", "state": state, "user": user}
        query |= {"limit": JOBS_MAX, "first": "oldest"}
        while True:
            text = self._read("/v1/jobs", query)
            head = _PAGE.match(text)
            if head is None:
                raise Lost(problem("E304", f"not an answer of a dsched daemon: {text[:80]!r}", self.path))
            rows = text[head.end() :].rstrip().removesuffix("]}")
            if rows:
                yield rows
            if not int(head[1] or 0):
                return
            query["after"] = json.loads(rows.rpartition(",\n")[2])["id"]

    def job(self, job: str) -> Job:
        return cast(Job, self._get(_job(job)))

    def submit(self, submit: Submit) -> Job:
        """Repeatable where `submit` has a key: the daemon takes the same key once."""
        return cast(Job, self._call("POST", "/v1/jobs", submit, repeat="key" in submit))

    def act(self, job: str, action: str, act: Act | None = None) -> Any:
        """cancel, pause, resume, checkpoint, migrate -> Job; a dry run of migrate -> {"plan": Plan, "gain": ...}."""
        return self._call("POST", f"{_job(job)}/{action}", act or {})

    def plan(self, trial: Trial) -> Plan:
        return cast(Plan, self._call("POST", "/v1/plan", trial, repeat=True))

    def explain(self, job: str, *, flips: bool = False, whole: bool = False) -> list[Plan]:
        """The stored decisions, newest last; `flips`: with what would change the newest.

        `whole`: where the newest keeps only the best of many offers, all of them as they are now are its `now`.
        """
        query = {"flips": "1" if flips else "", "whole": "1" if whole else ""}
        return cast(list[Plan], self._items(f"{_job(job)}/explain", query))

    def attempts(self, job: str) -> list[Attempt]:
        return cast(list[Attempt], self._items(f"{_job(job)}/attempts"))

    def bill(self, job: str) -> Bill:
        return cast(Bill, self._get(f"{_job(job)}/bill"))

    def offers(self, *, history: bool = False) -> list[Offer]:
        return cast(list[Offer], self._items("/v1/offers", {"history": "1" if history else ""}))

    def calibration(self) -> Calibration:
        return cast(Calibration, self._get("/v1/market/calibration"))

    def commitments(self) -> Commitments:
        return cast(Commitments, self._get("/v1/market/commitments"))

    def nodes(self) -> list[Node]:
        return cast(list[Node], self._items("/v1/nodes"))

    def events(self, *, after: int = 0, limit: int = 0, job: str = "") -> list[Event]:
        return cast(list[Event], self._items("/v1/events", {"after": after or "", "limit": limit or "", "job": job}))

    def money(self) -> Money:
        return cast(Money, self._get("/v1/money"))

    def budgets(self) -> list[Budget]:
        return cast(list[Budget], self._items("/v1/budgets"))

    def set_budget(self, name: str, limit: str | None) -> Budget:
        return cast(Budget, self._call("PUT", f"/v1/budgets/{quote(name, safe='')}", {"limit": limit}, repeat=True))

    def upload(self, sha256: str, bundle: IO[bytes], size: int) -> None:
        """Put a workdir's bundle; uploading the same one twice is nothing."""
        self._call("PUT", f"/v1/bundles/{sha256}", bundle, size=size)

    def checks(self) -> list[Check]:
        return cast(list[Check], self._items("/v1/checks"))

    def logs(
        self, job: str, *, rank: int | None = None, generation: int | None = None, follow: bool = False
    ) -> Iterator[LogLine]:
        """A job's log, oldest first, over all of its generations unless one is named.

        `follow` ends with the job. A lost connection is resumed; what was already given is not given again.
        """
        seen: dict[tuple[int, int], int] = {}
        query = {"rank": rank, "generation": generation, "follow": "1" if follow else None}
        for line in self._resumed(lambda: self._lines(f"{_job(job)}/logs", query), follow):
            if not line:  # only a sign of life
                continue
            entry = cast(LogLine, json.loads(line))
            stream = (entry["generation"], entry["rank"])
            if entry["offset"] > seen.get(stream, -1):
                seen[stream] = entry["offset"]
                yield entry

    def follow_events(self, *, after: int = 0, job: str = "") -> Iterator[Event]:
        """Events from `after` on, for ever; a lost connection is resumed behind the last one given."""
        last = after

        def stream() -> Iterator[Message]:
            headers = {"Accept": "text/event-stream", "Last-Event-ID": str(last)}
            decoder = Decoder()
            for line in self._lines("/v1/events", {"after": last or None, "job": job or None}, headers):
                if message := decoder.take(line):
                    yield message

        for message in self._resumed(stream, True):
            event = cast(Event, json.loads(message.data))
            if event["seq"] > last:
                last = event["seq"]
                yield event

    def _read(self, path: str, query: Mapping[str, object]) -> str:
        return cast(str, self._call("GET", _with_query(path, query), repeat=True, read=_Answer.text))

    def _get(self, path: str, query: Mapping[str, object] | None = None) -> Any:
        return self._call("GET", _with_query(path, query), repeat=True)

    def _items(self, path: str, query: Mapping[str, object] | None = None) -> list[Any]:
        return cast(list[Any], self._get(path, query)["items"])

    def _call(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        repeat: bool = False,
        size: int | None = None,
        read: Callable[[_Answer], Any] | None = None,
    ) -> Any:
        until = time.monotonic() + self._resume
        broken = False
        while True:
            try:
                with self._ask(method, path, body, size=size, timeout=self._timeout) as answer:
                    return answer.json() if read is None else read(answer)
            except (Lost, NoDaemon) as e:
                broken = broken or isinstance(e, Lost)
                if not repeat or not broken or time.monotonic() > until:
                    raise
                time.sleep(_PAUSE_S)

    def _lines(
        self, path: str, query: Mapping[str, object], headers: Mapping[str, str] | None = None
    ) -> Iterator[bytes]:
        with self._ask("GET", _with_query(path, query), None, headers=headers, timeout=STREAM_TIMEOUT_S) as answer:
            yield from answer.lines()

    def _resumed(self, stream: Any, resume: bool) -> Iterator[Any]:
        """Everything of a stream, opened again when it breaks: at once if it gave something, else for RESUME_S."""
        until = 0.0
        while True:
            try:
                for item in stream():
                    until = time.monotonic() + self._resume
                    yield item
                return
            except (Lost, NoDaemon):
                if not resume or time.monotonic() > until:
                    raise
                time.sleep(_PAUSE_S)

    def _ask(
        self,
        method: str,
        path: str,
        body: Any,
        *,
        headers: Mapping[str, str] | None = None,
        size: int | None = None,
        timeout: float,
    ) -> _Answer:
        """Send one request. Raises NoDaemon, Lost or Refused."""
        connection = _Connection(self.path, timeout)
        sent: dict[str, str] = dict(headers or {})
        if size is not None:
            sent |= {"Content-Type": "application/gzip", "Content-Length": str(size)}
        elif body is not None:
            body = json.dumps(body).encode()
            sent["Content-Type"] = "application/json"
        try:
            connection.request(method, path, body, sent)
            response = connection.getresponse()
        except (OSError, http.client.HTTPException) as e:
            connection.close()
            raise unanswered(self.path, e) from e
        answer = _Answer(self.path, connection, response)
        if response.status >= 400:
            with answer:
                raise Refused(answer.refusal(), response.status)
        return answer


class _Answer:
    """An open answer; closing it closes the connection."""

    def __init__(self, path: str, connection: http.client.HTTPConnection, response: http.client.HTTPResponse) -> None:
        self._path, self._connection, self._response = path, connection, response

    def __enter__(self) -> _Answer:
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    def json(self) -> Any:
        body = self._read()
        if not body:
            return None
        try:
            return json.loads(body)
        except ValueError:
            raise Lost(problem("E304", f"not an answer of a dsched daemon: {body[:80]!r}", self._path)) from None

    def text(self) -> str:
        return self._read().decode(errors="replace")

    def refusal(self) -> Problem:
        body = self._read()
        try:
            return cast(Problem, json.loads(body)["error"])
        except (ValueError, KeyError, TypeError):
            status = self._response.status
            return problem(f"E{status}", f"the daemon answered {status} {self._response.reason}", "")

    def lines(self) -> Iterator[bytes]:
        """Lines as they arrive. Raises Lost when the connection ends before the answer does.

        Not by the response's own `readline`: that one takes a broken connection for the end.
        """
        held: list[bytes] = []
        while data := self._part():
            *whole, rest = data.split(b"\n")
            for line in whole:
                yield b"".join([*held, line]).removesuffix(b"\r")
                held = []
            if rest:
                held.append(rest)
        if held:
            yield b"".join(held)

    def _part(self) -> bytes:
        try:
            return self._response.read1(_PART)
        except (OSError, http.client.HTTPException) as e:
            raise unanswered(self._path, e) from e

    def _read(self) -> bytes:
        try:
            body = self._response.read(ANSWER_MAX)
        except (OSError, http.client.HTTPException) as e:
            raise unanswered(self._path, e) from e
        if self._response.length and len(body) < ANSWER_MAX:  # read(n) takes a broken connection for the end
            raise unanswered(self._path, EOFError(f"{self._response.length} bytes are missing"))
        return body


class _Connection(http.client.HTTPConnection):
    def __init__(self, path: str, timeout: float) -> None:
        super().__init__("dsched", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


def unanswered(path: str, error: Exception) -> ClientError:
    """What a failed exchange means: nobody there, not ours to use, silent, or gone in the middle."""
    if isinstance(error, PermissionError):
        return Refused(
            problem("E403", f"not allowed to use {path}", path, "join the socket's group, or run as its owner")
        )
    if isinstance(error, TimeoutError):
        return Lost(
            problem("E302", f"no answer from the daemon at {path} in time", path, "dsched doctor", retryable=True)
        )
    nobody = isinstance(error, ConnectionRefusedError | FileNotFoundError | NotADirectoryError)
    if nobody or (isinstance(error, OSError) and (error.errno == errno.ENOTSOCK or "too long" in str(error))):
        why = getattr(error, "strerror", None) or str(error)
        message = f"no daemon at {path} ({why.lower()})"
        return NoDaemon(
            problem("E301", message, path, "dsched daemon     or     dsched demo     (needs no daemon)", True)
        )
    return Lost(problem("E303", f"the daemon at {path} went away in the middle of an answer", path, "", retryable=True))


def problem(code: str, message: str, where: str, hint: str = "", retryable: bool = False) -> Problem:
    problem = Problem(code=code, message=message, retryable=retryable)
    if hint:
        problem["hint"] = hint
    if where:
        problem["where"] = where
    return problem


def _job(job: str) -> str:
    return f"/v1/jobs/{quote(job, safe='')}"


def _with_query(path: str, query: Mapping[str, object] | None) -> str:
    given = {k: v for k, v in (query or {}).items() if v is not None and v != ""}
    return f"{path}?{urlencode(given)}" if given else path
