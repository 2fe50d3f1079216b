"""Rows and events as JSON text, both ways.

A change is stored as it came, and a row's next body is its last body with the changed fields replaced. That is
`State.fold` at the level of JSON: the store needs to know no core rule, and a property test holds the two together.
"""

from __future__ import annotations

import hashlib
from functools import cache
from typing import Any, Final, NamedTuple, get_type_hints

import msgspec

from dsched.scheduler.core.event import Change, Event
from dsched.scheduler.core.snapshot import ROWS, Progress
from dsched.scheduler.core.units import Instant, Moment

GENESIS: Final = bytes(32)  # the hash before the first event

_encoder: Final = msgspec.json.Encoder()
_parts: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])


class RowChange(NamedTuple):
    table: str
    key: str
    new: bool
    body: str  # the whole row when new, else the changed fields


class Record(NamedTuple):
    """One event, ready to be written; its place in the log is not known yet."""

    wall: int
    market: int
    kind: str
    job: str
    node: str
    why: str
    body: str
    rows: tuple[RowChange, ...]


class _Change(msgspec.Struct):
    table: str
    key: str
    fields: msgspec.Raw
    new: bool = False


class _Body(msgspec.Struct):
    changes: list[_Change]
    data: dict[str, Any]


_body: Final = msgspec.json.Decoder(_Body)
_progress: Final = msgspec.json.Decoder(Progress)


def encode(event: Event) -> Record:
    """The event as text. Raises TypeError for what could not be read again: a strange table, field or value."""
    rows = tuple(_encode_change(change) for change in event.changes)
    body = {
        "changes": [
            {"table": c.table, "key": c.key, "fields": msgspec.Raw(row.body.encode()), "new": c.new}
            for c, row in zip(event.changes, rows, strict=True)
        ],
        "data": event.data,
    }
    head = (event.at.wall, event.at.market, event.kind, event.job, event.node, event.why)
    try:
        _encoder.encode(head)
        return Record(*head, _encoder.encode(body).decode(), rows)
    except (TypeError, UnicodeEncodeError) as error:
        raise TypeError(f"event {event.kind!r}: {error}") from error


def _encode_change(change: Change) -> RowChange:
    """Checked on the way in: what could not be read again must never be acknowledged."""
    row = ROWS.get(change.table)
    if row is None:
        raise TypeError(f"{change.table!r} is no table; there are {', '.join(ROWS)}")
    try:
        if change.new:
            # Building the row checks the names and fills in the defaults that the change may leave out.
            body = _encoder.encode(row(**change.fields))
            _row_decoder(row).decode(body)
        else:
            body = _encoder.encode(dict(change.fields))
            _decode_fields(change.table, body, strict=True)
    except (TypeError, UnicodeEncodeError, msgspec.MsgspecError) as error:
        raise TypeError(f"{change.table} {change.key}: {error}") from error
    return RowChange(change.table, change.key, change.new, body.decode())


@cache
def _row_decoder(kind: type) -> msgspec.json.Decoder[Any]:
    return msgspec.json.Decoder(kind)


@cache
def _field_decoder(table: str, name: str) -> msgspec.json.Decoder[Any] | None:
    types = get_type_hints(ROWS[table])
    return msgspec.json.Decoder(types[name]) if name in types else None


def _decode_fields(table: str, body: bytes | msgspec.Raw, *, strict: bool) -> dict[str, Any]:
    """The values of some fields. An old log may name fields that rows no longer have: only `strict` refuses them."""
    values = {}
    for name, raw in _parts.decode(body).items():
        decoder = _field_decoder(table, name)
        if decoder is not None:
            values[name] = decoder.decode(raw)
        elif strict:
            raise TypeError(f"a {ROWS[table].__name__} has no field {name!r}")
    return values


def merge(body: str, changed: str) -> str:
    """A row's next body: the last one with the changed fields replaced."""
    row = _parts.decode(body)
    row.update(_parts.decode(changed))
    return _encoder.encode(row).decode()


def digest(before: bytes, seq: int, record: Record) -> bytes:
    """The hash of an event: over the hash before it, its place and its text."""
    head = _encoder.encode((seq, record.wall, record.market, record.kind, record.job, record.node, record.why))
    return hashlib.sha256(b"%b%b\n%b" % (before, head, record.body.encode())).digest()


def decode_row(table: str, body: str) -> Any:
    """The core's row of this table. Raises msgspec.DecodeError where the text is none."""
    return _row_decoder(ROWS[table]).decode(body)


def decode_progress(body: str) -> Progress:
    return _progress.decode(body)


def encode_progress(progress: Progress) -> str:
    return _encoder.encode(progress).decode()


def decode_event(record: Record, *, changes: bool) -> Event:
    """The event again; its changes, which few readers need, only on demand."""
    body = _body.decode(record.body)
    return Event(
        kind=record.kind,
        at=Moment(Instant(record.wall), Instant(record.market)),
        job=record.job,
        node=record.node,
        why=record.why,
        changes=tuple(_decode_change(change) for change in body.changes) if changes else (),
        data=body.data,
    )


def _decode_change(change: _Change) -> Change:
    return Change(change.table, change.key, _decode_fields(change.table, change.fields, strict=False), change.new)
