"""The log files of one job: cut into pieces, so that the oldest can be dropped without moving a byte of the rest.

LOGS/<job>/<generation>.<rank>.log starts at byte 0; <generation>.<rank>.<base>.log goes on at byte <base>. What is
held of a rank is one run of bytes from its first piece to the end of its last. An empty last piece says how much there
once was.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_NAME: Final = re.compile(r"(\d{1,12})\.(\d{1,6})(?:\.(\d{1,18}))?\.log")
MARKED: Final = 2  # newest generations whose dropped logs leave a mark; agents send late for no older ones

Key = tuple[int, int]  # generation, rank


@dataclass(slots=True)
class Piece:
    base: int  # first byte's place in the rank's log
    size: int

    @property
    def end(self) -> int:
        return self.base + self.size


@dataclass(frozen=True, slots=True)
class Chunk:
    """Bytes of one rank's log. `start` lies behind the offset asked for when what was there has been dropped."""

    start: int
    data: bytes
    held: int  # where the log ends now

    @property
    def end(self) -> int:
        return self.start + len(self.data)


class Shelf:
    """One job's files. Blocking; one thread at a time."""

    def __init__(self, folder: Path, *, most: int, piece: int) -> None:
        self.folder, self.most, self.piece = folder, most, piece
        self.ranks: dict[Key, list[Piece]] = {}
        if folder.is_dir():
            self._scan()
        self.total = sum(piece.size for pieces in self.ranks.values() for piece in pieces)

    def held(self, key: Key) -> int:
        """The end of what is held of a rank's log."""
        pieces = self.ranks.get(key)
        return pieces[-1].end if pieces else 0

    def append(self, key: Key, offset: int, data: bytes) -> int:
        """Take what is new in `data`; the answer is what is held now. After a gap that is less than `offset`."""
        held = self.held(key)
        fresh = data[held - offset :] if offset <= held else b""
        if not fresh:
            return held
        pieces = self.ranks.setdefault(key, [])
        if not pieces or pieces[-1].size >= self.piece:
            pieces.append(Piece(held, 0))
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with self._path(key, pieces[-1].base).open("ab") as file:
            file.write(fresh)
        pieces[-1].size += len(fresh)
        self.total += len(fresh)
        self._trim(key)
        return pieces[-1].end

    def read(self, key: Key, offset: int, limit: int) -> Chunk:
        """Up to `limit` bytes from `offset` on, or from the first byte that is still held."""
        for piece in self.ranks.get(key, ()):
            if offset < piece.end:
                start = max(offset, piece.base)
                with self._path(key, piece.base).open("rb") as file:
                    file.seek(start - piece.base)
                    return Chunk(start, file.read(min(limit, piece.end - start)), self.held(key))
        held = self.held(key)
        return Chunk(max(offset, held), b"", held)

    def _scan(self) -> None:
        for path in self.folder.iterdir():
            if match := _NAME.fullmatch(path.name):
                generation, rank, base = int(match[1]), int(match[2]), int(match[3] or 0)
                self.ranks.setdefault((generation, rank), []).append(Piece(base, path.stat().st_size))
        for pieces in self.ranks.values():
            pieces.sort(key=lambda piece: piece.base)

    def _trim(self, current: Key) -> None:
        """Drop the oldest pieces, oldest generation first, until the job is within its bound."""
        while self.total > self.most:
            droppable = [
                (key[0], piece.base, key[1])
                for key, pieces in self.ranks.items()
                for piece in pieces
                if piece.size and not (key == current and piece is pieces[-1])
            ]
            if not droppable:
                return
            generation, _, rank = min(droppable)
            self._drop((generation, rank))

    def _drop(self, key: Key) -> None:
        pieces = self.ranks[key]
        gone = pieces.pop(0)
        self._path(key, gone.base).unlink(missing_ok=True)
        self.total -= gone.size
        if pieces:
            return
        if key[0] > max(generation for generation, _ in self.ranks) - MARKED:
            pieces.append(Piece(gone.end, 0))
            self._path(key, gone.end).touch()
        else:
            del self.ranks[key]

    def _path(self, key: Key, base: int) -> Path:
        middle = f".{base}" if base else ""
        return self.folder / f"{key[0]}.{key[1]}{middle}.log"
