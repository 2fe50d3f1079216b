"""The embedded cloud outlives whoever started it, so there is a word that ends it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.support.house import wait_for

CLOUD = [sys.executable, "-m", "dsched.providers.local", "--state"]


def stop(folder: Path) -> int:
    return subprocess.run([*CLOUD, str(folder), "--stop"], capture_output=True, check=False).returncode


def test_a_cloud_is_ended_by_name_and_a_missing_one_is_said(tmp_path: Path) -> None:
    folder = tmp_path / "cloud"
    with subprocess.Popen([*CLOUD, str(folder)], stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as cloud:
        wait_for((folder / "cloud.sock").exists, "the cloud's socket")
        assert stop(folder) == 0
        assert cloud.wait(60) == 0
    assert stop(folder) == 2
