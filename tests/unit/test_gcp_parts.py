"""Names, endings, errors and settings of Google Cloud, without its library."""

from __future__ import annotations

import subprocess
import sys

import pytest

from dsched.jobs.agent.identity import Gce
from dsched.providers.base import (
    Auth,
    Capacity,
    EndReason,
    Invalid,
    Launch,
    NodeStatus,
    NoticeKind,
    ProviderError,
    Quota,
    Scope,
    Throttled,
)
from dsched.providers.gcp import compute, names
from dsched.providers.gcp.errors import failed, told
from dsched.providers.gcp.notices import News
from dsched.providers.gcp.permissions import METHODS, role
from dsched.providers.gcp.roll import BLIND_MAX, REMEMBERED, Roll
from dsched.providers.gcp.rows import Happening, Held, Machine, instant
from dsched.providers.gcp.settings import Settings, SettingsError, read
from dsched.scheduler.core.market import Market, Pool
from dsched.scheduler.core.units import Instant
from tests.support.checkout import ROOT
from tests.support.metadata import FakeMetadata

POOL = Pool("gcp", "us-central1", "us-central1-a", "a2-highgpu-1g", Market.SPOT)
NOW = Instant(1_790_000_000_000)
SETTINGS = Settings(project="fake-project")


def held(name: str) -> Held:
    return Held(name=name, zone="us-central1-a", shape="a2-highgpu-1g", count=1, used=0, specific=True, until=None)


def launch(token: str = "ds-0a1b2c3d-1-7", pool: Pool = POOL, count: int = 1) -> Launch:
    return Launch(token=token, pool=pool, count=count, user_data="{}", lease_until=NOW, tags={"dsched:cluster": "C"})


def machine(token: str = "t", *, status: str = "RUNNING", **labels: str) -> Machine:
    name = names.name(launch(token), 0)
    return Machine(
        name=name, zone=POOL.zone, status=status, labels={names.TOKEN: token, **labels}, born=Instant(NOW - 1_000)
    )


def happening(kind: str, *, token: str = "t", over: bool = True, user: str = "me", failed: bool = False) -> Happening:
    return Happening(
        machine=names.name(launch(token), 0),
        zone=POOL.zone,
        kind=kind,
        user=user,
        began=NOW,
        over=Instant(NOW + 500) if over else None,
        failed=failed,
    )


@pytest.mark.parametrize("market", list(Market))
def test_a_name_tells_token_index_and_pool(market: Market) -> None:
    pool = Pool("gcp", "europe-west4", "europe-west4-b", "a3-highgpu-8g", market)
    name = names.name(launch(pool=pool), 15)
    assert names.parse(name, pool.zone) == ("ds-0a1b2c3d-1-7", 15, pool)
    assert len(names.name(launch("ds-0a1b2c3d-99-1234567", pool), 999)) <= names.LENGTH_MAX


@pytest.mark.parametrize("name", ["somebody-else", "gke-pool-1", "a-x-shape-0", "t-s-a2-highgpu-1g-"])
def test_other_names_are_not_ours(name: str) -> None:
    assert names.parse(name, POOL.zone) is None


@pytest.mark.parametrize("token", ["Upper", "under_score", "9digit", "x" * 60, ""])
def test_a_token_that_no_name_can_carry_is_refused(token: str) -> None:
    with pytest.raises(Invalid):
        names.name(launch(token), 0)


def test_a_request_id_is_the_tokens_and_a_uuid() -> None:
    assert names.request_id("a") == names.request_id("a") != names.request_id("b")
    assert len(names.request_id("a")) == 36


def test_labels_hold_what_labels_can_hold() -> None:
    labels = names.labels(launch(), "Cluster 1/x")
    assert labels[names.CLUSTER] == "cluster-1-x"
    assert all(len(value) <= 63 and value == value.lower() for value in labels.values())
    assert labels["dsched-cluster"] == "cluster-1-x"  # the tag of the same name does not win


def test_a_spot_machine_is_deleted_by_the_cloud_when_taken_and_when_forgotten() -> None:
    body = compute.machine(launch(), SETTINGS, "c", longer=True, reservation=None)
    assert body["scheduling"] == {
        "provisioning_model": "SPOT",
        "instance_termination_action": "DELETE",
        "max_run_duration": {"seconds": 7 * 86_400},
        "on_host_maintenance": "TERMINATE",
        "automatic_restart": False,
    }


def test_a_longer_notice_is_asked_for_only_on_spot_and_told_to_the_agent() -> None:
    longer = Settings(project="fake-project", notice_seconds=120)
    spot = compute.machine(launch(), longer, "c", longer=True, reservation=None)
    assert spot["scheduling"]["preemption_notice_duration"] == {"seconds": 120}
    assert {"key": "preemption-notice-ms", "value": "120000"} in spot["metadata"]["items"]
    refused = compute.machine(launch(), longer, "c", longer=False, reservation=None)
    assert "preemption_notice_duration" not in refused["scheduling"]
    assert {"key": "preemption-notice-ms", "value": "30000"} in refused["metadata"]["items"]


def test_only_a_reserved_machine_takes_a_reservation() -> None:
    reserved = launch(pool=Pool("gcp", "us-central1", "us-central1-a", "a2-highgpu-1g", Market.RESERVED))
    taken = compute.machine(reserved, SETTINGS, "c", longer=True, reservation=held("mine"))["reservation_affinity"]
    assert taken["values"] == ["mine"]
    left = compute.machine(launch(), SETTINGS, "c", longer=True, reservation=None)["reservation_affinity"]
    assert left == {"consume_reservation_type": "NO_RESERVATION"}


ENDINGS = [
    (["compute.instances.preempted"], EndReason.INTERRUPTED),
    (["delete", "compute.instances.preempted"], EndReason.INTERRUPTED),  # we deleted what was left of it
    (["compute.instances.terminateOnHostMaintenance", "delete"], EndReason.INTERRUPTED),
    (["compute.instances.hostError", "delete"], EndReason.FAILED),
    (["compute.instances.guestTerminate", "delete"], EndReason.ASKED),
    (["delete"], EndReason.ASKED),
]


@pytest.mark.parametrize(("kinds", "by"), ENDINGS)
@pytest.mark.parametrize("known", [True, False], ids=["seen before", "never seen"])
def test_how_a_machine_ended_is_what_its_operations_say(kinds: list[str], by: EndReason, known: bool) -> None:
    roll = Roll()
    if known:
        roll.update([machine()], [], NOW)
    [node] = roll.update([], [happening(kind) for kind in kinds], NOW)
    assert (node.status, node.ended_by, node.ended_at) == (NodeStatus.GONE, by, NOW + 500)
    assert node.pool == POOL


def test_a_deletion_by_the_system_is_the_end_of_the_machines_time() -> None:
    [node] = Roll().update([], [happening("delete", user="system")], NOW)
    assert node.ended_by is EndReason.LEASE


def test_an_end_that_failed_is_none() -> None:
    roll = Roll()
    roll.update([machine()], [], NOW)
    assert roll.update([], [happening("delete", failed=True)], NOW) == []


def test_a_machine_that_vanished_without_a_trace_is_not_told_of() -> None:
    roll = Roll()
    roll.update([machine()], [], NOW)
    assert roll.puzzled([])
    assert roll.update([], [], NOW) == []
    [back] = roll.update([machine()], None, NOW)
    assert back.status is NodeStatus.RUNNING


def test_a_machine_that_is_being_taken_is_stopping_until_it_is_gone() -> None:
    roll = Roll()
    roll.update([machine()], [], NOW)
    [node] = roll.update([], [happening("compute.instances.preempted", over=False)], NOW)
    assert (node.status, node.ended_by) == (NodeStatus.STOPPING, None)


def test_a_machine_that_is_off_is_gone_and_keeps_its_first_reason() -> None:
    roll = Roll()
    roll.update([machine()], [], NOW)
    off = machine(status="TERMINATED")
    [node] = roll.update([off], [happening("compute.instances.guestTerminate")], NOW)
    assert node.ended_by is EndReason.ASKED
    assert not roll.puzzled([off])
    [again] = roll.update([off], None, Instant(NOW + 9_000))
    assert again == node


def test_the_dead_are_told_for_a_day() -> None:
    roll = Roll()
    roll.update([], [happening("delete")], NOW)
    assert len(roll.update([], None, Instant(NOW + REMEMBERED))) == 1
    assert roll.update([], None, Instant(NOW + REMEMBERED + 501)) == []


def test_a_machine_with_our_name_and_without_our_label_is_not_ours() -> None:
    stranger = Machine(name=names.name(launch("t"), 0), zone=POOL.zone, status="RUNNING", labels={}, born=NOW)
    assert Roll().update([stranger], [], NOW) == []


def test_nothing_has_to_be_asked_while_the_list_explains_itself() -> None:
    roll = Roll()
    assert roll.puzzled([])  # a new process knows nothing
    roll.update([machine()], [], NOW)
    assert not roll.puzzled([machine(), machine("u")])


def test_a_zone_that_stays_away_is_an_error_at_last() -> None:
    roll = Roll()
    with pytest.raises(ProviderError):
        roll.bear(["us-central1-a"], NOW)
    roll.bear([], NOW)
    roll.bear(["us-central1-a"], Instant(NOW + BLIND_MAX))
    with pytest.raises(ProviderError, match="us-central1-a"):
        roll.bear(["us-central1-a"], Instant(NOW + BLIND_MAX + 1))


def test_an_interruption_is_hinted_once_and_then_its_end() -> None:
    news = News(Instant(NOW - 1), SETTINGS)
    begun = [happening("compute.instances.preempted", over=False)]
    [notice] = news.read(begun, longer=True)
    assert (notice.kind, notice.deadline) == (NoticeKind.INTERRUPT, NOW + 30_000)
    assert news.read(begun, longer=True) == []
    over = [happening("compute.instances.preempted"), happening("delete")]
    assert [one.kind for one in news.read(over, longer=True)] == [NoticeKind.GONE]


def test_what_happened_before_is_no_news() -> None:
    assert News(Instant(NOW + 1_000), SETTINGS).read([happening("compute.instances.preempted")], longer=True) == []


@pytest.mark.parametrize(
    ("code", "message", "kind", "scope"),
    [
        ("ZONE_RESOURCE_POOL_EXHAUSTED", "", Capacity, Scope.POOL),
        ("ZONE_RESOURCE_POOL_EXHAUSTED_WITH_DETAILS", "", Capacity, Scope.POOL),
        ("insufficientCapacity", "", Capacity, Scope.POOL),
        (
            "INVALID_USAGE",
            "Specified reservation does not have available resources for the request.",
            Capacity,
            Scope.POOL,
        ),
        ("quotaExceeded", "Quota 'NVIDIA_H100_GPUS' exceeded. Limit: 0.0 in region us-central1.", Quota, Scope.REGION),
        ("QUOTA_EXCEEDED", "Quota 'GPUS_ALL_REGIONS' exceeded. Limit: 0.0 globally.", Quota, Scope.ACCOUNT),
        ("rateLimitExceeded", "", Throttled, Scope.ACCOUNT),
        ("forbidden", "", Auth, Scope.ACCOUNT),
        ("SOMETHING_NEW", "", Invalid, Scope.REQUEST),
    ],
)
def test_an_error_is_typed_by_its_reason(code: str, message: str, kind: type[ProviderError], scope: Scope) -> None:
    error = told(code, message)
    assert (type(error), error.scope, error.code) == (kind, scope, code)


def test_a_sold_out_pool_is_left_alone_for_five_minutes() -> None:
    assert told("STOCKOUT", "").cooldown == 300_000
    assert told("quotaExceeded", "").cooldown == Quota.cooldown


def test_an_operations_error_is_the_one_that_says_why() -> None:
    error = failed([("VM_MIN_COUNT_NOT_REACHED", "3 of 4"), ("QUOTA_EXCEEDED", "exceeded")])
    assert isinstance(error, Quota)
    assert isinstance(failed([("VM_MIN_COUNT_NOT_REACHED", "3 of 4")]), Capacity)


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ({}, "gcp.project"),
        ({"project": "Not A Project"}, "gcp.project"),
        ({"project": "fake-project", "regions": ["us-central1-a"]}, "a region looks like us-central1"),
        ({"project": "fake-project", "regions": []}, "name at least one"),
        ({"project": "fake-project", "regions": "us-central1"}, "must be a list of texts"),
        ({"project": "fake-project", "run_hours": 9_999}, "gcp.run_hours"),
        ({"project": "fake-project", "run_hours": True}, "must be a number"),
        ({"project": "fake-project", "notice_seconds": 300}, "gcp.notice_seconds"),
        ({"project": "fake-project", "prices_seconds": 0}, "gcp.prices_seconds"),
        ({"project": "fake-project", "zone": "x"}, "unknown setting"),
    ],
)
def test_a_setting_that_cannot_be_used_is_named(table: dict[str, object], words: str) -> None:
    with pytest.raises(SettingsError, match=words):
        read(table)


def test_settings_are_read_from_their_table() -> None:
    settings = read({"project": "my-project-1", "regions": ["us-east5"], "run_hours": 24})
    assert (settings.project, settings.regions, settings.run_s) == ("my-project-1", ("us-east5",), 86_400)


def test_an_instant_is_the_same_in_every_zone() -> None:
    assert instant("2026-11-01T00:00:00.000-07:00") == instant("2026-11-01T07:00:00Z")


@pytest.mark.parametrize(("name", "index"), [("ds-1-s-a2-highgpu-1g-12", 12), ("somebody-else", 0), ("", 3)])
def test_a_machine_that_was_made_in_bulk_finds_its_index_in_its_name(name: str, index: int) -> None:
    service = FakeMetadata({}, index=3)
    service.gce_name = name
    agents = Gce(service.address)
    try:
        assert agents.launch_index() == index
    finally:
        agents._link.close()
        service.close()


def test_the_committed_role_is_what_the_calls_need() -> None:
    path = ROOT / "deploy" / "gcp" / "role.yaml"
    assert path.read_text() == role(), "make it anew: python -m dsched.providers.gcp > deploy/gcp/role.yaml"
    assert "compute.instances.delete" in role()
    assert "compute.instances.delete" not in role(set(METHODS) - {"instances.delete"})


def test_nothing_of_googles_is_loaded_before_the_first_call() -> None:
    code = (
        "import sys; import dsched.providers.gcp.provider as p; from dsched.providers.gcp.settings import Settings; "
        "p.GcpProvider(Settings(project='fake-project'), 'c'); "
        "sys.exit(', '.join(name for name in sys.modules if name.split('.')[0] in ('google', 'grpc', 'requests')) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
