"""The tables, as a new store gets them. Later revisions bring older stores to the same; a test compares them.

Absent texts are empty; absent numbers and times are NULL. Keys compare byte by byte on both databases.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Connection,
    Double,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    PrimaryKeyConstraint,
    String,
    Table,
    Text,
    text,
)
from sqlalchemy.schema import CreateTable
from sqlalchemy.types import TypeEngine

metadata = MetaData()

_KEY: TypeEngine[str] = Text().with_variant(Text(collation="C"), "postgresql")
_SEQ: TypeEngine[int] = BigInteger().with_variant(Integer(), "sqlite")


def _key(name: str) -> Column[str]:
    return Column(name, _KEY, nullable=False)


def _text(name: str, *, default: str | None = None) -> Column[str]:
    return Column(name, Text(), nullable=False, default=default)


def _number(name: str, *, default: int | None = None) -> Column[int]:
    return Column(name, BigInteger(), nullable=False, default=default)


def _maybe(name: str) -> Column[int]:
    return Column(name, BigInteger(), nullable=True)


revisions = Table("alembic_version", MetaData(), Column("version_num", String(32), primary_key=True))
"""One row: the schema's revision. Its metadata is separate from that of the tables that Alembic migrates."""

kernel = Table(
    "kernel",
    metadata,
    Column("id", Integer(), primary_key=True, autoincrement=False),
    _number("epoch", default=0),
    _text("holder", default=""),
    _number("last_event_seq", default=0),
    _number("commits", default=0),
    _text("store_id"),
    _number("pruned_through_seq", default=0),
    _text("mark", default=""),
    _text("other_store", default=""),
    _number("audit_seq", default=0),
    _text("audit_hash", default=""),
    _number("audit_pruned_seq", default=0),
    _text("audit_pruned_hash", default=""),
)
"""One row: the writer (epoch, holder), the newest event, the number of committed transactions, a random id of this
history, the newest event that retention has removed, the mark of a store that no kernel may use, and the ends of the
audit's chain: its newest row, and the newest that retention has removed."""

leadership = Table(
    "leadership",
    metadata,
    Column("id", Integer(), primary_key=True, autoincrement=False),
    _number("term", default=0),
    _text("holder", default=""),
    _text("process", default=""),
    _text("addresses", default=""),
    _text("authority", default=""),
    _number("lease_until_us", default=0),
    _number("ttl_us", default=0),
)
"""One row, which no commit locks: the kernel that leads, on PostgreSQL, the fingerprint of its authority, and how long
its lease is valid unless it is renewed. The term is its epoch; times are of the database's clock."""

definitions = Table(
    "definitions",
    metadata,
    _key("digest"),
    _key("job_id"),
    _text("body"),
    PrimaryKeyConstraint("digest"),
    sqlite_with_rowid=False,
)
"""Snapshots of jobs, stored once per digest, and as long as a run has it."""

runs = Table(
    "runs",
    metadata,
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
    _key("definition_digest"),
    _text("request"),
    Column("priority", Integer(), nullable=False),
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
    _key("replay_of"),
    _key("request_id"),
    _text("request_hash"),
    _key("slot"),
    _maybe("rows_affected"),
    _number("log_lines"),
    Column("log_levels", Integer(), nullable=False),
    _number("last_event_seq"),
    _text("current_step"),
    PrimaryKeyConstraint("run_id"),
    sqlite_with_rowid=False,
)

Index("runs_by_job", runs.c.job_id, runs.c.run_id)
Index("runs_by_host", runs.c.host, runs.c.run_id)
Index("runs_by_state", runs.c.state, runs.c.run_id)
Index(
    "runs_by_request",
    runs.c.request_id,
    unique=True,
    sqlite_where=text("request_id <> ''"),
)
Index(
    "runs_by_slot",
    runs.c.slot,
    unique=True,
    sqlite_where=text("slot <> ''"),
)

Index(
    "runs_by_replayed",
    runs.c.replay_of,
    runs.c.run_id,
    sqlite_where=text("replay_of <> ''"),
)
Index("runs_by_definition", runs.c.definition_digest)

attempts = Table(
    "attempts",
    metadata,
    _key("run_id"),
    Column("step_index", Integer(), nullable=False),
    Column("attempt", Integer(), nullable=False),
    _text("step"),
    _key("state"),
    _text("reason_code"),
    _text("reason_message"),
    _text("error"),
    _text("host"),
    _text("incarnation"),
    _number("epoch"),
    _maybe("rows_affected"),
    Column("extras_json", LargeBinary(), nullable=False),
    Column("has_result", Boolean(), nullable=False),
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
    Column("cpu_seconds", Double(), nullable=False),
    Column("exclusive", Boolean(), nullable=False),
    _text("facts"),
    PrimaryKeyConstraint("run_id", "step_index", "attempt"),
    sqlite_with_rowid=False,
)

events = Table(
    "events",
    metadata,
    Column("seq", _SEQ, nullable=False, autoincrement=False),
    _number("at_us"),
    _text("kind"),
    _key("run_id"),
    _text("job_id"),
    _text("step"),
    Column("attempt", Integer(), nullable=False),
    _text("state"),
    _text("reason_code"),
    _text("reason_message"),
    _text("host"),
    _key("by"),
    _text("data"),
    PrimaryKeyConstraint("seq"),
)

Index("events_by_run", events.c.run_id, events.c.seq)
Index(
    "events_of_people",
    events.c.seq,
    events.c.by,
    sqlite_where=text("\"by\" <> ''"),
)

log_chunks = Table(
    "log_chunks",
    metadata,
    _key("run_id"),
    _number("first_seq"),
    Column("line_count", Integer(), nullable=False),
    Column("attempt", Integer(), nullable=False),
    Column("levels", Integer(), nullable=False),
    Column("codec", Integer(), nullable=False),
    _number("first_at_us"),
    _number("last_at_us"),
    _text("step"),
    Column("body", LargeBinary(), nullable=False),
    PrimaryKeyConstraint("run_id", "first_seq"),
)
"""Blocks of log lines. The body is the last column, so that a skipped chunk costs only its first page."""

host_digests = Table(
    "host_digests",
    metadata,
    _key("host"),
    _key("digest"),
    _number("first_seen_at_us"),
    PrimaryKeyConstraint("host", "digest"),
    sqlite_with_rowid=False,
)
"""Every manifest that a host has ever shown."""

host_manifests = Table(
    "host_manifests",
    metadata,
    _key("host"),
    _key("digest"),
    _text("manifest"),
    _number("introduced_at_us"),
    PrimaryKeyConstraint("host"),
)
"""The manifest that is a host's catalogue."""

job_owners = Table(
    "job_owners",
    metadata,
    _key("job_id"),
    _key("host"),
    PrimaryKeyConstraint("job_id"),
    sqlite_with_rowid=False,
)

schedules = Table(
    "schedules",
    metadata,
    _key("job_id"),
    _key("preset"),
    _maybe("next_fire_us"),
    _text("fingerprint"),
    PrimaryKeyConstraint("job_id", "preset"),
    sqlite_with_rowid=False,
)

pauses = Table(
    "pauses",
    metadata,
    _key("scope"),
    _key("name"),
    _text("by"),
    _text("why"),
    _number("since_us"),
    _maybe("until_us"),
    PrimaryKeyConstraint("scope", "name"),
    sqlite_with_rowid=False,
)

tokens = Table(
    "tokens",
    metadata,
    _key("token_id"),
    _text("kind"),
    _text("name"),
    Column("joins", Boolean(), nullable=False),
    _text("roles"),
    _text("grants"),
    _key("secret_hash"),
    _number("created_at_us"),
    _text("created_by"),
    _number("expires_at_us"),
    _maybe("uses_left"),
    _maybe("last_used_at_us"),
    _maybe("revoked_at_us"),
    _text("joined_with"),
    _text("ids"),
    _number("instance_seconds"),
    _maybe("lifetime_seconds"),
    PrimaryKeyConstraint("token_id"),
    sqlite_with_rowid=False,
)
"""Credentials of users and services, and the secrets of join strings; only hashes of secrets."""

certificates = Table(
    "certificates",
    metadata,
    _key("serial"),
    _text("host"),
    _number("issued_at_us"),
    _number("expires_at_us"),
    _text("issued_to"),
    _text("token_id"),
    _maybe("revoked_at_us"),
    _text("line"),
    _text("ids"),
    Column("instance", Boolean(), nullable=False),
    PrimaryKeyConstraint("serial"),
    sqlite_with_rowid=False,
)
"""Certificates that the kernel's authority issued to hosts."""

audit = Table(
    "audit",
    metadata,
    Column("seq", _SEQ, nullable=False, autoincrement=False),
    _number("at_us"),
    _text("principal"),
    _text("address"),
    _text("action"),
    _text("target"),
    _text("outcome"),
    _text("note"),
    _text("correlation"),
    Column("count", Integer(), nullable=False),
    _text("hash"),
    PrimaryKeyConstraint("seq"),
)
"""Every change and every refusal, each chained to the one before by its hash."""


def create_tables(connection: Connection) -> None:
    """Create all tables but ``revisions``, with their indexes, in an order of their own.

    SQLite takes one or the other of two indexes that it finds equally good by the order in which they were made, and
    SQLAlchemy keeps them in a set: by its order, each store would choose by chance.

    Partial indexes are declared for SQLite. To declare them for PostgreSQL too would load its dialect, and the drivers
    that belong to it, into every kernel: 27 ms of its start and 2 MiB of its memory.
    """
    for table in metadata.sorted_tables:
        connection.execute(CreateTable(table))
        for index in sorted(table.indexes, key=lambda each: str(each.name)):
            index.dialect_options[connection.dialect.name]["where"] = index.dialect_options["sqlite"]["where"]
            index.create(connection)
