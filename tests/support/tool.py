"""Programs that only some machines have: a test that needs one is skipped where it is missing, and says so."""

from __future__ import annotations

import shutil

import pytest


def needs(*tools: str) -> pytest.MarkDecorator:
    """Skip the test unless all of these programs are there."""
    missing = [tool for tool in tools if shutil.which(tool) is None]
    return pytest.mark.skipif(bool(missing), reason=f"{', '.join(missing)} is not installed (`make setup` as root)")
