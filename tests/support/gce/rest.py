"""The fake's REST front: Compute Engine, its Advice API and the Billing Catalog over real HTTP, with faults on the way.

The real google-cloud-compute client talks to it. A fault meets the next `times` requests that match: another answer, a
delay, or a connection that is cut before or after the effect.
"""

from __future__ import annotations

import json
import re
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final
from urllib.parse import parse_qs, urlsplit

from tests.support.gce.catalog import region_quotas
from tests.support.gce.cloud import Gce, Json, Machine, Operation, Refused, stamp
from tests.support.gce.query import matches, page

P: Final = r"/compute/v1/projects/fake-project"
Z: Final = P + r"/zones/(?P<zone>[^/]+)"
HELD_S: Final = 110.0  # a wait is answered after two minutes at the latest


@dataclass(slots=True)
class Fault:
    match: str  # a regular expression over "METHOD /path"
    status: int = 0
    reason: str = ""
    message: str = ""
    times: int = 1
    delay: float = 0.0
    cut: str = ""  # "before" or "after" the effect
    skip: int = 0  # so many that match are spared first
    html: bool = False  # not the API's own words but those of something between


class FakeGce:
    """Serve `cloud` on a port of its own. `token`: the bearer token that every request must carry; "": none."""

    def __init__(self, cloud: Gce, *, token: str = "", page_size: int = 500, lexical: bool = False) -> None:
        self.cloud, self.token, self.page_size, self.lexical = cloud, token, page_size, lexical
        self.faults: list[Fault] = []
        self.calls: list[str] = []  # "METHOD /path?query"
        self.methods: set[str] = set()  # "instances.insert", ...: what was asked of the API
        front = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def log_message(self, *_: object) -> None:
                pass

            def do_GET(self) -> None:
                front.answer(self)

            do_POST = do_DELETE = do_GET

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self._open: set[socket.socket] = set()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> FakeGce:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        for connection in list(self._open):
            connection.close()
        self._server.server_close()
        self._thread.join()

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        """One request, from its faults to its reply."""
        self._open.add(handler.connection)
        parts = urlsplit(handler.path)
        line = f"{handler.command} {parts.path}"
        query = {name: values[-1] for name, values in parse_qs(parts.query).items()}
        body = json.loads(handler.rfile.read(int(handler.headers.get("Content-Length", 0))) or b"{}")
        self.calls.append(f"{handler.command} {handler.path}")
        fault = self._fault(line)
        if fault is not None:
            time.sleep(fault.delay)
            if fault.cut == "before":
                return _hang_up(handler)
            if fault.html:
                return _send(handler, fault.status, "text/html", b"<html><title>Bad Gateway</title></html>")
            if fault.status:
                return _reply(handler, fault.status, _error(Refused(fault.status, fault.reason, fault.message)))
        status, answer = self._result(handler, line, query, body)
        if fault is not None and fault.cut == "after":
            return _hang_up(handler)
        return _reply(handler, status, answer)

    def _fault(self, line: str) -> Fault | None:
        with self.cloud.changed:
            for fault in self.faults:
                if fault.times <= 0 or not re.search(fault.match, line):
                    continue
                fault.skip -= 1
                if fault.skip < 0:
                    fault.times -= 1
                    return fault
        return None

    def _result(self, handler: BaseHTTPRequestHandler, line: str, query: Json, body: Json) -> tuple[int, Json]:
        if self.token and handler.headers.get("Authorization") != f"Bearer {self.token}":
            return 401, _error(Refused(401, "authError", "Request had invalid authentication credentials."))
        for pattern, method, call in _ROUTES:
            if found := re.fullmatch(pattern, line):
                self.methods.add(method)
                try:
                    with self.cloud.changed:
                        self.cloud.settle()
                        return 200, call(self, found.groupdict(), query, body)
                except Refused as refused:
                    return refused.status, _error(refused)
        return 404, _error(Refused(404, "notFound", f"no such method: {line}"))

    # Lists.

    def listed(self, rows: list[tuple[str, Json]], key: str, query: Json) -> Json:
        """An aggregated list: scopes without results carry a warning instead."""
        reached = [row for row in rows if row[0] not in self.cloud.unreachable]
        kept = [row for row in reached if matches(query.get("filter", ""), row[1], lexical=self.lexical)]
        items, more = page(kept, query.get("pageToken", ""), min(self.page_size, int(query.get("maxResults", 500))))
        scopes: Json = {f"zones/{zone}": {key: [row for at, row in items if at == zone]} for zone, _ in items}
        scopes["zones/empty-a"] = {"warning": {"code": "NO_RESULTS_ON_PAGE", "message": "no results"}}
        for zone in self.cloud.unreachable:
            scopes[f"zones/{zone}"] = {"warning": {"code": "UNREACHABLE", "message": f"zones/{zone} is unreachable"}}
        return {"items": scopes, **more}


def _insert(front: FakeGce, at: Json, query: Json, body: Json) -> Json:
    op = front.cloud.create(at["zone"], {body["name"]: body}, query.get("requestId", ""), bulk=False)
    return _operation(op)


def _bulk(front: FakeGce, at: Json, query: Json, body: Json) -> Json:
    names = sorted(body["perInstanceProperties"])
    if int(body["count"]) != len(names) or int(body["minCount"]) != len(names):
        raise Refused(400, "invalid", "count and perInstanceProperties disagree")
    wanted = {name: body["instanceProperties"] for name in names}
    return _operation(front.cloud.create(at["zone"], wanted, query.get("requestId", ""), bulk=True))


def _get(front: FakeGce, at: Json, _: Json, __: Json) -> Json:
    return _machine(front.cloud.machine(at["zone"], at["name"]))


def _delete(front: FakeGce, at: Json, _: Json, __: Json) -> Json:
    return _operation(front.cloud.delete(at["zone"], at["name"]))


def _wait(front: FakeGce, at: Json, _: Json, __: Json) -> Json:
    """Held open until the operation is done. The lock is given back meanwhile."""
    op, until = front.cloud.operations[at["op"]], time.monotonic() + HELD_S
    while not op.done and time.monotonic() < until:
        front.cloud.changed.wait(0.005)
        front.cloud.settle()
    return _operation(op)


def _instances(front: FakeGce, _: Json, query: Json, __: Json) -> Json:
    now = front.cloud.clock()
    seen = [one for one in front.cloud.machines.values() if now - one.born >= front.cloud.lag]
    return front.listed([(one.zone, _machine(one)) for one in seen], "instances", query)


def _operations(front: FakeGce, _: Json, query: Json, __: Json) -> Json:
    return front.listed([(op.zone, _operation(op)) for op in front.cloud.operations.values()], "operations", query)


def _machine_types(front: FakeGce, _: Json, query: Json, __: Json) -> Json:
    rows = [(zone, row) for zone, shapes in front.cloud.shapes.items() for row in shapes.values()]
    return front.listed(rows, "machineTypes", query)


def _reservations(front: FakeGce, _: Json, query: Json, __: Json) -> Json:
    rows = []
    for (zone, name), held in front.cloud.reservations.items():
        specific = {"count": held["count"], "inUseCount": front.cloud.taken(zone, name)}
        specific["instanceProperties"] = {"machineType": held["shape"]}
        rest = {"status": held.get("status", "READY"), "deleteAtTime": held.get("until", "")}
        rows.append((zone, {"name": name, "zone": f"zones/{zone}", "specificReservation": specific, **rest}))
    return front.listed(rows, "reservations", query)


def _bookings(front: FakeGce, _: Json, query: Json, __: Json) -> Json:
    rows = []
    for (zone, name), booked in front.cloud.bookings.items():
        window = {"startTime": stamp(booked["start"]), "endTime": stamp(booked["end"])}
        status = {"autoCreatedReservations": [f"zones/{zone}/reservations/{one}" for one in booked["reservations"]]}
        told = {"timeWindow": window, "reservationMode": booked["mode"], "status": status}
        rows.append((zone, {"name": name, "zone": f"zones/{zone}", **told}))
    return front.listed(rows, "futureReservations", query)


def _commitments(front: FakeGce, _: Json, query: Json, __: Json) -> Json:
    rows = []
    for one in front.cloud.commitments:
        resources = [
            {"type": "VCPU", "amount": "26"},
            {"type": "ACCELERATOR", "amount": str(one["count"]), "acceleratorType": one["chip"]},
        ]
        told = {"name": one["name"], "region": f"regions/{one['region']}", "plan": one["plan"], "status": "ACTIVE"}
        rows.append((one["region"], {**told, "resources": resources, "endTimestamp": stamp(one["end"])}))
    return front.listed(rows, "commitments", query)


def _open_rule(front: FakeGce, _: Json, __: Json, body: Json) -> Json:
    if body["name"] in front.cloud.firewalls:
        raise Refused(409, "alreadyExists", f"The resource 'global/firewalls/{body['name']}' already exists")
    front.cloud.firewalls[body["name"]] = body
    return _operation(front.cloud.operate("global", "insert-firewall", "", 0.0))


def _close_rule(front: FakeGce, at: Json, _: Json, __: Json) -> Json:
    if front.cloud.firewalls.pop(at["name"], None) is None:
        raise Refused(404, "notFound", f"The resource 'global/firewalls/{at['name']}' was not found")
    return _operation(front.cloud.operate("global", "delete-firewall", "", 0.0))


def _rules(front: FakeGce, _: Json, query: Json, __: Json) -> Json:
    rows = [{"name": name, "description": rule["description"]} for name, rule in front.cloud.firewalls.items()]
    items, more = page(rows, query.get("pageToken", ""), min(front.page_size, int(query.get("maxResults", 500))))
    return {"items": items, **more}


def _region(front: FakeGce, at: Json, _: Json, __: Json) -> Json:
    metrics = {metric for where, metric in front.cloud.quotas if where == at["region"]}
    usage = {metric: front.cloud.usage(at["region"], metric) for metric in metrics}
    return {"name": at["region"], "quotas": region_quotas(front.cloud.quotas, at["region"], usage)}


def _capacity(front: FakeGce, _: Json, __: Json, body: Json) -> Json:
    [zone] = [one["zone"].rsplit("/", 1)[-1] for one in body["distributionPolicy"]["zones"]]
    [shape] = next(iter(body["instanceFlexibilityPolicy"]["instanceSelections"].values()))["machineTypes"]
    if (zone, shape) not in front.cloud.advice:
        raise Refused(400, "invalid", f"{shape} is not supported")
    score, uptime = front.cloud.advice[zone, shape]
    return {"recommendations": [{"scores": {"obtainability": score, "estimatedUptime": uptime}, "shards": []}]}


def _history(front: FakeGce, _: Json, __: Json, body: Json) -> Json:
    zone, shape = body["locationPolicy"]["location"].rsplit("/", 1)[-1], body["instanceProperties"]["machineType"]
    answer: Json = {"machineType": shape}
    if "PREEMPTION" in body["types"]:
        rates = front.cloud.history.get((zone, shape), [])
        answer["preemptionHistory"] = _daily(front, [{"preemptionRate": rate} for rate in rates])
    if "PRICE" in body["types"]:
        prices = [divmod(round(usd * 1e9), 10**9) for usd in front.cloud.listed.get((zone, shape), [])]
        told = [{"currencyCode": "USD", "units": str(units), "nanos": nanos} for units, nanos in prices]
        answer["priceHistory"] = _daily(front, [{"listPrice": price} for price in told])
        for row in answer["priceHistory"][-1:]:
            del row["interval"]["endTime"]  # it is in force; an interval of Google's need not have both ends
    return answer


def _daily(front: FakeGce, rows: list[Json]) -> list[Json]:
    """One a day, the last until now."""
    day = 86_400
    first = front.cloud.clock() - day * len(rows)
    return [
        {"interval": {"startTime": stamp(first + day * n), "endTime": stamp(first + day * (n + 1))}, **row}
        for n, row in enumerate(rows)
    ]


def _skus(front: FakeGce, _: Json, query: Json, __: Json) -> Json:
    rows, more = page(front.cloud.skus, query.get("pageToken", ""), min(front.page_size, int(query["pageSize"])))
    return {"skus": rows, "nextPageToken": more.get("nextPageToken", "")}


def _granted(front: FakeGce, _: Json, __: Json, body: Json) -> Json:
    return {"permissions": [name for name in body["permissions"] if name not in front.cloud.denied]}


Call = Callable[[FakeGce, Json, Json, Json], Json]
_ROUTES: Final[tuple[tuple[str, str, Call], ...]] = (
    (rf"POST {Z}/instances", "instances.insert", _insert),
    (rf"POST {Z}/instances/bulkInsert", "instances.bulkInsert", _bulk),
    (rf"GET {Z}/instances/(?P<name>[^/]+)", "instances.get", _get),
    (rf"DELETE {Z}/instances/(?P<name>[^/]+)", "instances.delete", _delete),
    (rf"POST {P}/global/firewalls", "firewalls.insert", _open_rule),
    (rf"DELETE {P}/global/firewalls/(?P<name>[^/]+)", "firewalls.delete", _close_rule),
    (rf"GET {P}/global/firewalls", "firewalls.list", _rules),
    (rf"POST {Z}/operations/(?P<op>[^/]+)/wait", "zoneOperations.wait", _wait),
    (rf"GET {P}/aggregated/instances", "instances.aggregatedList", _instances),
    (rf"GET {P}/aggregated/operations", "globalOperations.aggregatedList", _operations),
    (rf"GET {P}/aggregated/machineTypes", "machineTypes.aggregatedList", _machine_types),
    (rf"GET {P}/aggregated/reservations", "reservations.aggregatedList", _reservations),
    (rf"GET {P}/aggregated/futureReservations", "futureReservations.aggregatedList", _bookings),
    (rf"GET {P}/aggregated/commitments", "regionCommitments.aggregatedList", _commitments),
    (rf"GET {P}/regions/(?P<region>[^/]+)", "regions.get", _region),
    (rf"POST {P}/regions/[^/]+/advice/capacity", "advice.capacity", _capacity),
    (rf"POST {P}/regions/[^/]+/advice/capacityHistory", "advice.capacityHistory", _history),
    (r"POST /v1/projects/[^/]+:testIamPermissions", "projects.testIamPermissions", _granted),
    (r"GET /v1/services/6F81-5844-456A/skus", "services.skus.list", _skus),
)


def _machine(machine: Machine) -> Json:
    link = f"https://www.googleapis.com{P}/zones/{machine.zone}"
    return {
        "id": str(machine.id),
        "name": machine.name,
        "zone": link,
        "machineType": f"{link}/machineTypes/{machine.shape}",
        "status": machine.status,
        "labels": machine.body.get("labels", {}),
        "scheduling": machine.body.get("scheduling", {}),
        "metadata": machine.body.get("metadata", {}),
        "creationTimestamp": stamp(machine.born),
    }


def _operation(op: Operation) -> Json:
    link = f"https://www.googleapis.com{P}/zones/{op.zone}"
    row: Json = {
        "id": str(op.id),
        "name": op.name,
        "zone": link,
        "operationType": op.kind,
        "targetLink": f"{link}/instances/{op.target}" if op.target else link,
        "user": op.user,
        "status": "DONE" if op.done else "RUNNING",
        "insertTime": stamp(op.born),
    }
    if op.done:
        row["endTime"] = stamp(op.due)
    if op.done and op.errors:
        row["error"] = {"errors": [{"code": code, "message": message} for code, message in op.errors]}
        row["httpErrorStatusCode"] = op.http
    return row


def _error(refused: Refused) -> Json:
    message = refused.message or refused.reason
    told = {"message": message, "domain": "global", "reason": refused.reason}
    return {"error": {"code": refused.status, "message": message, "errors": [told]}}


def _reply(handler: BaseHTTPRequestHandler, status: int, answer: Any) -> None:
    _send(handler, status, "application/json; charset=UTF-8", json.dumps(answer).encode())


def _send(handler: BaseHTTPRequestHandler, status: int, kind: str, raw: bytes) -> None:
    handler.send_response(status)
    handler.send_header("Content-Type", kind)
    handler.send_header("Content-Length", str(len(raw)))
    handler.end_headers()
    handler.wfile.write(raw)


def _hang_up(handler: BaseHTTPRequestHandler) -> None:
    handler.close_connection = True
    handler.connection.shutdown(socket.SHUT_RDWR)
