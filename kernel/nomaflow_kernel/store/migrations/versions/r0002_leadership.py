"""The leadership table: the lease of the kernel that may schedule, if several share a database."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Make the table of one row. It is separate from `kernel`, whose row every commit locks."""
    op.create_table(
        "leadership",
        sa.Column("id", sa.Integer(), primary_key=True, autoincrement=False),
        sa.Column("term", sa.BigInteger(), nullable=False),
        sa.Column("holder", sa.Text(), nullable=False),
        sa.Column("process", sa.Text(), nullable=False),
        sa.Column("addresses", sa.Text(), nullable=False),
        sa.Column("lease_until_us", sa.BigInteger(), nullable=False),
    )
    op.execute(
        "INSERT INTO leadership (id, term, holder, process, addresses, lease_until_us) VALUES (1, 0, '', '', '', 0)"
    )
