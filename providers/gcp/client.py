"""Compute Engine by Google's own library: one blocking method per API method, errors already ours.

Everything here runs in a worker thread. The library takes more than a second and 120 MiB to import, so that happens
in the first call. What it would do wrong by itself, and what is done instead:
- `insert()` returns a future that polls the public endpoint, whatever endpoint was set: `insert_unary`, our own wait;
- its reads retry on 503 and 504 alone, for ten minutes: our own Retry, for seconds;
- its default timeout is ten minutes: every call has one of ours.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, Final, TypeVar

from dsched.providers.base import Auth, ProviderError, Scope
from dsched.providers.gcp import told
from dsched.providers.gcp.errors import raised, retriable, translate
from dsched.providers.gcp.names import CLUSTER, label, region
from dsched.providers.gcp.rows import Happening, Held, Limit, Machine, MachineType, Progress, Promised, last
from dsched.providers.gcp.settings import Settings
from dsched.scheduler.core.units import HOUR, Instant

T = TypeVar("T")
Json = dict[str, Any]

WRITE_S: Final = 4.0  # a launch or a deletion is accepted in well under a second; no answer must be known within five
READ_S: Final = 10.0  # one page of a list
RETRY_S: Final = 4.0  # how long a read is asked again
CONNECTIONS: Final = 32  # as many as there are threads
PAGE: Final = 500  # the most that one page holds
SKUS_PAGE: Final = 5_000
BOOKINGS_S: Final = 300.0  # bookings begin and end by the day
SKUS_S: Final = 25.0  # a page of the price list is megabytes
COMPUTE: Final = "6F81-5844-456A"  # Compute Engine in the Billing Catalog
BILLING: Final = "https://cloudbilling.googleapis.com"
RESOURCES: Final = "https://cloudresourcemanager.googleapis.com"
SCOPES: Final = ("https://www.googleapis.com/auth/cloud-platform",)
ENDS: Final = (  # what ends a machine, and what began it
    "insert",
    "delete",
    "compute.instances.preempted",
    "compute.instances.guestTerminate",
    "compute.instances.hostError",
    "compute.instances.terminateOnHostMaintenance",
)
MARGIN_H: Final = 8
"""Instants are told in California's time, and a filter may compare them as text. As text they lie up to eight hours
before UTC's, so that much is added to how far we look back, until an answer shows that it need not be."""


class Client:
    """Shared by threads. `used` holds every API method that was called: what the role must allow."""

    def __init__(self, settings: Settings, credentials: Any = None) -> None:
        self.used: set[str] = set()
        self._settings, self._credentials = settings, credentials
        self._lock = threading.Lock()
        self._made: dict[str, Any] = {}
        self._margin_h = MARGIN_H
        self._bookings: dict[tuple[str, str], Callable[[Held], Held]] = {}
        self._bookings_at = float("-inf")

    def insert(self, zone: str, instance: Json, request: str) -> Progress:
        wanted = {"project": self._project, "zone": zone, "instance_resource": instance, "request_id": request}
        return self._write("instances.insert", "Instances", "insert_unary", wanted)

    def bulk_insert(self, zone: str, resource: Json, request: str) -> Progress:
        wanted = {
            "project": self._project,
            "zone": zone,
            "bulk_insert_instance_resource_resource": resource,
            "request_id": request,
        }
        return self._write("instances.bulkInsert", "Instances", "bulk_insert_unary", wanted)

    def delete(self, zone: str, name: str) -> None:
        """Accepted, not done. Raises Invalid with the code notFound for a machine that is gone."""
        wanted = {"project": self._project, "zone": zone, "instance": name}
        self._write("instances.delete", "Instances", "delete_unary", wanted)

    def open_rule(self, rule: Json) -> None:
        """Accepted, not done: it is in force before machines are up. Raises Invalid where it is there already."""
        wanted = {"project": self._project, "firewall_resource": rule}
        self._write("firewalls.insert", "Firewalls", "insert_unary", wanted)

    def close_rule(self, name: str) -> None:
        wanted = {"project": self._project, "firewall": name}
        self._write("firewalls.delete", "Firewalls", "delete_unary", wanted)

    def rules(self) -> list[tuple[str, str]]:
        """(name, description) of every firewall rule of the project: there are tens."""

        def read() -> list[tuple[str, str]]:
            pager = self._api("Firewalls").list(request={"project": self._project}, **self._reading())
            return [(row.name, row.description) for row in pager]

        return self._call("firewalls.list", read)

    def wait(self, progress: Progress, seconds: float) -> Progress:
        """Held by the service until the operation is done. Ambiguous after `seconds`."""
        wanted = {"project": self._project, "zone": progress.zone, "operation": progress.operation}
        return self._write("zoneOperations.wait", "ZoneOperations", "wait", wanted, timeout=seconds)

    def get(self, zone: str, name: str) -> Machine:
        wanted = {"project": self._project, "zone": zone, "instance": name}
        return self._call(
            "instances.get", lambda: told.machine(self._api("Instances").get(request=wanted, **self._reading()))
        )

    def machines(self, cluster: str) -> tuple[list[Machine], frozenset[str]]:
        """Every machine with our label, and the zones of our regions that could not be reached."""
        wanted, blind = f'labels.{CLUSTER}="{label(cluster)}"', set[str]()
        rows = self._aggregated("instances.aggregatedList", "Instances", "instances", wanted, blind)
        return [told.machine(row) for row in rows], frozenset(blind)

    def happenings(self, since: Instant) -> list[Happening]:
        """Beginnings and ends of machines since about then; older ones may be among them, a blind zone's are not."""
        kinds = " OR ".join(f'(operationType = "{kind}")' for kind in ENDS)
        wanted = f'{kinds} AND (insertTime > "{_utc(since, self._margin_h)}")'
        rows = self._aggregated("globalOperations.aggregatedList", "GlobalOperations", "operations", wanted, set())
        found = [told.happening(row) for row in rows if "/instances/" in row.target_link]
        if any(row.began < since - 2 * HOUR for row in found):
            self._margin_h = 0  # it compares instants, not text
        return found

    def machine_types(self, pattern: str) -> list[MachineType]:
        """Those of our regions whose whole name matches. All of the world's would be tens of thousands of rows."""
        wanted = f'name eq "{pattern}"'
        rows = self._aggregated("machineTypes.aggregatedList", "MachineTypes", "machine_types", wanted)
        return [told.machine_type(row) for row in rows if region(last(row.zone)) in self._settings.regions]

    def reservations(self) -> list[Held]:
        """Those that can be used now. A future reservation shows up here when its time has come, with its end."""
        rows = self._aggregated("reservations.aggregatedList", "Reservations", "reservations", "")
        found = [told.held(row) for row in rows if row.status == "READY" and row.specific_reservation.count]
        booked = self._booked() if found else {}
        return [booked[key](one) if (key := (one.zone, one.name)) in booked else one for one in found]

    def _booked(self) -> dict[tuple[str, str], Callable[[Held], Held]]:
        """(zone, name) of a reservation that was booked ahead -> what the booking adds to it: an end, a way to start.

        A role that is older than this question may not ask it; then a reservation has the end that it tells itself.
        """
        if time.monotonic() - self._bookings_at > BOOKINGS_S:
            try:
                rows = self._aggregated(
                    "futureReservations.aggregatedList", "FutureReservations", "future_reservations", ""
                )
                self._bookings = {key: add for row in rows for key, add in told.bookings(row)}
            except Auth:
                self._bookings = {}
            self._bookings_at = time.monotonic()  # not after any other failure: none would be taken for booked
        return self._bookings

    def commitments(self) -> list[Promised]:
        """Committed use of accelerators that is in force in our regions."""
        rows = self._aggregated("regionCommitments.aggregatedList", "RegionCommitments", "commitments", "")
        mine = [row for row in rows if row.status == "ACTIVE" and last(row.region) in self._settings.regions]
        return [promised for row in mine for promised in told.promised(row)]

    def limits(self, where: str) -> list[Limit]:
        wanted = {"project": self._project, "region": where}
        answer = self._call("regions.get", lambda: self._api("Regions").get(request=wanted, **self._reading()))
        return [Limit(region=where, metric=row.metric, limit=row.limit, used=row.usage) for row in answer.quotas]

    def capacity(self, zone: str, shape: str) -> tuple[float | None, str]:
        """Obtainability of one spot machine, 0..1, and the uptime to be expected, a duration as text."""
        resource = {
            "distribution_policy": {"target_shape": "ANY_SINGLE_ZONE", "zones": [{"zone": f"zones/{zone}"}]},
            "instance_flexibility_policy": {"instance_selections": {"one": {"machine_types": [shape]}}},
            "instance_properties": {"scheduling": {"provisioning_model": "SPOT"}},
            "size": 1,
        }
        answer = self._advise("capacity", zone, capacity_advice_request_resource=resource)
        scores = [row.scores for row in answer.recommendations]
        return (scores[0].obtainability, scores[0].estimated_uptime) if scores else (None, "")

    def preemptions(self, zone: str, shape: str) -> list[tuple[Instant, Instant, float]]:
        """What share of this shape's spot machines was taken back, interval by interval."""
        resource = {
            "types": ["PREEMPTION"],
            "instance_properties": {"machine_type": shape, "scheduling": {"provisioning_model": "SPOT"}},
            "location_policy": {"location": f"zones/{zone}"},
        }
        answer = self._advise("capacity_history", zone, capacity_history_request_resource=resource)
        return [(*told.interval(row), row.preemption_rate) for row in answer.preemption_history]

    def spot_prices(self, zone: str, shape: str) -> list[tuple[Instant, Instant, int]]:
        """What this shape's spot machines cost by the list, interval by interval: micro-dollars per hour."""
        resource = {
            "types": ["PRICE"],
            "instance_properties": {"machine_type": shape, "scheduling": {"provisioning_model": "SPOT"}},
            "location_policy": {"location": f"zones/{zone}"},
        }
        answer = self._advise("capacity_history", zone, capacity_history_request_resource=resource)
        return [
            (*told.interval(row), told.micro(row.list_price))
            for row in answer.price_history
            if row.list_price.currency_code in ("", "USD")
        ]

    def granted(self, permissions: Sequence[str]) -> tuple[set[str], str]:
        """Those of them that we have in the project, and the date of the answer."""
        plain = self._settings.endpoint if self._settings.endpoint.startswith("http://") else ""
        base = self._settings.resource_endpoint or plain or RESOURCES
        address = f"{base}/v1/projects/{self._project}:testIamPermissions"

        def ask() -> tuple[set[str], str]:
            answer = self._session().post(address, json={"permissions": list(permissions)}, timeout=READ_S)
            return set(_json(answer).get("permissions", ())), answer.headers.get("Date", "")

        return self._call("projects.testIamPermissions", ask)

    def skus(self) -> Iterator[Json]:
        """The public price list of Compute Engine, row by row."""
        token = ""
        while True:
            page = self._call("services.skus.list", partial(self._skus_page, token))
            yield from page.get("skus", ())
            token = page.get("nextPageToken", "")
            if not token:
                return

    # How calls are made.

    @property
    def _project(self) -> str:
        return self._settings.project

    def _call(self, method: str, call: Callable[[], T]) -> T:
        self.used.add(method)
        try:
            return call()
        except raised() as error:
            raise translate(error) from error

    def _write(self, method: str, service: str, name: str, request: Json, *, timeout: float = WRITE_S) -> Progress:
        """Never repeated here: a repeat is the caller's, with the same request id."""
        return self._call(
            method,
            lambda: told.progress(getattr(self._api(service), name)(request=request, retry=None, timeout=timeout)),
        )

    def _aggregated(
        self, method: str, service: str, field: str, wanted: str, blind: set[str] | None = None
    ) -> list[Any]:
        """All pages. `blind` takes the zones that could not be reached; without it they are an error."""
        request = {"project": self._project, "filter": wanted, "max_results": PAGE}

        def read() -> list[Any]:
            pager = self._api(service).aggregated_list(request=request, **self._reading())
            rows: list[Any] = []
            for scope, found in pager:
                self._whole(scope, found, blind)
                rows += getattr(found, field)
            return rows

        return self._call(method, read)

    def _whole(self, scope: str, found: Any, blind: set[str] | None) -> None:
        """A scope that could not be reached is told as a warning; taken for empty it would be a lie by omission."""
        if found.warning.code == "UNREACHABLE" and region(last(scope)) in self._settings.regions:
            if blind is None:
                raise ProviderError("Unreachable", scope, scope=Scope.REGION)
            blind.add(last(scope))

    def _advise(self, name: str, zone: str, **resource: Json) -> Any:
        request = {"project": self._project, "region": region(zone), **resource}
        method = {"capacity": "advice.capacity", "capacity_history": "advice.capacityHistory"}[name]
        return self._call(
            method, lambda: getattr(self._api("Advice"), name)(request=request, retry=None, timeout=READ_S)
        )

    def _skus_page(self, token: str) -> Json:
        base = self._settings.billing_endpoint or BILLING
        wanted: Mapping[str, str | int] = {"pageSize": SKUS_PAGE, "pageToken": token}
        answer = self._session().get(f"{base}/v1/services/{COMPUTE}/skus", params=wanted, timeout=SKUS_S)
        return _json(answer)

    def _reading(self) -> dict[str, Any]:
        from google.api_core.retry import Retry

        again = Retry(predicate=retriable, initial=0.2, maximum=1.0, multiplier=2.0, timeout=RETRY_S)
        return {"retry": again, "timeout": READ_S}

    def _api(self, service: str) -> Any:
        """A client of the library, made once."""
        with self._lock:
            if service not in self._made:
                from google.cloud import compute_v1

                options = {"api_endpoint": self._settings.endpoint} if self._settings.endpoint else None
                kind = getattr(compute_v1, f"{service}Client")
                self._made[service] = _widened(kind(credentials=self._signed(), client_options=options))
            return self._made[service]

    def _session(self) -> Any:
        with self._lock:
            if "session" not in self._made:
                from google.auth.transport.requests import AuthorizedSession

                self._made["session"] = AuthorizedSession(self._signed())  # type: ignore[no-untyped-call]
            return self._made["session"]

    def _signed(self) -> Any:
        """The credentials that were given, else the host's own. Raises Google's error where it has none.

        None over plain HTTP: a token that anybody on the way can read is a token lost.
        """
        if self._credentials is None and self._settings.endpoint.startswith("http://"):
            from google.auth.credentials import AnonymousCredentials

            self._credentials = AnonymousCredentials()  # type: ignore[no-untyped-call]
        if self._credentials is None:
            import google.auth

            self._credentials, _ = google.auth.default(scopes=SCOPES)
        return self._credentials

    def close(self) -> None:
        with self._lock:
            for name, made in self._made.items():
                made.close() if name == "session" else made.transport.close()
            self._made.clear()


def _json(answer: Any) -> Json:
    if answer.status_code != 200:
        from google.api_core.exceptions import from_http_response

        raise from_http_response(answer)  # type: ignore[no-untyped-call]
    page: Json = answer.json()
    return page


def _widened(made: Any) -> Any:
    """Its session keeps ten connections; each more is made anew, with a warning, and thrown away."""
    from requests.adapters import HTTPAdapter

    for scheme in ("https://", "http://"):
        made.transport._session.mount(scheme, HTTPAdapter(pool_maxsize=CONNECTIONS))
    return made


def _utc(at: Instant, margin_h: int) -> str:
    """As UTC, less the margin."""
    return (datetime.fromtimestamp(at / 1_000, UTC) - timedelta(hours=margin_h)).strftime("%Y-%m-%dT%H:%M:%S.000Z")
