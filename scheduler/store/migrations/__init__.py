"""The schema's history: one numbered revision after the other, forward only.

Revisions are four digits and linear, so that older and newer can be told without importing Alembic. Going back means
to restore the backup that an upgrade leaves. A new revision is a file versions/NNNN_what.py, HEAD raised to it,
tables.py changed and schema.sql generated again; tests hold the four together.
"""

from __future__ import annotations

from typing import Final

HEAD: Final = "0003"
