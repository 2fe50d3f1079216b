"""The metadata service: two dialects, and a small HTTP server that bad clients do not disturb."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from http import HTTPStatus

import pytest

from dsched.providers.local.metadata import Facts, Gce, Imds, timestamp
from dsched.providers.local.web import BYTES_MAX, BadRequest, Request, Response, Site, encode, parse
from dsched.scheduler.core.units import Instant, Millis

FACTS = Facts(
    id="i-1",
    name="n",
    index=3,
    region="us-east-1",
    zone="use1-az1",
    shape="g6.xlarge",
    market="spot",
    user_data="data",
    notice=Millis(500),
)
GOOGLE = {"metadata-flavor": "Google"}


def get(path: str, headers: dict[str, str] | None = None, method: str = "GET", **query: str) -> Request:
    return Request(method=method, path=path, query=query, headers=headers or {})


async def test_imds_hands_out_tokens_only_as_amazon_does() -> None:
    service = Imds(FACTS)
    ttl = "x-aws-ec2-metadata-token-ttl-seconds"
    path = "/latest/api/token"
    assert (await service.handle(get(path, {ttl: "0"}, "PUT"))).status is HTTPStatus.BAD_REQUEST
    assert (await service.handle(get(path, {ttl: "21601"}, "PUT"))).status is HTTPStatus.BAD_REQUEST
    assert (
        await service.handle(get(path, {ttl: "60", "x-forwarded-for": "1.2.3.4"}, "PUT"))
    ).status is HTTPStatus.FORBIDDEN
    assert (await service.handle(get(path, {ttl: "60"}))).status is HTTPStatus.METHOD_NOT_ALLOWED
    token = (await service.handle(get(path, {ttl: "60"}, "PUT"))).body.decode()
    header = {"x-aws-ec2-metadata-token": token}
    assert (await service.handle(get("/latest/meta-data/ami-launch-index", header))).body == b"3"
    folder = (await service.handle(get("/latest/meta-data/placement/", header))).body.decode().split("\n")
    assert folder == ["availability-zone", "availability-zone-id", "region"]
    assert "placement/" in (await service.handle(get("/latest/meta-data/", header))).body.decode().split("\n")


async def test_an_interruption_notice_of_gce_wakes_every_waiter_and_says_how_long_is_left() -> None:
    service = Gce(FACTS)
    path = "/computeMetadata/v1/instance/preempted"
    waiting = [asyncio.create_task(service.handle(get(path, GOOGLE, wait_for_change="true"))) for _ in range(3)]
    other = asyncio.create_task(
        service.handle(get("/computeMetadata/v1/instance/name", GOOGLE, wait_for_change="true", timeout_sec="0"))
    )
    assert (await other).body == b"n"  # nothing changed: the present value when the time is over
    assert not any(task.done() for task in waiting)
    service.interrupt(Instant(0))
    assert [answer.body for answer in await asyncio.gather(*waiting)] == [b"TRUE"] * 3
    left = await service.handle(get("/computeMetadata/v1/instance/attributes/preemption-notice-ms", GOOGLE))
    assert left.body == b"0"  # the deadline is long over


def test_instants_are_written_as_amazon_does() -> None:
    assert timestamp(Instant(1_700_000_000_000)) == "2023-11-14T22:13:20Z"
    assert timestamp(Instant(1_700_000_000_250)) == "2023-11-14T22:13:20.250Z"


def test_a_request_is_read_with_its_query_and_headers() -> None:
    request = parse(b"GET /a%20b?x=1&y=%2F HTTP/1.1\r\nHost: h\r\nX-Name:  value \r\n\r\n")
    assert (request.method, request.path, request.query) == ("GET", "/a b", {"x": "1", "y": "/"})
    assert request.headers == {"host": "h", "x-name": "value"}


@pytest.mark.parametrize("head", [b"\r\n\r\n", b"GET /\r\n\r\n", b"GET / HTTP/2\r\n\r\n", b"\xff\xfe\r\n\r\n"])
def test_what_is_not_http_is_refused(head: bytes) -> None:
    with pytest.raises(BadRequest):
        parse(head)


def test_a_response_to_head_has_no_body() -> None:
    assert encode(Response(HTTPStatus.OK, b"abc"), head_only=True).endswith(b"Content-Length: 3\r\n\r\n")


@pytest.fixture
async def site() -> AsyncIterator[tuple[Site, int, list[str]]]:
    """A site that answers with the path, and never answers /hang."""
    story: list[str] = []

    async def answer(request: Request) -> Response:
        if request.path == "/hang":
            try:
                await asyncio.Event().wait()
            finally:
                story.append("let go")
        return Response(HTTPStatus.OK, request.path.encode())

    site = Site(answer)
    await site.listen("127.0.0.1", 0)
    assert site.port is not None
    yield site, site.port, story
    site.close()


async def test_requests_of_one_connection_are_answered_in_order(site: tuple[Site, int, list[str]]) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", site[1])
    writer.write(
        b"GET /one HTTP/1.1\r\n\r\nPUT /two HTTP/1.1\r\nContent-Length: 3\r\n\r\nabcGET /three HTTP/1.0\r\n\r\n"
    )
    answers = (await reader.read()).decode()  # HTTP/1.0 ends it
    assert [part.split("\r\n\r\n")[1] for part in answers.split("HTTP/1.1 200 OK")[1:]] == ["/one", "/two", "/three"]
    writer.close()


async def test_a_client_that_hangs_up_frees_its_hanging_get(site: tuple[Site, int, list[str]]) -> None:
    _, writer = await asyncio.open_connection("127.0.0.1", site[1])
    writer.write(b"GET /hang HTTP/1.1\r\n\r\n")
    async with asyncio.timeout(60):
        while not site[0].connections:
            await asyncio.sleep(0)
        writer.close()
        while not site[2]:
            await asyncio.sleep(0.001)


async def test_noise_and_floods_end_the_connection_and_nothing_else(site: tuple[Site, int, list[str]]) -> None:
    for noise in (
        b"\x00\x01\x02\r\n\r\n",
        b"G" * (3 * BYTES_MAX),
        b"GET / HTTP/1.1\r\nContent-Length: 99999999\r\n\r\n",
    ):
        reader, writer = await asyncio.open_connection("127.0.0.1", site[1])
        writer.write(noise)
        try:
            answer = await reader.read()
        except ConnectionError:
            answer = b""
        assert answer == b"" or answer.startswith(b"HTTP/1.1 400")
        writer.close()
    reader, writer = await asyncio.open_connection("127.0.0.1", site[1])
    writer.write(b"GET /still HTTP/1.0\r\n\r\n")
    assert (await reader.read()).endswith(b"/still")
    writer.close()
