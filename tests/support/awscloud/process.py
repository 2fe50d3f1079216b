"""Start the cloud's process, pull its levers, end it."""

from __future__ import annotations

import json
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).resolve().parents[3]
CREDENTIALS: Final = {
    "AWS_ACCESS_KEY_ID": "testing",
    "AWS_SECRET_ACCESS_KEY": "testing",
    "AWS_EC2_METADATA_DISABLED": "true",
    "AWS_CONFIG_FILE": "/dev/null",
    "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
}


class AwsCloud:
    """A moto server with what moto lacks. `url` serves every AWS service."""

    def __init__(self) -> None:
        command = [sys.executable, "-m", "tests.support.awscloud"]
        self._process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert self._process.stdout is not None
        self.url = self._process.stdout.readline().decode().strip()
        assert self.url.startswith("http"), "the AWS cloud did not start"

    def pull(self, lever: str, /, **what: Any) -> Any:
        """See levers.py."""
        asked = urllib.request.Request(f"{self.url}/levers/{lever}", data=json.dumps(what).encode(), method="POST")
        with urllib.request.urlopen(asked, timeout=60) as reply:
            return json.load(reply)

    def close(self) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(60)
        self._process.stdout.close()
