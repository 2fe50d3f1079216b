"""Data parallelism whose result does not depend on the number of workers: the same bits from 1, 2, 4 or 8.

A global batch is always SHARDS micro-batches, addressed by (seed, step, shard), and gradients are always summed up the
same binary tree over the shards. A worker owns a whole subtree: it folds its leaves as they come (a binary counter, at
most log2 live buffers) and joins the upper levels by recursive halving, which is the rest of the tree and a
bandwidth-optimal reduce-scatter at once. IEEE addition is commutative, so the order of two peers never shows. Losses
and norms are added per shard in the shards' order, expert counts are integers, and everything else is elementwise.

The optimizer's state is sharded (ZeRO-1, arXiv 1910.02054): worker r of W owns segment r of the flat parameters, which
is a run of whole logical shards, so a checkpoint of one world is a checkpoint of any other.

EasyScale (SC'23) has the same promise by contexts of logical threads; a fixed tree needs none. Limits: W divides
SHARDS, both powers of two; the same kind of device, library and kernels everywhere (`tensors.numerics`).
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, Final

import torch
from torch import Tensor, nn

from dsched.jobs.runtime.contract import ContractError, Environment
from dsched.jobs.runtime.gang import PeerLost

if TYPE_CHECKING:
    from torch._C._distributed_c10d import Store, TCPStore

log = logging.getLogger("dsched.gang")

SHARDS: Final = 8  # of a batch and of a checkpoint; more workers than this need more
ALIGNMENT: Final = 64  # elements; a shard's bytes in fp32 are then whole cache lines
FAREWELL_S: Final = 5.0  # for the slowest rank to read the last word
BEATS: Final = 6  # of a rank's pulse in the time after which it is taken for lost
PEERS_S: Final = 60.0  # to meet, and for the slowest collective: whoever is silent for longer is gone


class Summation(StrEnum):
    TREE = "tree"
    ALL_REDUCE = "allreduce"  # what a library does: correct, and different at every world size. To show the difference


class Fold:
    """Sums a stream of tensors pairwise, bracketed like a balanced binary tree. Owns what is pushed."""

    def __init__(self, release: Callable[[Tensor], None] | None = None) -> None:
        self._stack: list[Tensor] = []
        self._count = 0
        self._release = release or (lambda _: None)

    def push(self, x: Tensor) -> None:
        self._count += 1
        pairs = self._count
        while pairs % 2 == 0:
            left = self._stack.pop().add_(x)
            self._release(x)
            x, pairs = left, pairs // 2
        self._stack.append(x)

    def result(self) -> Tensor:
        """The sum of a power of two of tensors."""
        (x,) = self._stack
        return x


class Flat:
    """All parameters as views of one fp32 buffer, in `shards` equal segments; decayed ones first, so decay is a prefix.

    `table`: name -> (offset, shape), for whoever reads a checkpoint.
    """

    def __init__(self, model: nn.Module, shards: int) -> None:
        named = sorted(model.named_parameters(), key=lambda each: each[1].ndim < 2)
        size = sum(p.numel() for _, p in named)
        self.shards = shards
        self.numel = -(-size // (ALIGNMENT * shards)) * ALIGNMENT * shards
        self.decayed = sum(p.numel() for _, p in named if p.ndim > 1)
        self.weights = torch.zeros(self.numel, device=named[0][1].device)
        self.table: dict[str, tuple[int, tuple[int, ...]]] = {}
        self._parameters: list[tuple[nn.Parameter, int]] = []
        self._spare: list[Tensor] = []
        at = 0
        for name, p in named:
            view = self.weights[at : at + p.numel()].view_as(p)
            view.copy_(p.detach())
            p.data = view
            self.table[name] = (at, tuple(p.shape))
            self._parameters.append((p, at))
            at += p.numel()

    def gradient(self) -> Tensor:
        """A zeroed buffer into which the next backward pass adds."""
        buffer = self._spare.pop().zero_() if self._spare else torch.zeros_like(self.weights)
        for p, at in self._parameters:
            p.grad = buffer[at : at + p.numel()].view_as(p)
        return buffer

    def release(self, buffer: Tensor) -> None:
        """Take a gradient's buffer back for the next one."""
        if buffer.numel() == self.numel:
            self._spare.append(buffer)


class World:
    """This worker's place among its peers, and what they do together. `size` 1 needs no peers and no library.

    Its methods raise PeerLost.
    """

    def __init__(
        self,
        rank: int = 0,
        size: int = 1,
        *,
        shards: int = SHARDS,
        summation: Summation = Summation.TREE,
        device: str = "cpu",
    ) -> None:
        """Raises ContractError when `size` does not divide `shards`."""
        if shards & (shards - 1) or size & (size - 1) or not 0 < size <= shards:
            raise ContractError(f"WORLD_SIZE={size} must be a power of two that divides shards={shards}, also one")
        self.rank, self.size, self.shards, self.summation = rank, size, shards, summation
        self._device = device
        self._levels = size.bit_length() - 1

    @classmethod
    def join(
        cls, env: Environment, *, shards: int = SHARDS, summation: Summation = Summation.TREE, device: str = "cpu"
    ) -> World:
        """Meet the peers of this generation. Raises ContractError and PeerLost."""
        world = cls(env.rank, env.world_size, shards=shards, summation=summation, device=device)
        if world.size > 1:
            import torch.distributed as dist
            from torch._C._distributed_c10d import PrefixStore

            with peers():
                store = PrefixStore(f"{env.job}/{env.generation}", _store(env, serve=env.rank == 0))
                patience = timedelta(seconds=PEERS_S)
                dist.init_process_group(
                    "gloo" if device == "cpu" else "nccl",
                    store=store, rank=env.rank, world_size=env.world_size, timeout=patience,
                )  # fmt: skip
        return world

    def close(self) -> None:
        if self.size > 1:
            import torch.distributed as dist

            dist.destroy_process_group()

    @property
    def leaves(self) -> range:
        """The shards that this worker computes: rank bit-reversed, so that neighbours in the tree are rank ^ size/2."""
        per = self.shards // self.size
        return range(self._place(self.rank) * per, (self._place(self.rank) + 1) * per)

    @property
    def owned(self) -> range:
        """The logical shards of parameters and optimizer state that this worker owns."""
        per = self.shards // self.size
        return range(self.rank * per, (self.rank + 1) * per)

    def segment(self, numel: int) -> slice:
        """The owned part of a flat buffer."""
        per = numel // self.size
        return slice(self.rank * per, (self.rank + 1) * per)

    def fold(self, release: Callable[[Tensor], None] | None = None) -> Fold:
        return Fold(release) if self.summation is Summation.TREE else _Running(release)

    def reduce_scatter(self, gradient: Tensor) -> Tensor:
        """Sum over all workers; this worker's segment, in the memory of `gradient`."""
        if self.summation is Summation.ALL_REDUCE:
            return self._all_reduce(gradient)
        half = self.size // 2
        while half:
            low, high = gradient.chunk(2)
            keep, give = (high, low) if self.rank & half else (low, high)
            got = torch.empty_like(keep)
            self._swap(self.rank ^ half, give, got)
            gradient = keep.add_(got)
            half //= 2
        return gradient

    def all_gather(self, full: Tensor) -> None:
        """Fill a flat buffer from every worker's own segment, in place."""
        if self.size > 1:
            import torch.distributed as dist

            with peers():
                dist.all_gather(list(full.chunk(self.size)), full[self.segment(full.numel())].clone())

    @property
    def leaf_order(self) -> list[int]:
        """The ranks in the order of their leaves."""
        return [self._place(place) for place in range(self.size)]  # reversing bits is its own inverse

    def by_rank(self, word: Tensor) -> Tensor:
        """Stack one small tensor of every worker: (size, ...), on the CPU."""
        if self.size == 1:
            return word[None].cpu()
        import torch.distributed as dist

        word = word.to(self._device)
        words = [torch.empty_like(word) for _ in range(self.size)]
        with peers():
            dist.all_gather(words, word)
        return torch.stack(words).cpu()

    def _place(self, rank: int) -> int:
        return int(format(rank, f"0{self._levels}b")[::-1], 2) if self._levels else 0

    def _swap(self, peer: int, give: Tensor, into: Tensor) -> None:
        import torch.distributed as dist

        with peers():
            works = dist.batch_isend_irecv([dist.P2POp(dist.isend, give, peer), dist.P2POp(dist.irecv, into, peer)])
            for work in works:
                work.wait()

    def _all_reduce(self, gradient: Tensor) -> Tensor:
        if self.size > 1:
            import torch.distributed as dist

            with peers():
                dist.all_reduce(gradient)
        return gradient[self.segment(gradient.numel())]


class _Running(Fold):
    """Sums as they come, as a gradient accumulates."""

    def push(self, x: Tensor) -> None:
        if self._stack:
            self._stack[0].add_(x)
            self._release(x)
        else:
            self._stack.append(x)


class Board:
    """Short texts between the workers of a generation, over the store at which they met: for the checkpoint's thread.

    Not a collective of the training's process group: that belongs to the main thread, and two threads there hang.
    Ranks write and fetch checkpoints for minutes between two words, so a rank is lost when its pulse stops, not when
    its word is late.
    """

    def __init__(self, env: Environment, *, silence_s: float = PEERS_S) -> None:
        """Raises PeerLost."""
        from torch._C._distributed_c10d import PrefixStore

        self.rank, self._size, self._round = env.rank, env.world_size, 0
        self._last = ""
        self._silence_s, self._over = silence_s, threading.Event()
        place = f"{env.job}/{env.generation}/board"
        with peers():
            self._store = PrefixStore(place, _store(env, serve=False))
            pulse = PrefixStore(place, _store(env, serve=False))  # its own: a waiting client keeps others out
        threading.Thread(target=self._beat, args=(pulse,), name="pulse", daemon=True).start()

    def exchange(self, text: str) -> list[str]:
        """Every worker's text, by rank. All of them call it equally often. Raises PeerLost."""
        self._round += 1
        key = f"{self._round}/{self.rank}"
        with peers():
            self._store.set(key, text)
            texts = [self._word(rank) for rank in range(self._size)]
            if self._last:  # everybody has posted this round, so everybody has read the one before
                self._store.delete_key(self._last)
        self._last = key
        return texts

    def _word(self, rank: int) -> str:
        key, pulse = f"{self._round}/{rank}", f"pulse/{rank}"
        beats = self._store.add(pulse, 0)
        while True:
            try:
                self._store.wait([key], timedelta(seconds=self._silence_s))
            except RuntimeError:
                before, beats = beats, self._store.add(pulse, 0)
                if beats == before:
                    raise
                log.info("rank %d takes its time, and is alive", rank)
            else:
                return self._store.get(key).decode()

    def _beat(self, store: Store) -> None:
        with suppress(RuntimeError):  # without the store this rank is lost anyway
            while not self._over.wait(self._silence_s / BEATS):
                store.add(f"pulse/{self.rank}", 1)

    def close(self) -> None:
        """The last call before a rank leaves: rank 0 holds the store, and must not take it away from slower readers."""
        self._over.set()
        bye = [f"bye/{rank}" for rank in range(self._size)]
        with suppress(RuntimeError):  # whoever is gone needs the store no more
            self._store.set(bye[self.rank], "")
            if self.rank == 0:
                self._store.wait(bye, timedelta(seconds=FAREWELL_S))


@contextmanager
def peers() -> Iterator[None]:
    """Within it every failure of the library is a peer's."""
    try:
        yield
    except RuntimeError as e:
        raise PeerLost(str(e).partition("\n")[0]) from e


def _store(env: Environment, *, serve: bool) -> TCPStore:
    from torch._C._distributed_c10d import TCPStore

    if not env.master_port:
        raise ContractError("WORLD_SIZE is above 1 and MASTER_PORT is not set; the agent sets it")
    return TCPStore(env.master_addr, env.master_port, None, serve, timedelta(seconds=PEERS_S), wait_for_workers=False)
