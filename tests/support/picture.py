"""Turn a screenshot of Textual (SVG) into a PNG to look at: `python tests/support/picture.py FILE.svg...`.

rsvg-convert ignores `textLength` and drops leading blanks, so every word is placed by itself, and the font is scaled so
that its advance (0.6 em) is the width of a cell.
"""

from __future__ import annotations

import html
import re
import shutil
import subprocess
import sys
from pathlib import Path

CELL = 12.2  # pixels a cell is wide in the SVG
FONT = "JetBrains Mono, DejaVu Sans Mono, monospace"


def placed(svg: str) -> str:
    """The same picture with every word at its own place."""
    svg = re.sub(r"@font-face\s*{[^}]*}", "", svg)
    svg = svg.replace("Fira Code, monospace", FONT).replace("font-size: 20px", "font-size: 20.333px")
    return re.sub(r"<text((?:\s[^>]*)?)>([^<]*)</text>", _words, svg)


def _words(match: re.Match[str]) -> str:
    attributes, body = match[1], html.unescape(match[2])
    if "textLength" not in attributes or (at := re.search(r'\bx="([\d.]+)"', attributes)) is None:
        return match[0]
    left = float(at[1])
    rest = re.sub(r'\s*textLength="[\d.]+"', "", attributes).replace(at[0], "")
    return "".join(
        f'<text x="{left + word.start() * CELL:.1f}"{rest}>{html.escape(word.group())}</text>'
        for word in re.finditer(r"[^ \u00a0]+", body)
    )


def png(svg: Path) -> Path | None:
    """The picture beside its SVG, or None where no converter is installed."""
    if (convert := shutil.which("rsvg-convert")) is None:
        return None
    out = svg.with_suffix(".png")
    subprocess.run([convert, "-z", "0.9", "-o", str(out)], input=placed(svg.read_text()).encode(), check=True)
    return out


if __name__ == "__main__":
    for name in sys.argv[1:]:
        print(png(Path(name)) or "rsvg-convert is not installed (Debian: librsvg2-bin)")
