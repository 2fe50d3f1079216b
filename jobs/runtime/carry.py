"""Bring the newest checkpoint from another cloud's store into this one, so that a job saves near where it runs.

A job that goes from one cloud to another pays once for the way of its checkpoint, and not for each later one. The old
store is claimed first, as the new one is afterwards: what a generation that was left behind commits there later is in
nobody's past. The copy is the same checkpoint, of the same generation and step, with the same bytes, verified before
they are written; its manifest comes last, so that a kill on the way leaves nothing.
"""

from __future__ import annotations

import logging
from contextlib import suppress

from dsched.jobs.runtime.checkpoint import FAILURES, Checkpoints, NothingValid, look
from dsched.jobs.runtime.contract import Environment
from dsched.jobs.runtime.gang import ALONE, Gang, led
from dsched.jobs.runtime.manifest import Manifest
from dsched.jobs.runtime.storage import Exists, Storage, open_storage

log = logging.getLogger("dsched.carry")


def open_checkpoints(environment: Environment, place: str, *, gang: Gang = ALONE) -> Checkpoints:
    """The checkpoints at `place` for this generation, with what the job left in another cloud brought there first.

    Raises StorageError, NothingValid, Superseded.
    """
    store = open_storage(place)

    def bring() -> None:
        if environment.carry and environment.generation is not None:
            carried = carry(open_storage(environment.carry), store, environment.generation)
            if carried is not None:
                log.info("carried step %d from %s to %s", carried.step, environment.carry, store.uri)

    led(gang, bring, FAILURES)
    return Checkpoints(store, environment.generation, gang=gang)


def carry(origin: Storage, target: Storage, generation: int) -> Manifest | None:
    """The checkpoint that was copied; None where `target` has it, or a newer one, or where `origin` has none.

    Call it before `target` is claimed. Raises StorageError, Superseded, and NothingValid where neither store holds a
    checkpoint that verifies though `origin` holds some.
    """
    newest, left = next(iter(look(target).visible), None), Checkpoints(origin, generation)
    if newest is not None and newest >= next(iter(look(origin).visible), newest):
        return None  # seen by their names: every byte that is read there is paid
    try:
        found = left.restore()
    except NothingValid:
        if newest is None:
            raise
        return None
    if found is None or (newest is not None and newest >= found.manifest.ref):
        return None
    for shard in found.manifest.shards:
        target.put(shard.path, [found.shards[shard.name]])
    with suppress(Exists):  # by an earlier start of this generation
        target.create(found.manifest.ref.path, found.manifest.to_bytes())
    return found.manifest
