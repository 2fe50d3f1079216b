"""Where recorded markets lie: DSCHED_DATA, else shared/data beside the checkout. They are nobody's to commit."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.support.checkout import ROOT


def traces() -> Path:
    """The folder of traces; the test that asks is skipped where there is none."""
    folder = Path(os.environ.get("DSCHED_DATA", ROOT.parent / "shared" / "data")) / "traces"
    if not folder.is_dir():
        pytest.skip(f"no recorded markets at {folder} (DSCHED_DATA names their folder)")
    return folder
