"""Server-sent events: one frame, the sign of life between frames, and the response that streams them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Final

from starlette.responses import StreamingResponse

KEEP_ALIVE_S: Final = 10.0  # the longest silence on a stream, so that a dead connection is found out
ALIVE: Final = b": alive\n\n"  # a comment: readers skip it
_HEADERS: Final = {"cache-control": "no-store", "x-accel-buffering": "no"}


def frame(data: bytes, *, event: str = "", seq: int | None = None) -> bytes:
    """One message. `data` is JSON on one line; `seq` is what a client sends back as Last-Event-ID."""
    head = b"" if seq is None else b"id: %d\n" % seq
    if event:
        head += b"event: %s\n" % event.encode()
    return b"%sdata: %s\n\n" % (head, data)


def stream(frames: AsyncIterator[bytes]) -> StreamingResponse:
    return StreamingResponse(frames, media_type="text/event-stream", headers=_HEADERS)
