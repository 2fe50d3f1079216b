"""Jobs over the socket: submitted, listed, acted on, explained, billed; and bad input answered with the remedy."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

import httpx
import pytest

from dsched.scheduler.api.limit import Limits
from dsched.scheduler.api.ports import Extras
from dsched.scheduler.core.message import AgentHello, RanksStarted
from tests.support.office import SPEC, Office, office
from tests.support.stage import offer

SMALL = Limits(spec_bytes=4096, bundle_bytes=10_000)


@pytest.fixture
async def built(tmp_path: Path) -> AsyncIterator[Office]:
    async with office(tmp_path, limits=SMALL) as built:
        await built.offers(offer("use1-az1", 20.0), offer("use1-az4", 30.0))
        yield built


@pytest.fixture
async def http(built: Office) -> AsyncIterator[httpx.AsyncClient]:
    async with built.client() as client:
        yield client


async def submit(http: httpx.AsyncClient, key: str = "", **changed: Any) -> Any:
    wish: dict[str, Any] = {"spec": {**SPEC, **changed}}
    answer = await http.post("/v1/jobs", json={**wish, "key": key} if key else wish)
    assert answer.status_code == 201, answer.text
    return answer.json()


def problem(answer: httpx.Response, status: int) -> Any:
    assert answer.status_code == status, answer.text
    return answer.json()["error"]


async def test_a_submitted_job_is_durable_and_listed(built: Office, http: httpx.AsyncClient) -> None:
    job = await submit(http)
    assert (job["id"], job["name"], job["state"]) == ("j1", "moe", "starting")
    assert built.store.queries.job("j1") is not None
    listed = (await http.get("/v1/jobs")).json()
    assert (listed["v"], [row["id"] for row in listed["items"]]) == (1, ["j1"])
    assert (await http.get("/v1/jobs/moe")).json()["id"] == "j1"


async def test_a_short_list_keeps_what_holds_machines_and_says_how_many_it_leaves_out(http: httpx.AsyncClient) -> None:
    """A thousand jobs that wait must not hide the one that runs."""
    runs = await submit(http)
    for number in range(4):
        await submit(http, name=f"waits{number}", max_price="0.50")
    for more in ("", "&all=1"):
        oldest = (await http.get(f"/v1/jobs?limit=2&first=oldest{more}")).json()
        assert ([row["id"] for row in oldest["items"]], oldest["more"]) == (["j1", "j2"], 3)
        dearest = (await http.get(f"/v1/jobs?limit=1&first=dearest{more}")).json()
        assert (len(dearest["items"]), dearest["more"]) == (1, 4)
    listed = (await http.get("/v1/jobs?limit=3")).json()
    assert ([row["id"] for row in listed["items"]], listed["more"]) == ([runs["id"], "j4", "j5"], 2)
    everything = (await http.get("/v1/jobs")).json()
    assert ([row["id"] for row in everything["items"]], everything["more"]) == (["j1", "j2", "j3", "j4", "j5"], 0)
    waiting = (await http.get("/v1/jobs?limit=2&state=queued,starting,running")).json()
    assert (len(waiting["items"]), waiting["more"]) == (2, 3)


async def test_the_same_key_gives_the_same_job(http: httpx.AsyncClient) -> None:
    twice = await asyncio.gather(*(submit(http, key="k") for _ in range(5)))
    assert {job["id"] for job in twice} == {"j1"}
    assert (await submit(http, key="other"))["id"] == "j2"


async def test_a_key_outlives_the_jobs_place_in_memory(built: Office, http: httpx.AsyncClient) -> None:
    await submit(http, key="k")
    await http.post("/v1/jobs/j1/cancel")
    built.state.keys.clear()
    del built.state.jobs["j1"]
    assert (await submit(http, key="k"))["id"] == "j1"


@pytest.mark.parametrize(
    ("changed", "where", "says"),
    [
        ({"run": None}, "run", "must be text"),
        ({"gpus": {"type": ["H10O"]}}, "gpus.type.0", "did you mean H100"),
        ({"nmae": "x"}, "nmae", "did you mean name"),
        ({"workdir": "."}, "workdir", "uploaded first"),
    ],
)
async def test_a_wrong_spec_names_the_field_and_the_remedy(
    http: httpx.AsyncClient, changed: dict[str, Any], where: str, says: str
) -> None:
    found = problem(await http.post("/v1/jobs", json={"spec": {**SPEC, **changed}}), 422)
    assert found["where"] == where
    assert says in found["message"]
    assert not found["retryable"]


async def test_what_no_machine_has_is_refused_at_the_door(http: httpx.AsyncClient) -> None:
    spec = {**SPEC, "gpus": {"type": ["B200"], "count": 8}}
    found = problem(await http.post("/v1/jobs", json={"spec": spec}), 406)
    assert (found["code"], found["where"]) == ("E406", "gpus")
    assert (await http.get("/v1/jobs")).json()["items"] == []


async def test_a_body_that_is_too_long_or_no_json_is_refused(http: httpx.AsyncClient) -> None:
    assert "4096 bytes" in problem(await http.post("/v1/jobs", content=b"x" * 5000), 413)["message"]

    async def endless() -> AsyncIterator[bytes]:
        for _ in range(100):
            yield b" " * 1000

    assert problem(await http.post("/v1/jobs", content=endless()), 413)["code"] == "E413"
    assert "not JSON" in problem(await http.post("/v1/jobs", content=b'{"spec": '), 400)["message"]
    assert problem(await http.post("/v1/jobs", content=b'{"spec":{"run":' + b"[" * 3000), 400)["code"] == "E400"
    assert problem(await http.post("/v1/jobs", json={"spec": {}, "key": 7}), 422)["where"] == "key"


async def test_errors_of_the_framework_are_problems_too(http: httpx.AsyncClient) -> None:
    assert problem(await http.get("/nothing"), 404)["code"] == "E404"
    assert problem(await http.delete("/v1/jobs"), 405)["code"] == "E405"
    assert problem(await http.get("/v1/jobs?limit=0"), 422)["where"] == "limit"
    assert "unknown field" in problem(await http.get("/v1/health?x=1"), 422)["message"]
    assert "did you mean running" in problem(await http.get("/v1/jobs?state=runing"), 422)["hint"]
    assert "did you mean cancel" in problem(await http.post("/v1/jobs/j1/cancl"), 404)["hint"]


async def test_a_name_that_two_jobs_have_asks_for_an_id(http: httpx.AsyncClient) -> None:
    await submit(http)
    await submit(http)
    found = problem(await http.get("/v1/jobs/moe"), 404)
    assert found["message"] == "no one job is 'moe': 2 jobs are named so"
    assert "j1, j2" in found["hint"]
    await http.post("/v1/jobs/j1/cancel")
    assert (await http.get("/v1/jobs/moe")).json()["id"] == "j2", "the unfinished one is meant"
    assert problem(await http.get("/v1/jobs/nobody"), 404)["hint"]


async def test_pages_follow_one_another_without_a_gap(http: httpx.AsyncClient) -> None:
    for _ in range(5):
        await submit(http)
    for more in ("", "&all=1"):
        newest = (await http.get(f"/v1/jobs?limit=2{more}")).json()["items"]
        assert [job["id"] for job in newest] == ["j4", "j5"]
        page = (await http.get(f"/v1/jobs?limit=2&after=j2{more}")).json()["items"]
        assert [job["id"] for job in page] == ["j3", "j4"]
    await http.post("/v1/jobs/j3/cancel")
    assert [job["id"] for job in (await http.get("/v1/jobs?state=cancelled")).json()["items"]] == ["j3"]
    assert (await http.get("/v1/jobs?user=nobody")).json()["items"] == []


async def test_a_job_of_long_ago_is_listed_on_demand(built: Office, http: httpx.AsyncClient) -> None:
    await submit(http)
    await http.post("/v1/jobs/j1/cancel")
    built.clock.move(2 * 3_600_000)
    assert (await http.get("/v1/jobs")).json()["items"] == []
    assert [job["id"] for job in (await http.get("/v1/jobs?all=1")).json()["items"]] == ["j1"]
    assert (await http.get("/v1/jobs/moe")).json()["state"] == "cancelled"


async def test_a_plan_can_be_pinned_and_changes_nothing(built: Office, http: httpx.AsyncClient) -> None:
    plan = (await http.post("/v1/plan", json={"spec": SPEC})).json()
    assert plan["chosen"] == "local/use1-az1/p5.48xlarge/spot"
    assert {line["offer"] for line in plan["lines"]} == set(built.state.offers)
    assert built.store.seq == 0
    await built.offers(offer("use1-az1", 90.0), offer("use1-az4", 30.0))
    wish = {"spec": SPEC, "plan": plan["id"]}
    assert problem(await http.post("/v1/jobs", json=wish), 409)["hint"]


async def test_a_plan_tries_changes_beside_what_holds_now(built: Office, http: httpx.AsyncClient) -> None:
    wish = {"spec": SPEC, "what_if": ["gone:use1-az1", "price:*/spot*2"]}
    plan = (await http.post("/v1/plan", json=wish)).json()
    told = plan["what_if"]
    assert (plan["chosen"], plan["lines"][0]["price"]) == ("local/use1-az1/p5.48xlarge/spot", "20.00")
    assert told["changes"] == wish["what_if"]
    assert told["plan"]["chosen"] == "local/use1-az4/p5.48xlarge/spot"
    assert told["plan"]["lines"][0]["price"] == "60.00"
    assert {line["offer"] for line in told["plan"]["lines"]} == set(built.state.offers)
    assert plan == {**(await http.post("/v1/plan", json={"spec": SPEC})).json(), "what_if": told}
    assert built.store.seq == 0


@pytest.mark.parametrize(
    ("change", "complaint"),
    [("price", "price: it does not say to what"), ("gone:mars", "gone:mars: no pool, zone or region on offer")],
)
async def test_a_change_that_cannot_be_tried_is_named_with_the_remedy(
    http: httpx.AsyncClient, change: str, complaint: str
) -> None:
    said = problem(await http.post("/v1/plan", json={"spec": SPEC, "what_if": ["price*2", change]}), 422)
    assert complaint in said["message"]
    assert (said["where"], bool(said["hint"])) == ("what_if", True)


async def test_a_job_that_waits_behind_one_of_its_kind_is_explained_by_what_holds_now(http: httpx.AsyncClient) -> None:
    for name in ("first", "second"):
        await submit(http, name=name, max_price="1")
    (stored,) = (await http.get("/v1/jobs/first/explain")).json()["items"]
    (now,) = (await http.get("/v1/jobs/second/explain")).json()["items"]
    assert (now["id"], now["job"], now["name"]) == ("", "j2", "second")
    assert now["summary"] == stored["summary"]
    assert "over-price-max" in now["summary"]


async def test_the_stored_decision_explains_the_job(http: httpx.AsyncClient) -> None:
    await submit(http)
    (plan,) = (await http.get("/v1/jobs/moe/explain")).json()["items"]
    assert (plan["job"], plan["name"], plan["chosen"]) == ("j1", "moe", "local/use1-az1/p5.48xlarge/spot")
    assert plan["id"] == (await http.get("/v1/jobs/j1")).json()["decision"]


async def test_with_flips_the_newest_decision_is_made_again(tmp_path: Path) -> None:
    asked: list[Mapping[str, Any]] = []

    async def again(told: Mapping[str, Any]) -> Mapping[str, Any]:
        asked.append(told)
        return {"same": True, "flips": [], "note": "made again"}

    async with office(tmp_path, extras=Extras(again=again)) as built, built.client() as http:
        await built.offers(offer("use1-az1", 20.0))
        await submit(http, duration="8h", within="30h")
        (plain,) = (await http.get("/v1/jobs/moe/explain")).json()["items"]
        (plan,) = (await http.get("/v1/jobs/moe/explain", params={"flips": "1"})).json()["items"]
    assert "note" not in plain["deadline"]
    assert (plan["deadline"]["same"], plan["deadline"]["note"]) == (True, "made again")
    assert [told["target"] for told in asked] == [plan["deadline"]["target"]]


async def test_a_migration_can_be_asked_about_first(built: Office, http: httpx.AsyncClient) -> None:
    await submit(http)
    (node,) = await built.launch()
    ask = {"dry_run": True, "to": "*/use1-az4*"}
    early = problem(await http.post("/v1/jobs/moe/migrate", json=ask), 409)["message"]
    assert early == "j1 is starting: cannot migrate it now"
    await built.loop.send(AgentHello(node=node))
    await built.loop.send(RanksStarted(node=node, job="j1", generation=1))
    told = (await http.post("/v1/jobs/moe/migrate", json=ask)).json()
    assert told["plan"]["chosen"] == "local/use1-az4/p5.48xlarge/spot"
    assert told["gain"] == {"per_hour": "-10.00", "from": "20.00", "to": "30.00"}
    assert problem(await http.post("/v1/jobs/moe/cancel", json={"dry_run": True}), 422)["where"] == "dry_run"
    await http.post("/v1/jobs/moe/cancel")
    assert "cannot migrate it now" in problem(await http.post("/v1/jobs/moe/migrate", json=ask), 409)["message"]


async def test_the_bill_and_the_money_agree(built: Office, http: httpx.AsyncClient) -> None:
    await submit(http)
    await built.launch()
    assert (await http.get("/v1/money")).json()["spent"] == "0.00"
    built.clock.move(3_600_000)
    bill = (await http.get("/v1/jobs/moe/bill")).json()
    money = (await http.get("/v1/money")).json()
    assert (bill["spent"], bill["baseline"], bill["saved"]) == ("20.00", "98.32", "78.32")
    assert [line["node"] for line in bill["lines"]] == list(built.state.nodes)
    assert (money["burn"], money["spent"], money["saved"]) == ("20.00", "20.00", "78.32")
    await http.post("/v1/jobs/moe/cancel")
    assert (await http.get("/v1/money")).json()["spent"] == "20.00", "booked now, and counted once"
    assert (await http.get("/v1/budgets")).json()["items"][0]["spent"] == "20.00"


async def test_a_budget_is_set_and_lifted(http: httpx.AsyncClient) -> None:
    assert (await http.put("/v1/budgets/default", json={"limit": "12.50"})).json()["left"] == "12.50"
    assert (await http.put("/v1/budgets/default", json={"limit": None})).json()["limit"] is None
    assert problem(await http.put("/v1/budgets/default", json={"limit": "12,50"}), 422)["where"] == "limit"
    assert problem(await http.put("/v1/budgets/UPPER", json={"limit": "1"}), 422)["where"] == "name"


async def test_a_workdir_is_uploaded_before_the_job_that_needs_it(built: Office, http: httpx.AsyncClient) -> None:
    data = b"packed" * 500
    name = sha256(data).hexdigest()
    found = problem(await http.post("/v1/jobs", json={"spec": {**SPEC, "workdir": f"sha256:{name}"}}), 409)
    assert f"PUT /v1/bundles/{name}" in found["hint"]
    assert (await http.put(f"/v1/bundles/{name}", content=data)).status_code == 204
    assert (await http.put(f"/v1/bundles/{name}", content=data)).status_code == 204
    assert (await http.post("/v1/plan", json={"spec": {**SPEC, "workdir": "src"}})).status_code == 200
    job = await submit(http, workdir=f"sha256:{name}")
    assert built.state.jobs[job["id"]].spec.bundle == name
    other = sha256(b"other").hexdigest()
    assert problem(await http.put(f"/v1/bundles/{other}", content=data), 422)["where"] == "sha256"
    assert problem(await http.put(f"/v1/bundles/{other}", content=b"x" * 10_001), 413)["code"] == "E413"


async def test_the_documentation_names_every_public_path(http: httpx.AsyncClient) -> None:
    document = (await http.get("/openapi.json")).json()
    assert "/v1/jobs/{id}/{action}" in document["paths"]
    assert not any(path.startswith("/agent/") for path in document["paths"])
    text = str(document)
    for name in {part.split("'")[0] for part in text.split("#/components/schemas/")[1:]}:
        assert name in document["components"]["schemas"], name
    query = document["paths"]["/v1/jobs"]["get"]["parameters"]
    assert {made["name"] for made in query} == {"all", "state", "user", "limit", "after", "first"}


async def test_metrics_count_states_and_requests(http: httpx.AsyncClient) -> None:
    await submit(http)
    text = (await http.get("/v1/metrics")).text
    assert 'dsched_jobs{state="starting"} 1.0' in text
    assert 'dsched_jobs{state="paused"} 0.0' in text
    assert 'dsched_api_seconds_count{method="POST",path="/v1/jobs",status="2xx"} 1.0' in text


async def test_a_client_gone_wild_is_slowed_and_a_reader_is_not(tmp_path: Path) -> None:
    async with office(tmp_path, limits=Limits(writes_per_s=0.001, writes_burst=2)) as built, built.client() as http:
        answers = [await http.post("/v1/plan", json={"spec": SPEC}) for _ in range(3)]
        assert [answer.status_code for answer in answers[:2]] == [200, 200]
        assert problem(answers[2], 429)["retryable"]
        assert (await http.get("/v1/jobs")).status_code == 200


async def test_a_store_that_is_behind_takes_no_more_changes(tmp_path: Path) -> None:
    async with office(tmp_path, extras=Extras(busy=lambda: "the disk stands still")) as built, built.client() as http:
        found = problem(await http.post("/v1/jobs", json={"spec": SPEC}), 503)
        assert (found["message"], found["retryable"]) == ("the disk stands still", True)
        assert (await http.get("/v1/jobs")).status_code == 200
