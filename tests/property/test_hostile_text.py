"""Ten thousand hostile texts through the sanitiser and the tables: not one control byte is left."""

from __future__ import annotations

import random
import re

from hypothesis import given, settings
from hypothesis import strategies as st

from dsched.scheduler.core.units import Instant, Moment
from dsched.scheduler.view.columns import EVENTS, JOBS
from dsched.scheduler.view.safe import LIMIT, show, show_log
from dsched.scheduler.view.table import csv_text, table
from tests.tui import fleet

NOW = Moment(Instant(fleet.WALL), Instant(fleet.MARKET))
CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ud800-\udfff]")
PIECES = [
    "\x1b[",
    "\x1b]0;",
    "\x9b",
    "\x1b]52;c;",
    "[/bold]",
    "[@click=x]",
    "\u202e",
    "\u2066",
    "\r",
    "\n",
    "\x08",
    "\x00",
]
hostile = st.one_of(
    st.text(),
    st.lists(st.sampled_from(PIECES) | st.text(max_size=4), max_size=40).map("".join),
    st.text(alphabet=st.characters(categories=["Cc", "Cf", "Cs", "Zl", "Zp", "Lo"]), max_size=60),
)


@settings(max_examples=1_000, deadline=None)
@given(hostile)
def test_no_control_byte_survives(text: str) -> None:
    shown = show(text)
    assert not CONTROL.search(shown)
    assert len(shown) <= LIMIT
    assert show(shown) == shown


def test_ten_thousand_hostile_texts_leave_no_control_byte() -> None:
    dice = random.Random(0)
    letters = [*map(chr, range(0x250)), *PIECES]
    for _ in range(10_000):
        text = "".join(dice.choices(letters, k=dice.randrange(40)))
        assert not CONTROL.search(show(text)), ascii(text)


@settings(max_examples=300, deadline=None)
@given(hostile)
def test_no_log_line_does_more_than_print(text: str) -> None:
    for line in show_log(text):
        assert not CONTROL.search(line)


@settings(max_examples=100, deadline=None)
@given(hostile, st.integers(40, 200))
def test_no_table_and_no_csv_lets_it_through(text: str, width: int) -> None:
    rows = [fleet.job(id=text, name=text, user=text, where=text, accelerator=text, reason=text, state="running")]
    for line in table(JOBS, rows, NOW, width=width, colour=False):
        assert not CONTROL.search(line)
    for line in table(EVENTS, [fleet.event(1, text, text)], NOW, width=width, colour=False):
        assert not CONTROL.search(line)
    assert not CONTROL.search(csv_text(JOBS, rows).replace("\n", ""))
