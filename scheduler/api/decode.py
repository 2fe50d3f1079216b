"""Server-sent events, decoded line by line."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

_DATA_MAX: Final = 64 * 1024 * 1024  # bytes of one message: a snapshot of 10,000 jobs is 10 MB


@dataclass(frozen=True, slots=True)
class Message:
    event: str  # "message" unless named
    id: str
    data: str


class Decoder:
    """Takes lines without their line ends and gives a message at each blank one."""

    def __init__(self) -> None:
        self._event = ""
        self._id = ""
        self._data: list[bytes] = []
        self._size = 0

    def take(self, line: bytes) -> Message | None:
        """Raises ValueError for a message beyond the limit."""
        if not line:
            return self._finish()
        name, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if name == b"data":
            self._size += len(value)
            if self._size > _DATA_MAX:
                raise ValueError(f"a message of more than {_DATA_MAX} bytes")
            self._data.append(value)
        elif name == b"event":
            self._event = value.decode(errors="replace")
        elif name == b"id":
            self._id = value.decode(errors="replace")
        return None

    def _finish(self) -> Message | None:
        data, event = self._data, self._event or "message"
        self._data, self._event, self._size = [], "", 0
        return Message(event, self._id, b"\n".join(data).decode(errors="replace")) if data else None
