"""What ranks print, kept on the node's disk until the daemon holds it.

A stream is one rank's output, as bytes, addressed by its offset from the start. It lies in segments of a fixed size, so
that what the daemon acknowledged can be deleted from the front while the rank prints on.

    <node dir>/logs/<job>/<generation>.<rank>/<number of the segment>
"""

from __future__ import annotations

import os
import shutil
import threading
from collections import deque
from contextlib import suppress
from pathlib import Path
from typing import Final

SEGMENT: Final = 4 * 1024 * 1024
STREAM_MAX: Final = 256 * 1024 * 1024  # unsent bytes of one rank; a day of a chatty job, a fraction of any disk
TAIL_MAX: Final = 4_096  # for the failure's reason; twenty long lines
CHUNK: Final = 256 * 1024  # per upload


class Stream:
    """One rank's output. The loop appends, the uploading thread reads and acknowledges; the lock is the spool's."""

    def __init__(self, folder: Path, job: str, generation: int, rank: int, lock: threading.Lock) -> None:
        self.job, self.generation, self.rank = job, generation, rank
        self.floor = 0  # bytes below are deleted
        self.acked = 0  # bytes below are the daemon's
        self.end = 0
        self.closed = False
        self.dropped = 0  # bytes in the present gap
        self._folder, self._lock = folder, lock
        self._open: tuple[int, int] | None = None  # segment number, descriptor
        self._tail: deque[bytes] = deque()
        self._tail_size = 0

    def append(self, data: bytes) -> None:
        """Keep `data`. What the disk cannot take is dropped, and the stream says how much: no rank waits for it."""
        self._remember(data)
        with self._lock:
            if self.dropped:
                data = f"\n[dsched: {self.dropped} bytes of output were dropped]\n".encode() + data
            kept = self._write(data) if self.end - self.acked + len(data) <= STREAM_MAX else 0
            if kept == len(data):
                self.dropped = 0
            elif kept == 0:
                self.dropped += len(data)
            else:
                self.dropped = len(data) - kept

    def read(self, offset: int) -> bytes:
        """Up to a chunk from `offset`, never across a segment. b"" at the end; OSError for what a rank has deleted."""
        with self._lock:
            number, within = divmod(offset, SEGMENT)
            size = min(CHUNK, self.end - offset, SEGMENT - within)
        if size <= 0:
            return b""
        with open(self._folder / str(number), "rb") as file:
            file.seek(within)
            return file.read(size)

    def resume(self, offset: int) -> None:
        """The daemon holds what is below `offset`; less than before when it lost the end of a file."""
        with self._lock:
            self.acked = max(self.floor, min(offset, self.end))
            while self.floor + SEGMENT <= self.acked:
                (self._folder / str(self.floor // SEGMENT)).unlink(missing_ok=True)
                self.floor += SEGMENT

    def close(self) -> None:
        """The rank is gone: nothing follows."""
        with self._lock:
            self.closed = True
            self._shut()

    def delete(self) -> None:
        shutil.rmtree(self._folder, ignore_errors=True)  # it was never made for a rank that printed nothing
        with suppress(OSError):
            self._folder.parent.rmdir()  # with the job's last rank

    def tail(self) -> bytes:
        return b"".join(self._tail)[-TAIL_MAX:]

    def _remember(self, data: bytes) -> None:
        self._tail.append(data[-TAIL_MAX:])
        self._tail_size += len(self._tail[-1])
        while self._tail_size - len(self._tail[0]) >= TAIL_MAX:
            self._tail_size -= len(self._tail.popleft())

    def _write(self, data: bytes) -> int:
        written = 0
        try:
            while written < len(data):
                number, within = divmod(self.end, SEGMENT)
                piece = os.write(self._segment(number), data[written : written + SEGMENT - within])
                written += piece
                self.end += piece
        except OSError:  # disk full
            return written
        return written

    def _segment(self, number: int) -> int:
        if self._open is not None and self._open[0] == number:
            return self._open[1]
        self._shut()
        self._folder.mkdir(parents=True, exist_ok=True)
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND | os.O_CLOEXEC
        self._open = number, os.open(self._folder / str(number), flags, 0o600)
        return self._open[1]

    def _shut(self) -> None:
        if self._open is not None:
            os.close(self._open[1])
            self._open = None


class Spool:
    """All streams of the node, and the bell that wakes their uploader."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock = threading.Lock()
        self._bell = threading.Condition()
        self._rung = self._urgent = False
        self._streams: list[Stream] = []

    def stream(self, job: str, generation: int, rank: int) -> Stream:
        stream = Stream(self._folder / job / f"{generation}.{rank}", job, generation, rank, self._lock)
        with self._bell:
            self._streams.append(stream)
        return stream

    def ring(self, *, urgent: bool = False) -> None:
        """There is something to send. Urgent: do not wait for more."""
        with self._bell:
            if self._rung and not urgent:
                return
            self._rung = True
            self._urgent = self._urgent or urgent
            self._bell.notify_all()

    def wait(self, gather_s: float) -> list[Stream]:
        """Streams with unsent bytes, once the bell has rung; gathers for `gather_s` unless it is urgent."""
        with self._bell:
            self._bell.wait_for(lambda: self._rung)
            self._bell.wait_for(lambda: self._urgent, gather_s)
            self._rung = self._urgent = False
            return [stream for stream in self._streams if stream.acked < stream.end]

    def empty(self) -> bool:
        with self._bell:
            return all(stream.acked >= stream.end for stream in self._streams)

    def forget(self, stream: Stream) -> None:
        with self._bell:
            if stream in self._streams:
                self._streams.remove(stream)
        stream.delete()

    def sweep(self) -> None:
        """Delete the streams that are closed and wholly the daemon's."""
        with self._bell:
            over = [stream for stream in self._streams if stream.closed and stream.acked >= stream.end]
        for stream in over:
            self.forget(stream)
