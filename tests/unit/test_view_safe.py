"""Foreign text reaches no terminal raw."""

from __future__ import annotations

import sys
import unicodedata

import pytest

from dsched.scheduler.view.safe import LIMIT, show, show_log


@pytest.mark.parametrize(
    ("hostile", "shown"),
    [
        ("\x1b]0;owned\x07", "\\x1b]0;owned\\x07"),
        ("\x9b31m", "\\x9b31m"),
        ("a\u202etxt.exe", "a\\u202etxt.exe"),
        ("pay\u200bload", "pay\\u200bload"),
        ("two\nlines\tand\ra return", "two\\x0alines\\x09and\\x0da return"),
        ("\ud800", "\\ud800"),
        ("\U000e0041", "\\U000e0041"),
        ("blank\u3164", "blank\\u3164"),
    ],
)
def test_what_a_terminal_would_obey_is_made_visible(hostile: str, shown: str) -> None:
    assert show(hostile) == shown


def test_ordinary_text_of_any_script_stays_as_it_is() -> None:
    for text in ("moe-ft", "[/bold]", "größe", "模型", "модель", "● läuft"):
        assert show(text) == text


def test_no_character_that_controls_or_hides_is_ever_printed() -> None:
    dangerous = {"Cc", "Cf", "Cs", "Zl", "Zp"}
    for code in range(sys.maxunicode + 1):
        if unicodedata.category(chr(code)) in dangerous:
            assert show(chr(code)).startswith("\\"), hex(code)


def test_long_text_is_cut_where_it_would_flood_the_screen() -> None:
    assert show("x" * 500) == "x" * (LIMIT - 1) + "…"
    assert len(show("\x1b" * 10_000)) == LIMIT
    assert show("abc", 3) == "abc"


def test_a_log_keeps_its_words_and_loses_its_colours() -> None:
    assert show_log("\x1b[1;31mloss\x1b[0m 2.5\nstep 2") == ["loss 2.5", "step 2"]


def test_a_progress_bar_shows_its_last_state() -> None:
    assert show_log("10%\r50%\r100%\r") == ["100%"]


def test_a_log_cannot_move_the_cursor() -> None:
    assert show_log("\x1b[2J\x1b[H") == ["\\x1b[2J\\x1b[H"]
