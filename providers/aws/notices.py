"""EC2's events as hints: EventBridge puts them into one SQS queue per region, and a thread of its own asks each.

A daemon thread, since SQS holds every question for 20 s and nobody wants to wait so long to stop. What was handed over
is deleted from the queue; what gets lost on the way comes again, and a hint heard twice does no harm.
"""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import AsyncIterator, Callable, Sequence
from datetime import datetime
from typing import Any, Final

from dsched.providers.aws.client import POLL_S, Account
from dsched.providers.aws.compute import ref_of
from dsched.providers.base import Notice, NoticeKind, ProviderError
from dsched.scheduler.core.units import Instant, Millis

NOTICE: Final = Millis(120_000)  # from EC2's warning to the end of the machine
BATCH: Final = 10  # the most that SQS hands out at a time
PAUSE_S: Final = (0.5, 30.0)  # first and longest after a failure
ENDS: Final = ("shutting-down", "terminated", "stopped")
KINDS: Final = {
    "EC2 Spot Instance Interruption Warning": NoticeKind.INTERRUPT,
    "EC2 Instance Rebalance Recommendation": NoticeKind.REBALANCE,
    "EC2 Instance State-change Notification": NoticeKind.GONE,
}

Hand = Callable[[Notice], None]


async def events(
    account: Account, regions: Sequence[str], queue: str, now: Callable[[], Instant]
) -> AsyncIterator[Notice]:
    """Hints of all regions as they come. Ends never; without a queue there are none."""
    heard: asyncio.Queue[Notice] = asyncio.Queue()
    running, over = asyncio.get_running_loop(), threading.Event()

    def hand(notice: Notice) -> None:
        if not over.is_set():
            running.call_soon_threadsafe(heard.put_nowait, notice)

    for region in regions if queue else ():
        listener = _Listener(account, region, queue, hand, over, now)
        threading.Thread(target=listener.run, name=f"aws-hints-{region}", daemon=True).start()
    try:
        while True:
            yield await heard.get()
    finally:
        over.set()


class _Listener:
    """One region's queue."""

    def __init__(
        self,
        account: Account,
        region: str,
        queue: str,
        hand: Hand,
        over: threading.Event,
        now: Callable[[], Instant],
    ) -> None:
        self._account, self._region, self._queue, self._hand = account, region, queue, hand
        self._over, self._now = over, now
        self._url = ""

    def run(self) -> None:
        pause, gap = PAUSE_S[0], False
        while not self._over.is_set():
            try:
                self._listen(gap=gap)
                pause, gap = PAUSE_S[0], False
            except ProviderError:
                gap = True  # told when the queue is heard again
                self._over.wait(pause)
                pause = min(2 * pause, PAUSE_S[1])
            except RuntimeError:
                return  # the loop that listened has been closed

    def _listen(self, *, gap: bool) -> None:
        """One question. After a gap it is not held: that the queue answers again is news."""
        wait = 0 if gap else POLL_S
        if not self._url:
            self._url = str(self._call("get_queue_url", QueueName=self._queue)["QueueUrl"])
        answer = self._call("receive_message", QueueUrl=self._url, WaitTimeSeconds=wait, MaxNumberOfMessages=BATCH)
        if gap:
            self._hand(Notice(kind=NoticeKind.GONE))
            self._hand(Notice(kind=NoticeKind.PRICES))
        messages = answer.get("Messages", [])
        for message in messages:
            if (notice := notice_from(message["Body"], self._region, self._now())) is not None:
                self._hand(notice)
        if messages:
            done = [{"Id": str(n), "ReceiptHandle": one["ReceiptHandle"]} for n, one in enumerate(messages)]
            self._call("delete_message_batch", QueueUrl=self._url, Entries=done)

    def _call(self, action: str, **what: Any) -> Any:
        return self._account.call("sqs", self._region, action, POLL_S + 5.0, what)


def notice_from(body: str, region: str, now: Instant) -> Notice | None:
    """None for what is no hint: a machine that begins to run, or a message of somebody else."""
    try:
        event = json.loads(body)
        kind, detail = KINDS[event["detail-type"]], event["detail"]
        ref = ref_of(str(event.get("region") or region), str(detail["instance-id"]))
    except (ValueError, KeyError, TypeError):
        return None
    if kind is NoticeKind.GONE and detail.get("state") not in ENDS:
        return None
    deadline = Instant(_told_at(event, now) + NOTICE) if kind is NoticeKind.INTERRUPT else None
    return Notice(kind=kind, ref=ref, deadline=deadline)


def _told_at(event: dict[str, Any], now: Instant) -> Instant:
    """When EC2 said it: the message may have waited. Never later than now, whatever the clocks say."""
    try:
        said = datetime.fromisoformat(str(event["time"]).replace("Z", "+00:00"))
    except (KeyError, ValueError):
        return now
    return Instant(min(now, round(said.timestamp() * 1_000)))


def wall() -> Instant:
    return Instant(time.time_ns() // 1_000_000)
