"""Measures the app from inside for bench/tui.py: key to paint, loop lag, frames.

Off unless DSCHED_TUI_PROBE names a file.
"""

from __future__ import annotations

import asyncio
import json
import os
import resource
import time
from pathlib import Path
from typing import Any, Final

from textual.app import App
from textual.events import Key

SWITCH: Final = "DSCHED_TUI_PROBE"
_TICK_S: Final = 0.04  # often enough to see a busy loop, seldom enough not to be one


class Probe:
    """Figures since `start`, in seconds."""

    def __init__(self, app: App[Any], out: Path) -> None:
        self.app, self.out = app, out
        self.lags: list[float] = []
        self.keys: list[float] = []
        self.frames = 0
        self.pressed: float | None = None
        self.began, self.cpu = time.perf_counter(), _cpu()

    async def watch(self) -> None:
        """How late the loop wakes us; the file is written when the app ends."""
        try:
            while True:
                due = time.perf_counter() + _TICK_S
                await asyncio.sleep(_TICK_S)
                self.lags.append(max(0.0, time.perf_counter() - due))
        finally:
            self.write()

    def write(self) -> None:
        lasted = time.perf_counter() - self.began
        figures = {
            "seconds": lasted,
            "cpu": (_cpu() - self.cpu) / lasted,
            "rss_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
            "frames_per_s": self.frames / lasted,
            "lags": self.lags,
            "keys": self.keys,
        }
        self.out.write_text(json.dumps(figures))


def start(app: App[Any]) -> None:
    """Hook into the app if the switch is set."""
    if not (out := os.environ.get(SWITCH)):
        return
    probe = Probe(app, Path(out))
    display, on_event = app._display, app.on_event

    def measured(screen: Any, renderable: Any) -> None:
        display(screen, renderable)
        probe.frames += 1
        if probe.pressed is not None and renderable is not None:
            probe.keys.append(time.perf_counter() - probe.pressed)
            probe.pressed = None

    async def seen(event: Any) -> None:
        if isinstance(event, Key):
            probe.pressed = time.perf_counter()
        await on_event(event)

    app._display, app.on_event = measured, seen  # type: ignore[method-assign]
    app.run_worker(probe.watch(), group="probe")


def _cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime
