"""The length of a leader's lease, so that standby kernels do not depend on the database's clock."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Make the table of one row. It holds its term: versions that do not know the table leave it unchanged."""
    op.create_table(
        "lease_length",
        sa.Column("id", sa.Integer(), primary_key=True, autoincrement=False),
        sa.Column("term", sa.BigInteger(), nullable=False),
        sa.Column("ttl_us", sa.BigInteger(), nullable=False),
    )
    op.execute("INSERT INTO lease_length (id, term, ttl_us) VALUES (1, 0, 0)")
