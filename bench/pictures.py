"""Draw `dsched top` with made-up rows for the documentation. `python bench/pictures.py` writes docs/pictures/top.svg.

A PNG is made beside it in a temporary folder where rsvg-convert is installed, to look at.
"""

from __future__ import annotations

import asyncio
import math
import os
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from tests.support.picture import png  # noqa: E402
from tests.tui.fake import running  # noqa: E402

SIZE = (152, 36)


async def top() -> str:
    async with running(size=SIZE) as run:
        board = run.app.session.board
        board.burn.extend(437 * (0.75 + 0.2 * math.sin(i / 5) + i / 400) for i in range(60))
        run.main.tables["jobs"].go("j12")
        await run.until(lambda: run.main._story[0] == "j12" and bool(run.main._story[2].attempts))
        await run.until(lambda: board.money is not None)
        run.main.second()
        await run.settle()
        return run.app.export_screenshot(title="dsched top (made-up data)")


def main() -> None:
    os.environ["TZ"] = "UTC"
    time.tzset()
    out = ROOT / "docs" / "pictures" / "top.svg"
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(asyncio.run(top()))
    print(out)
    copy = Path(tempfile.mkdtemp()) / "top.svg"
    copy.write_text(out.read_text())
    print(png(copy) or "rsvg-convert is not installed (Debian: librsvg2-bin): no PNG to look at")


if __name__ == "__main__":
    main()
