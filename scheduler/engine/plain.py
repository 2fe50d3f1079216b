"""The core's values as JSON and back: dataclasses, named tuples, enums, arrays. What is read can only become such a
value of the core, so a file from a stranger can lie but not run anything.
"""

from __future__ import annotations

import base64
import zlib
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from enum import Enum
from importlib import import_module
from typing import Any, Final

import numpy as np

ROOM: Final = "dsched.scheduler.core."


def pack(value: Any) -> Any:
    """JSON-ready. Raises TypeError for what is no value of the core."""
    match value:  # type: ignore[exhaustive-match]
        case Enum():
            return {"$e": [_name(type(value)), value.value]}
        case None | bool() | int() | float() | str():
            return value
        case np.ndarray():
            data = base64.b64encode(zlib.compress(np.ascontiguousarray(value).tobytes(), 1)).decode()
            return {"$a": [str(value.dtype), list(value.shape), data]}
        case np.generic():
            return value.item()
        case tuple() if hasattr(value, "_fields"):
            return {"$n": [_name(type(value)), *map(pack, value)]}
        case tuple():
            return {"$t": list(map(pack, value))}
        case list():
            return list(map(pack, value))
        case set() | frozenset():
            return {"$s": sorted(map(pack, value), key=repr)}
        case Mapping():
            return {"$m": [[pack(key), pack(each)] for key, each in value.items()]}
        case _ if is_dataclass(value) and not isinstance(value, type):
            return {"$d": [_name(type(value)), {f.name: pack(getattr(value, f.name)) for f in fields(value)}]}
    raise TypeError(f"a {type(value).__name__} is no value of the core")


def unpack(told: Any) -> Any:
    """What `pack` was given. Raises ValueError for anything else."""
    if isinstance(told, list):
        return list(map(unpack, told))
    if not isinstance(told, dict):
        return told
    [(kind, of)] = told.items()
    match kind:  # type: ignore[exhaustive-match]
        case "$e":
            return _class(of[0], Enum)(of[1])
        case "$a":
            return np.frombuffer(zlib.decompress(base64.b64decode(of[2])), dtype=of[0]).reshape(of[1])
        case "$n":
            return _class(of[0], tuple)(*map(unpack, of[1:]))
        case "$t":
            return tuple(map(unpack, of))
        case "$s":
            return frozenset(map(unpack, of))
        case "$m":
            return {unpack(key): unpack(each) for key, each in of}
        case "$d":
            return _made(_class(of[0], object), {name: unpack(each) for name, each in of[1].items()})
    raise ValueError(f"not a packed value: {kind!r}")


def _made(kind: Any, given: dict[str, Any]) -> Any:
    """With the fields that its constructor does not take set afterwards, as they were."""
    made = kind(**{f.name: given[f.name] for f in fields(kind) if f.init and f.name in given})
    for f in fields(kind):
        if not f.init and f.name in given:
            object.__setattr__(made, f.name, given[f.name])
    return made


def _name(kind: type) -> str:
    name = f"{kind.__module__}:{kind.__qualname__}"
    if not name.startswith(ROOM):
        raise TypeError(f"{name} is no value of the core")
    return name


def _class(name: str, base: type) -> Any:
    module, _, attribute = name.partition(":")
    if not module.startswith(ROOM) or not all(part.isidentifier() for part in module.split(".")):
        raise ValueError(f"{name!r} is no value of the core")
    found = getattr(import_module(module), attribute, None)
    fits = isinstance(found, type) and issubclass(found, base) and (base is not object or is_dataclass(found))
    if not fits:
        raise ValueError(f"{name!r} is no value of the core")
    return found
