"""A long answer of the daemon, read as it comes: HTTP/1.1 over a unix socket, without blocking and without a library.

The general HTTP clients cost more to import than the TUI itself, and more to run than painting does.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any, Final

import msgspec

from dsched.tui.source import SourceError

CONNECT_S: Final = 5.0  # a unix socket answers in microseconds; a stopped daemon leaves it hanging
ANSWER_S: Final = 15.0  # until the headers: a snapshot of a large fleet is made before them
BUFFER: Final = 1 << 20  # bytes read ahead of us; a delta of a busy fleet has a fifth of it
BLOCK_MAX: Final = 256 << 20  # bytes of one event; a snapshot of 100,000 jobs has a third of it
_ERROR_MAX: Final = 64 << 10  # bytes of a refusal that are read


async def events(path: str, target: str) -> AsyncIterator[tuple[str, bytes]]:
    """Server-sent events: name and data. A comment is ("", b"")."""
    async for block in _split(_answer(path, target, "text/event-stream"), b"\n\n"):
        name, data = "", b""
        for line in block.split(b"\n"):
            if line.startswith(b"event:"):
                name = line[6:].strip().decode("ascii", "replace")
            elif line.startswith(b"data:"):
                data += line[5:].lstrip(b" ")
        yield name, data


async def lines(path: str, target: str) -> AsyncIterator[bytes]:
    async for line in _split(_answer(path, target, "application/x-ndjson"), b"\n"):
        if line.strip():
            yield line


async def _split(chunks: AsyncIterator[bytes], mark: bytes) -> AsyncIterator[bytes]:
    """What stands between marks. The search goes on where it ended, because one block may have thousands of chunks."""
    buffer, searched = bytearray(), 0
    async for chunk in chunks:
        buffer += chunk
        start = 0
        while (end := buffer.find(mark, max(start, searched - len(mark) + 1))) >= 0:
            yield bytes(buffer[start:end])
            start = searched = end + len(mark)
        del buffer[:start]
        searched = len(buffer)
        if searched > BLOCK_MAX:
            raise SourceError("the daemon sends more than an event may have", "dsched doctor")


async def _answer(path: str, target: str, accept: str) -> AsyncIterator[bytes]:
    """The body of a GET in pieces. Raises SourceError for everything that goes wrong."""
    try:
        async with asyncio.timeout(CONNECT_S):
            reader, writer = await asyncio.open_unix_connection(path, limit=BUFFER)
    except (OSError, TimeoutError) as error:
        raise nobody(path, error) from error
    try:
        writer.write(f"GET {target} HTTP/1.1\r\nHost: dsched\r\nAccept: {accept}\r\n\r\n".encode())
        async with asyncio.timeout(ANSWER_S):
            status, headers = await _head(reader)
        if status != 200:
            raise await _refusal(reader, headers, status)
        async for chunk in _body(reader, headers):
            yield chunk
    except (OSError, EOFError, ValueError, TimeoutError) as error:
        raise SourceError(f"the daemon at {path} went away", "") from error
    finally:
        writer.close()


async def _head(reader: asyncio.StreamReader) -> tuple[int, dict[str, str]]:
    first = (await reader.readline()).split()
    if len(first) < 2:
        raise EOFError
    status = int(first[1])
    headers: dict[str, str] = {}
    while line := (await reader.readline()).strip():
        name, _, value = line.decode("latin-1").partition(":")
        headers[name.strip().lower()] = value.strip().lower()
    return status, headers


async def _body(reader: asyncio.StreamReader, headers: dict[str, str]) -> AsyncIterator[bytes]:
    if headers.get("transfer-encoding") != "chunked":
        while piece := await reader.read(BUFFER):
            yield piece
        return
    while size := int((await reader.readline()).split(b";")[0], 16):
        yield await reader.readexactly(size)
        await reader.readexactly(2)


async def _refusal(reader: asyncio.StreamReader, headers: dict[str, str], status: int) -> SourceError:
    said = b""
    async with asyncio.timeout(ANSWER_S):
        if length := int(headers.get("content-length", "0")):
            said = await reader.readexactly(min(length, _ERROR_MAX))
    try:
        problem: dict[str, Any] = msgspec.json.decode(said, type=dict[str, dict[str, Any]])["error"]
    except (msgspec.DecodeError, KeyError):
        return SourceError(f"the daemon answered {status}", "dsched doctor")
    return SourceError(str(problem.get("message")), str(problem.get("hint") or ""))


def nobody(path: str, error: OSError | TimeoutError) -> SourceError:
    if isinstance(error, PermissionError):
        return SourceError(f"not allowed to use {path}", "join the socket's group, or run as its owner")
    why = (getattr(error, "strerror", None) or "no answer").lower()
    return SourceError(f"no daemon at {path} ({why})", "dsched daemon     or     dsched demo", absent=True)
