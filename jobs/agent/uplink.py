"""The agent's side of the wire: says hello, waits for orders, reports facts, uploads logs, fetches bundles.

Three threads, each blocking on its own connection; what they hear is posted to the loop. The daemon may be away for as
long as the lease lasts: every call is repeated with jitter until it is answered, and nothing else depends on it.

    401   the daemon does not know the session (it was restarted): hello again, with what runs; nothing is stopped
    410   this node is not ours any more: stop everything and end; as 403 to a hello (the secret is wrong)
    429   later; to a hello: another agent of this node was heard a moment ago
    500   the daemon failed at it: again, then a report goes fact by fact, and a fact that breaks it is given up
    4xx   this call will never be granted: dropped
"""

from __future__ import annotations

import json
import os
import threading
import time
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple, Protocol
from urllib.parse import urlencode

from dsched.jobs.agent.client import BODY_MAX, Answer, Backoff, Link, LinkError, Sink
from dsched.jobs.agent.clock import boot_ms, wall_ms
from dsched.jobs.agent.journal import note
from dsched.jobs.agent.outbox import Outbox
from dsched.jobs.agent.spool import Spool, Stream
from dsched.scheduler.wire.agent import SECRET_HEADER, Fact, Hello, Order

ANSWER_S: Final = 20.0  # a daemon that fsyncs on a busy disk answers in milliseconds; this is "it hangs"
POLL_SLACK_S: Final = 15.0  # beyond the wait that we asked for
POLL_LEASE_PART: Final = 4  # of what is left of the lease; lease.py counts on it
POLL_MIN_MS: Final = 500  # so that the end of a lease that is not renewed is no storm
LOG_GATHER_S: Final = 0.1  # a line is on its way within this; a burst travels as one chunk
TURN_CHUNKS: Final = 8  # then the next rank's output: one that shouts does not silence the others
BACKOFF_BASE_S: Final = 0.02
BACKOFF_LOCAL_S: Final = (
    0.5  # cap on a unix socket: a restarted daemon is heard of at once, and a connect costs nothing
)
BACKOFF_REMOTE_S: Final = 10.0
BROKEN_MAX: Final = 10  # answers 500 to one report; seconds on a unix socket, a minute or two from afar
LATER_MAX_S: Final = 5  # of what an answer asks for: a lease goes on running out meanwhile
HELLO: Final = "/agent/v1/hello"
BUNDLE_MAX: Final = 2 * 1024**3


class Refused(Exception):
    """The daemon answered, and the same bytes again would be answered alike. Next: drop the call."""


class Later(LinkError):
    """The daemon asks for patience. Next: the same call after `wait_s`."""

    def __init__(self, said: str, wait_s: float) -> None:
        super().__init__(said)
        self.wait_s = wait_s


class Broken(LinkError):
    """The daemon failed at this call. Next: a few times the same, then give it up."""


class Gone(Exception):
    """Not our node any more. Next: stop everything and end."""


class SessionLost(Exception):
    """Next: hello again, then the same call."""


class Listener(Protocol):
    """The loop's side; the uplink's threads call it and it posts."""

    def greeting(self) -> Hello: ...
    def admitted(self, key: str) -> None: ...
    def leased(self, until: int) -> None:
        """The lease is granted up to this instant of the boot clock."""
        ...

    def ordered(self, orders: list[Order]) -> None: ...
    def dismissed(self, why: str) -> None: ...
    def settled(self) -> None:
        """A batch of facts or logs has arrived: perhaps nothing is owed any more."""
        ...


class Session:
    """The daemon's word for this connection; renewed by one thread, used by all. Empty: there is none now."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self.value = ""

    def set(self, value: str) -> None:
        with self._changed:
            self.value = value
            self._changed.notify_all()

    def current(self) -> str:
        """Waits while there is none."""
        with self._changed:
            self._changed.wait_for(lambda: self.value)
            return self.value

    def lost(self, value: str) -> None:
        with self._changed:
            if self.value == value:
                self.value = ""


class Home(NamedTuple):
    """Where the daemon is, and how often it wants to hear from us."""

    address: str
    node: str
    heartbeat_ms: int
    pin: str = ""  # see Link

    def link(self) -> Link:
        return Link(self.address, self.pin)


class Uplink:
    def __init__(self, home: Home, outbox: Outbox, spool: Spool, listener: Listener) -> None:
        self._home, self._outbox, self._spool, self._listener = home, outbox, spool, listener
        self._session = Session()
        self._reports = 0
        self._broken = 0  # answers 500 to the report that is under way
        self._lease_until = 0  # as it was granted last, on the boot clock
        self.dismissed = False

    def start(self) -> None:
        for work in (self._dial, self._report, self._upload):
            threading.Thread(target=self._forever, args=(work,), name=work.__name__, daemon=True).start()

    def bundle(self, sha256: str, target: Path, wanted: Callable[[], bool]) -> None:
        """Download to `target`, repeating while `wanted()`. Raises Refused when the daemon has no such bundle."""
        link, backoff = self._home.link(), self._backoff()
        path = f"/agent/v1/bundle/{sha256}"
        while wanted():
            session = self._session.current()
            try:
                with open(target, "wb") as file:
                    self._call(link, "GET", path, session=session, sink=file.write, limit=BUNDLE_MAX)
                return
            except SessionLost:
                self._session.lost(session)
            except Gone as error:
                self._dismiss(str(error))
                break
            except LinkError as error:
                note("bundle.again", error=str(error))
            finally:
                link.close()
            time.sleep(backoff.next_s())
        raise Refused("not wanted any more")

    # -- orders ---------------------------------------------------------------------------------------------------

    def _dial(self) -> None:
        link, backoff, after, away = self._home.link(), self._backoff(), 0, False
        while True:
            session = self._session.value
            try:
                after = self._poll(link, session, after) if session else self._hello(link)
                backoff.reset()
                away = False
                continue
            except SessionLost:
                self._session.lost(session)
            except (LinkError, Refused) as error:
                if not away:  # once per absence: it may last for hours
                    note("uplink.away", error=str(error))
                away = True
                if isinstance(error, Later):
                    time.sleep(error.wait_s)
            time.sleep(backoff.next_s())

    def _hello(self, link: Link) -> int:
        greeting = dict(self._listener.greeting())
        asked = boot_ms()
        welcome = self._json(link, HELLO, greeting)
        self._listener.admitted(str(welcome.get("key", "")))
        self._leased(asked, welcome)
        self._session.set(str(welcome["session"]))
        note("uplink.welcome", daemon=self._home.address)
        return int(welcome["seq"])

    def _poll(self, link: Link, session: str, after: int) -> int:
        asked = boot_ms()
        wait = min(self._home.heartbeat_ms, max(POLL_MIN_MS, (self._lease_until - asked) // POLL_LEASE_PART))
        poll = {"node": self._home.node, "session": session, "after": after, "wait_ms": wait}
        answer = self._json(link, "/agent/v1/poll", poll, session=session, timeout_s=wait / 1_000 + POLL_SLACK_S)
        self._leased(asked, answer)
        orders: list[Order] = [order for order in answer["orders"] if int(order["seq"]) > after]
        if orders:
            self._listener.ordered(orders)
        return max([after, *(int(order["seq"]) for order in orders)])

    def _leased(self, asked: int, answer: Mapping[str, Any]) -> None:
        """What was left when the daemon answered is counted from when it was asked: too little at most, never more."""
        until = asked + int(answer["lease_ms"])
        self._lease_until = max(self._lease_until, until)
        self._listener.leased(until)

    # -- facts ----------------------------------------------------------------------------------------------------

    def _report(self) -> None:
        link, backoff = self._home.link(), self._backoff()
        while True:
            self._deliver(link, backoff, self._outbox.take())
            self._outbox.done()
            self._listener.settled()

    def _deliver(self, link: Link, backoff: Backoff, facts: list[Fact]) -> None:
        """Until it is answered. A batch that is refused goes one by one: a bad fact must not cost an end its proof."""
        self._reports += 1
        self._broken = 0
        while (taken := self._reported(link, facts)) is None:
            time.sleep(backoff.next_s())
        backoff.reset()
        if not taken and len(facts) > 1:
            for fact in facts:
                self._deliver(link, backoff, [fact])

    def _reported(self, link: Link, facts: list[Fact]) -> bool | None:
        """Whether it was taken; None: ask again."""
        session, asked = self._session.current(), boot_ms()
        body = {"node": self._home.node, "session": session, "id": self._reports, "facts": facts}
        try:
            lease = self._json(link, "/agent/v1/report", body, session=session)
        except SessionLost:
            self._session.lost(session)
            return None
        except Broken as error:
            self._broken += 1
            if self._broken < BROKEN_MAX:
                return None
            self._give_up(facts, str(error))
            return False
        except LinkError:
            return None
        except Refused as error:  # kept, it would block every later fact
            note("report.refused", error=str(error), facts=json.dumps(facts))
            return False
        self._leased(asked, lease)
        return True

    def _give_up(self, facts: list[Fact], error: str) -> None:
        """What the daemon breaks at would block every later fact. That one is lost is told to people, loudly."""
        note("report.broken", error=error, facts=json.dumps(facts))
        lost = facts[0]
        if len(facts) > 1 or lost["kind"] == "dropped":
            return  # one by one next; and what cannot even be told is in the journal
        self._outbox.put(
            {
                "kind": "dropped",
                "fact": lost["kind"],
                "job": str(lost.get("job", "")),
                "generation": int(str(lost.get("generation", 0))),
                "error": error,
                "at": wall_ms(),
            }
        )

    # -- logs -----------------------------------------------------------------------------------------------------

    def _upload(self) -> None:
        link, backoff = self._home.link(), self._backoff()
        while True:
            for stream in self._spool.wait(LOG_GATHER_S):
                for _ in range(TURN_CHUNKS):
                    if stream.acked >= stream.end:
                        break
                    if self._sent(link, stream):
                        backoff.reset()
                    else:
                        time.sleep(backoff.next_s())
            self._spool.sweep()
            if self._spool.empty():
                self._listener.settled()
            else:
                self._spool.ring()

    def _sent(self, link: Link, stream: Stream) -> bool:
        session, offset = self._session.current(), stream.acked
        where = {
            "node": self._home.node,
            "session": session,
            "job": stream.job,
            "generation": stream.generation,
            "rank": stream.rank,
            "offset": offset,
        }
        try:
            data = stream.read(offset)
        except OSError as error:
            data = b""
            note("logs.unreadable", job=stream.job, generation=stream.generation, error=str(error))
        if not data:  # somebody deleted or cut the file: what follows cannot be placed any more
            stream.resume(stream.end)
            return True
        try:
            answer = self._json(link, f"/agent/v1/logs?{urlencode(where)}", data, session=session)
            held = int(answer["offset"])
        except SessionLost:
            self._session.lost(session)
            return False
        except LinkError:
            return False
        except Refused as error:
            note("logs.refused", job=stream.job, generation=stream.generation, error=str(error))
            held = stream.end
        if held < stream.floor:
            note("logs.gap", job=stream.job, generation=stream.generation, held=held, floor=stream.floor)
            held = stream.end
        stream.resume(held)
        return held > offset

    # -- calls ----------------------------------------------------------------------------------------------------

    def _json(
        self, link: Link, path: str, body: Mapping[str, Any] | bytes, *, session: str = "", timeout_s: float = ANSWER_S
    ) -> dict[str, Any]:
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        answer = self._call(link, "POST", path, raw, session=session, timeout_s=timeout_s)
        try:
            told = json.loads(answer.body)
            if isinstance(told, dict):
                return told
        except ValueError as error:
            raise LinkError(f"{path}: the answer is not JSON: {error}") from error
        raise LinkError(f"{path}: the answer is not an object")

    def _call(
        self,
        link: Link,
        method: str,
        path: str,
        body: bytes = b"",
        *,
        session: str,
        timeout_s: float = ANSWER_S,
        sink: Sink | None = None,
        limit: int = BODY_MAX,
    ) -> Answer:
        kind = "application/octet-stream" if "/logs?" in path else "application/json"
        headers = {"content-type": kind, SECRET_HEADER: session}
        answer = link.request(method, path, body, headers, timeout_s=timeout_s, sink=sink, limit=limit)
        if answer.status == 200:
            return answer
        said = f"{path.partition('?')[0]}: {answer.status} {answer.body[:200].decode('utf-8', 'replace')}"
        if answer.status == 401:
            raise SessionLost(said)
        if answer.status == 410 or (answer.status == 403 and path == HELLO):
            raise Gone(said)
        if 400 <= answer.status < 500 and answer.status not in (408, 425, 429):
            raise Refused(said)
        wait = answer.headers.get("retry-after", "")
        if answer.status == 500:
            raise Broken(said)
        if wait.isdecimal():
            raise Later(said, min(int(wait), LATER_MAX_S))
        raise LinkError(said)

    def _dismiss(self, why: str) -> None:
        self.dismissed = True
        self._listener.dismissed(why)

    def _backoff(self) -> Backoff:
        local = self._home.address.startswith("unix:")
        return Backoff(BACKOFF_BASE_S, BACKOFF_LOCAL_S if local else BACKOFF_REMOTE_S, _uniform)

    def _forever(self, work: Callable[[], None]) -> None:
        """The outermost loop of a thread."""
        while not self.dismissed:
            try:
                work()
            except Gone as error:
                self._dismiss(str(error))
            except Exception:
                note("uplink.failure", work=work.__name__, trace=traceback.format_exc())
                time.sleep(BACKOFF_LOCAL_S)


def _uniform(low: float, high: float) -> float:
    """random.uniform without importing random: 6 ms for one number in a while."""
    return low + (high - low) * int.from_bytes(os.urandom(4), "big") / 2**32
