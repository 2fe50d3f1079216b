"""Hold one node together where PID namespaces are not permitted: a subreaper that ends with its main process.

    python -m dsched.providers.local.keeper COMMAND...

Orphans of the node become children of this process, so the whole node can be found below it. Standard library only.
"""

from __future__ import annotations

import ctypes
import os
import sys
from typing import Final

from dsched.providers.local.proc import sweep

PR_SET_CHILD_SUBREAPER: Final = 36
MARK: Final = "DSCHED_NODE_DIR"


def main(command: list[str]) -> int:
    """The exit code of `command`, 128 + n for signal n; everything that it left behind is dead by then."""
    if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        return 112
    main_process = os.posix_spawnp(command[0], command, os.environ)
    while True:
        pid, status = os.wait()
        if pid == main_process:
            break
    sweep(os.getpid(), MARK, os.environ.get(MARK, ""))
    code = os.waitstatus_to_exitcode(status)
    return code if code >= 0 else 128 - code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
