"""The agent as one file that any Python runs: what a bare machine fetches, known by the digest of its bytes.

The same sources give the same bytes, wherever and whenever they are packed: sorted names, one date, one level of
compression. (Another zlib may pack otherwise; then the digest is another one, and a machine that was launched with the
old one is still served by whoever packed that.)
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from importlib.resources import files
from typing import Final

PYTHON: Final = (3, 11)  # the oldest that runs it
_WHEN: Final = (2026, 1, 1, 0, 0, 0)  # of every entry: a zip must say something
_LEVEL: Final = 9
_MAIN: Final = b"from dsched.jobs.agent.__main__ import run\n\nrun()\n"


@dataclass(frozen=True, slots=True)
class Code:
    data: bytes
    sha256: str  # in hexadecimal


@cache
def agent_code() -> Code:
    """jobs/agent and the one file of ours that it takes along, with an entry for `python FILE`."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED, compresslevel=_LEVEL) as archive:
        for name, data in sorted(_entries()):
            archive.writestr(zipfile.ZipInfo(name, _WHEN), data, zipfile.ZIP_DEFLATED, _LEVEL)
    return Code(packed.getvalue(), sha256(packed.getvalue()).hexdigest())


def _entries() -> Iterator[tuple[str, bytes]]:
    yield "__main__.py", _MAIN
    for package in ("dsched", "dsched/jobs", "dsched/scheduler", "dsched/scheduler/wire"):
        yield f"{package}/__init__.py", b""  # the installed ones say where a checkout lies, or bring more along
    yield "dsched/scheduler/wire/agent.py", files("dsched.scheduler.wire").joinpath("agent.py").read_bytes()
    for file in files("dsched.jobs.agent").iterdir():
        if file.name.endswith(".py"):
            yield f"dsched/jobs/agent/{file.name}", file.read_bytes()
