"""The API's own ear: one subscription that wakes the followers of logs and keeps the books."""

from __future__ import annotations

from dsched.scheduler.api.context import Api
from dsched.scheduler.api.ports import Closed, Lagged


async def run(api: Api) -> None:
    """Until the feed closes."""
    while True:
        live = api.feed.subscribe()
        try:
            while True:
                batch = await live.next()
                for job in {event.job for _, event in batch}:
                    api.logs.wake(job)
                api.books.hear(batch)
        except Lagged:
            api.books.forget()
            api.logs.wake_all()
        except Closed:
            return
        finally:
            live.close()
