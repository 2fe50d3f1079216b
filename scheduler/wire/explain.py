"""Turn what the validator found into faults a person can act on: the place, plain words, the nearest right name."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Any, Final, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import PydanticCustomError

from dsched.scheduler.wire.document import Fault, Node, locate

FAULTS_MAX: Final = 20  # more than anybody corrects at once
_KEY: Final = "[key]"  # what the validator puts into a path for a key that is wrong itself
_WORDS: Final = {
    "string_type": "must be text; quote it",
    "int_type": "must be a whole number",
    "bool_type": "must be true or false",
    "list_type": "must be a list",
    "dict_type": "must be a list of NAME: value",
    "model_type": "must be a list of fields",
    "string_too_short": "must not be empty",
    "missing": "is missing",
}
_ELSEWHERE: Final = {  # what other schedulers call our fields
    "accelerators": "gpus",
    "cmd": "run",
    "command": "run",
    "commands": "run",
    "deadline": "finish_by",
    "entrypoint": "run",
    "envs": "env",
    "file_mounts": "workdir",
    "gpu": "gpus",
    "max_retries": "retries",
    "price": "max_price",
    "resources": "gpus",
    "spot": "capacity",
    "timeout": "max_duration",
    "working_dir": "workdir",
}
_SAME: Final = 0.9  # of one word's letters in another: it is that word with a slip
_NAME_WORDS: Final = (
    "must be lower-case letters, digits and dashes, at most 63, and begin and end with a letter or digit"
)


def close_to(given: str, known: Iterable[str]) -> str:
    """ "; did you mean H100?", or the names there are."""
    names = list(known)
    near = difflib.get_close_matches(given, names, 1)
    return f"; did you mean {near[0]}?" if near else f"; there are: {', '.join(names)}"


def at(path: tuple[str | int, ...], message: str) -> PydanticCustomError:
    """To raise from a check over several fields of a part: the fault stands at `path` in that part."""
    return PydanticCustomError("at", "{message}", {"message": message, "path": path})


def explain(error: ValidationError, model: type[BaseModel], root: Node | None) -> list[Fault]:
    """The faults in the order of the file, at most FAULTS_MAX, one for each place."""
    faults: dict[tuple[str | int, ...], Fault] = {}
    for found in error.errors(include_url=False):
        path = (*found["loc"], *found["ctx"]["path"]) if found["type"] == "at" else found["loc"]
        path = tuple(p for p in path if p != _KEY)
        faults.setdefault(path, _fault(found, path, model, root))
    ordered = sorted(faults.values(), key=lambda f: (f.place.line, f.place.column) if f.place else (0, 0))
    return ordered[:FAULTS_MAX]


def _fault(found: Any, path: tuple[str | int, ...], model: type[BaseModel], root: Node | None) -> Fault:
    kind = found["type"]
    on_key = kind in ("extra_forbidden", "at") or _KEY in found["loc"]
    return Fault(
        message=_message(found, path, model),
        field=".".join(map(str, path)),
        place=None if root is None else locate(root, path, key=on_key),
    )


def _message(found: Any, path: tuple[str | int, ...], model: type[BaseModel]) -> str:
    kind, context = found["type"], found.get("ctx", {})
    if kind == "extra_forbidden":
        name, known = str(path[-1]), _fields_at(model, path[:-1])
        theirs = difflib.get_close_matches(name, _ELSEWHERE, 1, _SAME)
        ours = _ELSEWHERE[theirs[0]] if theirs else ""
        return f"unknown field; did you mean {ours}?" if ours in known else f"unknown field{close_to(name, known)}"
    if kind == "literal_error":
        known = [word.strip().strip("'") for word in context["expected"].replace(" or ", ", ").split(",")]
        return f"unknown word {str(found['input'])!r}{close_to(str(found['input']), known)}"
    if kind == "string_pattern_mismatch":
        return _NAME_WORDS
    if kind == "value_error":
        return str(context["error"])
    words = _WORDS.get(kind)
    return words if words else str(found["msg"]).replace("Input should be", "must be")


def _fields_at(model: type[BaseModel], path: tuple[str | int, ...]) -> list[str]:
    for step in path:
        inner = model.model_fields.get(str(step))
        model = _model_in(inner.annotation if inner else None) or model
    return list(model.model_fields)


def _model_in(annotation: Any) -> type[BaseModel] | None:
    return next(
        (a for a in (annotation, *get_args(annotation)) if isinstance(a, type) and issubclass(a, BaseModel)), None
    )
