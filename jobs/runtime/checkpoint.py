"""Checkpoints that survive kills, zombies and damage: written whole, committed last, verified when read.

Save     every shard (with its SHA-256), then the manifest by put-if-absent. A kill at any moment leaves the old state.
         In a gang each rank writes its own shards, and rank 0 commits when all of them are durable.
Fence    a generation first creates its claim, naming the manifests that are its past. What an older generation commits
         later is in nobody's past, so it is never read: create-only is enough, on a disk as on S3 and GCS.
Restore  newest first; a checkpoint counts only when every byte of it verifies, else the one before is taken, and said.
Prune    only the newest generation removes anything, and never the last `keep` good ones.

This module knows bytes, not tensors: a shard is a name and the buffers of its file.
"""

from __future__ import annotations

import hashlib
import secrets
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Any, Final

from dsched.jobs.runtime.gang import ALONE, Failures, Gang, led, together
from dsched.jobs.runtime.manifest import RECORD_BYTES_MAX, Claim, Damaged, Home, Manifest, Ref, Shard
from dsched.jobs.runtime.storage import Buffer, Denied, Exists, Full, Storage, StorageError, Unreachable

KEEP: Final = 2  # the newest may turn out to be damaged, so one is not enough
STREAMS: Final = 2  # shards in flight: one hashes while the other waits for the disk
HASH_BYTES: Final = 4 << 20  # hashed and written piece by piece, while the piece is in the cache
CLAIMS_MAX: Final = 20  # attempts to number a run that has no agent, against others doing the same
LOOKS_MAX: Final = 3  # a claim that was created between our look and our create is seen by the next look

Shards = Mapping[str, Sequence[Buffer]]  # name of a file -> its contents


class NothingValid(Exception):
    """There are checkpoints, and none can be used. Next: exit 77; starting again from step 0 is a human's decision."""


class Superseded(Exception):
    """A newer generation has claimed the store. Next: leave, nothing written from now on would be read."""


class Conflict(Exception):
    """Another writer of this generation committed different bits for the same step. Next: stop and tell."""


FAILURES: Final[Failures] = {  # what one rank may meet for all of its gang; the more particular first
    kind.__name__: kind
    for kind in (NothingValid, Superseded, Conflict, Damaged, Exists, Unreachable, Denied, Full, StorageError)
}


@dataclass(frozen=True, slots=True)
class Look:
    """What a store holds at one moment."""

    generation: int  # of the newest claim; -1 without one
    claim: Claim | None  # None too when it is damaged; then it hides nothing
    refs: tuple[Ref, ...]  # every manifest, newest first
    rejected: frozenset[Ref]

    @property
    def visible(self) -> tuple[Ref, ...]:
        """Manifests that are history. One that is newer than every claim shows that its claim was lost: it counts."""
        return tuple(r for r in self.refs if self.claim is None or r.generation > self.generation or self.claim.sees(r))


@dataclass(frozen=True, slots=True)
class Restored:
    manifest: Manifest
    shards: Mapping[str, bytes]  # verified
    refused: tuple[str, ...]  # why each newer one was not taken

    @property
    def fallback(self) -> str | None:
        """The sentence to report when the newest checkpoint was not taken."""
        return f"{'; '.join(self.refused)}; took step {self.manifest.step}" if self.refused else None


@dataclass(frozen=True, slots=True)
class Saved:
    manifest: Manifest
    uri: str
    write_ms: float
    warnings: tuple[str, ...]  # the checkpoint is good; tidying up behind it was not
    alarm: str | None  # an earlier generation computed other bits for this step on the same numerics


def look(store: Storage) -> Look:
    """List claims, manifests and rejections. Raises StorageError only where the store itself fails."""
    generations = [g for path in store.list("claims") if (g := Claim.generation_of(path)) is not None]
    newest, claim = max(generations, default=-1), None
    if newest >= 0:
        path = Claim(newest, ()).path
        with suppress(Damaged):
            claim = Claim.from_bytes(path, _read(store, path, RECORD_BYTES_MAX))
    refs = {ref for path in store.list("manifests") if (ref := Ref.parse(path)) is not None}
    rejected = {ref for path in store.list("rejected") if (ref := Ref.parse(path)) is not None}
    return Look(newest, claim, tuple(sorted(refs, reverse=True)), frozenset(rejected))


def newest_manifest(store: Storage) -> Manifest | None:
    """The newest manifest that can be read, without claiming anything and without verifying the shards."""
    for ref in look(store).visible:
        with suppress(Damaged):
            return _manifest(store, ref)
    return None


class Checkpoints:
    """One generation's reading and writing. Creating it claims the store, so do that before anything is read.

    `generation` None numbers the run after the newest claim: for a program without an agent.
    """

    def __init__(self, store: Storage, generation: int | None = None, *, keep: int = KEEP, gang: Gang = ALONE) -> None:
        if keep < KEEP:
            raise ValueError(f"keep={keep}: at least {KEEP}, the newest may turn out to be damaged")
        self.store = store
        self._keep = keep
        self._gang = gang
        self._token = secrets.token_hex(6)
        claim = led(gang, lambda: asdict(_make_claim(store, generation)), FAILURES)
        self._claim = Claim(claim["generation"], tuple(claim["past"]))
        self._damaged: set[Ref] = set()
        self._parent = ""

    @property
    def generation(self) -> int:
        return self._claim.generation

    @property
    def leads(self) -> bool:
        """Whether this rank commits, and tells of it."""
        return self._gang.rank == 0

    def uri(self, manifest: Manifest) -> str:
        return f"{self.store.uri}/{manifest.ref.path}"

    def restore(self, wanted: Callable[[str], bool] = lambda _name: True) -> Restored | None:
        """The newest checkpoint whose every byte verifies; None for an empty history.

        `wanted` chooses the shards by name that this rank reads and verifies; a gang takes a checkpoint only when each
        of its ranks has found its own shards whole. Raises NothingValid when there is a history and none of it
        verifies, and StorageError when the store fails: an unreachable bucket is not an empty one.
        """
        refused: list[str] = []
        for path, rejected in led(self._gang, self._candidates, FAILURES):
            ref = Ref.parse(path)
            assert ref is not None, "candidates are parsed names"
            if rejected:
                refused.append(f"step {ref.step} refused: rejected by the job that used it")
                continue
            try:
                manifest, shards = self._open(ref, wanted)
            except Damaged as e:
                refused.append(f"step {ref.step} refused: {e}")
                self._damaged.add(ref)
                continue
            self._parent = ref.path
            return Restored(manifest, shards, tuple(refused))
        if refused:
            raise NothingValid(f"{self.store.uri}: {'; '.join(refused)}")
        return None

    def _candidates(self) -> list[tuple[str, bool]]:
        seen = look(self.store)
        return [(ref.path, ref in seen.rejected) for ref in filter(self._claim.sees, seen.refs)]

    def _open(self, ref: Ref, wanted: Callable[[str], bool]) -> tuple[Manifest, dict[str, bytes]]:
        found: list[tuple[Manifest, dict[str, bytes]]] = []

        def mine() -> None:
            manifest = _manifest(self.store, ref)
            found.append((manifest, self._load([shard for shard in manifest.shards if wanted(shard.name)])))

        together(self._gang, mine, FAILURES)
        return found[0]

    def reject(self, manifest: Manifest, reason: str) -> None:
        """Step back one: no later start takes this checkpoint, though its bytes verify. For exit code 77."""
        with suppress(Exists):
            self.store.create(manifest.ref.rejection, reason.encode())

    def save(
        self,
        step: int,
        shards: Shards,
        *,
        data: Mapping[str, Any] | None = None,
        numerics: Mapping[str, str] | None = None,
        extra: Mapping[str, Any] | None = None,
        world_size: int = 1,
    ) -> Saved:
        """Write this rank's shards and commit the state after `step`; durable when this returns, on every rank.

        Raises StorageError (not saved, the last one stays), Superseded (saved, for nobody), Conflict, PeerLost.
        """
        began = time.perf_counter()
        home = Home(Ref(self.generation, step), self._token + secrets.token_hex(4))
        try:
            written = together(self._gang, lambda: [asdict(each) for each in self._write(home, shards)], FAILURES)
        except StorageError:
            self._discard(home)  # on a full disk the half-written shards are what fills it
            raise
        everything = [Shard(**each) for rank in written for each in rank]
        manifest = Manifest(
            step=step,
            generation=self.generation,
            shards=tuple(sorted(everything, key=lambda shard: shard.name)),
            parent=self._parent,
            world_size=world_size,
            data=data or {},
            numerics=numerics or {},
            extra=extra or {},
            created_ms=time.time_ns() // 1_000_000,
        )
        try:
            fresh = led(self._gang, lambda: self._commit(manifest), FAILURES)
        except Unreachable:
            raise  # it may be there: its shards must stay
        except (StorageError, Conflict):
            self._discard(home)
            raise
        if not fresh:
            self._discard(home)
        took = (time.perf_counter() - began) * 1000
        warnings, alarm = led(self._gang, lambda: self._tidy(manifest), FAILURES)
        return Saved(manifest, self.uri(manifest), took, tuple(warnings), alarm)

    def _write(self, home: Home, shards: Shards) -> tuple[Shard, ...]:
        def one(item: tuple[str, Sequence[Buffer]]) -> Shard:
            name, chunks = item
            digest, path = hashlib.sha256(), f"{home.path}/{name}"
            size = self.store.put(path, _hashed(chunks, digest))
            return Shard(name, path, size, digest.hexdigest())

        with ThreadPoolExecutor(STREAMS, "checkpoint-write") as pool:
            return tuple(pool.map(one, shards.items()))

    def _commit(self, manifest: Manifest) -> bool:
        """False when the name is taken by equal bits of another write: these shards are not needed."""
        try:
            self.store.create(manifest.ref.path, manifest.to_bytes())
        except Exists:
            return self._judge(manifest)
        return True

    def _judge(self, manifest: Manifest) -> bool:
        """The name is taken: by our own repeated request (True), by a harmless twin (False), or by wrong bits."""
        try:
            other = _manifest(self.store, manifest.ref)
        except Damaged as e:
            raise Conflict(f"step {manifest.step} is already there, and damaged: {e}") from e
        if other.shards == manifest.shards:
            return True
        if other.digest != manifest.digest:
            raise Conflict(
                f"step {manifest.step} of generation {self.generation} was committed by another writer with other bits "
                f"({other.digest[:16]}, here {manifest.digest[:16]}): one of the two machines computes wrongly"
            )
        return False

    def _tidy(self, manifest: Manifest) -> tuple[list[str], str | None]:
        """Compare with older computations of this step, then prune: warnings, and an alarm.

        Its failures do not undo the commit.
        """
        warnings: list[str] = []
        alarm: str | None = None
        try:
            seen = look(self.store)
            if seen.generation > self.generation:
                raise Superseded(
                    f"generation {seen.generation} has claimed {self.store.uri}, this is {self.generation}"
                )
            alarm = self._compare(manifest, seen)
            self._prune(seen)
        except StorageError as e:
            warnings.append(f"old checkpoints not removed: {e}")
        return warnings, alarm

    def _compare(self, manifest: Manifest, seen: Look) -> str | None:
        for ref in seen.refs:
            if ref.step != manifest.step or ref == manifest.ref or ref in self._damaged:
                continue
            with suppress(Damaged):
                other = _manifest(self.store, ref)
                if other.numerics == manifest.numerics and other.digest != manifest.digest:
                    return f"step {ref.step} differs from generation {ref.generation}'s, computed on equal numerics"
        return None

    def _prune(self, seen: Look) -> None:
        kept: list[Manifest] = []
        doomed: set[Ref] = set()
        for ref in seen.refs:
            if ref.generation > self.generation:
                continue  # not ours to judge
            bad = ref in self._damaged or ref in seen.rejected or not self._claim.sees(ref)
            if not bad and len(kept) < self._keep:
                with suppress(Damaged):
                    kept.append(_manifest(self.store, ref))
                    continue
            doomed.add(ref)
        self.store.delete(ref.path for ref in doomed)
        self._sweep(doomed, {home for manifest in kept for shard in manifest.shards if (home := Home.of(shard.path))})

    def _sweep(self, doomed: set[Ref], kept: set[Home]) -> None:
        """Remove shards that no manifest names, except what another writer of this generation may be writing now."""
        for path in self.store.list("shards"):
            home = Home.of(path)
            if home is None or home in kept:
                continue
            ours = home.token.startswith(self._token)
            if ours or home.ref in doomed or home.ref.generation < self.generation:
                self.store.delete([path])

    def _discard(self, home: Home) -> None:
        with suppress(StorageError):
            self.store.delete(self.store.list(home.path))

    def _load(self, shards: Sequence[Shard]) -> dict[str, bytes]:
        def one(shard: Shard) -> bytes:
            data = _read(self.store, shard.path, shard.size)
            if len(data) != shard.size:
                raise Damaged(f"{shard.path}: {len(data)} bytes, {shard.size} were written")
            if hashlib.sha256(data).hexdigest() != shard.sha256:
                raise Damaged(f"{shard.path}: SHA-256 differs")
            return data

        with ThreadPoolExecutor(STREAMS, "checkpoint-read") as pool:
            return dict(zip((shard.name for shard in shards), pool.map(one, shards), strict=True))


def _make_claim(store: Storage, generation: int | None) -> Claim:
    for _ in range(LOOKS_MAX if generation is not None else CLAIMS_MAX):
        seen = look(store)
        wanted = max(seen.generation, 0) + 1 if generation is None else generation
        if seen.generation > wanted:
            raise Superseded(f"generation {seen.generation} has claimed {store.uri}, this is {wanted}")
        past = tuple(ref.path for ref in seen.visible if ref.generation < wanted)
        if seen.generation == wanted:  # an earlier start of this generation; what it saw is what we may see
            return seen.claim or Claim(wanted, past)
        claim = Claim(wanted, past)
        with suppress(Exists):
            store.create(claim.path, claim.to_bytes())
            return claim
    raise Superseded(f"{store.uri}: others claim generations as fast as this process looks")


def _manifest(store: Storage, ref: Ref) -> Manifest:
    return Manifest.from_bytes(ref.path, _read(store, ref.path, RECORD_BYTES_MAX))


def _read(store: Storage, path: str, size_max: int) -> bytes:
    """Raises Damaged for what is missing or cannot be read, StorageError where that says nothing about the object."""
    try:
        return store.get(path, size_max)
    except (Unreachable, Denied):
        raise
    except StorageError as e:
        raise Damaged(str(e)) from e


def _hashed(chunks: Sequence[Buffer], digest: hashlib._Hash) -> Iterator[Buffer]:
    for chunk in chunks:
        view = memoryview(chunk).cast("B")
        for at in range(0, len(view), HASH_BYTES):
            piece = view[at : at + HASH_BYTES]
            digest.update(piece)
            yield piece
