"""Text snapshots: what stands on a screen, as a file that a diff can show.

A missing or different snapshot fails; `DSCHED_SNAPSHOT=write` writes them anew, to be read in `git diff` before
they are committed.
"""

from __future__ import annotations

import difflib
import os
from pathlib import Path


def check(path: Path, text: str) -> None:
    if os.environ.get("DSCHED_SNAPSHOT") == "write":
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        return
    assert path.exists(), f"no snapshot {path.name} yet; run with DSCHED_SNAPSHOT=write and read it"
    was = path.read_text(encoding="utf-8")
    diff = "\n".join(difflib.unified_diff(was.splitlines(), text.splitlines(), "was", "is", lineterm="", n=1))
    assert text == was, f"{path.name} differs (DSCHED_SNAPSHOT=write accepts it):\n{diff}"
