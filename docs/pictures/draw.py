"""Draw what a command really printed as a terminal picture.

    .venv/bin/dsched demo > docs/pictures/demo.txt
    .venv/bin/python docs/pictures/draw.py docs/pictures/demo.txt 'dsched demo'

The text stays beside the picture; nothing but colour is added to it.
"""

from __future__ import annotations

import io
import sys
from pathlib import Path

from rich.console import Console
from rich.text import Text

COLOURS = (
    (r"^ +[\d.]+ s ", "dim"),  # seconds since the start
    (r"-- .* --$", "bold yellow"),  # a blow of the market
    (r"^  ok  ", "bold green"),
    (r"^  FAIL", "bold red"),
    (r"^  machine .*$", "bold"),
    (r"^  paid .*$", "bold cyan"),
    (r"local/[\w./-]+", "cyan"),
)


def draw(text: str, title: str) -> str:
    lines = text.rstrip("\n").splitlines()
    console = Console(record=True, width=max(map(len, lines)), file=io.StringIO(), force_terminal=True)
    for line in lines:
        shown = Text(line)
        for pattern, style in COLOURS:
            shown.highlight_regex(pattern, style)
        console.print(shown)
    return console.export_svg(title=title, unique_id="demo")


def main(source: str, title: str) -> None:
    path = Path(source)
    path.with_suffix(".svg").write_text(draw(path.read_text(encoding="utf-8"), title), encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
