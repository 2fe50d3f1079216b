"""Fetch a bundle from a link near the machine, where the daemon gave one. What fails here costs nothing but the try."""

from __future__ import annotations

from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from dsched.jobs.agent.client import Link, LinkError
from dsched.jobs.agent.journal import note

ANSWER_S: Final = 20.0  # between two pieces
BYTES_MAX: Final = 2 * 1024**3


def fetched(link: str, target: Path) -> bool:
    """Whether something was written to `target`: its hash is still to be checked. Blocks; for a thread."""
    parts = urlsplit(link)
    path = f"{parts.path}?{parts.query}" if parts.query else parts.path
    try:
        connection = Link(f"{parts.scheme}://{parts.netloc}")
    except ValueError as error:
        note("near.unusable", error=str(error))
        return False
    try:
        with open(target, "wb") as file:
            answer = connection.request("GET", path, timeout_s=ANSWER_S, sink=file.write, limit=BYTES_MAX)
    except LinkError as error:
        note("near.failed", error=str(error))
        return False
    finally:
        connection.close()
    if answer.status != 200:
        note("near.refused", host=parts.netloc, status=answer.status)
    return answer.status == 200
