"""Indexes that no query reads: nodes by launch or job, and alerts that wait, which are read in their own order."""

from __future__ import annotations

from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    for index in ("alert_unsent", "node_job", "node_token"):
        op.execute(f"DROP INDEX {index}")
