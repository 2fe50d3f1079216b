"""What earlier jobs left on the node's disk. A node may be kept for weeks: the oldest go when a next job begins."""

from __future__ import annotations

import itertools
import os
from collections.abc import Collection, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Final

from dsched.jobs.agent.journal import note

KEPT_MAX: Final = 8  # of other jobs: each finds its directory and bundle again if it comes back soon

_number: Final = itertools.count()


def put_aside(node_dir: Path, jobs: Collection[str], bundles: Collection[str]) -> Path | None:
    """Move what is too much out of the way, at once; the folder to delete at leisure, or None.

    Never anything of `jobs` and `bundles`, which are in use. A rename, since a job that begins while its old directory
    is being deleted must find all of it or nothing.
    """
    work = [path for path in _inside(node_dir / "work") if path.is_dir() and not _belongs(path.name, jobs)]
    archives = [path for path in _inside(node_dir / "bundles") if path.name.partition(".")[0] not in bundles]
    doomed = [*_oldest(work), *_oldest(archives)]
    if not doomed:
        return None
    aside = node_dir / f"aside.{next(_number)}"
    try:
        aside.mkdir(exist_ok=True)
        for path in doomed:
            path.with_name(f"{path.name}.ready").unlink(missing_ok=True)
            with suppress(FileNotFoundError):
                os.replace(path, aside / f"{path.parent.name}.{path.name}")
    except OSError as error:
        note("leftover.stays", error=str(error))
    return aside


def _belongs(name: str, jobs: Collection[str]) -> bool:
    """The job's directory, or one that is being unpacked for it (<job>.<generation>)."""
    return name in jobs or name.rpartition(".")[0] in jobs


def _inside(folder: Path) -> list[Path]:
    return list(folder.iterdir()) if folder.is_dir() else []


def _oldest(paths: Iterable[Path]) -> list[Path]:
    """All but the newest."""
    return sorted(paths, key=_changed, reverse=True)[KEPT_MAX:]


def _changed(path: Path) -> int:
    """0 for what a thread that still unpacks for an ended generation has removed since we listed it."""
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return 0
