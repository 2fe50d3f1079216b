"""Log bytes to lines: the same lines wherever the chunks were cut."""

from __future__ import annotations

import json
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from dsched.scheduler.api.loglines import LINE_MAX, Lines


def read(*chunks: tuple[int, bytes], offset: int = 0) -> list[tuple[int, str]]:
    reader = Lines(1, 0, offset)
    made = b"".join([reader.feed(start, data) for start, data in chunks]) + reader.rest()
    return [(line["offset"], line["text"]) for line in map(json.loads, made.splitlines())]


@given(data=st.binary(max_size=200), cuts=st.lists(st.integers(0, 200), max_size=8))
def test_chunks_may_be_cut_anywhere(data: bytes, cuts: list[int]) -> None:
    edges = sorted({0, len(data), *(cut for cut in cuts if cut < len(data))})
    parts = [(start, data[start:end]) for start, end in pairwise(edges)]
    assert read(*parts) == read((0, data))


def test_a_lines_offset_is_where_the_next_one_begins() -> None:
    assert read((0, b"one\ntwo\r\n\nlast")) == [(4, "one"), (9, "two"), (10, ""), (14, "last")]


def test_bytes_that_are_no_text_are_shown_as_such() -> None:
    assert read((0, b"caf\xc3\xa9 \xff\n")) == [(8, "caf\u00e9 \ufffd")]


def test_a_line_without_end_is_cut_and_shown() -> None:
    lines = read((0, b"x" * (2 * LINE_MAX + 10)))
    assert [len(text) for _, text in lines] == [LINE_MAX, LINE_MAX, 10]
    assert [offset for offset, _ in lines] == [LINE_MAX, 2 * LINE_MAX, 2 * LINE_MAX + 10]


def test_a_dropped_beginning_is_said_in_the_text() -> None:
    assert read((100, b"rest\n"), offset=40) == [
        (100, "[60 bytes were dropped: the log outgrew its bound]"),
        (105, "rest"),
    ]
