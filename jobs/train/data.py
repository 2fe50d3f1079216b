"""What the decoder reads: the running interpreter's standard library, on every machine and never downloaded.

Each source file is a document. A micro-batch is a pure function of (seed, step, shard), so the data position of a
checkpoint is the step, and a resumed job reads what it would have read, however many workers it has.
"""

from __future__ import annotations

import hashlib
import os
import sysconfig
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import torch
from torch import Tensor

SKIPPED = frozenset({"test", "tests", "idlelib", "lib2to3", "site-packages", "dist-packages", "__pycache__"})
CORPUS_BYTES = 4 << 20
SEPARATOR = b"\0"  # between documents: a byte that Python sources do not contain


@dataclass(frozen=True, slots=True)
class Corpus:
    """All documents in one buffer, and its digest: a resumed job on another Python would read other bytes."""

    text: Tensor  # uint8
    sha256: str

    def batch(self, seed: int, step: int, shard: int, *, rows: int, length: int) -> Tensor:
        """(rows, length) bytes, int64: windows at places that depend on the arguments alone."""
        last = len(self.text) - length
        if last < 0:
            raise ValueError(f"the corpus has {len(self.text)} bytes, a row needs {length}")
        places = (_dice(seed, step, shard, row) % (last + 1) for row in range(rows))
        return torch.stack([self.text[at : at + length] for at in places]).long()


@lru_cache(maxsize=1)  # a warm zygote reads it once for all ranks that it forks
def standard_library(bytes_max: int = CORPUS_BYTES) -> Corpus:
    """Documents in the order of their names, cut off at `bytes_max` bytes."""
    text = bytearray()
    for path in _sources(sysconfig.get_path("stdlib")):
        text += path.read_bytes() + SEPARATOR
        if len(text) >= bytes_max:
            del text[bytes_max:]
            break
    return Corpus(torch.frombuffer(text, dtype=torch.uint8), hashlib.sha256(text).hexdigest())


def _sources(root: str) -> Iterator[Path]:
    for folder, folders, files in os.walk(root):
        folders[:] = sorted(set(folders) - SKIPPED)
        yield from (Path(folder, name) for name in sorted(files) if name.endswith(".py"))


def _dice(*place: int) -> int:
    """A hash, not a generator: the same number on every platform, and no state to save."""
    text = "/".join(map(str, place))
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest())
