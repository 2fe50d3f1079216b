"""What handlers answer with: msgspec's bytes in plain responses."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import msgspec
from starlette.responses import Response

from dsched.scheduler.api.problem import JSON
from dsched.scheduler.wire.api import VERSION

_encode: Final = msgspec.json.Encoder().encode
_HEAD: Final = b'{"v":%d,"items":[' % VERSION
_PAGE: Final = b'{"v":%d,"more":%%d,"items":[' % VERSION


def one(value: object, status: int = 200) -> Response:
    return Response(_encode(value), status, media_type=JSON)


def encoded(value: bytes, status: int = 200) -> Response:
    return Response(value, status, media_type=JSON)


def items(values: Iterable[object]) -> Response:
    """The list answer: {"v": 1, "items": [...]}."""
    return encoded_items(map(_encode, values))


def encoded_items(values: Iterable[bytes], more: int | None = None) -> Response:
    """`more`: so many were left out. One value per line, so that who wants lines need not read the JSON."""
    head = _HEAD if more is None else _PAGE % more
    return Response(b"%s%s]}" % (head, b",\n".join(values)), media_type=JSON)


def nothing() -> Response:
    return Response(status_code=204)
