"""Streams over the socket: events without gap or double, the watchers' feed, logs to the job's end."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from dsched.scheduler.api import broadcast, eventlog, watch
from dsched.scheduler.api.limit import Limits
from dsched.scheduler.api.routes import logs
from dsched.scheduler.core.message import LaunchRefused, RefusedBy
from dsched.scheduler.core.units import Millis
from tests.support.office import SPEC, WAIT_S, Office, office
from tests.support.stage import offer


@pytest.fixture
async def built(tmp_path: Path) -> AsyncIterator[Office]:
    async with office(tmp_path, limits=Limits(streams=3)) as built:
        await built.offers(offer("use1-az1", 20.0))
        yield built


@pytest.fixture
async def http(built: Office) -> AsyncIterator[httpx.AsyncClient]:
    async with built.client() as client:
        yield client


class Reader:
    """Messages of an SSE stream, one by one."""

    def __init__(self, lines: AsyncIterator[str]) -> None:
        self._lines = lines

    async def next(self) -> tuple[str, str, Any]:
        """(event, id, data), comments skipped."""
        fields: dict[str, str] = {}
        async with asyncio.timeout(WAIT_S):
            async for line in self._lines:
                if not line and "data" in fields:
                    return fields.get("event", ""), fields.get("id", ""), json.loads(fields["data"])
                name, _, value = line.partition(": ")
                if name:
                    fields[name] = value
        raise EOFError

    async def until(self, wanted: Callable[[Any], Any]) -> Any:
        """The first message whose data gives something true; that."""
        async with asyncio.timeout(WAIT_S):
            while not (found := wanted((await self.next())[2])):
                pass
        return found

    async def seqs(self, count: int) -> list[int]:
        return [int((await self.next())[1] or 0) for _ in range(count)]


@asynccontextmanager
async def stream(http: httpx.AsyncClient, path: str, last: int | None = None) -> AsyncIterator[Reader]:
    headers = {"accept": "text/event-stream"} | ({} if last is None else {"last-event-id": str(last)})
    async with http.stream("GET", path, headers=headers) as answer:
        assert answer.status_code == 200
        yield Reader(answer.aiter_lines())


async def submit(http: httpx.AsyncClient, name: str = "moe") -> None:
    assert (await http.post("/v1/jobs", json={"spec": {**SPEC, "name": name}})).status_code == 201


async def test_a_stream_gives_history_and_then_what_happens(built: Office, http: httpx.AsyncClient) -> None:
    for _ in range(3):
        await submit(http)
    past = built.store.seq
    async with stream(http, "/v1/events?after=0") as events:
        assert await events.seqs(past) == list(range(1, past + 1))
        await submit(http, "new")
        _, seq, event = await events.next()
        assert (int(seq), event["seq"], event["kind"], event["data"]) == (
            past + 1,
            past + 1,
            "job.submitted",
            {"name": "new"},
        )


async def test_a_stream_resumes_behind_the_last_event_seen(built: Office, http: httpx.AsyncClient) -> None:
    for _ in range(3):
        await submit(http)
    past = built.store.seq
    async with stream(http, "/v1/events?after=0", last=past - 2) as events:
        assert await events.seqs(2) == [past - 1, past]
    answer = await http.get("/v1/events", headers={"accept": "text/event-stream", "last-event-id": "x"})
    assert answer.status_code == 422


async def test_no_event_is_lost_or_doubled_while_history_is_read(
    built: Office, http: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(eventlog, "PAGE", 7)
    for _ in range(20):
        await submit(http)

    async def storm() -> None:
        for _ in range(60):
            await submit(http)
        await submit(http, "last")

    submitting = asyncio.create_task(storm())
    seen: list[int] = []
    name = ""
    async with stream(http, "/v1/events?after=5") as events:
        while name != "last":
            _, seq, event = await events.next()
            seen.append(int(seq))
            name = event["data"].get("name")
    await submitting
    assert seen == list(range(6, seen[-1] + 1))


async def test_a_slow_reader_catches_up_from_the_store(
    built: Office, http: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(broadcast, "BACKLOG_MAX", 4)
    async with stream(http, "/v1/events?after=0") as events:
        await submit(http)
        seen = await events.seqs(1)
        await asyncio.gather(*(submit(http) for _ in range(60)))
        while seen[-1] < built.store.seq:
            seen += await events.seqs(1)
    assert seen == list(range(1, built.store.seq + 1))


async def test_events_of_one_job_only(built: Office, http: httpx.AsyncClient) -> None:
    await submit(http, "one")
    await submit(http, "two")
    async with stream(http, "/v1/events?after=0&job=two") as events:
        first = (await events.next())[2]
        await http.post("/v1/jobs/one/cancel")
        await http.post("/v1/jobs/two/cancel")
        kinds = [first["kind"]]
        while kinds[-1] != "job.ended":
            _, _, event = await events.next()
            assert event["job"] == "j2"
            kinds.append(event["kind"])
    page = (await http.get("/v1/events?job=two&limit=2")).json()["items"]
    assert [event["job"] for event in page] == ["j2", "j2"]


async def test_a_watcher_gets_a_snapshot_and_then_what_changed(built: Office, http: httpx.AsyncClient) -> None:
    await submit(http, "old")
    async with stream(http, "/v1/feed") as feed:
        kind, _, snapshot = await feed.next()
        assert (kind, [job["name"] for job in snapshot["jobs"]]) == ("snapshot", ["old"])
        assert [made["id"] for made in snapshot["offers"]] == list(built.state.offers)
        assert snapshot["seq"] == built.store.seq == snapshot["events"][-1]["seq"]
        await submit(http, "new")
        seen = [event["seq"] for event in snapshot["events"]]
        delta: dict[str, Any] = {"jobs": []}
        while not delta["jobs"]:
            kind, _, delta = await feed.next()
            assert kind == "delta"
            seen += [event["seq"] for event in delta["events"]]
        assert [job["name"] for job in delta["jobs"] if job["id"] == "j2"] == ["new"]
        assert delta["offers"] == []
        assert seen == list(range(1, built.store.seq + 1))


async def test_a_burst_of_changes_is_one_delta_with_the_latest_rows(built: Office, http: httpx.AsyncClient) -> None:
    async with stream(http, "/v1/feed") as feed:
        await feed.next()
        await submit(http)
        await http.post("/v1/jobs/j1/cancel")
        states: list[str] = []
        while "cancelled" not in states:
            _, _, delta = await feed.next()
            rows = [job["state"] for job in delta["jobs"] if job["id"] == "j1"]
            assert len(rows) <= 1
            states += rows


async def test_new_prices_reach_the_watchers(built: Office, http: httpx.AsyncClient) -> None:
    async with stream(http, "/v1/feed") as feed:
        await feed.next()
        await built.offers(offer("use1-az1", 25.0))
        offers = await feed.until(lambda delta: delta["offers"])
        assert [made["price"] for made in offers] == ["25.00"]


async def test_a_pool_that_cools_down_is_shown_at_once(built: Office, http: httpx.AsyncClient) -> None:
    await submit(http)
    async with stream(http, "/v1/feed") as feed:
        await feed.next()
        (intent,) = built.state.intents
        sold_out = LaunchRefused(
            intent=intent, by=RefusedBy.CAPACITY, why="sold out", scope="pool", cooldown=Millis(60_000)
        )
        await built.loop.send(sold_out)
        assert await feed.until(lambda delta: [made["cool_s"] for made in delta["offers"]]) == [60.0]


async def test_a_job_that_leaves_the_list_is_gone_for_watchers_too(built: Office, http: httpx.AsyncClient) -> None:
    await submit(http)
    await http.post("/v1/jobs/j1/cancel")
    async with stream(http, "/v1/feed") as feed:
        await feed.next()
        built.clock.move(2 * 3_600_000)
        assert await feed.until(lambda delta: delta["gone"]) == ["j1"]


async def test_what_runs_is_shown_anew_as_time_goes_by(built: Office, http: httpx.AsyncClient) -> None:
    await submit(http)
    await built.launch()
    async with stream(http, "/v1/feed") as feed:
        await feed.next()
        built.clock.move(3_600_000)
        spent = await feed.until(lambda delta: [job["spent"] for job in delta["jobs"] if job["spent"] != "0.00"])
        assert spent == ["20.00"]


async def test_an_event_is_in_the_snapshot_or_in_a_delta_and_never_in_both(
    built: Office, http: httpx.AsyncClient
) -> None:
    watching = built.app.api.watch
    first, second = watching.follow(), watching.follow()
    await anext(first)
    await submit(http)
    seen: list[list[int]] = []
    for _ in range(2):  # joined before the delta is made, and after it was sent
        frames = [data(await anext(second)), data(await anext(second))]
        seen.append([event["seq"] for made in frames for event in made["events"]])
        await submit(http)
        await second.aclose()
        second = watching.follow()
    await first.aclose()
    assert seen[0] == list(range(1, len(seen[0]) + 1))
    assert seen[1] == list(range(1, len(seen[1]) + 1))
    assert len(seen[1]) > len(seen[0]) > 0


def data(frame: bytes) -> Any:
    return json.loads(frame.partition(b"data: ")[2])


async def test_a_watcher_that_does_not_keep_up_starts_again(
    built: Office, http: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    follower = built.app.api.watch.follow()
    assert b"event: snapshot" in await anext(follower)
    (watcher,) = built.app.api.watch._watchers
    for _ in range(watch.PENDING_MAX + 1):
        watcher.put(b"x")
    assert b"event: resync" in await anext(follower)
    assert b"event: snapshot" in await anext(follower)
    await follower.aclose()
    assert built.app.api.watch._task is None, "nobody watches, nothing is collected"


async def test_too_many_streams_are_refused(built: Office, http: httpx.AsyncClient) -> None:
    async with stream(http, "/v1/feed"), stream(http, "/v1/feed"), stream(http, "/v1/events") as events:
        refused = await http.get("/v1/feed")
        assert (refused.status_code, refused.json()["error"]["retryable"]) == (503, True)
        await submit(http)
        await events.next()
    while built.app.api.streams.open:
        await asyncio.sleep(0)
    assert (await http.get("/v1/health")).status_code == 200


async def test_streams_end_with_the_daemon(built: Office, http: httpx.AsyncClient) -> None:
    await submit(http)
    async with stream(http, "/v1/feed") as feed, stream(http, "/v1/events") as events:
        await feed.next()
        built.stop.set()
        for reader in (feed, events):
            with pytest.raises(EOFError):
                await reader.seqs(1_000)


async def read_logs(http: httpx.AsyncClient, query: str) -> AsyncIterator[dict[str, Any]]:
    async with http.stream("GET", f"/v1/jobs/j1/logs?{query}") as answer:
        assert answer.status_code == 200
        async for line in answer.aiter_lines():
            if line:
                yield json.loads(line)


async def test_a_followed_log_goes_on_over_generations_to_the_jobs_end(built: Office, http: httpx.AsyncClient) -> None:
    await submit(http)
    await built.logs.append("j1", 1, 0, 0, b"one\nhalf")
    lines = read_logs(http, "follow=1")
    async with asyncio.timeout(WAIT_S):
        assert (await anext(lines))["text"] == "one"
        await built.logs.append("j1", 1, 0, 8, b" done\n")
        assert (await anext(lines))["text"] == "half done"
        await built.logs.append("j1", 2, 0, 0, b"two\n")
        got = await anext(lines)
        assert (got["generation"], got["text"], got["offset"]) == (2, "two", 4)
        await http.post("/v1/jobs/j1/cancel")
        await built.logs.append("j1", 2, 0, 4, b"last words")
        assert [line["text"] async for line in lines] == ["last words"]


async def test_a_followed_log_ends_with_its_job_and_not_when_somebody_looks(
    built: Office, http: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logs, "ALIVE_S", 3_600.0)
    await submit(http)
    await built.logs.append("j1", 1, 0, 0, b"one\n")
    lines = read_logs(http, "follow=1")
    async with asyncio.timeout(WAIT_S):
        await anext(lines)
        await http.post("/v1/jobs/j1/cancel")
        assert [line async for line in lines] == []


async def test_last_words_that_come_after_the_end_are_waited_for(
    built: Office, http: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logs, "TAIL_S", 1.0)
    await submit(http)
    await built.logs.append("j1", 1, 0, 0, b"one\n")
    lines = read_logs(http, "follow=1")
    async with asyncio.timeout(WAIT_S):
        await anext(lines)
        before = built.logs.signal("j1")
        await http.post("/v1/jobs/j1/cancel")
        while built.logs._signals.get("j1") in (None, before):  # the follower is about to see the end
            await asyncio.sleep(0)
        for _ in range(4):  # its reads stand before ours in the queue of the one thread: now it has seen it
            await built.logs.generations("j1")
        await built.logs.append("j1", 1, 0, 4, b"last words\n")
        assert [line["text"] async for line in lines] == ["last words"]


async def test_one_rank_from_an_offset(built: Office, http: httpx.AsyncClient) -> None:
    await submit(http)
    await built.logs.append("j1", 1, 0, 0, b"a\nb\n")
    await built.logs.append("j1", 1, 1, 0, b"c\n")
    await built.logs.append("j1", 2, 1, 0, b"d\n")
    assert [line["text"] async for line in read_logs(http, "")] == ["a", "b", "c", "d"]
    assert [line["text"] async for line in read_logs(http, "rank=1")] == ["c", "d"]
    assert [line["text"] async for line in read_logs(http, "rank=0&offset=2")] == ["b"]
    assert [line["text"] async for line in read_logs(http, "generation=2")] == ["d"]


async def test_a_log_that_outgrew_its_bound_says_so(built: Office, http: httpx.AsyncClient) -> None:
    await submit(http)
    for start in range(0, 10_000, 1_000):
        await built.logs.append("j1", 1, 0, start, b"x" * 999 + b"\n")
    texts = [line["text"] async for line in read_logs(http, "")]
    assert "bytes were dropped" in texts[0]
    assert set(texts[1:]) == {"x" * 999}
