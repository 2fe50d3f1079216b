"""Workdirs near the machines: put there once, linked for a while, and never needed."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pytest

from dsched.jobs.runtime.storage import Buffer, StorageError, Unreachable, open_storage
from dsched.scheduler.shelf import AGAIN_S, FRESH_S, Shelf
from tests.support.house import wait_for

SHA = "a" * 64


class Bucket:
    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}
        self.puts, self.down = 0, False

    def list(self, folder: str) -> list[str]:
        if self.down:
            raise Unreachable("no answer")
        return [path for path in self.objects if path.startswith(folder)]

    def put(self, path: str, chunks: Iterable[Buffer]) -> int:
        self.puts += 1
        self.objects[path] = b"".join(bytes(chunk) for chunk in chunks)
        return len(self.objects[path])

    def link(self, path: str, seconds: int) -> str:
        return f"https://bucket/{path}?for={seconds}&n={self.puts}"


class Clock:
    now = 1_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Bucket:
    bucket = Bucket()
    monkeypatch.setattr(Shelf, "_open", lambda _self, _place: bucket)
    return bucket


def shelf(folder: Path, clock: Clock) -> Shelf:
    (folder / SHA).write_bytes(b"code")
    return Shelf({"aws": "s3://bucket/dsched"}, folder, clock)


def test_a_bundle_is_put_there_once_and_then_linked(tmp_path: Path, bucket: Bucket) -> None:
    clock = Clock()
    built = shelf(tmp_path, clock)
    assert built.link("aws", SHA) == ""
    link = wait_for(lambda: built.link("aws", SHA), "the link")
    assert link.startswith(f"https://bucket/bundles/{SHA}?")
    assert bucket.objects == {f"bundles/{SHA}": b"code"}
    clock.now += FRESH_S + 1
    assert built.link("aws", SHA) == ""  # the old one may end while a node reads
    wait_for(lambda: built.link("aws", SHA), "a new link")
    assert bucket.puts == 1


def test_a_cloud_without_a_place_has_no_links_and_a_job_without_a_workdir_needs_none(
    tmp_path: Path, bucket: Bucket
) -> None:
    built = shelf(tmp_path, Clock())
    assert (built.link("gcp", SHA), built.link("aws", "")) == ("", "")
    assert not built._under_way


def test_a_bucket_that_does_not_answer_is_left_alone_for_a_while(tmp_path: Path, bucket: Bucket) -> None:
    clock = Clock()
    built, bucket.down = shelf(tmp_path, clock), True
    built.link("aws", SHA)
    wait_for(lambda: built._links and not built._under_way, "the failure")
    bucket.down = False
    assert built.link("aws", SHA) == ""
    assert not built._under_way
    clock.now += AGAIN_S + 1
    wait_for(lambda: built.link("aws", SHA), "the link")


def test_a_folder_of_this_host_has_no_links(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="files have no links"):
        open_storage(str(tmp_path)).link("x", 60)


def test_a_bucket_at_amazon_signs_a_link_without_a_call(monkeypatch: pytest.MonkeyPatch) -> None:
    keys = {"AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "y", "AWS_REGION": "us-east-1"}
    for name, value in keys.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)
    link = open_storage("s3://bucket/dsched").link("bundles/a", 3_600)
    assert "/bucket/dsched/bundles/a?" in link
    assert "X-Amz-Expires=3600" in link
