"""Next fires and pauses."""

from __future__ import annotations

from sqlalchemy import Connection, delete, select, true

from nomaflow_kernel.history.port import PauseRecord
from nomaflow_kernel.history.transitions import SetNextFire
from nomaflow_kernel.store.rows import FIRES, PAUSES
from nomaflow_kernel.store.schema import pauses as pauses_table
from nomaflow_kernel.store.schema import schedules as schedules_table
from nomaflow_kernel.store.statements import insert

__all__ = ["clear_pause", "pauses", "schedules", "set_pause"]

_REPLACE_PAUSE = insert(pauses_table, PAUSES.columns, replaces=True)


def schedules(connection: Connection) -> list[SetNextFire]:
    """Return every stored next fire, by job and preset."""
    query = select(schedules_table).order_by(schedules_table.c.job_id, schedules_table.c.preset)
    return [FIRES.record(row) for row in connection.execute(query)]


def pauses(connection: Connection) -> list[PauseRecord]:
    """Return every pause, by scope and name."""
    query = select(pauses_table).order_by(pauses_table.c.scope, pauses_table.c.name)
    return [PAUSES.record(row) for row in connection.execute(query)]


def set_pause(connection: Connection, pause: PauseRecord) -> None:
    """Keep a pause; it replaces one of the same scope and name."""
    _REPLACE_PAUSE.execute(connection, [PAUSES.values(pause)])


def clear_pause(connection: Connection, scope: str, name: str, *, ended_by_us: int | None = None) -> bool:
    """Remove a pause and return whether there was one.

    :param ended_by_us: remove it only if it ends by that time; None removes it in any case
    """
    ended = true() if ended_by_us is None else pauses_table.c.until_us <= ended_by_us
    named = (pauses_table.c.scope == scope, pauses_table.c.name == name)
    return connection.execute(delete(pauses_table).where(*named, ended)).rowcount == 1
