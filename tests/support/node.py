"""What runs on a node when no agent is wanted: fetches its user-data as cloud-init does, and runs it if it is a script.

The user-data lies in the node's directory afterwards, byte for byte. Standard library only.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
import urllib.request
from pathlib import Path


def user_data() -> bytes:
    base, aws = os.environ["DSCHED_METADATA"], os.environ["DSCHED_METADATA_FLAVOUR"] == "aws"
    if not aws:
        return fetch(f"{base}/computeMetadata/v1/instance/attributes/user-data", {"Metadata-Flavor": "Google"})
    wanted = {"X-aws-ec2-metadata-token-ttl-seconds": "60"}
    token = fetch(f"{base}/latest/api/token", wanted, method="PUT").decode()
    return fetch(f"{base}/latest/user-data", {"X-aws-ec2-metadata-token": token})


def fetch(url: str, headers: dict[str, str], *, method: str = "GET") -> bytes:
    request = urllib.request.Request(url, headers=headers, method=method)
    with urllib.request.urlopen(request, timeout=10) as answer:
        return bytes(answer.read())


def main() -> int:
    disk = Path(os.environ["DSCHED_NODE_DIR"])
    text = user_data()
    (disk / "user-data.new").write_bytes(text)
    (disk / "user-data.new").rename(disk / "user-data")
    if text.startswith(b"#!"):
        return subprocess.run(["/bin/sh", str(disk / "user-data")], cwd=disk, check=False).returncode
    time.sleep(3_600)
    return 0


if __name__ == "__main__":
    sys.exit(main())
