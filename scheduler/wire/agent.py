"""What agent and daemon say to each other. Standard library only: this file travels to the node.

The agent dials home: HTTP over the daemon's unix socket (embedded cloud) or HTTPS. All bodies are JSON objects but log
chunks and bundles, which are bytes. Every instant is wall time in milliseconds since the epoch; only what is left of a
lease is told as a duration, which the agent counts from when it asked: clocks of two hosts differ, and may be set.

    POST /agent/v1/hello            Hello  -> Welcome  once per agent start; a wrong secret is 403, an unknown node 410
    POST /agent/v1/poll             Poll   -> Orders   answered when there is an order, or after `wait_ms`
    POST /agent/v1/report           Report -> Lease    facts, batched; repeated until answered, `id` makes it idempotent
    POST /agent/v1/logs             bytes  -> {"offset": n}   n: bytes held now; resend from there
         ?node=&session=&job=&generation=&rank=&offset=
    GET  /agent/v1/bundle/<sha256>         -> bytes    the workdir, tar.gz
    GET  /agent/v1/code/<sha256>           -> bytes    the agent itself, for a machine that has none; no session needed

A 410 on any call means: this node is not ours any more. The agent stops its ranks (SIGTERM, grace, SIGKILL) and ends.
"""

from __future__ import annotations

from typing import Final, Literal, NotRequired, TypedDict

EXIT_DONE: Final = 0
EXIT_SAVED: Final = 75  # checkpointed: run me again
EXIT_PEER_LOST: Final = 76
EXIT_CORRUPT: Final = 77  # the checkpoint is damaged: step back one
EXIT_NEVER_RETRY: Final = 78

SECRET_HEADER: Final = "x-dsched-session"  # noqa: S105 - the name of a header


class UserData(TypedDict):
    """The agent's configuration: a launch's user-data. The same for every node of the launch."""

    cluster: str
    token: str  # the launch's token; node id = f"{token}.{index}", index from the metadata service
    daemon: str  # "unix:/path/api.sock" or "https://host:port"
    secret: str  # opens the first session of each node of the launch, for a quarter of an hour
    pin: NotRequired[str]  # SHA-256 of the certificate at `daemon`, in hexadecimal: no other one is spoken to
    lease_until: int  # absolute; fixed when the launch was planned, in force until the daemon's first answer
    drain_ms: int  # how long before its lease's end an agent starts to drain
    heartbeat_ms: int


class Hello(TypedDict):
    node: str
    secret: str  # the launch's at first, then this node's own key
    boot: str  # random per agent start
    pid: int
    cpus: int
    memory_mib: int
    gpus: list[str]  # names NVML told, or []
    running: list[RankGroup]  # what survived on this node (daemon restart): generations still alive
    metadata: dict[str, str]  # instance id, zone, shape, address within the cloud, as the metadata service told


class RankGroup(TypedDict):
    job: str
    generation: int
    state: Literal["starting", "running", "stopping", "exited"]
    exits: dict[str, int]  # rank -> exit code (negative: signal), for the ranks that ended


class Welcome(TypedDict):
    session: str
    key: str  # the `secret` of this node's next hellos: the launch's opens nothing more; worth nothing after its lease
    lease_ms: int  # what is left of the lease since this was asked
    seq: int  # orders up to here are already known to have reached the node


class Poll(TypedDict):
    node: str
    session: str
    after: int  # seq of the last order taken
    wait_ms: int


class Start(TypedDict):
    kind: Literal["start"]
    seq: int
    job: str
    generation: int
    run: str  # shell command
    setup: list[str]  # run once per bundle and setup, before the ranks
    env: dict[str, str]  # the user's
    secrets: dict[str, str]  # variable -> reference, resolved on the node
    bundle: str  # sha256 or ""
    bundle_link: NotRequired[str]  # where it may also be had, near the machine; else, and when that fails, here
    ranks: list[int]  # global ranks that live on this node
    world_size: int
    master_addr: str
    master_port: int
    checkpoint: str  # uri
    image: NotRequired[str]  # of a container, in which set-up and ranks run; absent: on the machine itself
    gpus: NotRequired[int]  # that must answer here before the ranks start; absent: nobody looks
    carry: NotRequired[str]  # uri of another cloud's store, where the newest checkpoint lies
    resume: str  # "1" when an earlier generation ran
    interval_ms: int  # checkpoint interval
    drain_ms: int  # SIGTERM to SIGKILL
    hang_ms: int  # silence without CPU progress beyond this is a hang; 0: off


class Stop(TypedDict):
    kind: Literal["stop"]
    seq: int
    job: str
    generation: int  # this and every older one
    grace_ms: int
    reason: str


class Control(TypedDict):
    kind: Literal["control"]
    seq: int
    job: str
    generation: int
    interval_ms: NotRequired[int]
    checkpoint_now: NotRequired[bool]


class Leave(TypedDict):
    kind: Literal["leave"]  # stop everything, then end the agent
    seq: int
    grace_ms: int


Order = Start | Stop | Control | Leave


class Orders(TypedDict):
    lease_ms: int
    orders: list[Order]


class Lease(TypedDict):
    lease_ms: int


class Report(TypedDict):
    node: str
    session: str
    id: int  # rises by one per report of this agent start; a repeat is answered and otherwise ignored
    facts: list[Fact]


class Started(TypedDict):
    kind: Literal["started"]
    job: str
    generation: int
    at: int


class Exited(TypedDict):
    """Every process of this generation on this node is gone and reaped: one of the proofs for its successor."""

    kind: Literal["exited"]
    job: str
    generation: int
    exits: dict[str, int]  # rank -> exit code, negative for a signal
    drained: bool  # inside a drain (notice, stop, lease end): never the job's own failure
    hung: bool
    tail: str  # last log lines, for the failure's reason
    at: int


class SetupFailed(TypedDict):
    kind: Literal["setup-failed"]
    job: str
    generation: int
    command: str
    code: int
    tail: str
    machine: NotRequired[bool]  # the machine's fault (its disk, its sockets): another one may do
    at: int


class Progress(TypedDict):
    """Last value wins; aggregated at 1 Hz, but the first step and every save are sent at once."""

    kind: Literal["progress"]
    job: str
    generation: int
    step: int
    steps: NotRequired[int]
    loss: NotRequired[float]
    tokens_per_s: NotRequired[float]
    step_ms: NotRequired[float]
    first: NotRequired[bool]
    at: int


class Saved(TypedDict):
    kind: Literal["saved"]
    job: str
    generation: int
    step: int
    uri: str
    write_ms: NotRequired[float]
    stall_ms: NotRequired[float]
    bytes: NotRequired[int]  # of the whole checkpoint
    fallback: NotRequired[str]  # on restore: why the newest was refused, and what was taken instead
    at: int


class Noticed(TypedDict):
    kind: Literal["noticed"]
    what: Literal["interrupt", "rebalance"]
    deadline: int
    at: int


class Telemetry(TypedDict):
    kind: Literal["telemetry"]
    cpu_share: float  # of all cores, 0..1
    memory_mib: int  # used by the node's processes
    gpu_share: NotRequired[float]
    gpu_memory_mib: NotRequired[int]
    at: int


class Dropped(TypedDict):
    """A fact that the daemon failed at again and again: the agent has given it up, and the next ones get through."""

    kind: Literal["dropped"]
    fact: str  # its kind
    job: str  # "" where it was about no job
    generation: int
    error: str
    at: int


Fact = Started | Exited | SetupFailed | Progress | Saved | Noticed | Telemetry | Dropped
