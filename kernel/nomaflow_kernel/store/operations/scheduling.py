"""Next fires and pauses."""

from __future__ import annotations

from sqlalchemy import Connection, select

from nomaflow_kernel.history.port import PauseRecord, ScheduleRow
from nomaflow_kernel.store.schema import pauses as pauses_table
from nomaflow_kernel.store.schema import schedules as schedules_table

__all__ = ["pauses", "schedules"]


def schedules(connection: Connection) -> list[ScheduleRow]:
    """Return every stored next fire, by job and preset."""
    query = select(schedules_table).order_by(schedules_table.c.job_id, schedules_table.c.preset)
    return [
        ScheduleRow(
            job_id=row.job_id,
            preset=row.preset,
            next_fire_us=row.next_fire_us,
            fingerprint=row.fingerprint,
        )
        for row in connection.execute(query)
    ]


def pauses(connection: Connection) -> list[PauseRecord]:
    """Return every pause, by scope and name."""
    query = select(pauses_table).order_by(pauses_table.c.scope, pauses_table.c.name)
    return [
        PauseRecord(
            scope=row.scope,
            name=row.name,
            by=row.by,
            why=row.why,
            since_us=row.since_us,
            until_us=row.until_us,
        )
        for row in connection.execute(query)
    ]
