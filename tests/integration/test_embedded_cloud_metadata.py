"""The embedded cloud's metadata services, of both dialects, as a node meets them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import httpx
import pytest

from dsched.providers.base import (
    Node,
)
from dsched.providers.local.start import ensure
from tests.support.machines import exists
from tests.support.world import WAIT_S, LocalWorld, want

GCP = {"zone": "us-central1-a", "shape": "g2-standard-4"}


@pytest.fixture(params=["aws", "gcp"])
async def node_of(request: pytest.FixtureRequest) -> AsyncIterator[tuple[LocalWorld, Node, httpx.AsyncClient]]:
    """A node of each dialect, with a client that talks to its metadata service."""
    async with LocalWorld(**(GCP if request.param == "gcp" else {})) as world:
        [node] = await world.provider().launch(want(world, "a", user_data="hello"))
        await exists(world, world.disk("a.0") / "user-data")
        base = world.processes("a.0")[0].environ()["DSCHED_METADATA"]
        async with httpx.AsyncClient(base_url=base, timeout=WAIT_S) as client:
            yield world, node, client


@pytest.mark.parametrize("node_of", ["aws"], indirect=True)
async def test_imdsv2_needs_a_token_and_tells_of_the_interruption(
    node_of: tuple[LocalWorld, Node, httpx.AsyncClient],
) -> None:
    world, node, client = node_of
    meta = "/latest/meta-data"
    assert (await client.get(f"{meta}/instance-id")).status_code == 401
    assert (await client.get(f"{meta}/instance-id", headers={"X-aws-ec2-metadata-token": "guess"})).status_code == 401
    assert (await client.put("/latest/api/token")).status_code == 400  # without a lifetime
    granted = await client.put("/latest/api/token", headers={"X-aws-ec2-metadata-token-ttl-seconds": "60"})
    client.headers["X-aws-ec2-metadata-token"] = granted.text
    assert (await client.get(f"{meta}/instance-id")).text == node.ref.id
    assert (await client.get(f"{meta}/placement/availability-zone-id")).text == world.pool.zone
    assert (await client.get(f"{meta}/instance-type")).text == world.pool.shape
    assert (await client.get(f"{meta}/ami-launch-index")).text == "0"
    assert (await client.get("/latest/user-data")).text == "hello"
    assert (await client.get(f"{meta}/spot/instance-action")).status_code == 404
    assert (await client.get(f"{meta}/events/recommendations/rebalance")).status_code == 404
    assert (await client.get("/computeMetadata/v1/instance/id")).status_code == 404
    await world.provider().inject("rebalance", node=node.ref.id)
    assert "noticeTime" in (await client.get(f"{meta}/events/recommendations/rebalance")).json()
    await world.provider().inject("interrupt", node=node.ref.id, lead_ms=5_000)
    action = (await client.get(f"{meta}/spot/instance-action")).json()
    assert action["action"] == "terminate"
    assert action["time"].endswith("Z")


@pytest.mark.parametrize("node_of", ["gcp"], indirect=True)
async def test_the_gce_metadata_server_needs_its_header_and_holds_a_get_until_the_notice(
    node_of: tuple[LocalWorld, Node, httpx.AsyncClient],
) -> None:
    world, node, client = node_of
    root = "/computeMetadata/v1/instance"
    assert (await client.get(f"{root}/id")).status_code == 403
    client.headers["Metadata-Flavor"] = "Google"
    assert (await client.get(f"{root}/id")).text.isdigit()
    assert (await client.get(f"{root}/zone")).text.endswith("/zones/us-central1-a")
    assert (await client.get(f"{root}/machine-type")).text.endswith("/machineTypes/g2-standard-4")
    assert (await client.get(f"{root}/attributes/user-data")).text == "hello"
    assert (await client.get(f"{root}/attributes/launch-index")).text == "0"
    assert (await client.get("/latest/meta-data/instance-id")).status_code == 404
    now = await client.get(f"{root}/preempted")
    assert (now.text, now.headers["Metadata-Flavor"]) == ("FALSE", "Google")
    wait = {"wait_for_change": "true", "last_etag": now.headers["ETag"]}
    brief = await client.get(f"{root}/preempted", params={**wait, "timeout_sec": "0"})
    assert (brief.text, brief.headers["ETag"]) == ("FALSE", now.headers["ETag"])
    assert (await client.get(f"{root}/preempted", params={**wait, "last_etag": "0"})).text == "FALSE"  # at once
    hanging = asyncio.create_task(client.get(f"{root}/preempted", params=wait))
    await client.get(f"{root}/id")  # the hanging one does not hold up others
    assert not hanging.done()
    await world.provider().inject("interrupt", node=node.ref.id, lead_ms=5_000)
    assert (await hanging).text == "TRUE"
    assert 0 < int((await client.get(f"{root}/attributes/preemption-notice-ms")).text) <= 5_000


async def test_metadata_is_served_again_after_a_restart_of_the_cloud(
    node_of: tuple[LocalWorld, Node, httpx.AsyncClient],
) -> None:
    world, node, client = node_of
    await world.provider().inject("interrupt", node=node.ref.id, lead_ms=60_000)
    world.kill_cloud()
    with pytest.raises(httpx.TransportError):
        await client.get("/")
    await ensure(world.folder, world.options)
    if world.pool.zone == "use1-az1":
        granted = await client.put("/latest/api/token", headers={"X-aws-ec2-metadata-token-ttl-seconds": "60"})
        path, headers = "/latest/meta-data/spot/instance-action", {"X-aws-ec2-metadata-token": granted.text}
    else:
        path, headers = "/computeMetadata/v1/instance/preempted", {"Metadata-Flavor": "Google"}
    told = await client.get(path, headers=headers)
    assert "terminate" in told.text or told.text == "TRUE"
