"""Fixtures that every tier shares, and the last word of a run: what was not tested here."""

from __future__ import annotations

from collections import defaultdict

import pytest


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.hookimpl(trylast=True)
def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """A skipped test proves nothing; it must not pass for a green one."""
    reasons: defaultdict[str, list[str]] = defaultdict(list)
    for report in terminalreporter.stats.get("skipped", []):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        reasons[reason.removeprefix("Skipped: ")].append(report.nodeid)
    if not reasons:
        terminalreporter.write_line("Nothing was skipped.", green=True)
        return
    count = sum(map(len, reasons.values()))
    terminalreporter.write_sep("!", f"{count} SKIPPED: NOT TESTED ON THIS MACHINE", red=True, bold=True)
    for reason, tests in sorted(reasons.items()):
        terminalreporter.write_line(f"{reason}:", yellow=True)
        for test in tests:
            terminalreporter.write_line(f"    {test}")
