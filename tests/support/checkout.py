"""The checkout as files: what the hygiene tests look at."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TOP = ("scheduler", "providers", "jobs", "tui")  # the folders that become dsched.<folder>
_MADE = {"build", "dist", "__pycache__", "node_modules"}


@cache
def files(suffix: str = "") -> tuple[Path, ...]:
    """Every file of ours, relative to the root; nothing that a tool made."""
    return tuple(sorted(path.relative_to(ROOT) for path in _walk(ROOT) if path.name.endswith(suffix)))


def _walk(folder: Path) -> Iterator[Path]:
    for path in folder.iterdir():
        if path.is_dir() and not path.is_symlink():
            if path.name not in _MADE and not path.name.endswith(".egg-info") and not _hidden(path):
                yield from _walk(path)
        elif path.is_file():
            yield path


def _hidden(folder: Path) -> bool:
    return folder.name.startswith(".") and folder.name not in (".ci", ".github")


def text(path: Path) -> str:
    return (ROOT / path).read_text(encoding="utf-8")
