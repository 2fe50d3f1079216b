"""What the API asks of the store, also about jobs that are long over."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from dsched.scheduler.core.state import JobState
from dsched.scheduler.core.units import Instant
from dsched.scheduler.store import snapshot
from dsched.scheduler.store.errors import AmbiguousName
from dsched.scheduler.store.queries import Queries
from dsched.scheduler.store.writer import Store
from tests.support.events import attempt_ended, attempted, billed, changed, decided, submitted


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = Store.open(tmp_path)
    yield opened
    opened.close()


@pytest.fixture
def queries(store: Store) -> Queries:
    store.commit_sync([submitted(f"j{n}", name=f"train-{n % 4}", user="ada" if n % 2 else "bob") for n in range(1, 6)])
    store.commit_sync([changed("j2", state=JobState.SUCCEEDED, ended=Instant(9))])
    return store.queries


def ids(queries: Queries, **wanted: object) -> list[str]:
    return [job.id for job in queries.jobs(**wanted)]  # type: ignore[arg-type]


def test_without_a_cursor_the_newest_jobs_come_oldest_first(queries: Queries) -> None:
    assert ids(queries, limit=2) == ["j4", "j5"]
    assert ids(queries) == ["j1", "j2", "j3", "j4", "j5"]


def test_a_cursor_goes_on_after_its_job(queries: Queries) -> None:
    assert ids(queries, after="j2", limit=2) == ["j3", "j4"]
    assert ids(queries, after="j5") == []


def test_a_page_says_how_many_more_match(queries: Queries) -> None:
    def page(**wanted: object) -> tuple[list[str], int]:
        found, more = queries.page_of_jobs(**wanted)  # type: ignore[arg-type]
        return [job.id for job in found], more

    assert page(limit=2) == (["j4", "j5"], 3)
    assert page(limit=2, first="oldest") == (["j1", "j2"], 3)
    assert page(limit=2, after="j2") == (["j3", "j4"], 1)
    assert page(limit=2, user="bob") == (["j2", "j4"], 0)
    assert page(limit=9) == (["j1", "j2", "j3", "j4", "j5"], 0)


def test_the_dearest_come_first_when_asked_for(store: Store, queries: Queries) -> None:
    store.commit_sync([changed("j2", spent=7), changed("j4", spent=9)])
    assert ids(queries, first="dearest", limit=3)[:2] == ["j4", "j2"]


def test_filters_are_joined(queries: Queries) -> None:
    assert ids(queries, user="bob") == ["j2", "j4"]
    assert ids(queries, user="bob", states=[JobState.SUCCEEDED]) == ["j2"]
    assert ids(queries, name="train-1") == ["j1", "j5"]
    assert ids(queries, user="'; DROP TABLE job") == []


def test_a_job_is_found_by_id_and_by_a_name_of_its_own(queries: Queries) -> None:
    assert [job.id for ref in ("j3", "train-3") if (job := queries.job(ref))] == ["j3", "j3"]
    assert queries.job("nobody") is None


def test_a_shared_name_is_answered_with_the_ids(queries: Queries) -> None:
    with pytest.raises(AmbiguousName, match="2 jobs are named 'train-1'; use an id: j5, j1"):
        queries.job("train-1")


def test_a_submission_is_known_by_its_key_for_ever(queries: Queries) -> None:
    found = queries.job_with_key("key-j2")
    assert found is not None
    assert (found.id, found.state) == ("j2", JobState.SUCCEEDED)
    assert queries.job_with_key("") is None


def test_events_are_read_on_from_a_place_and_per_job(queries: Queries) -> None:
    assert [logged.seq for logged in queries.events(3, limit=2)] == [4, 5]
    assert [logged.event.kind for logged in queries.events(job="j2")] == ["job.submitted", "job.changed"]
    assert [logged.seq for logged in queries.last_events(limit=2)] == [5, 6]
    assert [logged.seq for logged in queries.last_events(job="j2")] == [2, 6]
    assert queries.events(limit=10**9)[0].event.why == "a test says so"
    assert queries.seq() == 6


def test_the_story_of_a_job_stays_readable(store: Store) -> None:
    store.commit_sync([submitted("j1"), attempted("j1", 1), attempt_ended("j1", 1), attempted("j1", 2)])
    store.commit_sync([decided("j1", "d1", chosen="a"), decided("j1", "d2", chosen="b"), decided("j2", "d3")])
    assert [attempt.outcome for attempt in store.queries.attempts("j1")] == ["exit 1", ""]
    assert [decision.report for decision in store.queries.decisions("j1")] == [{"chosen": "a"}, {"chosen": "b"}]
    assert store.queries.row("attempt", "j1/1").generation == 1


def test_the_ledger_is_read_by_job_node_budget_and_start(store: Store) -> None:
    store.commit_sync([billed("j1", "n1", 2_000), billed("j1", "n2", 1_000), billed("j2", "n1", 3_000)])
    starts = lambda **wanted: [entry.start for entry in store.queries.ledger(**wanted)]  # noqa: E731
    assert starts() == [1_000, 2_000, 3_000]
    assert starts(job="j1") == [1_000, 2_000]
    assert starts(node="n1", since=Instant(2_500)) == [3_000]
    assert starts(budget="other") == []


def test_many_threads_may_ask_at_once(queries: Queries) -> None:
    with ThreadPoolExecutor(16) as pool:
        found = list(pool.map(lambda n: queries.job(f"j{n % 5 + 1}"), range(200)))
    assert all(found)


def test_only_the_recently_ended_jobs_are_loaded(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = snapshot.ENDED_KEPT
    ended = {"state": JobState.CANCELLED}
    store.commit_sync([submitted(f"j{n}", ended=Instant(n), **ended) for n in range(kept + 5)])
    store.commit_sync([submitted("live")])
    jobs = store.load().jobs
    assert len(jobs) == kept + 1
    assert "live" in jobs
    assert not {"j0", "j4"} & jobs.keys()


def test_every_index_serves_a_query_or_keeps_a_promise(store: Store, queries: Queries) -> None:
    """Each costs a page of every commit that touches its table."""
    asked: list[str] = []
    with queries.connection() as reader:
        reader.set_trace_callback(asked.append)
        snapshot.load(reader)
    queries.page_of_jobs(states={JobState.QUEUED}, limit=1)
    queries.page_of_jobs(user="ada", limit=1)
    queries.job("train-2")
    queries.job_with_key("k1")
    queries.decisions("j1")
    queries.attempts("j1")
    queries.last_events(job="j1")
    for wanted in ({"job": "j1"}, {"node": "n1"}, {"budget": "default"}, {}):
        queries.ledger(**wanted, since=Instant(1))  # type: ignore[arg-type]
    with queries.connection() as reader:
        reader.set_trace_callback(None)
        read = [sql for sql in asked if sql.startswith("SELECT")]
        plans = [row[3] for sql in read for row in reader.execute(f"EXPLAIN QUERY PLAN {sql}")]
        rows = reader.execute("SELECT name FROM sqlite_master WHERE type = 'index' AND sql IS NOT NULL")
        idle = [name for (name,) in rows if not any(name in plan.split() for plan in plans)]
    assert idle == ["attempt_one_live"]  # a job never runs twice
