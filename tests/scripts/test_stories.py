"""Text stories in, plan reports out, compared with what stands beside them.

To accept a changed output: DSCHED_ACCEPT=1 pytest tests/scripts, and read the diff of the *.out files.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.scripts.story import Story

STORIES = sorted((Path(__file__).parent / "stories").glob("*.txt"))


@pytest.mark.parametrize("story", STORIES, ids=lambda path: path.stem)
def test_the_story_ends_as_it_is_told(story: Path) -> None:
    ending = story.with_suffix(".out")
    got = Story().tell(story.read_text(encoding="utf-8"))
    if os.environ.get("DSCHED_ACCEPT"):
        ending.write_text(got, encoding="utf-8")
    assert got == ending.read_text(encoding="utf-8")


def test_a_line_that_cannot_be_read_is_named() -> None:
    with pytest.raises(ValueError, match=r"line 2: 'offer aws/a 1': not enough values"):
        Story().tell("# a story\noffer aws/a 1\n")
