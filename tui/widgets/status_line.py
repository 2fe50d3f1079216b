"""The top line: connection, latency, counts, the age of prices, whose market it is, and how the clouds are."""

from __future__ import annotations

from typing import Any, Final

from rich.cells import cell_len
from textual.content import Content

from dsched.scheduler.view import format as f
from dsched.scheduler.view.safe import show
from dsched.scheduler.wire.api import Health
from dsched.tui.feed import Link
from dsched.tui.view import STYLES, Part
from dsched.tui.widgets.line import Lines

PRICES_OLD_S: Final = 900  # a spot price older than a quarter of an hour is a guess: shown in amber
_COUNTED: Final = ("running", "starting", "queued", "held", "draining", "paused", "failed")
_GAP: Final = "  "


def status(
    link: Link, health: Health | None, *, address: str, now: float, width: int, frozen: bool, readonly: bool
) -> Content:
    """Groups by importance: what does not fit is left out from the least important on."""
    groups: list[tuple[int, list[Part]]] = [(0, [(" dsched", "bold")]), (0, _link(link, now))]
    if frozen:
        groups.append((0, [("‖ frozen", STYLES["warn"])]))
    if readonly:
        groups.append((1, [("read-only", STYLES["warn"])]))
    if health is not None:
        note = health["market_note"]
        if note:
            groups.append((1, [(f"◆ {show(note)}", "$text-accent")]))
        groups.append((2, _prices(health)))
        groups.append((3, _providers(health)))
        groups.append((4, _counts(health)))
    groups.append((7, [(show(address), STYLES["dim"])]))
    return _join(groups, width)


def _join(groups: list[tuple[int, list[Part]]], width: int) -> Content:
    groups = [g for g in groups if g[1]]
    while len(groups) > 1 and sum(_wide(parts) + len(_GAP) for _, parts in groups) > width:
        groups.remove(max(groups, key=lambda g: g[0]))
    parts: list[Part] = []
    for _, group in groups:
        parts += [*group, (_GAP, "")]
    return Content.assemble(*parts)


def _wide(parts: list[Part]) -> int:
    return sum(cell_len(text) for text, _ in parts)


def _link(link: Link, now: float) -> list[Part]:
    if link.heard is None:
        return [("◌ connecting", STYLES["warn"])] if link.state == "connecting" else [("✖ no daemon", STYLES["bad"])]
    if link.stale(now):
        return [(f"▲ stale {f.age(link.silence(now))}", f"bold {STYLES['warn']}")]
    latency = "" if link.latency_ms is None else f" {link.latency_ms:.0f} ms"
    return [("● live", STYLES["good"]), (latency, STYLES["dim"])]


def _counts(health: Health) -> list[Part]:
    parts: list[Part] = []
    for word in _COUNTED:
        if count := health["jobs"].get(word, 0):
            glyph, tone = f.STATES[word]
            parts += [(f"{glyph} {count:,} {word}", STYLES[tone]), (" ", "")]
    return parts[:-1]


def _prices(health: Health) -> list[Part]:
    """The oldest of the prices that count."""
    ages = [age for p in health["providers"].values() if isinstance(age := p.get("prices_age_s"), int | float)]
    if not ages:
        return [("prices unknown", STYLES["warn"])] if health["providers"] else []
    oldest = max(ages)
    return [(f"prices {f.age(oldest)} old", STYLES["warn" if oldest > PRICES_OLD_S else "dim"])]


def _providers(health: Health) -> list[Part]:
    parts: list[Part] = []
    for name, said in health["providers"].items():
        parts += [*_provider(name, said), (" ", "")]
    return parts[:-1]


def _provider(name: str, said: dict[str, Any]) -> list[Part]:
    if said.get("ok"):
        return [(f"{show(name, 16)} ", ""), ("✔", STYLES["good"])]
    return [(f"{show(name, 16)} ", ""), (f"✖ {show(str(said.get('why') or 'down'), 40)}", STYLES["bad"])]


class StatusLine(Lines):
    DEFAULT_CSS = "StatusLine { background: $panel; color: $foreground; }"
