"""A process of its own for long arithmetic: one question at a time over two pipes, one answer to each.

    stdin   (length, pickle of the question), again and again; its end ends the process
    stdout  (length, pickle of the answer)

Seconds of arithmetic would hold up everybody in the daemon's loop. Both ends of the pipes are ours, so pickle is safe.
"""

from __future__ import annotations

import asyncio
import math
import os
import pickle
import struct
import sys
from collections.abc import Callable, Sequence
from typing import Any, BinaryIO, Final

LENGTH: Final = struct.Struct("<Q")
NICE: Final = 10  # the daemon and the jobs on this machine come first
SINGLE: Final = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}  # a second thread gains nothing and takes a core
# What a worker that hangs, ends or answers with rubbish raises; the last five come from an unreadable pickle.
FAULTS: Final = (
    *(TimeoutError, OSError, EOFError, asyncio.IncompleteReadError),
    *(pickle.PickleError, AttributeError, ImportError, IndexError, ValueError),
)


class Worker:
    """The daemon's end. The process starts with the first question, anew after a fault, and ends with its parent."""

    def __init__(self, command: Sequence[str], *, patience: float, idle: float = math.inf) -> None:
        """`patience`: seconds for one question, the start of the process included. `idle`: it ends after so many."""
        self.process: asyncio.subprocess.Process | None = None
        self._command, self._patience, self._idle = command, patience, idle
        self._turn = asyncio.Lock()
        self._rest: asyncio.TimerHandle | None = None

    @property
    def busy(self) -> bool:
        return self._turn.locked()

    async def ask(self, question: Any) -> Any:
        """The answer, after those to earlier questions. Raises one of FAULTS; the next question finds a new process."""
        async with self._turn:
            try:
                async with asyncio.timeout(self._patience):
                    answer = await self._answer(pickle.dumps(question))
                self._rest_soon()
                return answer
            except FAULTS:
                await self.close()
                raise
            except BaseException:
                self._kill()  # whoever does not wait for an answer would leave it to the next question
                raise

    async def close(self) -> None:
        """End the process; the next question starts another."""
        process = self._kill()
        if process is not None:
            await process.wait()

    def _rest_soon(self) -> None:
        """What is not asked any more gives its memory back."""
        if self._rest is not None:
            self._rest.cancel()
        if self._idle < math.inf:
            self._rest = asyncio.get_running_loop().call_later(self._idle, self._rest_now)

    def _rest_now(self) -> None:
        if not self.busy:
            self._kill()  # the event loop's child watcher reaps it

    def _kill(self) -> asyncio.subprocess.Process | None:
        process, self.process = self.process, None
        if process is not None and process.returncode is None:
            process.kill()
        return process

    async def _answer(self, asked: bytes) -> Any:
        process = self.process
        if process is None or process.returncode is not None:
            process = self.process = await asyncio.create_subprocess_exec(
                *self._command,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                env={**os.environ, **SINGLE},
            )
        assert process.stdin is not None, "it was started with pipes"
        assert process.stdout is not None, "it was started with pipes"
        process.stdin.write(LENGTH.pack(len(asked)) + asked)
        await process.stdin.drain()
        (length,) = LENGTH.unpack(await process.stdout.readexactly(LENGTH.size))
        return await asyncio.to_thread(pickle.loads, await process.stdout.readexactly(length))


def serve(answer: Callable[[Any], Any]) -> None:
    """The process's end: answer until there are no more questions."""
    os.nice(NICE)
    source, sink = sys.stdin.buffer, sys.stdout.buffer
    while (asked := _received(source)) is not None:
        made = pickle.dumps(answer(pickle.loads(asked)))  # noqa: S301 - from our own parent
        sink.write(LENGTH.pack(len(made)) + made)
        sink.flush()


def _received(source: BinaryIO) -> bytes | None:
    head = source.read(LENGTH.size)
    return source.read(LENGTH.unpack(head)[0]) if len(head) == LENGTH.size else None
