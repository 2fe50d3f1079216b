"""The four descriptions of the schema agree, and a database meets only the code that knows it."""

from __future__ import annotations

import re
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import StaticPool, create_engine
from sqlmodel import SQLModel

from dsched.scheduler.core.event import TABLES
from dsched.scheduler.core.snapshot import ROWS
from dsched.scheduler.core.state import IntentState, JobState, NodeState
from dsched.scheduler.store import database, log, tables
from dsched.scheduler.store.database import connect_memory, driver
from dsched.scheduler.store.errors import Damaged, NewerSchema, StoreFailed
from dsched.scheduler.store.migrations import HEAD, run
from dsched.scheduler.store.writer import Store
from tests.support.events import submitted

Schema = dict[str, str]


def schema(connection: sqlite3.Connection) -> Schema:
    rows = connection.execute("SELECT type || ' ' || name, sql FROM sqlite_master WHERE sql IS NOT NULL")
    return {name: re.sub(r"\s+", " ", sql) for name, sql in rows}


def test_the_shipped_ddl_is_the_one_of_the_tables() -> None:
    shipped = Path(database.__file__).with_name("schema.sql").read_text("utf-8")
    assert shipped == tables.ddl(), "run: python -m dsched.scheduler.store.tables > scheduler/store/schema.sql"


def test_a_fresh_database_equals_a_migrated_one() -> None:
    migrated = driver.connect(":memory:", isolation_level=None)
    run.migrate(migrated)
    assert schema(migrated) == schema(connect_memory())
    assert migrated.execute("SELECT version_num FROM alembic_version").fetchall() == [(HEAD,)]


def test_alembic_sees_no_difference_between_the_tables_and_a_fresh_database() -> None:
    connection = connect_memory()
    engine = create_engine("sqlite://", creator=lambda: connection, poolclass=StaticPool, module=driver)
    with engine.connect() as lent:
        context = MigrationContext.configure(lent)
        assert compare_metadata(context, SQLModel.metadata) == []


def test_the_migrations_are_one_line_that_ends_at_the_head() -> None:
    config = Config()
    config.set_main_option("script_location", str(run.HERE))
    revisions = list(ScriptDirectory.from_config(config).walk_revisions())
    assert [r.revision for r in revisions] == [f"{n:04}" for n in range(int(HEAD), 0, -1)]


def test_the_raw_statements_name_the_columns_of_the_tables() -> None:
    columns = {t.name: [c.name for c in t.columns] for t in SQLModel.metadata.sorted_tables}
    assert tuple(columns["event"]) == log.EVENT_COLUMNS
    assert all(columns[table][:2] == ["key", "body"] for table in (*TABLES, "progress"))
    assert columns["quote"] == columns["quote_journal"] == ["pool", "at", "price", "source"]
    assert columns["meta"] == ["key", "value"]
    assert set(TABLES) == set(ROWS) <= set(columns)


@pytest.mark.parametrize(("table", "states"), [("job", JobState), ("node", NodeState), ("intent", IntentState)])
def test_an_unknown_state_is_refused_by_the_table_itself(table: str, states: type[JobState]) -> None:
    body = """{"state": "%s", "job": "", "token": "", "key": "", "spec": {"user": "", "name": ""},
               "submitted": {"market": 1}}"""
    connection = connect_memory()
    for number, state in enumerate(states):
        connection.execute(f"INSERT INTO {table} (key, body) VALUES (?, ?)", (str(number), body % state))
    with pytest.raises(driver.IntegrityError, match="state_known"):
        connection.execute(f"INSERT INTO {table} (key, body) VALUES ('x', ?)", (body % "elsewhere",))


def later_migrations(folder: Path) -> Path:
    """The real migrations and one that is not written yet."""
    scripts = folder / "migrations"
    shutil.copytree(run.HERE, scripts, ignore=shutil.ignore_patterns("__pycache__"))
    (scripts / "versions" / "9999_colour.py").write_text(
        f"from alembic import op\nrevision = '9999'\ndown_revision = '{HEAD}'\n"
        "def upgrade():\n"
        "    op.execute(\"ALTER TABLE job ADD COLUMN colour TEXT AS (json_extract(body, '$.colour')) VIRTUAL\")\n"
    )
    return scripts


def test_an_older_database_is_backed_up_and_then_migrated(tmp_path: Path) -> None:
    store = Store.open(tmp_path)
    store.commit_sync([submitted("j1")])
    store.close()

    connection = database.open_writer(store.path)
    backup = run.upgrade(connection, store.path, HEAD, scripts=later_migrations(tmp_path))
    assert connection.execute("SELECT key, colour FROM job").fetchall() == [("j1", None)]
    assert database.revision(connection, store.path) == "9999"
    connection.close()

    old = driver.connect(str(backup))
    assert backup.name == f"state.db.bak-{HEAD}"
    assert old.execute("SELECT key FROM job").fetchall() == [("j1",)]
    assert database.revision(old, backup) == HEAD
    old.close()


def test_a_migration_that_fails_changes_nothing(tmp_path: Path) -> None:
    scripts = later_migrations(tmp_path)
    broken = scripts / "versions" / "9999_colour.py"
    broken.write_text(broken.read_text() + '    op.execute("ALTER TABLE nowhere ADD COLUMN x")\n')
    path = tmp_path / "state.db"
    connection = database.open_writer(path)
    before = schema(connection)
    with pytest.raises(Exception, match="nowhere"):
        run.upgrade(connection, path, HEAD, scripts=scripts)
    connection.close()
    connection = database.open_writer(path)
    assert schema(connection) == before
    assert database.revision(connection, path) == HEAD
    connection.close()


def test_a_start_finds_an_older_revision_by_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Store.open(tmp_path).close()
    monkeypatch.setattr(run, "HERE", later_migrations(tmp_path))
    monkeypatch.setattr(database, "HEAD", "9999")
    Store.open(tmp_path).close()
    connection = database.open_reader(tmp_path / "state.db")
    assert database.revision(connection, tmp_path / "state.db") == "9999"
    connection.close()
    assert (tmp_path / f"state.db.bak-{HEAD}").exists()


def test_a_newer_database_is_refused_and_left_alone(tmp_path: Path) -> None:
    Store.open(tmp_path).close()
    path = tmp_path / "state.db"
    connection = driver.connect(str(path))
    connection.execute("UPDATE alembic_version SET version_num = '9999'")
    connection.commit()
    connection.close()
    before = path.read_bytes()
    with pytest.raises(NewerSchema, match="has schema 9999, this dsched knows up to"):
        Store.open(tmp_path)
    assert path.read_bytes() == before


@pytest.mark.parametrize("content", [b"not a database" * 500, b"SQLite format 3\0" + bytes(5_000)])
def test_a_file_that_is_no_database_is_refused_with_the_remedy(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "state.db").write_bytes(content)
    with pytest.raises(Damaged, match="dsched db restore"):
        Store.open(tmp_path)


def test_a_directory_that_cannot_be_made_is_said_with_the_remedy(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreFailed, match=r"cannot write .*Not a directory"):
        Store.open(tmp_path / "file" / "state")


def test_somebody_elses_database_is_refused(tmp_path: Path) -> None:
    connection = driver.connect(str(tmp_path / "state.db"))
    connection.execute("CREATE TABLE photos (id)")
    connection.close()
    with pytest.raises(Damaged, match="something else"):
        Store.open(tmp_path)


def test_the_usual_start_imports_no_schema_library(tmp_path: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from dsched.scheduler.store.writer import Store\n"
        "for _ in range(2): Store.open(Path(sys.argv[1])).close()\n"
        "print([m for m in ('sqlmodel', 'sqlalchemy', 'alembic', 'pydantic') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program, str(tmp_path)], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
