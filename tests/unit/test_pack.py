"""The same folder is the same bundle, and nothing leaves it."""

from __future__ import annotations

import os
import tarfile
from pathlib import Path

import pytest

from dsched.scheduler.cli import bundle
from dsched.scheduler.cli.bundle import Bundle, pack
from dsched.scheduler.cli.trouble import Trouble


def write(folder: Path, **files: str) -> Path:
    for name, text in files.items():
        path = folder / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


def sha256(folder: Path) -> str:
    packed = pack(str(folder))
    packed.file.close()
    return packed.sha256


def names(packed: Bundle) -> list[str]:
    with packed.file, tarfile.open(fileobj=packed.file) as tar:
        return tar.getnames()


def test_the_same_files_are_the_same_bundle(tmp_path: Path) -> None:
    one = write(tmp_path / "one", b="2", a="1", sub__c="3")
    two = write(tmp_path / "two", sub__c="3", a="1", b="2")
    os.utime(two / "a", (1, 1))
    (two / "b").chmod(0o600)
    assert sha256(one) == sha256(two)


def test_another_byte_or_another_right_to_run_is_another_bundle(tmp_path: Path) -> None:
    first = sha256(write(tmp_path, a="1"))
    (tmp_path / "a").chmod(0o755)
    second = sha256(tmp_path)
    third = sha256(write(tmp_path, a="2"))
    assert len({first, second, third}) == 3


def test_what_is_rebuilt_or_ignored_stays_here(tmp_path: Path) -> None:
    write(tmp_path, train="x", sub__keep="x", sub__data="x", big="x")
    write(tmp_path / ".git", HEAD="x")
    write(tmp_path / "__pycache__", x="x")
    (tmp_path / ".dschedignore").write_text("# data\nsub/data\nbi*\n")
    assert names(pack(str(tmp_path))) == [".dschedignore", "sub", "train", "sub/keep"]


def test_links_inside_travel_and_links_outside_are_refused(tmp_path: Path) -> None:
    work = write(tmp_path / "work", a="1")
    (work / "same").symlink_to("a")
    (work / "here").symlink_to(".")
    assert set(names(pack(str(work)))) == {"a", "same", "here"}
    for target in ("../secret", "/etc/passwd"):
        (work / "out").unlink(missing_ok=True)
        (work / "out").symlink_to(target)
        with pytest.raises(Trouble, match="is a link out of the workdir"):
            pack(str(work))


def test_a_hard_link_travels_as_a_file(tmp_path: Path) -> None:
    os.link(write(tmp_path, a="1") / "a", tmp_path / "b")
    packed = pack(str(tmp_path))
    with packed.file, tarfile.open(fileobj=packed.file) as tar:
        assert [(m.name, m.isreg(), m.size) for m in tar] == [("a", True, 1), ("b", True, 1)]


def test_what_cannot_be_shipped_is_named(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(Trouble, match="pipe' is neither file, folder nor link"):
        pack(str(tmp_path))
    with pytest.raises(Trouble, match="is not a folder"):
        pack(str(tmp_path / "nowhere"))


def test_a_folder_full_of_data_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bundle, "FILES_MAX", 2)
    write(tmp_path, a="1", b="1", c="1")
    with pytest.raises(Trouble, match="holds more than 2 files") as refused:
        pack(str(tmp_path))
    assert ".dschedignore" in refused.value.problem["hint"]
