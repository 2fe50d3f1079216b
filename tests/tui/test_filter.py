"""The filter language."""

from __future__ import annotations

import pytest

from dsched.scheduler.wire.api import Job
from dsched.tui.view import EVENT_FIELDS, JOB_FIELDS, OFFER_FIELDS, FilterError, parse
from tests.tui import fleet

ROWS = [
    fleet.job(1, name="moe-ft", user="ana", spent="526.23", eta_s=3_000.0),
    fleet.job(2, name="batch-infer", user="bo", accelerator="A100", spent="3.10", eta_s=None),
    fleet.job(
        3, name="two words", user="ana", state="queued", where="", accelerator="", spent="0.00", step=0, eta_s=None
    ),
    fleet.job(4, name="leaving", user="chen", state="draining", next=fleet.pool(4), spent="12000.00", eta_s=90_000.0),
]


def kept(text: str) -> list[str]:
    keep = parse(text, JOB_FIELDS)
    return [row["id"] for row in ROWS if keep is None or keep(row)]


@pytest.mark.parametrize(
    ("text", "ids"),
    [
        ("", ["j1", "j2", "j3", "j4"]),
        ("batch", ["j2"]),
        ("BATCH", ["j2"]),
        ("!batch", ["j1", "j3", "j4"]),
        ("state:running", ["j1", "j2"]),
        ("state:draining", ["j4"]),
        ("state:moving", ["j4"]),
        ("gpu:h100 user:ana", ["j1"]),
        ("gpu:cpu", ["j3"]),
        ("!gpu:h100", ["j2", "j3"]),
        ("user=an", []),
        ("user=ana", ["j1", "j3"]),
        ("cost>10", ["j1", "j4"]),
        ("cost>$1k", ["j4"]),
        ("cost>=526.23 cost<1,000", ["j1"]),
        ("eta<2h", ["j1"]),
        ("eta>0", ["j1", "j4"]),
        ("done<50", ["j3"]),
        ("!cost>10", ["j2", "j3"]),
        ('name:"two words"', ["j3"]),
        ("us-central1", ["j4"]),
        ("where:aws", ["j1", "j2", "j4"]),
    ],
)
def test_a_filter_keeps_the_rows_that_satisfy_every_term(text: str, ids: list[str]) -> None:
    assert kept(text) == ids


@pytest.mark.parametrize("text", ["cost>", "state:", "!", 'name:"', "  "])
def test_a_term_that_is_still_being_typed_hides_nothing(text: str) -> None:
    assert kept(text) == ["j1", "j2", "j3", "j4"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("stat:running", "did you mean state?"),
        ("colour:red", "there are: state, gpu, user"),
        ("cost>abc", "cost> wants a number, not 'abc'"),
        ("state>running", "state is a text: write state:running"),
    ],
)
def test_a_mistake_is_named_with_its_remedy(text: str, said: str) -> None:
    with pytest.raises(FilterError) as caught:
        parse(text, JOB_FIELDS)
    assert said in str(caught.value)


def test_offers_and_events_have_fields_of_their_own() -> None:
    cheap = parse("gpu:h100 price<20 market:spot hazard<5", OFFER_FIELDS)
    assert cheap is not None
    assert [o["id"] for o in fleet.offers() if cheap(o)] == [fleet.pool(0), fleet.pool(1)]
    notices = parse("kind:notice", EVENT_FIELDS)
    assert notices is not None
    assert [e["seq"] for e in fleet.events() if notices(e)] == [4]


def test_every_field_can_read_every_row() -> None:
    rows: list[Job] = fleet.jobs(60)
    for field in JOB_FIELDS.texts:
        keep = parse(f"{field}:x", JOB_FIELDS)
        assert keep is not None
        [keep(row) for row in rows]
    for field in JOB_FIELDS.numbers:
        keep = parse(f"{field}>1", JOB_FIELDS)
        assert keep is not None
        [keep(row) for row in rows]
