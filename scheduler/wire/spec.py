"""The job spec: what a user writes, checked once, here, for the CLI, the daemon and editors alike.

`load` reads the YAML and names file, line and column of what is wrong; `from_wire` reads the JSON form and names the
field; `to_core` gives the core its Spec; `json_schema` is what editors complete from. The texts of quantities stay as
written until `to_core`, so that what a user sees again is what they wrote.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Final

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from dsched.scheduler.core import job as core
from dsched.scheduler.core.hardware import ACCELERATORS
from dsched.scheduler.core.market import Market
from dsched.scheduler.core.speed import model as core_model
from dsched.scheduler.core.units import Instant, Millis, Moment, price, usd
from dsched.scheduler.wire import quantity as q
from dsched.scheduler.wire.document import Fault, Node, SpecError
from dsched.scheduler.wire.explain import at, explain
from dsched.scheduler.wire.field import (
    IMAGE,
    NAME,
    Capacity,
    Command,
    Duration,
    Every,
    FinishBy,
    Folder,
    Fp8,
    Gpu,
    GpuCount,
    GpuMemory,
    Hang,
    Many,
    Money,
    Place,
    Reference,
    Uri,
    Value,
    Variable,
)
from dsched.scheduler.wire.model import ModelSpec
from dsched.scheduler.wire.model import to_core as to_core_model
from dsched.scheduler.wire.written import plain, written

_OURS: Final = frozenset({"RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"})
_BUNDLE: Final = re.compile(r"sha256:([0-9a-f]{64})")
_PROVIDERS: Final = ("aws", "gcp", "local")
_LIST_MAX: Final = 64  # commands, regions, exit codes
_ENV_MAX: Final = 128
_RETRIES: Final = core.Spec(name="", run="").retries


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, use_attribute_docstrings=True)


class Gpus(_Part):
    type: Annotated[list[Gpu], Many, Field(max_length=len(ACCELERATORS))] = []
    """Acceptable GPU models; empty: any."""
    count: GpuCount = "1"
    """GPUs of the whole gang: a number, or an elastic range such as 8..32."""
    memory: GpuMemory | None = None
    """Memory of each GPU, at least; GB and GiB mean the same here."""
    nodes: Annotated[int, Field(ge=1, le=64)] | None = None
    """Machines in the gang, at most; 1: all GPUs in one."""
    fp8: Fp8 = False
    """true: the job may use FP8 where the chip has it; required: only chips that have it."""


class Checkpoint(_Part):
    to: Uri | None = None
    """Where checkpoints go; a folder of the state directory when absent."""
    every: Every = "auto"
    """auto: from the hazard and the measured time to write."""


class Retries(_Part):
    max: Annotated[int, Field(ge=0, le=100)] = _RETRIES
    """The job's own failures in a row without a newer checkpoint; interruptions are not counted."""
    on: Annotated[list[Annotated[int, Field(ge=1, le=255)]], Many, Field(max_length=_LIST_MAX)] = []
    """Exit codes worth a retry; empty: all but 78."""


class JobSpec(_Part):
    """A job: a command, what it needs, and what it may cost."""

    name: Annotated[str, Field(pattern=NAME)]
    """Lower-case letters, digits and dashes, at most 63."""
    run: Command
    """The command, run by a shell on every rank. Any program will do."""
    workdir: Folder | None = None
    """A folder, relative to this file, that is shipped to the nodes and is the command's working directory."""
    setup: Annotated[list[Command], Many, Field(max_length=_LIST_MAX)] = []
    """Commands run once per node before the ranks start."""
    image: Annotated[str, Field(pattern=IMAGE, max_length=512)] | None = None
    """A container image, such as nvcr.io/nvidia/pytorch:25.06-py3: set-up and ranks run in it, by docker or podman."""
    env: Annotated[dict[Variable, Value], Field(max_length=_ENV_MAX)] = {}
    """Environment variables."""
    secrets: Annotated[dict[Variable, Reference], Field(max_length=_ENV_MAX)] = {}
    """Variable to reference, resolved on the node and stored nowhere: file:/run/credentials/NAME, env:NAME,
    aws-sm:NAME or gcp-sm:PROJECT/NAME."""
    gpus: Gpus | None = None
    """A number, "8..32", or {type, count, memory, nodes, fp8}; none (or absent): a job without GPUs."""
    ranks_per_node: Annotated[int, Field(ge=1, le=64)] = 1
    """Processes started on each node."""
    finish_by: FinishBy | None = None
    """Deadline: 2026-12-01T18:00, tomorrow 18:00, friday 18:00."""
    within: Duration | None = None
    """Deadline as a duration from submission: 12h."""
    duration: Duration | None = None
    """Expected time of the work, where it is known, on the smallest gang of the reference shape."""
    max_price: Money | None = None
    """Dollars per hour for the whole gang; dearer offers are refused."""
    max_cost: Money | None = None
    """Dollars in all; at the limit the job checkpoints and pauses."""
    max_duration: Duration | None = None
    """Time in all, after which the job is stopped."""
    capacity: Annotated[list[Capacity], Many, Field(min_length=1, max_length=3)] = ["spot", "reserved", "on-demand"]
    """Markets that may be used."""
    regions: Annotated[list[Place], Many, Field(max_length=_LIST_MAX)] = []
    """Globs over provider/zone, such as aws/us-east-1* or us-*; empty: anywhere."""
    priority: Annotated[int, Field(ge=-1000, le=1000)] = 0
    """Higher goes first."""
    budget: Annotated[str, Field(pattern=NAME)] = "default"
    """The budget that pays."""
    checkpoint: Checkpoint = Checkpoint()
    """{to, every}, or only the place."""
    retries: Retries = Retries()
    """{max, on}, or only the number."""
    drain: Duration = "10s"
    """Time from SIGTERM to SIGKILL."""
    hang: Hang = "5m"
    """A rank that has reported is killed as hung after this time without a word and without CPU time; off: never."""
    model: ModelSpec | None = None
    """What it trains, so that speed, memory and dollars per token are known before it runs; or only a name."""
    spot_share: Annotated[float, Field(ge=0, le=1)] = 1.0
    """Of the job's machine hours, the most that may be spot: 0.5."""
    steps: Annotated[int, Field(ge=1, le=10**12)] | None = None
    """Steps in all, where known; the job may report it."""

    @model_validator(mode="before")
    @classmethod
    def _short_forms(cls, given: Any) -> Any:
        if not isinstance(given, dict):
            raise ValueError("a spec is a list of fields such as `name: moe-ft`")
        full = dict(given)
        gpus = full.get("gpus")
        if gpus == 0 or (isinstance(gpus, str) and gpus.strip().lower() == "none"):
            full["gpus"] = None
        elif isinstance(gpus, int | str):
            full["gpus"] = {"count": gpus}
        if isinstance(full.get("model"), str):
            full["model"] = {"name": full["model"]}
        if isinstance(full.get("checkpoint"), str):
            full["checkpoint"] = {"to": full["checkpoint"]}
        if isinstance(full.get("retries"), int):
            full["retries"] = {"max": full["retries"]}
        return full

    @model_validator(mode="after")
    def _agrees(self) -> JobSpec:
        if self.model is not None and self.gpus is None:
            raise at(("model",), "a model is trained on GPUs; say which: gpus: 8")
        if self.finish_by and self.within:
            raise at(("within",), "finish_by names the deadline already; keep one")
        for part, names in (("env", self.env), ("secrets", self.secrets)):
            if taken := next((n for n in names if n in _OURS or n.startswith("DSCHED_")), None):
                raise at((part, taken), f"{taken} is set by dsched; choose another name")
        if both := next((n for n in self.secrets if n in self.env), None):
            raise at(("secrets", both), f"{both} stands in env too; keep one")
        return self

    @property
    def bundle(self) -> str:
        """The SHA-256 of the workdir's bundle, once it is shipped; "" without one."""
        found = _BUNDLE.fullmatch(self.workdir or "")
        return found[1] if found else ""

    def shipped(self, sha256: str) -> JobSpec:
        """The same spec with its folder replaced by what was uploaded of it ("": nothing is)."""
        return self.model_copy(update={"workdir": f"sha256:{sha256}" if sha256 else None})

    def to_wire(self) -> dict[str, Any]:
        """The JSON form: only what differs from the defaults."""
        return self.model_dump(mode="json", exclude_defaults=True)


def load(text: str, path: str, overrides: list[str] | None = None) -> JobSpec:
    """Read a spec; `overrides` are "field.field=value". Raises SpecError with the place of everything that is wrong."""
    root = written(text, path, overrides or ())
    return _validated(plain(root), root)


def from_wire(given: Any, *, ships: bool = True) -> JobSpec:
    """Check the JSON form. Raises SpecError with the field of everything that is wrong.

    `ships`: it is to run, so a folder must have been uploaded.
    """
    if isinstance(given, dict) and isinstance(given.get("env"), dict):
        given = {**given, "env": {k: str(v) if type(v) is int else v for k, v in given["env"].items()}}
    spec = _validated(given, None)
    if ships and spec.workdir and not spec.bundle:
        raise SpecError(Fault("a folder must be uploaded first: PUT /v1/bundles/{sha256}", field="workdir"))
    return spec


def to_core(spec: JobSpec, now: Moment, user: str, bundle: str = "") -> core.Spec:
    """What the core works with; a relative deadline counts from `now` on the market clock. SpecError for a past one."""
    every = spec.checkpoint.every
    return core.Spec(
        name=spec.name,
        run=spec.run,
        user=user,
        setup=tuple(spec.setup),
        image=spec.image or "",
        env=dict(spec.env),
        secrets=dict(spec.secrets),
        bundle=bundle or spec.bundle,
        need=_need(spec),
        ranks_per_node=spec.ranks_per_node,
        deadline=_deadline(spec, now),
        duration=None if spec.duration is None else q.duration(spec.duration),
        duration_max=None if spec.max_duration is None else q.duration(spec.max_duration),
        cost_max=None if spec.max_cost is None else usd(spec.max_cost),
        priority=spec.priority,
        budget=spec.budget,
        checkpoint=core.Checkpointing(
            uri=spec.checkpoint.to or "", every=None if every == "auto" else q.duration(every)
        ),
        retries=spec.retries.max,
        retry_on=tuple(spec.retries.on),
        drain=q.duration(spec.drain),
        hang=Millis(0) if spec.hang == "off" else q.duration(spec.hang),
        steps=spec.steps,
    )


def json_schema() -> dict[str, Any]:
    """JSON Schema for editors: `# yaml-language-server: $schema=...` in the first line of a spec."""
    schema = JobSpec.model_json_schema()
    fields = schema["properties"]
    fields["gpus"] = {
        "description": fields["gpus"].get("description", ""),
        "anyOf": [{"type": "integer", "minimum": 0}, {"type": "string"}, {"$ref": "#/$defs/Gpus"}, {"type": "null"}],
    }
    named = {"checkpoint": ("string", "Checkpoint"), "retries": ("integer", "Retries")}
    for name, (short, part) in {**named, "model": ("string", "ModelSpec")}.items():
        fields[name] = {
            "description": fields[name].get("description", ""),
            "anyOf": [{"type": short}, {"$ref": f"#/$defs/{part}"}],
        }
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema, "title": "dsched job"}


def _validated(given: Any, root: Node | None) -> JobSpec:
    try:
        return JobSpec.model_validate(given)
    except ValidationError as e:
        raise SpecError(*explain(e, JobSpec, root)) from None


def _need(spec: JobSpec) -> core.Need:
    gpus = spec.gpus
    low, high = q.count_range(gpus.count) if gpus else (1, 1)
    return core.Need(
        accelerators=tuple(dict.fromkeys(gpus.type)) if gpus else (),
        gpus_min=low,
        gpus_max=high,
        gpu_memory_gib=q.memory_gib(gpus.memory) if gpus and gpus.memory else 0,
        nodes_max=gpus.nodes if gpus else None,
        fp8=bool(gpus and gpus.fp8),
        fp8_required=bool(gpus and gpus.fp8 == "required"),
        markets=tuple(dict.fromkeys(Market(m) for m in spec.capacity)),
        places=tuple(glob for place in spec.regions for glob in _globs(place)),
        price_max=None if spec.max_price is None else price(spec.max_price),
        cpu_only=gpus is None,
        model=_model(spec),
        spot_share=float(spec.spot_share),
    )


def _model(spec: JobSpec) -> core_model.Model | None:
    if spec.model is None:
        return None
    return to_core_model(spec.model, spec.name, fp8=bool(spec.gpus and spec.gpus.fp8), steps=spec.steps)


def _globs(place: str) -> tuple[str, ...]:
    """The globs over provider/zone that a place means: "us-east-1" is that zone, or every zone of that region."""
    if place in _PROVIDERS:
        return (f"{place}/*",)
    glob = place if "/" in place else f"*/{place}"
    return (glob,) if re.search(r"[*?\[]", place) else (glob, f"{glob}[-a-z]*")


def _deadline(spec: JobSpec, now: Moment) -> Instant | None:
    if spec.within is not None:
        return Instant(now.market + q.duration(spec.within))
    if spec.finish_by is None:
        return None
    try:
        return q.deadline(spec.finish_by, now.market)
    except ValueError as e:
        raise SpecError(Fault(str(e), field="finish_by")) from None
