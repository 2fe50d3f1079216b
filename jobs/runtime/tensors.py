"""The adapter between torch and checkpoints: tensors to safetensors bytes and back. The only module here with torch.

The files are plain safetensors, readable by any tool. They are encoded here because the library builds the whole file
in memory first; this streams the staged tensors as they are.
"""

from __future__ import annotations

import json
import platform
import struct
import warnings
from collections.abc import Mapping, Sequence
from typing import Final

import torch
from torch import Tensor

from dsched.jobs.runtime.checkpoint import Shards
from dsched.jobs.runtime.storage import Buffer

SHARD_BYTES: Final = 32 << 20  # two or more shards keep both writers busy; larger ones only make restarts coarser
HEADER_BYTES_MAX: Final = 16 << 20

_NAMES: Final = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.bfloat16: "BF16",
    torch.float16: "F16",
    torch.float8_e4m3fn: "F8_E4M3",
    torch.float8_e5m2: "F8_E5M2",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}
_DTYPES: Final = {name: dtype for dtype, name in _NAMES.items()}


class Mismatch(Exception):
    """A checkpoint of another model. Next: exit 78, a retry would meet the same."""


class Stage:
    """Buffers that hold a copy of the state while it is being written; allocated once, pinned for a GPU's state."""

    def __init__(self, *, shard_bytes: int = SHARD_BYTES) -> None:
        self._shard_bytes = shard_bytes
        self._copies: dict[str, Tensor] = {}

    def copy(self, state: Mapping[str, Tensor]) -> Shards:
        """Copy `state` aside and lay it out as shards. The result is valid until the next call."""
        return layout(self.hold(state), self._shard_bytes)

    def hold(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Copy `state` aside. The copies are valid until the next call."""
        gpus = set()
        for name, tensor in state.items():
            copy = self._copies.get(name)
            if copy is None or copy.shape != tensor.shape or copy.dtype != tensor.dtype:
                copy = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=tensor.is_cuda)
                self._copies[name] = copy
            copy.copy_(tensor.detach(), non_blocking=tensor.is_cuda)
            if tensor.is_cuda:
                gpus.add(tensor.device)
        for gpu in gpus:
            torch.cuda.synchronize(gpu)  # by name: a thread begins on device 0, whatever its rank computes on
        return {name: self._copies[name] for name in state}


def layout(state: Mapping[str, Tensor], shard_bytes: int = SHARD_BYTES) -> Shards:
    """Pack tensors, in their order, into files of about `shard_bytes`; a larger tensor has a file of its own."""
    groups: list[dict[str, Tensor]] = []
    room = 0
    for name, tensor in state.items():
        if not groups or tensor.nbytes > room:
            groups.append({})
            room = shard_bytes
        groups[-1][name] = tensor
        room -= tensor.nbytes
    return {f"{i:05d}.safetensors": encode(group) for i, group in enumerate(groups)}


def encode(tensors: Mapping[str, Tensor]) -> Sequence[Buffer]:
    """The safetensors file as buffers that share the tensors' memory (CPU, contiguous)."""
    header: dict[str, object] = {}
    at = 0
    for name, tensor in tensors.items():
        end = at + tensor.nbytes
        header[name] = {"dtype": _NAMES[tensor.dtype], "shape": list(tensor.shape), "data_offsets": [at, end]}
        at = end
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return [struct.pack("<Q", len(text)), text, *(_bytes_of(tensor) for tensor in tensors.values())]


def decode(data: bytes) -> dict[str, Tensor]:
    """Tensors over the memory of `data`: to be read, never written. Raises Mismatch for what is no safetensors file."""
    try:
        (length,) = struct.unpack_from("<Q", data)
        if length > min(HEADER_BYTES_MAX, len(data) - 8):
            raise ValueError(f"header of {length} bytes")
        header: dict[str, dict[str, object]] = json.loads(data[8 : 8 + length])
        body = 8 + length
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "The given buffer is not writable")  # nor does anybody write
            return {n: _tensor(data, body, entry) for n, entry in header.items() if n != "__metadata__"}
    except (ValueError, KeyError, TypeError, AttributeError, struct.error, RuntimeError) as e:
        raise Mismatch(f"not a safetensors file: {e}") from e


def fill(state: Mapping[str, Tensor], shards: Mapping[str, bytes]) -> None:
    """Copy a restored checkpoint into `state`, in place. Raises Mismatch before anything is changed."""
    found = {name: tensor for data in shards.values() for name, tensor in decode(data).items()}
    if missing := sorted(state.keys() ^ found.keys()):
        raise Mismatch(f"the checkpoint and the model differ in {', '.join(missing[:5])}")
    for name, tensor in state.items():
        if (tensor.shape, tensor.dtype) != (found[name].shape, found[name].dtype):
            here, there = tuple(tensor.shape), tuple(found[name].shape)
            raise Mismatch(f"{name} is {here} {tensor.dtype} here and {there} {found[name].dtype} in the checkpoint")
    with torch.no_grad():
        for name, tensor in state.items():
            tensor.copy_(found[name])


def numerics() -> dict[str, str]:
    """What bit-equality depends on, besides the program and its input."""
    chip = torch.cuda.get_device_name() if torch.cuda.is_available() else torch.backends.cpu.get_cpu_capability()
    return {
        "torch": torch.__version__,
        "chip": f"{platform.machine()} {chip}",
        "threads": str(torch.get_num_threads()),
    }


def _bytes_of(tensor: Tensor) -> memoryview:
    if not tensor.numel():
        return memoryview(b"")
    return tensor.detach().reshape(-1).view(torch.uint8).numpy().data


def _tensor(data: bytes, body: int, entry: dict[str, object]) -> Tensor:
    shape, offsets = entry["shape"], entry["data_offsets"]
    if not isinstance(shape, list) or not isinstance(offsets, list):
        raise ValueError("shape and offsets are lists")
    dtype = _DTYPES[str(entry["dtype"])]
    start, end = offsets
    count = (end - start) // dtype.itemsize
    if count == 0:
        return torch.empty(shape, dtype=dtype)
    if not 0 <= start <= end <= len(data) - body:
        raise ValueError(f"offsets {start}..{end} of {len(data) - body} bytes")
    raw = torch.frombuffer(data, dtype=torch.uint8, count=end - start, offset=body + start)
    if (body + start) % dtype.itemsize:
        raw = raw.clone()
    return raw.view(dtype).reshape(shape)
