"""Agents over the socket: sessions, orders, facts, logs and bundles, and what a wrong one is answered."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import httpx
import pytest

from dsched.scheduler.core.state import JobState
from dsched.scheduler.engine.desk import BOOTSTRAP, SILENT
from tests.support.office import SPEC, Office, office
from tests.support.stage import offer


@dataclass
class Agent:
    """One node's agent, by hand."""

    http: httpx.AsyncClient
    node: str
    secret: str
    key: str = ""  # the node's own, once it has been admitted
    session: str = ""
    boot: str = "b"
    reports: int = 0

    async def call(self) -> httpx.Response:
        secret = self.key or self.secret
        body = {"node": self.node, "secret": secret, "boot": self.boot, "pid": 1, "cpus": 1, "memory_mib": 1}
        return await self.http.post("/agent/v1/hello", json={**body, "gpus": [], "running": [], "metadata": {}})

    async def hello(self) -> None:
        answer = await self.call()
        assert answer.status_code == 200, answer.text
        self.session, self.key = answer.json()["session"], answer.json()["key"]

    async def poll(self, after: int = 0, wait_ms: int = 0) -> httpx.Response:
        body = {"node": self.node, "session": self.session, "after": after, "wait_ms": wait_ms}
        return await self.http.post("/agent/v1/poll", json=body)

    async def report(self, *facts: dict[str, Any]) -> httpx.Response:
        self.reports += 1
        body = {"node": self.node, "session": self.session, "id": self.reports, "facts": facts}
        return await self.http.post("/agent/v1/report", json=body)

    async def log(self, data: bytes, offset: int = 0, **changed: Any) -> httpx.Response:
        query = {"node": self.node, "session": self.session, "job": "j1", "generation": 1, "rank": 0, "offset": offset}
        return await self.http.post("/agent/v1/logs", params={**query, **changed}, content=data)


@pytest.fixture
async def built(tmp_path: Path) -> AsyncIterator[Office]:
    async with office(tmp_path) as built:
        await built.offers(offer("use1-az1", 20.0))
        yield built


@pytest.fixture
async def http(built: Office) -> AsyncIterator[httpx.AsyncClient]:
    async with built.client() as client:
        yield client


@pytest.fixture
async def agent(built: Office, http: httpx.AsyncClient) -> Agent:
    """A job is placed, its machine is up, and its agent has said hello."""
    assert (await http.post("/v1/jobs", json={"spec": SPEC})).status_code == 201
    (node,) = await built.launch()
    agent = Agent(http, node, built.secret(node))
    await agent.hello()
    return agent


async def test_a_job_goes_from_order_to_end(built: Office, http: httpx.AsyncClient, agent: Agent) -> None:
    (order,) = (await agent.poll()).json()["orders"]
    assert (order["kind"], order["job"], order["generation"], order["run"]) == ("start", "j1", 1, "train")
    told = {"job": "j1", "generation": 1, "at": 0}
    await agent.report({"kind": "started", **told})
    assert built.state.jobs["j1"].state is JobState.RUNNING
    await agent.report({"kind": "progress", "step": 7, "loss": 1.5, **told})
    assert (await http.get("/v1/jobs/j1")).json()["loss"] == 1.5
    done = {"kind": "exited", "exits": {"0": 0}, "drained": False, "hung": False, "tail": "", **told}
    assert "lease_ms" in (await agent.report(done)).json()
    assert (await http.get("/v1/jobs/j1")).json()["state"] == "succeeded"
    (attempt,) = (await http.get("/v1/jobs/j1/attempts")).json()["items"]
    assert (attempt["generation"], attempt["nodes"]) == (1, [agent.node])


async def test_an_order_wakes_a_poll_that_waits(http: httpx.AsyncClient, agent: Agent) -> None:
    (order,) = (await agent.poll()).json()["orders"]
    await agent.report({"kind": "started", "job": "j1", "generation": 1, "at": 0})
    waiting = asyncio.create_task(agent.poll(after=order["seq"], wait_ms=9_000))
    await http.post("/v1/jobs/j1/pause")
    assert [order["kind"] for order in (await waiting).json()["orders"]] == ["stop"]


async def test_a_dangerous_market_shortens_the_interval_of_a_running_job(built: Office, agent: Agent) -> None:
    (start,) = (await agent.poll()).json()["orders"]
    await agent.report({"kind": "started", "job": "j1", "generation": 1, "at": 0})
    await built.offers(replace(offer("use1-az1", 20.0), hazard=10.0))
    (order,) = (await agent.poll(after=start["seq"])).json()["orders"]
    assert (order["kind"], order["job"], "checkpoint_now" in order) == ("control", "j1", False)
    assert 0 < order["interval_ms"] < start["interval_ms"]


async def test_wrong_secrets_and_unknown_nodes_are_told_apart(http: httpx.AsyncClient, agent: Agent) -> None:
    for node, secret in ((agent.node, "x"), (agent.node, "\u00e9"), ("ds-other.0", agent.secret)):
        assert (await Agent(http, node, secret).call()).status_code == 403
    stranger = Agent(http, agent.node, "", session="made up")
    assert (await stranger.poll()).status_code == 401
    assert (await stranger.log(b"x")).status_code == 401
    gone = Agent(http, "ds-gone.0", "", session="made up")
    assert (await gone.poll()).status_code == 410


async def test_a_second_agent_gets_in_only_once_the_first_is_not_heard_any_more(
    built: Office, http: httpx.AsyncClient, agent: Agent
) -> None:
    thief = Agent(http, agent.node, agent.key, boot="another")
    for _ in range(3):
        built.clock.move(SILENT - 2_500)
        refused = await thief.call()
        assert (refused.status_code, refused.headers["retry-after"]) == (429, "3")
        assert refused.json()["error"]["code"] == "E429"
        assert (await agent.poll()).status_code == 200  # whoever is refused takes nobody's session
    built.clock.move(SILENT)
    again = Agent(http, agent.node, agent.key, boot="another")
    await again.hello()
    assert (await again.poll()).status_code == 200
    assert (await agent.poll()).status_code == 401


async def test_after_a_restart_of_the_daemon_the_first_agent_has_time_to_come_back(
    built: Office, http: httpx.AsyncClient, agent: Agent
) -> None:
    built.clock.move(SILENT)
    built.state.heard.clear()
    built.desk._seats.clear()
    built.desk._begun = built.clock.now().wall
    assert (await Agent(http, agent.node, agent.key, boot="another").call()).status_code == 429
    await agent.hello()
    built.clock.move(SILENT)
    assert (await Agent(http, agent.node, agent.key, boot="another").call()).status_code == 200


async def test_the_secret_of_a_launch_opens_one_session_and_its_key_the_later_ones(
    built: Office, http: httpx.AsyncClient, agent: Agent
) -> None:
    built.clock.move(SILENT)
    thief = Agent(http, agent.node, agent.secret, boot="another")
    refused = await thief.call()
    assert (refused.status_code, "has been used" in refused.text) == (403, True)
    assert (await Agent(http, agent.node, agent.secret).call()).status_code == 200  # the answer to the first was lost
    built.desk._seats.clear()
    await agent.hello()  # by its key, after a restart of the daemon
    assert (await Agent(http, "ds-other.0", agent.key).call()).status_code == 403


async def test_no_rank_can_speak_for_a_machine_of_its_launch_that_has_not_called_yet(
    built: Office, http: httpx.AsyncClient
) -> None:
    two = {**SPEC, "gpus": {"type": ["H100"], "count": 16}}
    assert (await http.post("/v1/jobs", json={"spec": two})).status_code == 201
    first, second = await built.launch()
    early = Agent(http, first, built.secret(first))
    await early.hello()
    assert (await http.post("/v1/jobs/j1/cancel")).status_code == 200
    assert (await http.post("/v1/jobs", json={"spec": SPEC})).status_code == 201  # somebody else's, on the idle one
    assert (await early.poll()).json()["orders"][-1]["kind"] == "start"
    refused = await Agent(http, second, built.secret(second)).call()
    assert (refused.status_code, "known to the ranks" in refused.text) == (403, True)


async def test_a_secret_that_was_not_used_in_its_time_is_worth_nothing(built: Office, http: httpx.AsyncClient) -> None:
    assert (await http.post("/v1/jobs", json={"spec": SPEC})).status_code == 201
    (node,) = await built.launch()
    secret = built.secret(node)
    built.clock.move(BOOTSTRAP + 1)
    refused = await Agent(http, node, secret).call()
    assert (refused.status_code, "expired" in refused.text) == (403, True)
    later = f"{int(secret.partition('.')[0]) + 1}.{secret.partition('.')[2]}"
    assert "wrong secret" in (await Agent(http, node, later).call()).text


async def test_a_fact_of_the_wrong_form_names_its_place(agent: Agent) -> None:
    answer = await agent.report({"kind": "started", "job": "j1", "generation": "1", "at": 0})
    assert (answer.status_code, answer.json()["error"]["where"]) == (422, "facts[0].generation")
    answer = await agent.report({"kind": "boasted"})
    assert (answer.status_code, answer.json()["error"]["where"]) == (422, "facts[0].kind")


async def test_a_fact_that_was_given_up_is_an_alert(built: Office, agent: Agent) -> None:
    lost = {"kind": "dropped", "fact": "exited", "job": "j1", "generation": 1, "error": "report: 500 {}", "at": 0}
    for _ in range(2):
        assert (await agent.report(lost)).status_code == 200
    (alert,) = built.state.alerts.values()
    assert alert.severity == "critical"
    assert agent.node in alert.title


async def test_logs_are_taken_by_offset(built: Office, http: httpx.AsyncClient, agent: Agent) -> None:
    assert (await agent.log(b"step 1\nst")).json() == {"offset": 9}
    assert (await agent.log(b"step 1\nstep 2\n")).json() == {"offset": 14}
    assert (await agent.log(b"late", offset=99)).json() == {"offset": 14}
    lines = (await http.get("/v1/jobs/moe/logs")).text.splitlines()
    assert [line[-8:] for line in lines] == ['step 1"}', 'step 2"}']


async def test_nobody_writes_into_the_log_of_a_job_that_is_not_theirs(http: httpx.AsyncClient, agent: Agent) -> None:
    await http.post("/v1/jobs", json={"spec": {**SPEC, "name": "other"}})
    assert (await agent.log(b"x", job="j2")).status_code == 403
    assert (await agent.log(b"x", generation=2)).status_code == 403
    assert (await agent.log(b"x", job="../../etc")).status_code == 403
    assert (await agent.log(b"x", rank=-1)).status_code == 422
    assert (await agent.log(b"x" * (1 << 20))).status_code == 200
    assert (await agent.log(b"x" * ((1 << 20) + 1))).status_code == 413


async def test_a_late_chunk_of_an_ended_attempt_is_still_taken(built: Office, agent: Agent) -> None:
    told = {"job": "j1", "generation": 1, "at": 0}
    await agent.report({"kind": "started", **told})
    done = {"kind": "exited", "exits": {"0": 0}, "drained": False, "hung": False, "tail": "", **told}
    await agent.report(done)
    assert not built.state.attempts
    assert (await agent.log(b"bye\n")).json() == {"offset": 4}


async def test_a_bundle_is_given_to_a_session_only(built: Office, http: httpx.AsyncClient, agent: Agent) -> None:
    data = b"packed" * 100_000
    name = sha256(data).hexdigest()
    await http.put(f"/v1/bundles/{name}", content=data)
    path = f"/agent/v1/bundle/{name}"
    assert (await http.get(path)).status_code == 401
    got = await http.get(path, headers={"x-dsched-session": agent.session})
    assert got.content == data
    missing = f"/agent/v1/bundle/{'0' * 64}"
    assert (await http.get(missing, headers={"x-dsched-session": agent.session})).status_code == 404


async def test_a_waiting_poll_ends_with_the_daemon(built: Office, agent: Agent) -> None:
    (order,) = (await agent.poll()).json()["orders"]
    waiting = asyncio.create_task(agent.poll(after=order["seq"], wait_ms=9_000))
    while built.desk._seats[agent.node].orders:  # it took the order, so it is waiting
        await asyncio.sleep(0)
    built.stop.set()
    assert (await waiting).status_code == 503
