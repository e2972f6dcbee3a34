"""The tables of the file."""

from __future__ import annotations

VERSION = 1
"""Of the tables; a file of a later version is refused."""

SCHEMA = """
CREATE TABLE fact (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;

CREATE TABLE incident (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    key TEXT NOT NULL,
    condition TEXT NOT NULL,
    job_id TEXT NOT NULL,
    preset TEXT NOT NULL,
    host TEXT NOT NULL,
    run_id TEXT NOT NULL,
    severity TEXT NOT NULL,
    why TEXT NOT NULL,
    count INTEGER NOT NULL,
    opened_at REAL NOT NULL,
    last_at REAL NOT NULL,
    closed_at REAL,
    told_at REAL,
    told_count INTEGER NOT NULL DEFAULT 0,
    behind INTEGER NOT NULL DEFAULT 0,
    channels TEXT NOT NULL,
    facts TEXT NOT NULL,
    tells_end INTEGER NOT NULL
);
CREATE UNIQUE INDEX incident_open ON incident (key) WHERE closed_at IS NULL;
CREATE INDEX incident_job ON incident (job_id, preset) WHERE closed_at IS NULL;
CREATE INDEX incident_behind ON incident (behind) WHERE behind > 0;

CREATE TABLE notice (
    incident_id INTEGER NOT NULL,
    channel TEXT NOT NULL,
    kind TEXT NOT NULL,
    at REAL NOT NULL,
    PRIMARY KEY (incident_id, channel, kind)
) WITHOUT ROWID;

CREATE TABLE message (
    id TEXT PRIMARY KEY,
    channel TEXT NOT NULL,
    kind TEXT NOT NULL,
    subject TEXT NOT NULL,
    body TEXT NOT NULL,
    created_at REAL NOT NULL,
    next_at REAL NOT NULL,
    incident_ids TEXT NOT NULL,
    data TEXT NOT NULL,
    tries INTEGER NOT NULL,
    state TEXT NOT NULL,
    error TEXT NOT NULL,
    done_at REAL
);
CREATE INDEX message_pending ON message (channel, next_at) WHERE state = 'pending';
CREATE INDEX message_made ON message (channel, created_at);

-- The last message about a host on a channel: the next one waits for group_seconds.
CREATE TABLE told (
    channel TEXT NOT NULL, host TEXT NOT NULL, at REAL NOT NULL, PRIMARY KEY (channel, host)
) WITHOUT ROWID;

-- The first message about an incident on a channel, which later ones answer.
CREATE TABLE thread (
    incident_id INTEGER NOT NULL, channel TEXT NOT NULL, message_id TEXT NOT NULL, subject TEXT NOT NULL,
    PRIMARY KEY (incident_id, channel)
) WITHOUT ROWID;

CREATE TABLE streak (
    job_id TEXT NOT NULL, preset TEXT NOT NULL, failures INTEGER NOT NULL, since REAL NOT NULL,
    PRIMARY KEY (job_id, preset)
) WITHOUT ROWID;

CREATE TABLE open_run (
    run_id TEXT PRIMARY KEY, job_id TEXT NOT NULL, host TEXT NOT NULL, queued_at REAL NOT NULL, started_at REAL,
    check_at REAL
) WITHOUT ROWID;
CREATE INDEX open_run_check ON open_run (check_at) WHERE check_at IS NOT NULL;
CREATE INDEX open_run_job ON open_run (job_id);

-- Due instants of schedules with late_after_minutes. outcome is how the fire has ended so far.
CREATE TABLE expectation (
    job_id TEXT NOT NULL, preset TEXT NOT NULL, slot REAL NOT NULL, late_at REAL NOT NULL, outcome TEXT NOT NULL,
    PRIMARY KEY (job_id, preset, slot)
) WITHOUT ROWID;
CREATE INDEX expectation_late ON expectation (late_at);

-- Hosts without an instance, and since when.
CREATE TABLE absence (host TEXT PRIMARY KEY, since REAL NOT NULL, check_at REAL NOT NULL) WITHOUT ROWID;

CREATE TABLE mute (
    job_id TEXT NOT NULL, host TEXT NOT NULL, by_whom TEXT NOT NULL, why TEXT NOT NULL, since REAL NOT NULL,
    until REAL NOT NULL, PRIMARY KEY (job_id, host)
) WITHOUT ROWID;
"""
