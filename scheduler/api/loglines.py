"""Bytes of a log as JSON lines, cut at newlines wherever the chunks end."""

from __future__ import annotations

from typing import Final

import msgspec

LINE_MAX: Final = 64 * 1024  # bytes of one line; a longer one is cut, or a progress bar would never be shown
_encode: Final = msgspec.json.Encoder().encode


class Lines:
    """Reads one rank's log of one generation from `offset` on. `offset` moves with what was fed."""

    def __init__(self, generation: int, rank: int, offset: int) -> None:
        self.generation, self.rank, self.offset = generation, rank, offset
        self._partial = b""

    def feed(self, start: int, data: bytes) -> bytes:
        """The whole lines, JSON each, of what is known after `data`, which begins at byte `start`."""
        made = []
        if start > self.offset:
            made.append(self.rest())
            made.append(self._line(start, f"[{start - self.offset} bytes were dropped: the log outgrew its bound]"))
        at = start - len(self._partial)
        data, self._partial = self._partial + data, b""
        self.offset = at + len(data)
        *whole, last = data.split(b"\n")
        for line in whole:
            at += len(line) + 1
            made.append(self._cut(line, at))
        if len(last) > LINE_MAX:
            made.append(self._cut(last, at + len(last)))
        else:
            self._partial = last
        return b"".join(made)

    def rest(self) -> bytes:
        """The last line, when it had no newline."""
        partial, self._partial = self._partial, b""
        return self._cut(partial, self.offset) if partial else b""

    def _cut(self, line: bytes, end: int) -> bytes:
        """A line, in pieces if it is too long. `end` is the byte behind it, the newline included."""
        pieces = [line[start : start + LINE_MAX] for start in range(0, len(line), LINE_MAX)] or [b""]
        at = end - sum(map(len, pieces))
        made = []
        for piece in pieces[:-1]:
            at += len(piece)
            made.append(self._line(at, _text(piece)))
        return b"".join((*made, self._line(end, _text(pieces[-1]))))

    def _line(self, offset: int, text: str) -> bytes:
        return _encode({"generation": self.generation, "rank": self.rank, "offset": offset, "text": text}) + b"\n"


def _text(line: bytes) -> str:
    return line.removesuffix(b"\r").decode(errors="replace")
