"""Tensors to safetensors and back."""

from __future__ import annotations

from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
safetensors = pytest.importorskip("safetensors.torch")

from dsched.jobs.runtime.tensors import Mismatch, Stage, decode, encode, fill, layout  # noqa: E402


def some_state() -> dict[str, torch.Tensor]:
    dice = torch.Generator().manual_seed(1)
    return {
        "weights": torch.randn(7, 3, generator=dice),
        "moments": torch.randn(5, generator=dice).to(torch.bfloat16),
        "tiny": torch.randn(3, generator=dice).to(torch.float8_e4m3fn),
        "steps": torch.tensor(12),
        "mask": torch.tensor([True, False, True]),
        "nothing": torch.empty(0, 4),
        "bytes": torch.arange(9, dtype=torch.uint8),
        "odd": torch.randn(2, generator=dice, dtype=torch.float64),
    }


def same(a: torch.Tensor, b: torch.Tensor) -> bool:
    return a.dtype == b.dtype and a.shape == b.shape and a.reshape(-1).tolist() == b.reshape(-1).tolist()


def file_of(state: dict[str, torch.Tensor]) -> bytes:
    return b"".join(encode(state))


def test_any_tool_can_read_the_files(tmp_path: Path) -> None:
    (tmp_path / "a.safetensors").write_bytes(file_of(some_state()))
    found = safetensors.load_file(tmp_path / "a.safetensors")
    assert all(same(tensor, found[name]) for name, tensor in some_state().items())


def test_what_any_tool_wrote_can_be_read() -> None:
    found = decode(safetensors.save(some_state(), {"who": "another tool"}))
    assert all(same(tensor, found[name]) for name, tensor in some_state().items())


def test_the_state_comes_back_in_place_bit_for_bit() -> None:
    shards = {name: b"".join(chunks) for name, chunks in layout(some_state(), shard_bytes=40).items()}
    assert len(shards) > 2
    state = {name: torch.zeros_like(tensor) for name, tensor in some_state().items()}
    fill(state, shards)
    assert all(same(tensor, state[name]) for name, tensor in some_state().items())


def test_the_staged_copy_does_not_change_with_the_state() -> None:
    state, stage = {"w": torch.ones(4)}, Stage()
    shards = stage.copy(state)
    state["w"].zero_()
    (chunks,) = shards.values()
    assert decode(b"".join(chunks))["w"].tolist() == [1, 1, 1, 1]


@pytest.mark.parametrize(
    ("found", "complaint"),
    [
        ({"w": torch.ones(2)}, r"w is \(3,\) torch.float32 here and \(2,\)"),
        ({"w": torch.ones(3, dtype=torch.float64)}, "torch.float64 in the checkpoint"),
        ({"v": torch.ones(3)}, "differ in v, w"),
    ],
)
def test_another_models_checkpoint_is_refused_before_anything_changes(
    found: dict[str, torch.Tensor], complaint: str
) -> None:
    state = {"w": torch.zeros(3)}
    with pytest.raises(Mismatch, match=complaint):
        fill(state, {"0": file_of(found)})
    assert state["w"].tolist() == [0, 0, 0]


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xff" * 8,
        b"\x02\0\0\0\0\0\0\0[]",
        b"\x02\0\0\0\0\0\0\0{]",
        file_of({"w": torch.ones(3)})[:-4],
        file_of({"w": torch.ones(3)}).replace(b"[3]", b"[9]"),
        file_of({"w": torch.ones(3)}).replace(b"F32", b"F99"),
        file_of({"w": torch.ones(3)}).replace(b"[0,12]", b"[-4,8]"),
    ],
)
def test_what_is_no_safetensors_file_is_said_to_be_none(data: bytes) -> None:
    with pytest.raises(Mismatch, match="not a safetensors file"):
        decode(data)
