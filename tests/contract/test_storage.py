"""What every checkpoint store promises, asked of a disk and of an object store."""

from __future__ import annotations

import os
import resource
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from obstore.store import MemoryStore

from dsched.jobs.runtime.storage import (
    TEMP_AGE_S,
    TEMP_FOLDER,
    BadUri,
    Exists,
    FileStorage,
    Full,
    Missing,
    ObjectStorage,
    Storage,
    StorageError,
    TooLarge,
    Unreachable,
    open_storage,
)


@pytest.fixture(params=["disk", "object"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Storage:
    return FileStorage(tmp_path / "store") if request.param == "disk" else ObjectStorage("memory://", MemoryStore())


@pytest.fixture
def file_size_limit() -> Iterator[int]:
    """A disk that is full after 64 KiB per file."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (65_536, before[1]))
    yield 65_536
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_what_was_put_is_read_back(store: Storage) -> None:
    chunks = [b"abc", bytearray(b"def"), memoryview(bytes(6_000_000))]
    assert store.put("shards/a/0.bin", chunks) == 6_000_006
    data = store.get("shards/a/0.bin", 6_000_006)
    assert data == b"abcdef" + bytes(6_000_000)


def test_an_empty_object_is_an_object(store: Storage) -> None:
    assert store.put("shards/a/0.bin", []) == 0
    assert store.get("shards/a/0.bin", 0) == b""


def test_create_succeeds_once(store: Storage) -> None:
    store.create("claims/1", b"first")
    with pytest.raises(Exists, match="claims/1"):
        store.create("claims/1", b"second")
    assert store.get("claims/1", 100) == b"first"


def test_of_many_creators_exactly_one_wins(store: Storage) -> None:
    won: list[int] = []
    start = threading.Barrier(8)

    def race(me: int) -> None:
        start.wait()
        try:
            store.create("claims/1", str(me).encode())
        except Exists:
            return
        won.append(me)

    threads = [threading.Thread(target=race, args=(i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [str(each).encode() for each in won] == [bytes(store.get("claims/1", 100))]


def test_the_list_is_recursive_sorted_and_empty_for_an_unknown_folder(store: Storage) -> None:
    for path in ("shards/b/1", "shards/a/2", "shards/a/1", "manifests/1"):
        store.put(path, [b"x"])
    assert store.list("shards") == ["shards/a/1", "shards/a/2", "shards/b/1"]
    assert store.list("shards/a") == ["shards/a/1", "shards/a/2"]
    assert store.list("nothing") == []


def test_delete_forgives_what_is_gone(store: Storage) -> None:
    store.put("shards/a/1", [b"x"])
    store.delete(["shards/a/1", "shards/a/1", "shards/b/7"])
    assert store.list("shards") == []
    with pytest.raises(Missing, match="shards/a/1"):
        store.get("shards/a/1", 10)


def test_append_adds_to_the_end(store: Storage) -> None:
    store.append("losses/1", b"a\n")
    store.append("losses/1", b"b\n")
    assert store.get("losses/1", 100) == b"a\nb\n"


def test_an_object_that_has_grown_is_not_read_into_memory(store: Storage) -> None:
    store.put("shards/a/1", [bytes(1_000)])
    with pytest.raises(TooLarge, match="1000 bytes"):
        store.get("shards/a/1", 999)


def test_a_write_that_fails_leaves_nothing_behind(tmp_path: Path) -> None:
    store = FileStorage(tmp_path)

    def broken() -> Iterator[bytes]:
        yield b"half"
        raise RuntimeError("killed")

    with pytest.raises(RuntimeError, match="killed"):
        store.put("shards/a/1", broken())
    assert store.list(".") == []


@pytest.mark.usefixtures("file_size_limit")
def test_a_full_disk_says_so_and_the_half_written_file_is_gone(tmp_path: Path) -> None:
    store = FileStorage(tmp_path)
    with pytest.raises(Full, match="shards/a/1: File too large"):
        store.put("shards/a/1", [bytes(100_000)])
    with pytest.raises(Full):
        store.create("claims/1", bytes(100_000))
    assert store.list(".") == []
    store.put("shards/a/1", [bytes(60_000)])


@pytest.mark.parametrize("path", ["../outside", "/etc/hostname", "a/../../b", "nul\0byte"])
def test_a_name_cannot_lead_out_of_the_store(tmp_path: Path, path: str) -> None:
    with pytest.raises(StorageError, match="not a name inside"):
        FileStorage(tmp_path).get(path, 100)


def test_a_pipe_or_a_folder_in_an_objects_place_is_an_error_and_no_wait(tmp_path: Path) -> None:
    store = FileStorage(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    for name in ("pipe", "folder"):
        with pytest.raises(StorageError, match=name):
            store.get(name, 100)


def test_the_leftovers_of_a_killed_writer_are_swept_after_a_day(tmp_path: Path) -> None:
    store = FileStorage(tmp_path)
    store.put("a/b", [b"x"])
    for name, age in (("old", TEMP_AGE_S + 60), ("fresh", 0)):
        file = tmp_path / TEMP_FOLDER / name
        file.write_bytes(b"half")
        then = file.stat().st_mtime - age
        os.utime(file, (then, then))
    FileStorage(tmp_path)
    assert [file.name for file in (tmp_path / TEMP_FOLDER).iterdir()] == ["fresh"]


def test_a_uri_chooses_the_store(tmp_path: Path) -> None:
    assert open_storage(f"file://{tmp_path}/a%20b").uri == f"file://{tmp_path}/a%20b"
    assert open_storage(str(tmp_path)).uri == tmp_path.as_uri()
    assert open_storage("s3://bucket/prefix/").uri == "s3://bucket/prefix"


@pytest.mark.parametrize(
    ("uri", "remedy"),
    [
        ("ftp://host/x", "use file://, s3:// or gs://"),
        ("file://host/x", "three slashes"),
        ("s3://", "bucket is missing"),
        ("s3://[half", "Invalid"),
        ("file:///nul%00byte", "not a place"),
        ("", "not a place"),
    ],
)
def test_a_uri_that_leads_nowhere_is_refused_with_the_remedy(uri: str, remedy: str) -> None:
    with pytest.raises(BadUri, match=remedy):
        open_storage(uri)


def test_a_bucket_that_does_not_answer_is_unreachable_and_said_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        "AWS_ENDPOINT_URL": "http://127.0.0.1:9",
        "AWS_ALLOW_HTTP": "true",
        "AWS_ACCESS_KEY_ID": "a",
        "AWS_SECRET_ACCESS_KEY": "b",
        "AWS_REGION": "x",
    }.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("dsched.jobs.runtime.storage.RETRIES_MAX", 0)
    with pytest.raises(Unreachable, match="manifests/1") as caught:
        open_storage("s3://bucket/prefix").get("manifests/1", 10)
    assert "Debug" not in str(caught.value)
