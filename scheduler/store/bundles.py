"""Workdirs by the hash of their content: written once, verified while they arrive, never changed.

BUNDLES/<sha256> is a whole bundle or does not exist: it is made under another name and renamed once its hash is proved.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import re
import tempfile
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import BinaryIO, Final

from dsched.scheduler.store.errors import StoreError

BUNDLE_MAX: Final = 256 * 1024 * 1024  # bytes: code and configuration, not data
_HASH: Final = re.compile(r"[0-9a-f]{64}")
_ARRIVING: Final = ".arriving-"


class BadBundle(StoreError):
    """The bytes are not what their name says, or the name is no hash. Nothing was kept."""


class BundleTooLarge(StoreError):
    """More than a bundle may hold. Nothing was kept."""


class Bundles:
    def __init__(self, folder: Path, *, most: int = BUNDLE_MAX) -> None:
        self.folder, self.most = folder, most
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for left in folder.glob(f"{_ARRIVING}*"):  # of a process that ended in the middle
            left.unlink(missing_ok=True)

    def get(self, sha256: str) -> Path | None:
        """The file of a whole bundle. None for what is not here, and for what is no hash."""
        if not _HASH.fullmatch(sha256):
            return None
        path = self.folder / sha256
        return path if path.is_file() else None

    async def put(self, sha256: str, chunks: AsyncIterator[bytes]) -> None:
        """Keep what `chunks` give. Raises BadBundle, BundleTooLarge, or OSError when the disk refuses."""
        if not _HASH.fullmatch(sha256):
            raise BadBundle(f"not a SHA-256 in lower-case hex: {sha256[:80]!r}")
        if self.get(sha256) is not None:
            return
        handle, name = await asyncio.to_thread(tempfile.mkstemp, prefix=_ARRIVING, dir=self.folder)
        try:
            with os.fdopen(handle, "wb") as file:
                got = await self._receive(file, chunks)
                if got != sha256:
                    raise BadBundle(f"the content's SHA-256 is {got}, not {sha256}: send the file again")
                await asyncio.to_thread(_settle, file)
            await asyncio.to_thread(_rename, name, self.folder / sha256)
        except BaseException:
            os.unlink(name)
            raise

    async def _receive(self, file: BinaryIO, chunks: AsyncIterator[bytes]) -> str:
        """Write and hash side by side; the loop only passes chunks on."""
        digest, size = hashlib.sha256(), 0
        async for chunk in chunks:
            size += len(chunk)
            if size > self.most:
                raise BundleTooLarge(
                    f"a workdir may be {self.most} bytes packed: leave data out of it and read it from a bucket"
                )
            await asyncio.to_thread(_take, file, digest.update, chunk)
        return digest.hexdigest()


def _take(file: BinaryIO, update: Callable[[bytes], None], chunk: bytes) -> None:
    update(chunk)
    file.write(chunk)


def _settle(file: BinaryIO) -> None:
    file.flush()
    os.fsync(file.fileno())


def _rename(name: str, target: Path) -> None:
    os.rename(name, target)
    folder = os.open(target.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
