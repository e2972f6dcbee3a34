"""Next fires and pauses."""

from __future__ import annotations

from sqlalchemy import Connection, select

from nomaflow_kernel.history.records import PauseRecord
from nomaflow_kernel.history.transitions import SetNextFire
from nomaflow_kernel.store.rows import FIRES, PAUSES
from nomaflow_kernel.store.schema import pauses as pauses_table
from nomaflow_kernel.store.schema import schedules as schedules_table

__all__ = ["pauses", "schedules"]


def schedules(connection: Connection) -> list[SetNextFire]:
    """Return every stored next fire, by job and preset."""
    query = select(schedules_table).order_by(schedules_table.c.job_id, schedules_table.c.preset)
    return [FIRES.record(row) for row in connection.execute(query)]


def pauses(connection: Connection) -> list[PauseRecord]:
    """Return every pause, by scope and name."""
    query = select(pauses_table).order_by(pauses_table.c.scope, pauses_table.c.name)
    return [PAUSES.record(row) for row in connection.execute(query)]
