"""Log lines: an event's name and its fields, no sentence to parse.

structlog is loaded with the first line. It takes a tenth of a start, and a daemon that starts well has nothing to say
before it is ready.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any, Final


class Log:
    """structlog's logger: `log.warning("foresee.failed", error=...)`."""

    def __init__(self) -> None:
        self._prepare: Callable[[], None] = _nothing

    def to_stderr(self) -> None:
        """From the first line on: for people on a terminal, as JSON elsewhere. Without this structlog is as it is."""
        self._prepare = _configure

    def load(self) -> None:
        """Now, and not with the first line."""
        prepare, self._prepare = self._prepare, _nothing
        prepare()

    def __getattr__(self, level: str) -> Callable[..., Any]:
        import structlog

        self.load()
        found: Callable[..., Any] = getattr(structlog.get_logger(), level)
        return found


def _nothing() -> None:
    """Nothing is to be prepared."""


def _configure() -> None:
    import structlog

    renderer: Any = structlog.processors.JSONRenderer()
    if sys.stderr.isatty():
        renderer = structlog.dev.ConsoleRenderer()
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso"),
            structlog.processors.format_exc_info,
            renderer,
        ],
        logger_factory=structlog.WriteLoggerFactory(file=sys.stderr),
    )


log: Final = Log()
