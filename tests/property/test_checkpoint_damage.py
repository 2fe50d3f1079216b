"""Whatever happens to the bytes: a start takes the newest whole checkpoint, tells what it refused, and runs nothing."""

from __future__ import annotations

import pickle
import random
import shutil
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from dsched.jobs.runtime.checkpoint import Checkpoints, NothingValid, Superseded
from dsched.jobs.runtime.manifest import Claim, Home, Ref
from dsched.jobs.runtime.storage import Buffer, FileStorage

CASES = 250
STEPS = {Ref(1, 10): b"ten", Ref(1, 20): b"twenty", Ref(2, 30): b"thirty", Ref(2, 40): b"forty"}
ZOMBIE = Ref(1, 50)  # committed after generation 2's claim


def state(step: int) -> dict[str, list[Buffer]]:
    dice = random.Random(step)
    return {"00000.safetensors": [dice.randbytes(3_000)], "00001.safetensors": [dice.randbytes(500)]}


@pytest.fixture(scope="module")
def healthy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("healthy")
    store = FileStorage(root)
    zombie = Checkpoints(store, 1, keep=9)
    for step in (10, 20):
        zombie.save(step, state(step))
    second = Checkpoints(store, 2, keep=9)
    for step in (30, 40):
        second.save(step, state(step))
    with pytest.raises(Superseded):
        zombie.save(50, state(50))
    return root


class Bomb:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[Path]]:
        return Path.touch, (self.path,)


@dataclass
class Vandal:
    """Damages a store, and remembers which objects are no longer what was written."""

    root: Path
    dice: random.Random
    hurt: set[str] = field(default_factory=set)

    def strike(self) -> None:
        files = [path for path in sorted(self.root.rglob("*")) if path.is_file()]
        path = self.dice.choice(files)
        before = path.read_bytes()
        self.dice.choice([self.flip, self.truncate, self.grow, self.replace, self.remove, self.folder, self.foreign])(
            path
        )
        if not path.is_file() or path.read_bytes() != before:
            self.hurt.add(path.relative_to(self.root).as_posix())

    def flip(self, path: Path) -> None:
        data = bytearray(path.read_bytes())
        if data:
            data[self.dice.randrange(len(data))] ^= 1 << self.dice.randrange(8)
        path.write_bytes(data)

    def truncate(self, path: Path) -> None:
        data = path.read_bytes()
        path.write_bytes(data[: self.dice.randrange(len(data) + 1)])

    def grow(self, path: Path) -> None:
        path.write_bytes(path.read_bytes() + self.dice.randbytes(self.dice.choice([1, 10_000])))

    def replace(self, path: Path) -> None:
        bomb = pickle.dumps(Bomb(self.root.parent / "executed"))
        path.write_bytes(self.dice.choice([bomb, b"{}", b"[" * 5_000, b"null", b'{"body": 1}', b"\x00" * 64]))

    def remove(self, path: Path) -> None:
        path.unlink()

    def folder(self, path: Path) -> None:
        path.unlink()
        path.mkdir()

    def foreign(self, path: Path) -> None:
        """Files that are not ours, in our folders."""
        name = self.dice.choice(["README", ".DS_Store", "000000000060.g00000002.json", "model.pt", "9.json", "-1.json"])
        strange = path.with_name(name)
        if not strange.exists():
            strange.write_bytes(pickle.dumps(Bomb(self.root.parent / "executed")))
            self.hurt.add(strange.relative_to(self.root).as_posix())


def expected(root: Path, hurt: set[str], shards: dict[Ref, list[str]]) -> Ref | None:
    """The newest checkpoint none of whose bytes were touched."""
    fenced = Claim(2, ()).path not in hurt
    for ref in sorted([*STEPS, ZOMBIE], reverse=True):
        if ref == ZOMBIE and fenced:
            continue
        if ref.path not in hurt and not hurt.intersection(shards[ref]):
            return ref
    return None


@pytest.mark.parametrize("block", range(5))
def test_the_newest_whole_checkpoint_is_taken_and_every_refusal_is_told(
    block: int, healthy: Path, tmp_path: Path
) -> None:
    shards: dict[Ref, list[str]] = {}
    for path in FileStorage(healthy).list("shards"):
        home = Home.of(path)
        assert home is not None
        shards.setdefault(home.ref, []).append(path)
    for case in range(block * CASES // 5, (block + 1) * CASES // 5):
        root = tmp_path / str(case)
        shutil.copytree(healthy, root)
        vandal = Vandal(root, random.Random(case))
        for _ in range(1 + case % 6):
            vandal.strike()
        want = expected(root, vandal.hurt, shards)
        try:
            restored = Checkpoints(FileStorage(root), 7).restore()
        except NothingValid:
            restored = None
        got = restored.manifest.ref if restored else None
        assert got == want, f"case {case}: {sorted(vandal.hurt)}"
        if restored:
            assert restored.shards == {name: b"".join(parts) for name, parts in state(restored.manifest.step).items()}
            newer = [ref for ref in STEPS if ref > restored.manifest.ref and (root / ref.path).is_file()]
            told = restored.fallback or ""
            assert all(f"step {ref.step} refused" in told for ref in newer), f"case {case}: {told}"
        shutil.rmtree(root)
    assert not (tmp_path / "executed").exists()


def test_the_test_would_notice_a_pickle_being_loaded(tmp_path: Path) -> None:
    pickle.loads(pickle.dumps(Bomb(tmp_path / "executed")))
    assert (tmp_path / "executed").exists()
