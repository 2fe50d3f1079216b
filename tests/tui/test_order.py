"""The order of rows, kept true while they change."""

from __future__ import annotations

import random
from decimal import Decimal

from hypothesis import given, settings
from hypothesis import strategies as st

from dsched.tui.order import Order

Row = dict[str, object]


def order(rows: dict[str, Row], *, descending: bool = False) -> Order[Row]:
    made: Order[Row] = Order(rows)
    made.key, made.descending = lambda r: r["n"], descending
    made.reset()
    return made


def test_rows_without_a_value_stand_last_either_way() -> None:
    rows: dict[str, Row] = {"a": {"n": None}, "b": {"n": 2}, "c": {"n": 1}}
    assert order(rows).ids == ["c", "b", "a"]
    assert order(rows, descending=True).ids == ["b", "c", "a"]


def test_nan_has_no_place_among_numbers() -> None:
    rows: dict[str, Row] = {"a": {"n": float("nan")}, "b": {"n": 2.0}, "c": {"n": 1.0}}
    assert order(rows).ids == ["c", "b", "a"]


def test_words_sort_without_regard_to_case_and_money_exactly_enough() -> None:
    assert order({"a": {"n": "beta"}, "b": {"n": "Alpha"}}).ids == ["b", "a"]
    assert order({"a": {"n": Decimal("10.5")}, "b": {"n": Decimal("9.99")}}).ids == ["b", "a"]


def test_a_change_that_moves_nothing_leaves_the_order_true() -> None:
    rows: dict[str, Row] = {"a": {"n": 1}, "b": {"n": 2}}
    made = order(rows)
    rows["a"] = {"n": 1, "other": "field"}
    assert not made.touch(["a"])
    rows["a"] = {"n": 3}
    assert made.touch(["a"])


edits = st.lists(st.tuples(st.integers(0, 20), st.one_of(st.none(), st.integers(0, 5), st.just("gone"))), max_size=60)


@settings(max_examples=200, deadline=None)
@given(edits, st.booleans(), st.booleans())
def test_touching_what_changed_gives_the_same_order_as_starting_anew(
    changes: list[tuple[int, object]], descending: bool, filtered: bool
) -> None:
    rows: dict[str, Row] = {}
    made = order(rows, descending=descending)
    if filtered:
        made.keep = lambda r: r["n"] != 3
    for number, value in changes:
        key = f"k{number:02d}"
        if value == "gone":
            rows.pop(key, None)
        else:
            rows[key] = {"n": value}
        if made.touch([key]):
            made.rebuild()
    fresh = order(rows, descending=descending)
    fresh.keep = made.keep
    fresh.reset()
    assert made.ids == fresh.ids
    assert made.at == {key: i for i, key in enumerate(made.ids)}


def test_ten_thousand_rows_keep_their_order_under_random_changes() -> None:
    dice = random.Random(1)
    rows: dict[str, Row] = {f"j{i}": {"n": dice.random()} for i in range(10_000)}
    made = order(rows)
    touched = dice.sample(list(rows), 500)
    for key in touched:
        rows[key] = {"n": dice.random()}
    assert made.touch(touched)
    made.rebuild()
    assert made.ids == sorted(rows, key=lambda k: (rows[k]["n"], k))
