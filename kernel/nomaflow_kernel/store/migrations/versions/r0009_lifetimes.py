"""The lifetime that a token was ordered for, whatever its end is now."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    """Add the column; it is NULL for tokens of earlier versions."""
    op.add_column("tokens", sa.Column("lifetime_seconds", sa.BigInteger(), nullable=True))
