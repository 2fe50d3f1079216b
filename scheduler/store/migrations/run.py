"""Bring an older database to the newest schema: a backup beside it, then Alembic, all revisions in one transaction."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

from alembic import command
from alembic.config import Config
from sqlalchemy import StaticPool, create_engine

from dsched.scheduler.store.database import driver, write_copy

if TYPE_CHECKING:
    from sqlite3 import Connection

HERE: Final = Path(__file__).parent


def upgrade(connection: Connection, path: Path, found: str, *, scripts: Path | None = None) -> Path:
    """Upgrade the open database at `path` from revision `found`. Returns the backup, PATH.bak-REVISION.

    A kill at any moment leaves the old schema or the new one, and a backup of the old one or a partial file that the
    next start replaces.
    """
    backup = path.with_name(f"{path.name}.bak-{found}")
    write_copy(connection, backup)
    migrate(connection, scripts=scripts)
    return backup


def migrate(connection: Connection, *, scripts: Path | None = None) -> None:
    """Run the revisions that the database has not seen."""
    config = Config()
    config.set_main_option("script_location", str(scripts or HERE))
    # The connection is lent. The driver is in autocommit mode, where SQLAlchemy begins nothing but commits what was
    # begun.
    engine = create_engine("sqlite://", creator=lambda: connection, poolclass=StaticPool, module=driver)
    with engine.connect() as lent:
        config.attributes["connection"] = lent
        connection.execute("BEGIN IMMEDIATE")
        command.upgrade(config, "head")
