"""Fixtures that every tier shares, and the last words of a run: what it has counted, and what was not tested here."""

from __future__ import annotations

from collections import defaultdict

import pytest


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.hookimpl(trylast=True)
def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """A skipped test proves nothing; it must not pass for a green one."""
    _tell(terminalreporter)
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


def _tell(terminalreporter: pytest.TerminalReporter) -> None:
    """What tests have recorded as `told`, from whichever process they ran in."""
    for reports in terminalreporter.stats.values():
        for report in reports:
            if getattr(report, "when", "") == "call":
                for told in [value for name, value in report.user_properties if name == "told"]:
                    terminalreporter.write_line(f"{report.nodeid.rpartition('::')[2]}: {told}")
