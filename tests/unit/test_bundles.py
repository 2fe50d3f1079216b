"""Workdirs by content: whole and true, or not there."""

from __future__ import annotations

from collections.abc import AsyncIterator
from hashlib import sha256
from pathlib import Path

import pytest

from dsched.scheduler.store.bundles import BadBundle, Bundles, BundleTooLarge

DATA = b"workdir" * 1000
NAME = sha256(DATA).hexdigest()


async def chunks(data: bytes, *, breaks: bool = False) -> AsyncIterator[bytes]:
    yield data[:100]
    if breaks:
        raise ConnectionResetError
    yield data[100:]


@pytest.fixture
def bundles(tmp_path: Path) -> Bundles:
    return Bundles(tmp_path / "bundles", most=10_000)


async def test_a_bundle_is_there_once_its_hash_is_proved(bundles: Bundles) -> None:
    assert bundles.get(NAME) is None
    await bundles.put(NAME, chunks(DATA))
    path = bundles.get(NAME)
    assert path is not None
    assert path.read_bytes() == DATA


async def test_bytes_that_do_not_match_their_name_leave_nothing(bundles: Bundles) -> None:
    with pytest.raises(BadBundle, match=NAME):
        await bundles.put(NAME, chunks(DATA + b"!"))
    assert list(bundles.folder.iterdir()) == []


async def test_a_broken_upload_leaves_nothing(bundles: Bundles) -> None:
    with pytest.raises(ConnectionResetError):
        await bundles.put(NAME, chunks(DATA, breaks=True))
    assert list(bundles.folder.iterdir()) == []


async def test_a_workdir_with_data_in_it_is_refused_with_the_remedy(bundles: Bundles) -> None:
    with pytest.raises(BundleTooLarge, match="leave data out"):
        await bundles.put(NAME, chunks(DATA * 2))
    assert list(bundles.folder.iterdir()) == []


@pytest.mark.parametrize("name", ["", "..", NAME.upper(), NAME[:-1], f"{NAME}/..", "../" + NAME])
async def test_a_name_that_is_no_hash_is_no_bundle(bundles: Bundles, name: str) -> None:
    assert bundles.get(name) is None
    with pytest.raises(BadBundle):
        await bundles.put(name, chunks(DATA))


async def test_the_leftovers_of_a_killed_daemon_are_swept(bundles: Bundles) -> None:
    (bundles.folder / ".arriving-x").write_bytes(b"half")
    Bundles(bundles.folder)
    assert list(bundles.folder.iterdir()) == []
