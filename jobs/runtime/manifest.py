"""The records of a checkpoint store and their names: manifests, claims, rejections. Values only, no input or output.

    manifests/<step>.g<generation>.json           created last: a checkpoint without its manifest does not exist
    claims/<generation>.json                      created first by a generation: the manifests that are its past
    rejected/<step>.g<generation>.json            a checkpoint that verified, yet was found to be bad when it was used
    shards/<step>.g<generation>.<token>/<name>    safetensors; a new token for every write, so writers never collide

A record is JSON with its own SHA-256, so a flipped bit in a step number is seen like one in a weight. No pickle
anywhere: reading a record can execute nothing.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Final

FORMAT: Final = "dsched-checkpoint/1"
RECORD_BYTES_MAX: Final = 16 << 20  # 100,000 shards at about 160 bytes each

_MANIFEST: Final = re.compile(r"^(?:manifests|rejected)/(\d{12})\.g(\d{8})\.json$")
_CLAIM: Final = re.compile(r"^claims/(\d{8})\.json$")
_HOME: Final = re.compile(r"^(shards/(\d{12})\.g(\d{8})\.([0-9a-f]+))/")


class Damaged(Exception):
    """Bytes that are not what was written. The message says which object and how that is known."""


@dataclass(frozen=True, slots=True, order=True)
class Ref:
    """Names one checkpoint. The order is the order of history: a later generation comes after all older ones.

    (A generation that stepped back over a damaged checkpoint has lower steps than its predecessor's last.)
    """

    generation: int
    step: int

    @property
    def path(self) -> str:
        return f"manifests/{self.step:012d}.g{self.generation:08d}.json"

    @property
    def rejection(self) -> str:
        return f"rejected/{self.step:012d}.g{self.generation:08d}.json"

    @classmethod
    def parse(cls, path: str) -> Ref | None:
        """None for a foreign file."""
        match = _MANIFEST.match(path)
        return cls(int(match[2]), int(match[1])) if match else None


@dataclass(frozen=True, slots=True)
class Shard:
    name: str
    path: str
    size: int  # bytes
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """One checkpoint: everything that is needed to go on, and to know that it is whole."""

    step: int  # steps that are done
    generation: int
    shards: tuple[Shard, ...]
    parent: str = ""  # the manifest this generation resumed from
    world_size: int = 1
    data: Mapping[str, Any] = field(default_factory=dict)  # position in the data, seeds, digest of the corpus
    numerics: Mapping[str, str] = field(default_factory=dict)  # what bit-equality depends on: library, chip, threads
    extra: Mapping[str, Any] = field(default_factory=dict)  # the job's own: configuration, loss
    created_ms: int = 0  # wall

    @property
    def ref(self) -> Ref:
        return Ref(self.generation, self.step)

    @property
    def digest(self) -> str:
        """Equal for two computations of the same step with the same bits, whoever wrote them and when."""
        content = {
            "step": self.step,
            "data": dict(self.data),
            "shards": sorted((s.name, s.size, s.sha256) for s in self.shards),
        }
        return hashlib.sha256(_canonical(content)).hexdigest()

    def to_bytes(self) -> bytes:
        return _seal(asdict(self))

    @classmethod
    def from_bytes(cls, path: str, data: bytes) -> Manifest:
        """Raises Damaged."""
        body = _unseal(path, data)
        try:
            manifest = cls(**body | {"shards": tuple(Shard(**shard) for shard in body["shards"])})
        except (KeyError, TypeError) as e:
            raise Damaged(f"{path}: not a manifest: {e}") from e
        if Ref.parse(path) != manifest.ref:
            raise Damaged(f"{path}: holds step {manifest.step} of generation {manifest.generation}")
        return manifest


@dataclass(frozen=True, slots=True)
class Claim:
    """A generation's right to write, and the only older checkpoints that it and its successors will ever see."""

    generation: int
    past: tuple[str, ...]  # paths of manifests, newest first

    @property
    def path(self) -> str:
        return f"claims/{self.generation:08d}.json"

    @staticmethod
    def generation_of(path: str) -> int | None:
        """None for a foreign file."""
        match = _CLAIM.match(path)
        return int(match[1]) if match else None

    def sees(self, ref: Ref) -> bool:
        """Whether a manifest belongs to this history; a zombie's late one does not."""
        return ref.generation == self.generation or ref.path in self.past

    def to_bytes(self) -> bytes:
        return _seal({"generation": self.generation, "newest": next(iter(self.past), None), "past": list(self.past)})

    @classmethod
    def from_bytes(cls, path: str, data: bytes) -> Claim:
        """Raises Damaged."""
        body = _unseal(path, data)
        past = body.get("past")
        if not isinstance(past, list) or body.get("generation") != cls.generation_of(path):
            raise Damaged(f"{path}: not this generation's claim")
        return cls(body["generation"], tuple(str(each) for each in past))


@dataclass(frozen=True, slots=True)
class Home:
    """The folder of one write's shards."""

    ref: Ref
    token: str

    @property
    def path(self) -> str:
        return f"shards/{self.ref.step:012d}.g{self.ref.generation:08d}.{self.token}"

    @classmethod
    def of(cls, path: str) -> Home | None:
        """The home of a shard; None for a foreign file."""
        match = _HOME.match(path)
        return cls(Ref(int(match[3]), int(match[2])), match[4]) if match else None


def _seal(body: Mapping[str, Any]) -> bytes:
    digest = hashlib.sha256(_canonical(body)).hexdigest()
    return json.dumps({"format": FORMAT, "sha256": digest, "body": body}, indent=1).encode() + b"\n"


def _unseal(path: str, data: bytes) -> dict[str, Any]:
    try:
        record = json.loads(data)
        body, digest, layout = record["body"], record["sha256"], record["format"]
    except (ValueError, KeyError, TypeError, RecursionError) as e:
        raise Damaged(f"{path}: not readable: {e}") from e
    if layout != FORMAT:
        raise Damaged(f"{path}: format {layout!r}, this version reads {FORMAT!r}")
    if not isinstance(body, dict) or hashlib.sha256(_canonical(body)).hexdigest() != digest or _seal(body) != data:
        raise Damaged(f"{path}: SHA-256 differs")
    return body


def _canonical(body: Mapping[str, Any]) -> bytes:
    """The same bytes before and after a round trip through JSON (tuples, and keys that are numbers, change in one)."""
    return json.dumps(json.loads(json.dumps(body)), sort_keys=True, separators=(",", ":")).encode()
