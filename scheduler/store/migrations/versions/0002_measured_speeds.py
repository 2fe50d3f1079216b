"""What was measured of each model's speed."""

from __future__ import annotations

from alembic import op

revision = "0002"
down_revision = "0001"

TABLE = """
CREATE TABLE speed (
    "key" TEXT NOT NULL,
    body TEXT NOT NULL,
    PRIMARY KEY ("key")
)
 STRICT"""


def upgrade() -> None:
    op.execute(TABLE)
