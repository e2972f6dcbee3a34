"""Finding the run that a new one collides with: by id, by the caller's request id, or by the slot of a cron fire."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Connection, and_, bindparam, or_, select, text

from nomaflow_kernel.history.lookups import RunOfRequest
from nomaflow_kernel.history.records import RunRecord
from nomaflow_kernel.history.states import RunState
from nomaflow_kernel.store.operations.conditions import chunks
from nomaflow_kernel.store.schema import runs

# Literal, as in the partial indexes: SQLite uses those only for exactly the same condition.
_HAS_REQUEST_ID = text("runs.request_id <> ''")
_HAS_SLOT = text("runs.slot <> ''")
_OF_REQUESTS = select(runs.c.request_id, runs.c.run_id, runs.c.request_hash, runs.c.state).where(
    runs.c.request_id.in_(bindparam("request_ids", expanding=True)),
    _HAS_REQUEST_ID,
)


def find_duplicate(connection: Connection, run: RunRecord) -> str | None:
    """Return the id of the run that ``run`` would collide with, or None."""
    clashes = [runs.c.run_id == run.run_id]
    if run.request_id:
        clashes.append(and_(runs.c.request_id == run.request_id, _HAS_REQUEST_ID))
    if run.slot:
        clashes.append(and_(runs.c.slot == run.slot, _HAS_SLOT))
    return connection.execute(select(runs.c.run_id).where(or_(*clashes)).order_by(runs.c.run_id).limit(1)).scalar()


def runs_of_requests(connection: Connection, request_ids: Sequence[str]) -> dict[str, RunOfRequest]:
    """Return the run that was started with each of some request ids; unused ids are left out."""
    found: dict[str, RunOfRequest] = {}
    for chunk in chunks(request_ids):
        for row in connection.execute(_OF_REQUESTS, {"request_ids": chunk}):
            run = RunOfRequest(run_id=row.run_id, request_hash=row.request_hash, state=RunState(row.state))
            found[row.request_id] = run
    return found


def slots_taken(connection: Connection, slots: Sequence[str]) -> frozenset[str]:
    """Return the subset of some slots that have a run."""
    taken: set[str] = set()
    for chunk in chunks(slots):
        taken.update(connection.execute(select(runs.c.slot).where(runs.c.slot.in_(chunk), _HAS_SLOT)).scalars())
    return frozenset(taken)
