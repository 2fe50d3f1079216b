"""Whatever is fed to the reader of specs, it answers with a spec or a SpecError, and soon."""

from __future__ import annotations

import contextlib
import random
import time
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dsched.scheduler.view.fault import fault_lines
from dsched.scheduler.wire.document import Fault, SpecError
from dsched.scheduler.wire.spec import from_wire, load

SEED = """\
name: moe-ft
run: |
  torchrun train.py
gpus: {type: [H100, H200], count: 8..32, memory: 80GB}
env: {A: "1", B: x}
within: 12h
checkpoint: {to: s3://ckpts/moe-ft, every: auto}
retries: 3
"""
SLOW_S = 0.05
MARKS = ["{", "}", "[", "]", ":", ",", "- ", "? ", "'", '"', "|", ">", "%", "#", "@", "<<", "---\n", "...\n"]
PIECES = [*MARKS, "&a", "*a", "!!x", "\t", "\n", "\x00", "\ud800", "\u2028", "\ufeff"]


def answered(text: str) -> None:
    """Spec or SpecError; and the fault can be shown."""
    faults: Sequence[Fault] = ()
    try:
        load(text, "job.yaml")
    except SpecError as refused:
        faults = refused.faults
    for line in fault_lines(faults, colour=False):
        assert line.isprintable()


def test_thousands_of_damaged_specs_are_answered_soon() -> None:
    dice = random.Random(1)
    took: list[float] = []
    for _ in range(3_000):
        text = list(SEED)
        for _ in range(dice.randrange(1, 10)):
            at = dice.randrange(len(text) + 1)
            text[at : at + dice.choice((0, 0, 1, 3, 20))] = dice.choice(PIECES) * dice.choice((1, 1, 1, 40))
        began = time.thread_time()
        answered("".join(text))
        took.append(time.thread_time() - began)
    assert sorted(took)[int(len(took) * 0.99)] < SLOW_S


@settings(max_examples=400, deadline=None)
@given(st.text(max_size=300) | st.lists(st.sampled_from([*PIECES, "name", "run", "a"]), max_size=60).map("".join))
def test_any_text_is_answered(text: str) -> None:
    answered(text)


@pytest.mark.parametrize(
    "text",
    ["[" * 60_000, "{" * 60_000, "[\n" * 30_000, "{a: " * 15_000, "- " * 30_000, "? " * 30_000, ": " * 30_000,
     "a: [" + "1," * 30_000, "".join(f"k{i}: 1\n" for i in range(6_000)), "\n" * 60_000, "a: " + "x" * 60_000,
     "&a " * 20_000, "!" * 60_000, "a: |\n" + " x\n" * 15_000, "a: " + "9" * 60_000],
    ids=lambda t: repr(t[:6]),
)  # fmt: skip
def test_text_made_to_be_slow_is_answered_within_a_second_of_cpu(text: str) -> None:
    began = time.thread_time()
    answered(text)
    assert time.thread_time() - began < 1.0


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=12) | st.just("env:X"),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(["name", "run", "gpus", "type", "count", "env", "checkpoint", "to", "x"]), inner, max_size=6
        )
    ),
    max_leaves=12,
)


@settings(max_examples=500, deadline=None)
@given(_json)
def test_any_json_is_answered(given_json: Any) -> None:
    with contextlib.suppress(SpecError):
        from_wire(given_json)
