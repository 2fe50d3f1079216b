"""The types of a spec's fields: each with its check, its plain refusal and its form in the JSON Schema."""

from __future__ import annotations

import re
from typing import Annotated, Any, Final, Literal

from pydantic import AfterValidator, BeforeValidator, Field, WithJsonSchema

from dsched.scheduler.core.hardware import ACCELERATORS
from dsched.scheduler.wire import quantity as q
from dsched.scheduler.wire.explain import close_to

NAME: Final = r"^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$"
IMAGE: Final = r"^[A-Za-z0-9][A-Za-z0-9._/:@-]*$"  # what no engine could take for an option
_VARIABLE: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}")
_REFERENCE: Final = re.compile(
    r"file:/[^\0\n]{1,1000}|env:[A-Za-z_][A-Za-z0-9_]{0,127}"
    r"|aws-sm:[A-Za-z0-9/_+=.@!:-]{1,512}|gcp-sm:[a-z0-9][a-z0-9.:-]{4,62}/[A-Za-z0-9_-]{1,255}"
)
_PLACE: Final = re.compile(r"[-a-z0-9*?\[\]!]{1,64}(?:/[-a-z0-9*?\[\]!]{1,64})?")
_URI: Final = re.compile(r"(?:file://|s3://|gs://|/)[^\0\n]{1,1000}")
_TEXT_MAX: Final = 32_768  # characters of one command or value: what a kernel takes as an argument with room to spare
_GPUS_MAX: Final = 16_384


def _one_or_many(given: Any) -> Any:
    return [given] if isinstance(given, str | int) and not isinstance(given, bool) else given


def _gpu(given: str) -> str:
    by_fold = {name.casefold(): name for name in ACCELERATORS}
    if known := by_fold.get(given.strip().casefold()):
        return known
    raise ValueError(f"unknown GPU {given!r}{close_to(given.upper(), ACCELERATORS)}")


def _count(given: Any) -> str:
    if isinstance(given, bool) or not isinstance(given, int | str):
        raise ValueError("must be a number of GPUs such as 8, or a range such as 8..32")
    low, high = q.count_range(str(given))
    if high > _GPUS_MAX:
        raise ValueError(f"more than {_GPUS_MAX} GPUs")
    return f"{low}..{high}" if high > low else str(low)


def _dollars(given: Any) -> str:
    if isinstance(given, bool) or not isinstance(given, int | float | str):
        raise ValueError("must be an amount of dollars such as 12.50")
    return q.money(given)


def _lasting(given: Any) -> str:
    if isinstance(given, bool) or not isinstance(given, int | float | str):
        raise ValueError("must be a duration such as 30s, 12h or 1h30m")
    q.duration(str(given))
    return str(given)


def _every(given: Any) -> str:
    return given if given == "auto" else _lasting(given)


def _hang(given: Any) -> str:
    return given if given == "off" else _lasting(given)


def _fp8(given: Any) -> bool | str:
    if isinstance(given, bool):
        return given
    if given == "required":
        return "required"
    raise ValueError("must be true, false or required")


def _memory(given: Any) -> str:
    if isinstance(given, bool) or not isinstance(given, int | str):
        raise ValueError("must be a size such as 80GB")
    return f"{q.memory_gib(f'{given}GB' if isinstance(given, int) else given)}GB"


def _place(given: str) -> str:
    if not _PLACE.fullmatch(given):
        raise ValueError(f"not a place: {given!r}; write a glob over provider/zone such as aws/us-east-1* or us-*")
    return given


def _reference(given: str) -> str:
    """Whatever else is written here may be the secret itself, so the refusal does not repeat it."""
    if not _REFERENCE.fullmatch(given):
        known = "file:/run/credentials/NAME, env:NAME, aws-sm:NAME or gcp-sm:PROJECT/NAME"
        raise ValueError(f"must be a reference, never the secret: {known}")
    return given


def _matching(pattern: re.Pattern[str], message: str) -> AfterValidator:
    def check(given: str) -> str:
        if not pattern.fullmatch(given):
            raise ValueError(f"{given!r} {message}")
        return given

    return AfterValidator(check)


def _printable(given: str) -> str:
    if "\0" in given:
        raise ValueError("must not hold a NUL character")
    return given


Money = Annotated[
    str, BeforeValidator(_dollars), WithJsonSchema({"type": ["number", "string"], "examples": [12.5, "12.50"]})
]
Duration = Annotated[
    str,
    BeforeValidator(_lasting),
    WithJsonSchema({"type": "string", "pattern": q.DURATION_PATTERN, "examples": ["12h"]}),
]
Command = Annotated[str, Field(min_length=1, max_length=_TEXT_MAX), AfterValidator(_printable)]
Value = Annotated[str, Field(max_length=_TEXT_MAX), AfterValidator(_printable)]
Variable = Annotated[
    str, _matching(_VARIABLE, "is no name for a variable: letters, digits and _, not beginning with a digit")
]
Reference = Annotated[str, AfterValidator(_reference)]
Gpu = Annotated[str, AfterValidator(_gpu), WithJsonSchema({"enum": list(ACCELERATORS)})]
Place = Annotated[str, AfterValidator(_place)]
Capacity = Literal["spot", "reserved", "on-demand"]
Many = BeforeValidator(_one_or_many)
GpuCount = Annotated[
    str,
    BeforeValidator(_count),
    WithJsonSchema({"type": ["integer", "string"], "examples": [8, "8..32"], "minimum": 1}),
]
GpuMemory = Annotated[
    str, BeforeValidator(_memory), WithJsonSchema({"type": "string", "pattern": q.MEMORY_PATTERN, "examples": ["80GB"]})
]
Fp8 = Annotated[bool | str, BeforeValidator(_fp8), WithJsonSchema({"enum": [True, False, "required"]})]
Every = Annotated[
    str,
    BeforeValidator(_every),
    WithJsonSchema({"anyOf": [{"const": "auto"}, {"type": "string", "pattern": q.DURATION_PATTERN}]}),
]
Hang = Annotated[
    str,
    BeforeValidator(_hang),
    WithJsonSchema({"anyOf": [{"const": "off"}, {"type": "string", "pattern": q.DURATION_PATTERN}]}),
]
Uri = Annotated[str, _matching(_URI, "is no place for checkpoints; write s3://, gs://, file:/// or a path")]
FinishBy = Annotated[str, AfterValidator(q.check_deadline)]
Folder = Annotated[str, Field(min_length=1, max_length=4096), AfterValidator(_printable)]
