"""Make foreign text safe to print: names, logs, reasons and cloud messages may hold anything.

An escape sequence in a job's name can retitle the terminal, fill the clipboard or clear the screen; a bidi mark can
make a price read backwards. So every text that we did not write passes `show` on its way to a terminal, and what is
left is one line of printable characters in which the control characters are visible. In Textual and Rich it must then
go into a `Text` or `Content`, never into markup: "[/bold]" is printable, and is not our business here.
"""

from __future__ import annotations

import re
from typing import Final

LIMIT: Final = 200  # characters: a cell or a sentence; longer text is cut, so a hostile name cannot flood the screen
LOG_LIMIT: Final = 8_192  # characters of one log line: long enough for a stack frame, short enough for a terminal
CUT: Final = "…"

# Letters and marks by their Unicode category, yet drawn as nothing or as a blank: enough to hide text or fake a name.
_INVISIBLE: Final = frozenset(
    map(
        chr,
        [
            *(0x034F, 0x115F, 0x1160, 0x17B4, 0x17B5, 0x2800, 0x3164, 0xFFA0),
            *range(0x180B, 0x1810),
            *range(0xFE00, 0xFE10),
            *range(0xE0100, 0xE01F0),
        ],
    )
)
_COLOUR: Final = re.compile(r"\x1b\[[0-9;:]*m")  # what a log may well hold, and what harms nobody when it is left out


def show(text: str, limit: int = LIMIT) -> str:
    """One printable line of at most `limit` characters; what is not printable stands as \\x1b or \\u202e."""
    part = text[: limit + 1]
    if not (part.isprintable() and (part.isascii() or _INVISIBLE.isdisjoint(part))):
        part = "".join(c if _plain(c) else _escape(c) for c in part)
    return part if len(part) <= limit else part[: limit - 1] + CUT


def show_log(text: str) -> list[str]:
    """The lines of a log's text: no colours, tabs widened, and of a rewritten line (a progress bar) the last state."""
    return [show(_last_write(line).expandtabs(), LOG_LIMIT) for line in _COLOUR.sub("", text).split("\n")]


def _plain(char: str) -> bool:
    return char.isprintable() and char not in _INVISIBLE


def _escape(char: str) -> str:
    code = ord(char)
    if code <= 0xFF:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code <= 0xFFFF else f"\\U{code:08x}"


def _last_write(line: str) -> str:
    return next((part for part in reversed(line.split("\r")) if part), "")
