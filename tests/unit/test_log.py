"""Log lines: the library that writes them is loaded with the first."""

from __future__ import annotations

import json
import subprocess
import sys

CODE = """
import sys
from dsched.scheduler.log import log
log.to_stderr()
assert "structlog" not in sys.modules
log.warning("foresee.failed", error="no answer")
log.info("intent.done", took_s=0.5)
"""


def test_a_line_is_an_event_with_its_fields() -> None:
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=True)
    first, second = map(json.loads, done.stderr.splitlines())
    assert (first["event"], first["level"], first["error"]) == ("foresee.failed", "warning", "no answer")
    assert (second["event"], second["level"], second["took_s"]) == ("intent.done", "info", 0.5)
