"""The first schema."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0001"
down_revision = None

_KEY = sa.Text().with_variant(postgresql.TEXT(collation="C"), "postgresql")
_SEQ = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def _key(name: str) -> sa.Column[str]:
    return sa.Column(name, _KEY, nullable=False)


def _text(name: str) -> sa.Column[str]:
    return sa.Column(name, sa.Text(), nullable=False)


def _number(name: str) -> sa.Column[int]:
    return sa.Column(name, sa.BigInteger(), nullable=False)


def _maybe(name: str) -> sa.Column[int]:
    return sa.Column(name, sa.BigInteger(), nullable=True)


def upgrade() -> None:
    """Make every table."""
    _create_kernel()
    _create_runs()
    _create_attempts()
    _create_events_and_logs()
    _create_hosts()
    _create_scheduling()


def _create_kernel() -> None:
    op.create_table(
        "kernel",
        sa.Column("id", sa.Integer(), primary_key=True, autoincrement=False),
        _number("epoch"),
        _text("holder"),
        _number("lease_until_us"),
        _number("last_event_seq"),
        _number("commits"),
    )
    op.execute(
        "INSERT INTO kernel (id, epoch, holder, lease_until_us, last_event_seq, commits) VALUES (1, 0, '', 0, 0, 0)"
    )


def _create_runs() -> None:
    op.create_table(
        "definitions",
        _key("digest"),
        _key("job_id"),
        _text("body"),
        sa.PrimaryKeyConstraint("digest"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "runs",
        _key("run_id"),
        _key("job_id"),
        _key("host"),
        _key("state"),
        _text("reason_code"),
        _text("reason_message"),
        _text("error"),
        _text("trigger_kind"),
        _text("trigger_by"),
        _number("trigger_at_us"),
        _text("definition_digest"),
        _text("request"),
        sa.Column("priority", sa.Integer(), nullable=False),
        _text("parent_chain"),
        _number("queued_at_us"),
        _maybe("started_at_us"),
        _maybe("finished_at_us"),
        _maybe("cancel_at_us"),
        _text("cancel_by"),
        _text("cancel_why"),
        _text("cancel_code"),
        _maybe("fold_first_us"),
        _maybe("fold_last_us"),
        _maybe("fold_count"),
        _text("replay_of"),
        _key("request_id"),
        _text("request_hash"),
        _key("slot"),
        _maybe("rows_affected"),
        _number("log_lines"),
        _number("last_event_seq"),
        _text("current_step"),
        sa.PrimaryKeyConstraint("run_id"),
        sqlite_with_rowid=False,
    )
    op.create_index("runs_by_job", "runs", ["job_id", "run_id"])
    op.create_index("runs_by_host", "runs", ["host", "run_id"])
    op.create_index("runs_by_state", "runs", ["state", "run_id"])
    has_request, has_slot = sa.text("request_id <> ''"), sa.text("slot <> ''")
    op.create_index(
        "runs_by_request",
        "runs",
        ["job_id", "request_id"],
        unique=True,
        sqlite_where=has_request,
        postgresql_where=has_request,
    )
    op.create_index("runs_by_slot", "runs", ["slot"], unique=True, sqlite_where=has_slot, postgresql_where=has_slot)


def _create_attempts() -> None:
    op.create_table(
        "attempts",
        _key("run_id"),
        sa.Column("step_index", sa.Integer(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        _text("step"),
        _key("state"),
        _text("reason_code"),
        _text("reason_message"),
        _text("error"),
        _text("host"),
        _text("incarnation"),
        _number("epoch"),
        _maybe("rows_affected"),
        sa.Column("extras_json", sa.LargeBinary(), nullable=False),
        sa.Column("has_result", sa.Boolean(), nullable=False),
        _number("report_seq"),
        _maybe("not_before_us"),
        _maybe("dispatched_at_us"),
        _maybe("started_at_us"),
        _maybe("finished_at_us"),
        _number("worker_pid"),
        _number("generation"),
        _text("progress_json"),
        _text("child_run_id"),
        _number("peak_rss_bytes"),
        sa.Column("cpu_seconds", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("run_id", "step_index", "attempt"),
        sqlite_with_rowid=False,
    )


def _create_events_and_logs() -> None:
    op.create_table(
        "events",
        sa.Column("seq", _SEQ, nullable=False, autoincrement=False),
        _number("at_us"),
        _text("kind"),
        _key("run_id"),
        _text("job_id"),
        _text("step"),
        sa.Column("attempt", sa.Integer(), nullable=False),
        _text("state"),
        _text("reason_code"),
        _text("reason_message"),
        _text("host"),
        _text("data"),
        sa.PrimaryKeyConstraint("seq"),
    )
    op.create_index("events_by_run", "events", ["run_id", "seq"])
    op.create_table(
        "log_chunks",
        _key("run_id"),
        _number("first_seq"),
        sa.Column("line_count", sa.Integer(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("levels", sa.Integer(), nullable=False),
        sa.Column("codec", sa.Integer(), nullable=False),
        _number("first_at_us"),
        _number("last_at_us"),
        _text("step"),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("run_id", "first_seq"),
    )


def _create_hosts() -> None:
    op.create_table(
        "host_digests",
        _key("host"),
        _key("digest"),
        _number("first_seen_at_us"),
        sa.PrimaryKeyConstraint("host", "digest"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "host_manifests",
        _key("host"),
        _key("digest"),
        _text("manifest"),
        _number("introduced_at_us"),
        sa.PrimaryKeyConstraint("host"),
    )
    op.create_table(
        "job_owners",
        _key("job_id"),
        _key("host"),
        sa.PrimaryKeyConstraint("job_id"),
        sqlite_with_rowid=False,
    )


def _create_scheduling() -> None:
    op.create_table(
        "schedules",
        _key("job_id"),
        _key("preset"),
        _maybe("next_fire_us"),
        _text("fingerprint"),
        sa.PrimaryKeyConstraint("job_id", "preset"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "pauses",
        _key("scope"),
        _key("name"),
        _text("by"),
        _text("why"),
        _number("since_us"),
        _maybe("until_us"),
        sa.PrimaryKeyConstraint("scope", "name"),
        sqlite_with_rowid=False,
    )
