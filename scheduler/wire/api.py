"""What the daemon's API says, as CLI, TUI and scripts read it. Import-cheap: TypedDicts only.

Money is a decimal string of dollars, instants are milliseconds since the epoch on the *market* clock
unless the name says wall, durations are seconds. Every list answer is {"v": 1, "items": [...]}; every
error is {"error": Problem}.

    GET  /v1/health               Health
    GET  /v1/metrics              Prometheus text
    POST /v1/jobs                 Submit -> 201 Job; idempotent by `key`
    GET  /v1/jobs                 [Job] ?all=&state=&user=&limit=&after=&first=
                                  default: the unfinished and the recently ended, newest last;
                                  where the limit leaves some out, "more" of the answer says how many,
                                  and what holds machines comes before the newest, else "first" says
                                  which are kept: oldest, dearest
    GET  /v1/jobs/{id}            Job; {id} may be a unique name or id
    POST /v1/jobs/{id}/{action}   Act -> Job; action: cancel pause resume migrate checkpoint
    GET  /v1/jobs/{id}/explain    [Plan], the stored decisions, newest last ?flips= what would change it
    GET  /v1/jobs/{id}/attempts   [Attempt]
    GET  /v1/jobs/{id}/bill       Bill
    GET  /v1/jobs/{id}/logs       application/x-ndjson of LogLine ?rank=&generation=&offset=&follow=
                                  follow=1 never ends before the job
    POST /v1/plan                 Trial -> Plan; changes nothing
    GET  /v1/offers?history=      [Offer]
    GET  /v1/nodes                [Node]
    GET  /v1/events               [Event] ?after=&limit=&job=
                                  with Accept: text/event-stream SSE (id: seq; resumes by Last-Event-ID)
    GET  /v1/feed                 SSE for watchers: "snapshot" then "delta" (Feed), coalesced to 10 Hz;
                                  "resync" when lost
    GET  /v1/money                Money
    GET  /v1/budgets              [Budget]
    PUT  /v1/budgets/{name}       {"limit": "12.50" | null} -> Budget
    PUT  /v1/bundles/{sha256}     tar.gz bytes -> 204
    GET  /v1/market/calibration   Calibration
    GET  /v1/market/commitments   Commitments: what reserved capacity would have saved in the last 30 days
    GET  /v1/checks               [Check], the daemon's part of `dsched doctor`
"""

from __future__ import annotations

from typing import Any, NotRequired, TypedDict

VERSION = 1
JOBS_MAX = 10_000  # rows of one answer: ten megabytes


class Problem(TypedDict):
    code: str  # "E404"
    message: str  # what happened, one line
    hint: NotRequired[str]  # what to do, one line: a command where there is one
    where: NotRequired[str]  # place: a field path of the spec
    retryable: bool


class Health(TypedDict):
    version: str
    pid: int
    wall: int
    market: int
    scale: float  # market ms per wall ms
    seq: int  # last event
    jobs: dict[str, int]  # state -> count
    providers: dict[str, dict[str, Any]]  # name -> ok, why, prices_age_s, stale (offers), nodes
    market_note: str  # "replayed market, 600x" or ""; shown in every summary
    burn: str  # $/h now
    ready: bool


class Submit(TypedDict):
    spec: dict[str, Any]  # the JSON form of wire/spec.JobSpec
    key: NotRequired[str]
    plan: NotRequired[str]  # submit only if the plan with this id would still be chosen


class Trial(Submit):
    what_if: NotRequired[list[str]]  # changes to try, see wire/whatif.py: "price*1.2", "gone:aws/use1-az4"


class Act(TypedDict):
    to: NotRequired[str]  # migrate: a place glob
    now: NotRequired[bool]  # cancel without a checkpoint
    dry_run: NotRequired[bool]  # migrate: answer {"plan": Plan, "gain": ...} and change nothing


class Job(TypedDict):
    id: str
    name: str
    user: str
    state: str
    reason: str
    where: str  # pool id or ""
    next: str  # pool id that it moves to, or ""
    shape: str
    accelerator: str
    gpus: int
    nodes: int
    generation: int
    priority: int
    burn: str  # $/h
    spent: str
    baseline: str  # the same intervals on demand
    saved: str
    step: int
    steps: int | None
    checkpoint_step: int
    loss: float | None
    tokens_per_s: float | None
    eta_s: float | None
    deadline: int | None
    slack_s: float | None
    moves: int
    interruptions: int
    failures: int
    submitted: int
    started: int | None
    ended: int | None
    exit_code: int | None
    decision: str
    notice_wall: int | None  # taken at, wall time, while a notice runs


class Attempt(TypedDict):
    generation: int
    where: str
    nodes: list[str]
    world_size: int
    decided: int
    running: int | None
    ended: int | None
    outcome: str
    first_step: int | None
    last_step: int | None


class Line(TypedDict):
    """One offer in a plan, chosen or refused, with its reason."""

    offer: str  # pool id
    shape: str
    accelerator: str
    market: str
    nodes: int
    gpus: int
    price: str | None  # whole gang, $/h
    off: float | None  # 0..1 under on-demand of the same shape
    hazard: float  # interruptions per hour
    goodput: float  # useful share of paid time, 0..1
    per_useful_hour: str | None  # price / (goodput x throughput relative to the plan's reference shape)
    hours: float | None  # expected, to the end of the work, where the work is known
    compute: str | None
    redo: str | None
    move: str | None
    expected: str | None  # compute + redo + move
    finish: int | None
    verdict: str  # "chosen" | "possible" | "refused"
    code: str  # typed reason, see core/report.Why; "" for the chosen one
    why: str  # the same as one sentence
    speed: NotRequired[float]  # hours of work on the reference gang done in an hour, before goodput
    wait_s: NotRequired[float]  # market: from asking for machines to the first new step
    egress: NotRequired[str]  # to bring the checkpoint there; absent: nothing
    tokens_per_s: NotRequired[float]  # of the gang while it works, for a model that is told
    per_mtoken: NotRequired[str]  # dollars per million tokens, goodput included
    layout: NotRequired[str]  # "tp8 pp2 dp2, cheap recompute"
    kwh: NotRequired[float]  # of the remaining work, estimated from rated power
    co2_kg: NotRequired[float]  # the same by the grid of the region, where that is known


class Flip(TypedDict):
    """A number, and where it would change the decision."""

    what: str  # "price" ($/h), "hazard" (factor on the age law), "deadline" (market s)
    option: str  # "{pool id}*{nodes}"; "" for the deadline
    now: float
    at: float
    then: str | None  # what would be chosen there; None: it would wait


class Deadline(TypedDict):
    """What the deadline policy saw and wanted. Times are market time."""

    policy: str  # that decided
    rule: str  # that is set
    target: str | None  # an option; None: it waits
    revisit: int  # ms: asked again
    slack_s: float
    slack_price: float | None  # $ per hour of slack
    net: bool  # the safety net decided
    net_at: int | None  # ms: the last instant at which sure capacity still ends in time
    costs: dict[str, float | None]  # option -> expected $ to the end; "" for waiting
    terms: dict[str, Any]
    outlook: dict[str, Any] | None  # what was foreseen, and of what
    observation: dict[str, Any]
    same: NotRequired[bool | None]  # made again, it is the same; None: it could not be made again
    flips: NotRequired[list[Flip]]
    note: NotRequired[str]


class Plan(TypedDict):
    id: str
    job: str  # "" for a dry run
    name: str
    at: int
    policy: str
    need: str  # "8..32 x H100, fp8"
    chosen: str | None
    summary: str  # one sentence
    lines: list[Line]  # chosen first, then by expected cost, then the refused
    refused: dict[str, int]  # code -> count
    together: NotRequired[Together]  # a solver's plan of several jobs was better than deciding one by one
    kept: NotRequired[Kept]  # of a large market: `lines` holds the best only, `refused` counts all
    now: NotRequired[Plan]  # with `whole`: the same question asked again now, about every offer
    deadline: NotRequired[Deadline]  # of jobs with a deadline and known work
    what_if: NotRequired[WhatIf]  # where changes were to be tried


class Together(TypedDict):
    """Jobs that were placed in one choice, and the share of the cost that it saves over deciding one by one."""

    jobs: int
    saves: float


class Kept(TypedDict):
    """What a brief plan counts."""

    offers: int  # on sale
    possible: int  # that would do, the chosen one included


class WhatIf(TypedDict):
    """The same dry run with changes. Its plan's id is not to be pinned: nothing would choose it now."""

    changes: list[str]
    plan: Plan


class Offer(TypedDict):
    id: str
    provider: str
    region: str
    zone: str
    shape: str
    accelerator: str
    market: str
    gpus: int
    price: str | None  # per node, $/h
    on_demand: str | None
    per_gpu: str | None
    age_s: float | None
    stale: bool  # too old to buy by
    source: str
    free: int | None
    hazard: float | None
    cool_s: float | None  # cool-down left, market seconds
    cool_why: str
    history: list[float]  # $/h, 24 buckets over the last market day, oldest first; [] when not asked for


class Node(TypedDict):
    id: str
    state: str
    where: str
    gpus: int
    job: str
    generation: int
    rate: str
    lease_s: float  # left, wall
    heard_s: float | None
    launched: int | None
    notice_wall: int | None
    ref: str


class Event(TypedDict):
    seq: int
    wall: int
    market: int
    kind: str
    job: str
    node: str
    why: str
    data: dict[str, Any]


class Feed(TypedDict):
    seq: int
    jobs: list[Job]  # all of them in a snapshot, the changed ones in a delta
    gone: list[str]  # job ids no longer shown
    offers: list[Offer]
    events: list[Event]
    health: Health


class BillLine(TypedDict):
    node: str
    where: str
    kind: str
    start: int
    end: int
    rate: str
    owed: str
    baseline: str | None
    source: str
    quote_age_s: float


class Bill(TypedDict):
    job: str
    lines: list[BillLine]
    spent: str
    baseline: str
    saved: str
    saved_share: float | None
    market_note: str


class Money(TypedDict):
    burn: str
    spent: str
    baseline: str
    saved: str
    reserved: str  # leases granted and not yet spent
    budgets: list[Budget]


class Budget(TypedDict):
    name: str
    limit: str | None
    spent: str
    reserved: str
    left: str | None
    used: float | None  # 0..1
    exhausted: bool
    fired: list[int]


class LogLine(TypedDict):
    generation: int
    rank: int
    offset: int  # of the next byte
    text: str


class Check(TypedDict):
    name: str
    status: str  # "ok" | "warn" | "fail"
    message: str
    fix: str  # a command, or ""
