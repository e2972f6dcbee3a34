"""An id for each history, the newest removed event, and request ids that are unique over all jobs."""

from __future__ import annotations

import uuid

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"

# If the store was pruned before, the removed events are unknown: all existing events may have had gaps.
_IDENTITY = sa.text(
    "INSERT INTO identity (id, store_id, pruned_through_seq) SELECT 1, :store_id,"
    " CASE WHEN (SELECT count(*) FROM events) = last_event_seq THEN 0 ELSE last_event_seq END FROM kernel"
)
_ONE_RUN_EACH = sa.text(
    "UPDATE runs SET request_id = '' WHERE request_id <> '' AND run_id NOT IN"
    " (SELECT min(run_id) FROM runs WHERE request_id <> '' GROUP BY request_id)"
)


def upgrade() -> None:
    """Make the table of one row; if two jobs share a request id, the older run keeps it."""
    op.create_table(
        "identity",
        sa.Column("id", sa.Integer(), primary_key=True, autoincrement=False),
        sa.Column("store_id", sa.Text(), nullable=False),
        sa.Column("pruned_through_seq", sa.BigInteger(), nullable=False),
    )
    op.get_bind().execute(_IDENTITY, {"store_id": uuid.uuid4().hex})
    op.drop_index("runs_by_request", table_name="runs")
    op.get_bind().execute(_ONE_RUN_EACH)
    has_request = sa.text("request_id <> ''")
    op.create_index(
        "runs_by_request",
        "runs",
        ["request_id"],
        unique=True,
        sqlite_where=has_request,
        postgresql_where=has_request,
    )
