"""Where checkpoints live: one small API over a disk, S3 and GCS.

    file:///path, /path   this process' own writer: temp file, fsync, link or rename, fsync of the folder
    s3://bucket/prefix    obstore, configured by the usual AWS_* variables
    gs://bucket/prefix    obstore, configured by the usual GOOGLE_* variables

Objects are immutable and names are relative ("shards/x/000.safetensors"). What `put` and `create` have returned for is
durable. (obstore's own local store does not fsync, so a power cut could take back a checkpoint that was acknowledged.)

    StorageError             anything else: a bad sector, a folder where a file should be
      BadUri                 not a place this program can go to. Next: tell, a retry will not help
      Missing                not there
      Exists                 `create` came second
      TooLarge               more bytes than the caller allows
      Full                   no room. Next: keep what is there, try again later
      Denied                 credentials or permissions. Next: tell, a retry will not help
      Unreachable            no answer within the bounds below; a write may have happened. Next: look, or retry
"""

from __future__ import annotations

import errno
import json
import os
import secrets
import stat
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, Final, Protocol
from urllib.parse import unquote, urlsplit

if TYPE_CHECKING:
    from obstore.store import ObjectStore

Buffer = bytes | bytearray | memoryview

TEMP_FOLDER: Final = ".tmp"
TEMP_AGE_S: Final = 3_600  # since the last write to a temp file: its writer is dead, or fails harmlessly when it wakes
WRITE_BYTES: Final = 8 << 20  # per write(): large enough to be cheap, small enough to interleave with hashing
RETRIES_MAX: Final = 5  # of one request to an object store; with the timeouts below at most a minute and a half
RETRY_FOR: Final = timedelta(seconds=60)
REQUEST_TIMEOUT: Final = "30s"
CONNECT_TIMEOUT: Final = "5s"


class StorageError(Exception):
    """The store could not do it. The message names the object."""


class BadUri(StorageError):
    """Not a place this program can go to. Next: tell, a retry will not help."""


class Missing(StorageError):
    """Not there."""


class Exists(StorageError):
    """Something of that name was created before."""


class TooLarge(StorageError):
    """More bytes than allowed: not the object that was written."""


class Full(StorageError):
    """No room: disk, quota or file size limit."""


class Denied(StorageError):
    """Not allowed."""


class Unreachable(StorageError):
    """No answer; the outcome of a write is not known."""


class Storage(Protocol):
    """A folder of immutable objects. Safe to use from several threads."""

    uri: str
    appends_cheaply: bool  # whether `append` may be called every step

    def put(self, path: str, chunks: Iterable[Buffer]) -> int:
        """Write an object whose name nobody else uses; the bytes written. Readers see all of it or nothing."""

    def create(self, path: str, data: bytes) -> None:
        """Write a small object if there is none of that name, atomically. Raises Exists."""

    def append(self, path: str, data: bytes) -> None:
        """Add to the end of a log. One writer per path, and no promise of durability before a crash of the machine."""

    def get(self, path: str, size_max: int) -> bytes:
        """Raises Missing, TooLarge."""

    def list(self, folder: str) -> list[str]:
        """Every object below `folder`, sorted; empty when there is no such folder."""

    def delete(self, paths: Iterable[str]) -> None:
        """Remove; what is already gone is fine."""

    def link(self, path: str, seconds: int) -> str:
        """An URL by which anybody may read this object for so long. Raises StorageError where there can be none."""


def open_storage(uri: str) -> Storage:
    """Raises BadUri for a scheme that is not known or an address that is none."""
    try:
        parts = urlsplit(uri)
    except ValueError as e:
        raise BadUri(f"{uri}: {e}") from e
    if not uri or "\0" in unquote(uri):
        raise BadUri(f"{uri!r}: not a place")
    if parts.scheme in ("", "file"):
        if parts.netloc not in ("", "localhost"):
            raise BadUri(f"{uri}: a file uri has three slashes, file:///path")
        return FileStorage(Path(unquote(parts.path) if parts.scheme else uri))
    if parts.scheme in ("s3", "gs"):
        if not parts.netloc:
            raise BadUri(f"{uri}: the bucket is missing; {parts.scheme}://bucket/prefix")
        return ObjectStorage(uri, _connect(uri))
    raise BadUri(f"{uri}: unknown scheme {parts.scheme!r}; use file://, s3:// or gs://")


class FileStorage:
    """A folder on a disk that this machine mounts."""

    appends_cheaply = True

    def __init__(self, root: Path) -> None:
        self._root = root.absolute()
        self.uri = self._root.as_uri()
        self._temp = self._root / TEMP_FOLDER
        self._sweep_temp()

    def put(self, path: str, chunks: Iterable[Buffer]) -> int:
        final = self._at(path)
        with _disk_errors(path):
            temp, size = self._write(chunks)
            try:
                _make_folder(final.parent)
                temp.rename(final)
            except OSError:
                temp.unlink(missing_ok=True)
                raise
            _sync_folder(final.parent)
        return size

    def create(self, path: str, data: bytes) -> None:
        final = self._at(path)
        with _disk_errors(path):
            _make_folder(final.parent)
            temp, _ = self._write([data])
            try:
                os.link(temp, final)  # unlike rename, fails when the name is taken
            finally:
                temp.unlink(missing_ok=True)
            _sync_folder(final.parent)

    def append(self, path: str, data: bytes) -> None:
        final = self._at(path)
        with _disk_errors(path):
            _make_folder(final.parent)
            fd = os.open(final, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
            try:
                _write_all(fd, data)
            finally:
                os.close(fd)

    def get(self, path: str, size_max: int) -> bytes:
        # Without O_NONBLOCK, a foreign pipe under our name would hold the job for ever.
        with _disk_errors(path), open(self._at(path), "rb", buffering=0, opener=_open_nonblocking) as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise StorageError(f"{path}: not a file")
            if status.st_size > size_max:
                raise TooLarge(f"{path}: {status.st_size} bytes, {size_max} expected at most")
            return file.read()

    def list(self, folder: str) -> list[str]:
        found: list[str] = []
        with _disk_errors(folder):
            for place, _, files in os.walk(self._at(folder), onerror=_unless_missing):
                inside = Path(place).relative_to(self._root).as_posix()
                found += [f"{inside}/{name}" for name in files]
        return sorted(found)

    def delete(self, paths: Iterable[str]) -> None:
        for path in paths:
            final = self._at(path)
            with _disk_errors(path):
                final.unlink(missing_ok=True)
            if final.parent.parent != self._root:  # top folders stay: another writer may be about to use them
                with suppress(OSError):
                    final.parent.rmdir()

    def link(self, path: str, seconds: int) -> str:
        raise StorageError(f"{path}: files have no links")

    def _at(self, path: str) -> Path:
        pure = PurePosixPath(path)
        if pure.is_absolute() or ".." in pure.parts or "\0" in path:
            raise StorageError(f"{path!r}: not a name inside the store")
        return self._root / pure

    def _write(self, chunks: Iterable[Buffer]) -> tuple[Path, int]:
        """A complete, durable temp file, or none."""
        _make_folder(self._temp)
        temp, size = self._temp / secrets.token_hex(16), 0
        fd = os.open(temp, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
        try:
            for chunk in chunks:
                size += _write_all(fd, chunk)
            os.fsync(fd)
        except BaseException:
            temp.unlink(missing_ok=True)
            raise
        finally:
            os.close(fd)
        return temp, size

    def _sweep_temp(self) -> None:
        with suppress(OSError):
            for file in self._temp.iterdir():
                if file.stat().st_mtime < time.time() - TEMP_AGE_S:
                    file.unlink()


class ObjectStorage:
    """A bucket, or obstore's memory store."""

    appends_cheaply = False

    def __init__(self, uri: str, store: ObjectStore) -> None:
        import obstore

        self.uri = uri.rstrip("/")
        self._store = store
        self._obstore = obstore

    def put(self, path: str, chunks: Iterable[Buffer]) -> int:
        size = 0

        def counted() -> Iterator[Buffer]:
            nonlocal size
            for chunk in chunks:
                size += memoryview(chunk).nbytes
                yield chunk

        with _cloud_errors(path):
            self._obstore.put(self._store, path, counted())
        return size

    def create(self, path: str, data: bytes) -> None:
        with _cloud_errors(path):
            self._obstore.put(self._store, path, data, mode="create")

    def append(self, path: str, data: bytes) -> None:
        with _cloud_errors(path):
            try:
                before = self._obstore.get(self._store, path).bytes().to_bytes()
            except FileNotFoundError:
                before = b""
            self._obstore.put(self._store, path, before + data)

    def get(self, path: str, size_max: int) -> bytes:
        with _cloud_errors(path):
            found = self._obstore.get(self._store, path)
            if found.meta["size"] > size_max:
                raise TooLarge(f"{path}: {found.meta['size']} bytes, {size_max} expected at most")
            return found.bytes().to_bytes()

    def list(self, folder: str) -> list[str]:
        with _cloud_errors(folder):
            return sorted(meta["path"] for page in self._obstore.list(self._store, folder) for meta in page)

    def delete(self, paths: Iterable[str]) -> None:
        for path in paths:
            with _cloud_errors(path), suppress(FileNotFoundError):
                self._obstore.delete(self._store, path)

    def link(self, path: str, seconds: int) -> str:
        with _cloud_errors(path):
            sign: Any = self._obstore.sign  # its types know no memory store
            return str(sign(self._store, "GET", path, timedelta(seconds=seconds)))


def _connect(uri: str) -> ObjectStore:
    from obstore.store import GCSStore, S3Store

    options: dict[str, Any] = {
        "client_options": {"timeout": REQUEST_TIMEOUT, "connect_timeout": CONNECT_TIMEOUT, "allow_http": _plain(uri)},
        "retry_config": {"max_retries": RETRIES_MAX, "retry_timeout": RETRY_FOR},
    }
    with _cloud_errors(uri):
        if uri.startswith("s3:"):
            return S3Store.from_url(uri, **options)
        return GCSStore.from_url(uri, **options)


def _plain(uri: str) -> bool:
    """Whether a store of one's own is named, without TLS."""
    if uri.startswith("s3:"):
        return os.environ.get("AWS_ENDPOINT_URL", "").startswith("http://")
    try:
        told = json.loads(os.environ.get("GOOGLE_SERVICE_ACCOUNT_KEY", "{}"))
    except ValueError:
        return False  # the library says what is wrong with it
    return isinstance(told, dict) and str(told.get("gcs_base_url", "")).startswith("http://")


@contextmanager
def _disk_errors(path: str) -> Iterator[None]:
    try:
        yield
    except OSError as e:
        kind = _BY_ERRNO.get(e.errno or 0, StorageError)
        raise kind(f"{path}: {e.strerror or e}") from e


_BY_ERRNO: Final[dict[int, type[StorageError]]] = {
    errno.ENOENT: Missing,
    errno.EEXIST: Exists,
    errno.ENOSPC: Full,
    errno.EDQUOT: Full,
    errno.EFBIG: Full,
    errno.EACCES: Denied,
    errno.EPERM: Denied,
    errno.EROFS: Denied,
}


@contextmanager
def _cloud_errors(path: str) -> Iterator[None]:
    from obstore import exceptions as cloud

    try:
        yield
    except FileNotFoundError as e:
        raise Missing(f"{path}: not found") from e
    except (cloud.AlreadyExistsError, cloud.PreconditionError) as e:
        raise Exists(f"{path}: exists") from e
    except (cloud.PermissionDeniedError, cloud.UnauthenticatedError) as e:
        raise Denied(_told(path, e)) from e
    except (cloud.GenericError, cloud.JoinError, TimeoutError, ConnectionError) as e:
        raise Unreachable(_told(path, e)) from e
    except cloud.BaseError as e:
        raise StorageError(_told(path, e)) from e


def _told(path: str, error: Exception) -> str:
    """obstore appends pages of its own structures to its sentence."""
    return f"{path}: {str(error).partition('Debug source')[0].strip()}"


def _open_nonblocking(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK | os.O_CLOEXEC)


def _unless_missing(error: OSError) -> None:
    """For os.walk: an error is never an empty list."""
    if error.errno != errno.ENOENT:
        raise error


def _write_all(fd: int, chunk: Buffer) -> int:
    view = memoryview(chunk).cast("B")
    at = 0
    while at < len(view):
        at += os.write(fd, view[at : at + WRITE_BYTES])
    return at


def _make_folder(folder: Path) -> None:
    """Create the folder and its parents, each entry durable."""
    if folder.is_dir():
        return
    _make_folder(folder.parent)
    folder.mkdir(exist_ok=True)
    _sync_folder(folder.parent)


def _sync_folder(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
