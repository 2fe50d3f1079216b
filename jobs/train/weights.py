"""The SHA-256 of all weights of a checkpoint: two runs that computed the same have the same one. No torch."""

from __future__ import annotations

import hashlib
import json
import struct
from typing import Any, Final

from dsched.jobs.runtime.checkpoint import newest_manifest
from dsched.jobs.runtime.manifest import Damaged
from dsched.jobs.runtime.storage import Missing, open_storage

COMMON: Final = "common.safetensors"
MASTER: Final = "master"


def digest(uri: str) -> tuple[int, str]:
    """(step, SHA-256) of the newest checkpoint: the fp32 master weights of all logical shards, in their order.

    Raises StorageError, and Damaged for a file that is no safetensors file of this trainer.
    """
    store = open_storage(uri)
    manifest = newest_manifest(store)
    if manifest is None:
        raise Missing(f"{uri}: no checkpoint")
    found = hashlib.sha256()
    for shard in manifest.shards:
        if shard.name != COMMON:
            found.update(_tensor(shard.path, store.get(shard.path, shard.size), MASTER))
    return manifest.step, found.hexdigest()


def _tensor(path: str, data: bytes, name: str) -> memoryview:
    try:
        (length,) = struct.unpack_from("<Q", data)
        header: dict[str, Any] = json.loads(data[8 : 8 + length])
        start, end = header[name]["data_offsets"]
    except (struct.error, ValueError, KeyError, TypeError) as e:
        raise Damaged(f"{path}: no tensor {name!r}: {e}") from e
    return memoryview(data)[8 + length + start : 8 + length + end]
