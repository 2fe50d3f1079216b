"""AWS's words, one by one: errors, shapes, prices, hints, limits, and what a launch asks for."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from dsched.providers.aws import advice, compute, errors, notices, permissions, prices, quotas, shapes
from dsched.providers.aws.client import Bucket
from dsched.providers.aws.gang import Network
from dsched.providers.aws.kept import AGAIN, Kept
from dsched.providers.aws.reserve import Held
from dsched.providers.aws.settings import Settings
from dsched.providers.aws.shapes import Kind
from dsched.providers.aws.zones import zones_from
from dsched.providers.base import (
    Ambiguous,
    Auth,
    Capacity,
    EndReason,
    Invalid,
    Launch,
    NoticeKind,
    Price,
    ProviderError,
    Quota,
    Scope,
    Throttled,
)
from dsched.providers.catalog import load
from dsched.scheduler.core.hardware import Shape
from dsched.scheduler.core.market import Market, Pool
from dsched.scheduler.core.units import Instant, MicroUsdPerHour, Millis, price

NOW = Instant(1_800_000_000_000)
SPOT = Pool("aws", "us-east-1", "use1-az6", "g6.xlarge", Market.SPOT)
ON_DEMAND = Pool("aws", "us-east-1", "use1-az6", "g6.xlarge", Market.ON_DEMAND)
RESERVED = Pool("aws", "us-east-1", "use1-az6", "g6.xlarge", Market.RESERVED)


def answer(code: str, status: int = 400) -> dict[str, Any]:
    return {"Error": {"Code": code, "Message": "said EC2"}, "ResponseMetadata": {"HTTPStatusCode": status}}


# -- errors -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "status", "error", "scope"),
    [
        ("InsufficientInstanceCapacity", 500, Capacity, Scope.POOL),  # a server's fault by its status alone
        ("Unsupported", 400, Capacity, Scope.POOL),
        ("ReservationCapacityExceeded", 400, Capacity, Scope.POOL),
        ("SpotMaxPriceTooLow", 400, Price, Scope.POOL),
        ("MaxSpotInstanceCountExceeded", 400, Quota, Scope.REGION),
        ("VcpuLimitExceeded", 400, Quota, Scope.REGION),
        ("RequestLimitExceeded", 503, Throttled, Scope.REGION),
        ("UnauthorizedOperation", 403, Auth, Scope.ACCOUNT),
        ("RequestExpired", 400, Auth, Scope.ACCOUNT),
        ("InvalidAMIID.NotFound", 400, Auth, Scope.REGION),  # a person must mend it; then it works again
        ("InvalidParameterValue", 400, Invalid, Scope.POOL),
        ("InternalError", 500, Ambiguous, Scope.REGION),
        ("SomethingNew", 503, Ambiguous, Scope.REGION),
        ("SomethingNew", 400, Invalid, Scope.POOL),
    ],
)
def test_a_refusal_is_told_by_its_code(code: str, status: int, error: type[ProviderError], scope: Scope) -> None:
    told = errors.from_answer(answer(code, status), changes=True)
    assert (type(told), told.code, told.scope) == (error, code, scope)


def test_a_question_without_answer_is_never_ambiguous() -> None:
    assert type(errors.from_answer(answer("InternalError", 500), changes=False)) is ProviderError


def test_every_cooldown_of_a_drought_is_at_least_five_minutes() -> None:
    droughts = [kind for kind in errors.KINDS.values() if kind[0] is Capacity]
    assert all(cooldown is not None and cooldown >= 300_000 for _, _, cooldown in droughts)


# -- shapes -----------------------------------------------------------------------------------------------------------


def row(name: str, *gpus: dict[str, Any], **more: Any) -> dict[str, Any]:
    machine: dict[str, Any] = {
        "InstanceType": name,
        "VCpuInfo": {"DefaultVCpus": 96},
        "MemoryInfo": {"SizeInMiB": 1_179_648},
        "ProcessorInfo": {"SupportedArchitectures": ["x86_64"]},
        "NetworkInfo": {"NetworkCards": [{"PeakBandwidthInGbps": 100.0}] * 4},
        "SupportedUsageClasses": ["on-demand", "spot"],
    }
    return machine | ({"GpuInfo": {"Gpus": list(gpus)}} if gpus else {}) | more


def gpu(name: str, count: int, mib: int) -> dict[str, Any]:
    return {"Name": name, "Count": count, "Manufacturer": "NVIDIA", "MemoryInfo": {"SizeInMiB": mib}}


def test_one_name_of_ec2_can_be_two_accelerators() -> None:
    rows = [row("p4d.24xlarge", gpu("A100", 8, 40_960)), row("p4de.24xlarge", gpu("A100", 8, 81_920))]
    kinds = shapes.kinds_from(rows, load())
    names = {name: kind.shape.accelerator.name for name, kind in kinds.items() if kind.shape.accelerator}
    assert names == {"p4d.24xlarge": "A100-40", "p4de.24xlarge": "A100-80"}
    machine = kinds["p4d.24xlarge"].shape
    assert (machine.gpus, machine.vcpus, machine.memory_gib, machine.network_gbit_s) == (8, 96, 1_152, 400)


def test_parts_of_a_gpu_unknown_gpus_and_other_chips_are_left_out() -> None:
    rows = [
        row("g6f.large", gpu("L4", 0, 2_861)),
        row("x1.large", gpu("Z9000", 1, 16_384)),
        row("trn1.32xlarge", NeuronInfo={"NeuronDevices": [{"Count": 16}]}),
        row("m7i.large"),
    ]
    assert list(shapes.kinds_from(rows, load())) == ["m7i.large"]


def test_a_zone_is_known_by_its_id_and_called_by_its_name() -> None:
    open_, shut = {"ZoneId": "use1-az6", "ZoneName": "us-east-1b"}, {"ZoneId": "use1-az3", "ZoneName": "us-east-1e"}
    zones = zones_from([open_, {**shut, "State": "unavailable"}])
    assert (zones.name("use1-az6"), zones.name("use1-az3")) == ("us-east-1b", None)
    assert zones.of({"AvailabilityZone": "us-east-1b"}) == "use1-az6"
    assert zones.of({"AvailabilityZone": "us-east-1b", "AvailabilityZoneId": "use1-az1"}) == "use1-az1"


# -- prices -----------------------------------------------------------------------------------------------------------


def product(shape: str, *usd: str, unit: str = "Hrs", region: str = "us-east-1") -> str:
    dimensions = {str(n): {"unit": unit, "pricePerUnit": {"USD": text}} for n, text in enumerate(usd)}
    terms = {"OnDemand": {"A": {"priceDimensions": dimensions}}}
    return json.dumps({"product": {"attributes": {"instanceType": shape, "regionCode": region}}, "terms": terms})


def test_of_several_list_prices_the_dearest_counts_and_nothing_is_no_price() -> None:
    texts = [
        product("g6.xlarge", "0.8048", "0.0"),
        product("g6.xlarge", "0.4"),
        product("g5.xlarge", "0.0000000000"),
        product("p5.48xlarge", "55.04", region="us-west-2"),
        product("p4d.24xlarge", "100", unit="Quantity"),
    ]
    found = prices._products(texts, "us-east-1", {"g6.xlarge", "g5.xlarge", "p5.48xlarge", "p4d.24xlarge"})
    assert found == {"g6.xlarge": price("0.8048")}


def test_the_spot_advisor_is_read_and_what_it_does_not_know_is_left_out() -> None:
    linux = {"g6.xlarge": {"s": 60, "r": 2}, "g5.xlarge": {"s": 60, "r": 9}}
    assert advice.classes_from({"spot_advisor": {"us-east-1": {"Linux": linux, "Windows": {}}}}) == {
        ("us-east-1", "g6.xlarge"): 2
    }


# -- launches ---------------------------------------------------------------------------------------------------------


def wish(pool: Pool, **changes: Any) -> Launch:
    usual = {"token": "t-1", "pool": pool, "count": 2, "user_data": "{}", "lease_until": NOW}
    return Launch(**{**usual, **changes})


def request(
    want: Launch, held: Held | None = None, *, gang: Network | None = None, efa: int = 0, **settings: Any
) -> dict[str, Any]:
    told = Settings(regions=("us-east-1",), efa=settings.pop("efa_wanted", False), **settings)
    shape = Shape(name=want.pool.shape, accelerator=None, gpus=0, vcpus=4, memory_gib=16)
    kind = Kind(shape, "x86_64", frozenset(("spot",)), efa)
    return compute.request(want, cluster="c", zone="us-east-1b", kind=kind, held=held, settings=told, gang=gang)


def test_a_gang_has_its_network_beside_what_the_settings_name() -> None:
    network = Network("sg-gang", "dsched-t-1")
    asked = request(wish(SPOT), gang=network, groups={"us-east-1": ("sg-own",)}, subnets={"use1-az6": "subnet-1"})
    assert asked["Placement"] == {"AvailabilityZone": "us-east-1b", "GroupName": "dsched-t-1"}
    assert (asked["SecurityGroupIds"], asked["SubnetId"]) == (["sg-own", "sg-gang"], "subnet-1")
    assert "SecurityGroupIds" not in request(wish(SPOT, count=1))


def test_fast_interfaces_are_asked_for_where_they_are_wanted_and_there() -> None:
    network = Network("sg-gang", "")
    asked = request(wish(SPOT), gang=network, efa=4, subnets={"use1-az6": "subnet-1"})
    assert "NetworkInterfaces" not in asked
    asked = request(wish(SPOT), gang=network, efa=4, subnets={"use1-az6": "subnet-1"}, efa_wanted=True)
    assert [(one["DeviceIndex"], one["NetworkCardIndex"]) for one in asked["NetworkInterfaces"]] == [
        (0, 0),
        (1, 1),
        (1, 2),
        (1, 3),
    ]
    assert {(one["InterfaceType"], one["SubnetId"], *one["Groups"]) for one in asked["NetworkInterfaces"]} == {
        ("efa", "subnet-1", "sg-gang")
    }
    assert "SecurityGroupIds" not in asked
    assert "SubnetId" not in asked


@pytest.mark.parametrize(
    ("region", "shape", "image"),
    [
        ("us-east-1", "p5.48xlarge", "ami-both"),
        ("us-west-2", "p5.48xlarge", "ami-p5"),
        ("us-east-1", "g6.xlarge", "ami-east"),
        ("us-west-2", "g6.xlarge", "resolve:ssm:/x/x86_64"),
    ],
)
def test_the_image_is_that_of_region_and_shape_before_any_other(region: str, shape: str, image: str) -> None:
    images = {"us-east-1": "ami-east", "p5*": "ami-p5", "us-east-1/p5*": "ami-both"}
    settings = Settings(regions=("us-east-1",), image="resolve:ssm:/x/{arch}", images=images)
    assert settings.image_in(Pool("aws", region, "z", shape, Market.SPOT), "x86_64") == image


def test_a_spot_launch_never_pays_more_than_its_limit() -> None:
    options = request(wish(SPOT, price_max=MicroUsdPerHour(1_234_567)))["InstanceMarketOptions"]
    assert options["SpotOptions"]["MaxPrice"] == "1.234567"
    assert options["SpotOptions"]["InstanceInterruptionBehavior"] == "terminate"


def test_all_of_a_gang_or_nothing_and_the_same_wish_asks_the_same() -> None:
    asked = request(wish(SPOT))
    assert (asked["MinCount"], asked["MaxCount"], asked["ClientToken"]) == (2, 2, "t-1")
    assert asked == request(wish(SPOT))


def test_what_is_bought_on_demand_eats_no_reservation() -> None:
    asked = request(wish(ON_DEMAND))
    assert asked["CapacityReservationSpecification"] == {"CapacityReservationPreference": "none"}
    assert "InstanceMarketOptions" not in asked


def test_a_reserved_launch_names_its_reservation_and_a_block_its_market() -> None:
    block = Held(what="block", id="cr-1", zone="use1-az6", shape="g6.xlarge", free=2, until=NOW)
    asked = request(wish(RESERVED), block)
    assert asked["CapacityReservationSpecification"]["CapacityReservationTarget"] == {"CapacityReservationId": "cr-1"}
    assert asked["InstanceMarketOptions"] == {"MarketType": "capacity-block"}


def test_settings_reach_the_launch() -> None:
    asked = request(
        wish(SPOT),
        image="resolve:ssm:/x/{arch}",
        subnets={"use1-az6": "subnet-1"},
        groups={"us-east-1": ("sg-1",)},
        instance_profile="node",
        disk_gib=100,
    )
    assert (asked["ImageId"], asked["SubnetId"], asked["SecurityGroupIds"]) == (
        "resolve:ssm:/x/x86_64",
        "subnet-1",
        ["sg-1"],
    )
    assert asked["IamInstanceProfile"] == {"Name": "node"}
    assert asked["BlockDeviceMappings"][0]["Ebs"]["VolumeSize"] == 100


@pytest.mark.parametrize(
    "changes", [{"count": 0}, {"token": ""}, {"token": "x" * 65}, {"user_data": "\u00fc" * 8_193}], ids=str
)
def test_what_ec2_could_only_refuse_is_not_asked(changes: dict[str, Any]) -> None:
    with pytest.raises(Invalid):
        request(wish(SPOT, **changes))


def test_the_end_of_a_machine_is_ec2s_time_else_when_it_was_seen_and_never_before_its_launch() -> None:
    def ended(reason: str) -> int | None:
        machine = {
            "InstanceId": "i-1",
            "State": {"Name": "terminated"},
            "StateReason": {"Code": "Client.UserInitiatedShutdown"},
            "StateTransitionReason": reason,
            "LaunchTime": prices.moment(Instant(NOW - 3_600_000)),
            "Placement": {"AvailabilityZone": "us-east-1b"},
            "InstanceType": "g6.xlarge",
            "Tags": [{"Key": "dsched:token", "Value": "t"}],
        }
        node = compute.node_from(machine, "us-east-1", zones_from([]), before=None, now=NOW)
        assert node is not None
        assert node.ended_by is EndReason.ASKED
        return node.ended_at

    assert ended("User initiated (2027-01-15 07:30:00 GMT)") == NOW - 1_800_000
    assert ended("") == NOW
    assert ended("User initiated (2020-01-01 00:00:00 GMT)") == NOW - 3_600_000


# -- hints ------------------------------------------------------------------------------------------------------------


def event(kind: str, **detail: Any) -> str:
    told = {"detail-type": kind, "time": "2027-01-15T07:59:50Z", "region": "us-east-1"}
    return json.dumps({**told, "detail": {"instance-id": "i-1", **detail}})


def test_a_warning_ends_two_minutes_after_it_was_given_not_after_it_was_heard() -> None:
    notice = notices.notice_from(event("EC2 Spot Instance Interruption Warning"), "us-east-1", NOW)
    assert notice is not None
    assert notice.ref is not None
    assert (notice.kind, notice.ref.id) == (NoticeKind.INTERRUPT, "us-east-1/i-1")
    assert notice.deadline == NOW - 10_000 + 120_000


def test_a_cloud_whose_clock_is_ahead_does_not_lengthen_a_notice() -> None:
    notice = notices.notice_from(event("EC2 Spot Instance Interruption Warning"), "us-east-1", Instant(NOW - 60_000))
    assert notice is not None
    assert notice.deadline == NOW + 60_000


@pytest.mark.parametrize(
    "body",
    [
        event("EC2 Instance State-change Notification", state="running"),
        event("Something else"),
        "no json",
        "[]",
        json.dumps({"detail-type": "EC2 Instance Rebalance Recommendation", "detail": {}}),
    ],
)
def test_what_is_no_hint_is_passed_over(body: str) -> None:
    assert notices.notice_from(body, "us-east-1", NOW) is None


# -- limits, grants, patience -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shape", "market", "families"),
    [
        ("g6.xlarge", Market.SPOT, "All G and VT Spot Instance Requests"),
        ("p4d.24xlarge", Market.SPOT, "All P4, P3 and P2 Spot Instance Requests"),
        ("p5en.48xlarge", Market.SPOT, "All P5 Spot Instance Requests"),
        ("p5en.48xlarge", Market.ON_DEMAND, "Running On-Demand P instances"),
        ("p5en.48xlarge", Market.RESERVED, ""),
        ("m7i.large", Market.SPOT, ""),
    ],
)
def test_a_shape_meets_the_limit_of_its_family(shape: str, market: Market, families: str) -> None:
    code = quotas.code_for(shape, market)
    assert (quotas.FAMILIES[code].words if code else "") == families


def test_no_action_is_granted_on_everything_that_can_change_something() -> None:
    for statement in permissions.everything()["Statement"]:
        harmless = all(action.split(":")[1].startswith(("Describe", "Get", "List")) for action in statement["Action"])
        assert harmless or statement["Resource"] != ["*"], statement["Sid"]


async def test_a_bucket_lets_a_burst_through_then_one_at_a_time_and_turns_away_a_crowd() -> None:
    bucket = Bucket(100.0, 2, patience_s=0.02, clock=lambda: 0.0)
    for _ in range(4):
        await bucket.take()  # two at once, the next after 10 and 20 ms
    with pytest.raises(Throttled):
        await bucket.take()


async def test_an_answer_is_kept_while_it_is_young_and_outlives_a_failure_with_its_age() -> None:
    now, answers = 0, [1, ProviderError("down"), 2]

    async def ask() -> int:
        told = answers.pop(0)
        if isinstance(told, ProviderError):
            raise told
        return told

    kept = Kept(Millis(10), ask, lambda: Instant(now))
    assert await kept.get() == await kept.get() == 1
    now = 10
    assert await kept.get() == 1
    assert (kept.at, str(kept.error)) == (0, "down")
    now = 10 + AGAIN - 1
    assert await kept.get() == 1
    now = 10 + AGAIN
    assert (await kept.get(), kept.at, kept.error) == (2, now, None)


async def test_many_who_wait_for_the_same_answer_ask_once() -> None:
    asked = 0

    async def ask() -> int:
        nonlocal asked
        asked += 1
        await asyncio.sleep(0)
        raise ProviderError("down")

    kept = Kept(Millis(10), ask, lambda: Instant(0))
    told = await asyncio.gather(*(kept.get() for _ in range(5)), return_exceptions=True)
    assert asked == 1
    assert all(isinstance(one, ProviderError) for one in told)
