"""The tables, as SQLModel classes: the one source of the schema.

Every row of the core is kept whole, as JSON in `body`. The other columns of a projection are generated from that JSON
by SQLite, so that they cannot disagree with it; they exist because a query or a constraint needs them. A new field of
a core row with a default needs no migration, a new generated column needs one ALTER TABLE.

Nothing imports this file on the daemon's usual start: `schema.sql` is generated from here
(`python -m dsched.scheduler.store.tables > scheduler/store/schema.sql`) and tests hold the three descriptions together:
these classes, schema.sql and the migrations.
"""

from __future__ import annotations

import sys
from enum import StrEnum
from typing import Any, ClassVar, Final

from sqlalchemy.dialects import sqlite
from sqlalchemy.schema import CreateIndex, CreateTable
from sqlmodel import CheckConstraint, Column, Computed, Field, Index, Integer, LargeBinary, SQLModel, Text, text

from dsched.scheduler.core.state import IntentState, JobState, NodeState
from dsched.scheduler.store.migrations import HEAD

STRICT: Final = {"sqlite_strict": True}


def _key() -> Any:
    return Field(sa_column=Column(Text, primary_key=True, nullable=False))


def _text(*, nullable: bool = False) -> Any:
    return Field(sa_column=Column(Text, nullable=nullable))


def _integer() -> Any:
    return Field(sa_column=Column(Integer, nullable=False))


def _from_body(path: str, kind: type[Text] | type[Integer] = Text, *, nullable: bool = False) -> Any:
    return Field(
        sa_column=Column(kind, Computed(f"json_extract(body, '$.{path}')", persisted=False), nullable=nullable)
    )


def _one_of(column: str, states: type[StrEnum]) -> CheckConstraint:
    known = ",\n        ".join(repr(str(state)) for state in states)
    return CheckConstraint(f"{column} IN (\n        {known}\n    )", name=f"{column}_known")


class MetaTable(SQLModel, table=True):
    """Facts about the database: the cluster's id, the era."""

    __tablename__: ClassVar[str] = "meta"
    __table_args__ = (STRICT,)
    key: str = _key()
    value: str = _text()


class EventTable(SQLModel, table=True):
    """The log. `seq` has no gap; `hash` covers the row and the hash before it."""

    __tablename__: ClassVar[str] = "event"
    __table_args__ = (Index("event_job", "job", sqlite_where=text("job <> ''")), STRICT)
    seq: int = Field(sa_column=Column(Integer, primary_key=True, nullable=False))
    wall: int = _integer()
    market: int = _integer()
    kind: str = _text()
    job: str = _text()
    node: str = _text()
    why: str = _text()
    body: str = _text()  # {"changes": [...], "data": {...}}
    prev_hash: bytes = Field(sa_column=Column(LargeBinary, nullable=False))
    hash: bytes = Field(sa_column=Column(LargeBinary, nullable=False))


class JobTable(SQLModel, table=True):
    __tablename__: ClassVar[str] = "job"
    __table_args__ = (
        _one_of("state", JobState),
        Index("job_state", "state", "ended"),
        Index("job_user", "user"),
        Index("job_name", "name"),
        Index("job_idempotency", "idempotency", unique=True, sqlite_where=text("idempotency <> ''")),
        STRICT,
    )
    key: str = _key()
    body: str = _text()
    state: str = _from_body("state")
    user: str = _from_body("spec.user")
    name: str = _from_body("spec.name")
    submitted: int = _from_body("submitted.market", Integer)
    ended: int | None = _from_body("ended", Integer, nullable=True)
    idempotency: str = _from_body("key")  # the client's key: the same submission twice is one job


class AttemptTable(SQLModel, table=True):
    __tablename__: ClassVar[str] = "attempt"
    __table_args__ = (
        Index("attempt_job", "job", "generation"),
        # The last line of defence against a job that runs twice; the core's two-proofs rule stands before it.
        Index("attempt_one_live", "job", unique=True, sqlite_where=text("ended IS NULL")),
        STRICT,
    )
    key: str = _key()
    body: str = _text()
    job: str = _from_body("job")
    generation: int = _from_body("generation", Integer)
    ended: int | None = _from_body("ended.market", Integer, nullable=True)


class NodeTable(SQLModel, table=True):
    __tablename__: ClassVar[str] = "node"
    __table_args__ = (
        _one_of("state", NodeState),
        Index("node_state", "state"),
        STRICT,
    )
    key: str = _key()
    body: str = _text()
    state: str = _from_body("state")
    token: str = _from_body("token")
    job: str = _from_body("job")


class IntentTable(SQLModel, table=True):
    __tablename__: ClassVar[str] = "intent"
    __table_args__ = (_one_of("state", IntentState), Index("intent_state", "state"), STRICT)
    key: str = _key()
    body: str = _text()
    state: str = _from_body("state")
    job: str = _from_body("job")


class PoolTable(SQLModel, table=True):
    __tablename__: ClassVar[str] = "pool"
    __table_args__ = (STRICT,)
    key: str = _key()
    body: str = _text()


class SpeedTable(SQLModel, table=True):
    """What was measured of each model's speed; the key is the model's name."""

    __tablename__: ClassVar[str] = "speed"
    __table_args__ = (STRICT,)
    key: str = _key()
    body: str = _text()


class BudgetTable(SQLModel, table=True):
    __tablename__: ClassVar[str] = "budget"
    __table_args__ = (STRICT,)
    key: str = _key()
    body: str = _text()


class AlertTable(SQLModel, table=True):
    __tablename__: ClassVar[str] = "alert"
    __table_args__ = (
        CheckConstraint("sent IN (0, 1)", name="sent_known"),
        STRICT,
    )
    key: str = _key()
    body: str = _text()
    sent: int = _from_body("sent", Integer)


class DecisionTable(SQLModel, table=True):
    __tablename__: ClassVar[str] = "decision"
    __table_args__ = (Index("decision_job", "job"), STRICT)
    key: str = _key()
    body: str = _text()
    job: str = _from_body("job")


class LedgerTable(SQLModel, table=True):
    __tablename__: ClassVar[str] = "ledger"
    __table_args__ = (
        Index("ledger_job", "job", "start"),
        Index("ledger_node", "node", "start"),
        Index("ledger_budget", "budget", "start"),
        Index("ledger_start", "start"),
        STRICT,
    )
    key: str = _key()
    body: str = _text()
    job: str = _from_body("job")
    node: str = _from_body("node")
    budget: str = _from_body("budget")
    start: int = _from_body("start", Integer)


class QuoteTable(SQLModel, table=True):
    """The last price of each pool. A price that is not known has no row."""

    __tablename__: ClassVar[str] = "quote"
    __table_args__ = (CheckConstraint("price >= 0", name="price_known"), STRICT)
    pool: str = _key()
    at: int = _integer()
    price: int = _integer()
    source: str = _text()


class QuoteJournalTable(SQLModel, table=True):
    """Price changes, oldest ones pruned: a trace, no part of the truth."""

    __tablename__: ClassVar[str] = "quote_journal"
    __table_args__ = ({"sqlite_with_rowid": False, **STRICT},)
    pool: str = _key()
    at: int = Field(sa_column=Column(Integer, primary_key=True, nullable=False))
    price: int = _integer()
    source: str = _text()


class ProgressTable(SQLModel, table=True):
    """The last progress of each job; replaced about once a second."""

    __tablename__: ClassVar[str] = "progress"
    __table_args__ = (STRICT,)
    key: str = _key()
    body: str = _text()


# Alembic's own table, in its own words: a fresh database is born stamped.
_STAMP: Final = f"""CREATE TABLE alembic_version (
    version_num VARCHAR(32) NOT NULL,
    CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num)
);

INSERT INTO alembic_version (version_num) VALUES ('{HEAD}');
"""  # noqa: S608 - a constant of ours


def ddl() -> str:
    """Everything a fresh database needs, as SQL."""
    dialect = sqlite.dialect()
    parts = ["-- Generated from tables.py: python -m dsched.scheduler.store.tables > scheduler/store/schema.sql\n"]
    for table in SQLModel.metadata.sorted_tables:
        parts.append(f"{str(CreateTable(table).compile(dialect=dialect)).strip()};\n")
        indexes = sorted(table.indexes, key=lambda index: str(index.name))
        parts += [f"{CreateIndex(index).compile(dialect=dialect)};\n" for index in indexes]
    lines = "\n".join([*parts, _STAMP]).expandtabs(4).splitlines()
    return "\n".join(line.rstrip() for line in lines) + "\n"


if __name__ == "__main__":
    sys.stdout.write(ddl())
