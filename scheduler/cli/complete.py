"""Completion that asks the daemon: names of jobs. A slow or absent daemon completes nothing, quickly."""

from __future__ import annotations

import os
from typing import Final

_TIMEOUT_S: Final = 0.15  # a person waits at the prompt


def job_names(incomplete: str) -> list[str]:
    """Ids and names of current jobs that begin so."""
    from dsched.scheduler.api.client import Client, ClientError
    from dsched.scheduler.wire.address import socket_path

    try:
        jobs = Client(socket_path(None, os.environ), _TIMEOUT_S, resume=0.0).jobs()
    except (ClientError, ValueError):
        return []
    words = dict.fromkeys(word for job in jobs for word in (job["id"], job["name"]))
    return [word for word in words if word.startswith(incomplete)]
