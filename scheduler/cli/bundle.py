"""Pack a workdir: the same files always give the same bytes, so that a bundle is known by its SHA-256 and sent once."""

from __future__ import annotations

import gzip
import hashlib
import os
import stat
import tarfile
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatch
from typing import IO, Any, Final

from dsched.scheduler.cli.trouble import trouble

SKIPPED: Final = (".git", ".hg", ".venv", "__pycache__", "node_modules", ".mypy_cache", ".pytest_cache", ".ruff_cache")
IGNORE_FILE: Final = ".dschedignore"
FILES_MAX: Final = 20_000  # beyond this a folder holds data, and data belongs into a bucket
BYTES_MAX: Final = 512 * 1024**2  # unpacked
_LEVEL: Final = 6  # of gzip: source code packs to a fifth; higher levels only cost time


@dataclass(frozen=True, slots=True)
class Bundle:
    sha256: str
    file: IO[bytes]  # at its start; gone when closed
    size: int  # bytes, packed
    files: int


def pack(folder: str) -> Bundle:
    """The folder as tar.gz. Raises Trouble for what cannot be shipped, with the path."""
    if not os.path.isdir(folder):
        raise trouble("E102", f"workdir {folder!r} is not a folder", "the path is relative to the spec")
    packed = tempfile.TemporaryFile()  # noqa: SIM115 - it outlives this function, as the bundle
    try:
        digest = _Digest(packed)
        with gzip.GzipFile("", "wb", _LEVEL, digest, mtime=0) as zipped:
            files = _write(folder, zipped)
    except BaseException:
        packed.close()
        raise
    size = packed.tell()
    packed.seek(0)
    return Bundle(digest.hash.hexdigest(), packed, size, files)


def _write(folder: str, to: gzip.GzipFile) -> int:
    """The tar of the folder; how many entries it has."""
    files = unpacked = 0
    with tarfile.open(fileobj=to, mode="w|") as tar:
        for path, name in _walk(folder):
            info = _entry(tar, folder, path, name)
            files += 1
            unpacked += info.size
            if files > FILES_MAX or unpacked > BYTES_MAX:
                raise trouble(
                    "E102",
                    f"workdir {folder!r} holds more than {FILES_MAX:,} files or {BYTES_MAX // 1024**2} MiB",
                    f"name what stays here in {IGNORE_FILE}, or keep data in a bucket",
                )
            if info.isreg():
                with open(path, "rb") as source:
                    tar.addfile(info, source)
            else:
                tar.addfile(info)
    return files


def _walk(folder: str) -> Iterator[tuple[str, str]]:
    """(path, name in the bundle), sorted, so that the order on disk changes nothing."""
    ignored = _ignored(folder)
    for at, folders, names in os.walk(folder):
        inside = os.path.relpath(at, folder)
        folders[:] = sorted(d for d in folders if d not in SKIPPED and not _matches(inside, d, ignored))
        links = [d for d in folders if os.path.islink(os.path.join(at, d))]
        for name in sorted([*names, *folders]):
            if name in folders or not _matches(inside, name, ignored):
                yield os.path.join(at, name), os.path.normpath(os.path.join(inside, name))
        folders[:] = [d for d in folders if d not in links]


def _ignored(folder: str) -> list[str]:
    try:
        with open(os.path.join(folder, IGNORE_FILE), encoding="utf-8") as lines:
            return [line.strip().rstrip("/") for line in lines if line.strip() and not line.startswith("#")]
    except FileNotFoundError:
        return []
    except (OSError, UnicodeDecodeError) as e:
        raise trouble("E102", f"{IGNORE_FILE} of {folder!r} cannot be read: {e}") from None


def _matches(inside: str, name: str, patterns: list[str]) -> bool:
    path = os.path.normpath(os.path.join(inside, name))
    return any(fnmatch(name, p) or fnmatch(path, p) for p in patterns)


def _entry(tar: tarfile.TarFile, folder: str, path: str, name: str) -> tarfile.TarInfo:
    """The header with everything left out that differs between two machines."""
    try:
        mode = os.lstat(path).st_mode
        if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode) or stat.S_ISLNK(mode)):
            raise trouble("E102", f"{path!r} is neither file, folder nor link", f"name it in {IGNORE_FILE}")
        info = tar.gettarinfo(path, name)
        if stat.S_ISREG(mode) and info.islnk():  # the second name of one file travels as a file
            info.type, info.linkname, info.size = tarfile.REGTYPE, "", os.lstat(path).st_size
        if stat.S_ISREG(mode) and not os.access(path, os.R_OK):
            raise trouble("E102", f"{path!r} cannot be read", f"name it in {IGNORE_FILE}")
    except OSError as e:
        raise trouble("E102", f"{path!r}: {e.strerror}") from None
    if info.issym() and _leaves(folder, path):
        raise trouble("E102", f"{path!r} is a link out of the workdir", f"copy it, or name it in {IGNORE_FILE}")
    info.mtime, info.uid, info.gid, info.uname, info.gname = 0, 0, 0, "", ""
    info.mode = 0o755 if info.isdir() or mode & 0o100 else 0o644
    return info


def _leaves(folder: str, link: str) -> bool:
    target = os.readlink(link)
    if os.path.isabs(target):
        return True
    inside = os.path.relpath(os.path.join(os.path.dirname(link), target), folder)
    return inside == ".." or inside.startswith("../")


class _Digest:
    """A file that knows the hash of what went through it."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.hash = hashlib.sha256()

    def write(self, data: Any) -> int:
        self.hash.update(data)
        return self._file.write(data)

    def flush(self) -> None:
        self._file.flush()
