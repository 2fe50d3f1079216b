"""`python -m dsched.jobs.agent`: the process that a launch starts on its node.

Environment: DSCHED_METADATA, DSCHED_METADATA_FLAVOUR and DSCHED_USER_DATA (see identity.py), DSCHED_NODE_DIR (the
node's own disk), DSCHED_LEASE (see deadman.py).
Exit codes: 0 ended as it should, 69 no metadata service, 78 a launch that cannot work.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import Final

from dsched.jobs.agent.client import LinkError
from dsched.jobs.agent.clock import boot_ms
from dsched.jobs.agent.identity import ConfigurationError, Identity, Metadata, identify, metadata
from dsched.jobs.agent.journal import note
from dsched.jobs.agent.loop import Loop
from dsched.jobs.agent.node import Node

EXIT_UNAVAILABLE: Final = 69
EXIT_CONFIG: Final = 78
METADATA_WAIT_MS: Final = 60_000  # a network that comes up with the machine; without a lease it must not wait for long
METADATA_AGAIN_S: Final = 0.1


def main() -> int:
    try:
        service = metadata(os.environ)
        node_dir = Path(os.environ.get("DSCHED_NODE_DIR", "/var/lib/dsched-node")).resolve()
        node = Node(Loop(), service, node_dir, os.environ)  # forks the guard: before there is any thread
        return node.live(_identify(service, os.environ.get("DSCHED_USER_DATA", "")))
    except ConfigurationError as error:
        note("agent.misconfigured", error=str(error))
        return EXIT_CONFIG
    except OSError as error:
        note("agent.unable", error=str(error))
        return EXIT_UNAVAILABLE


def _identify(service: Metadata, file: str) -> Identity:
    until = boot_ms() + METADATA_WAIT_MS
    while True:
        try:
            return identify(service, file)
        except LinkError:
            if boot_ms() >= until:
                raise
        time.sleep(METADATA_AGAIN_S)


def run() -> None:
    code = main()
    sys.stderr.flush()
    os._exit(code)  # the threads block on the daemon: nothing to wait for


if __name__ == "__main__":
    run()
