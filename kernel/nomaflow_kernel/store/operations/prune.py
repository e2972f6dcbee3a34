"""Removing old history: candidates are found by reading, then removed in small transactions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

from sqlalchemy import ColumnElement, Connection, and_, delete, func, or_, select, update

from nomaflow_kernel.history.ids import first_run_id
from nomaflow_kernel.history.records import TriggerKind
from nomaflow_kernel.history.states import RUN_TERMINAL
from nomaflow_kernel.store.operations.conditions import of_value, plain
from nomaflow_kernel.store.operations.runs import job_ids
from nomaflow_kernel.store.schema import attempts, definitions, events, kernel, log_chunks, runs
from nomaflow_kernel.store.session import WriteSession

_Conditions: TypeAlias = Sequence[ColumnElement[bool]]
_TERMINAL = tuple(sorted(state.value for state in RUN_TERMINAL))
_IS_TERMINAL = plain(runs.c.state).in_(_TERMINAL)
"""Nearly all runs are: their index by state is the longest way to the oldest ones."""
_NEXT_IN_USE = select(func.min(runs.c.definition_digest)).where(runs.c.definition_digest >= definitions.c.digest)
"""The digest of the definition, or the next higher one that a run has: so put, only the index answers it, whatever
PostgreSQL expects of its values."""
_IS_UNUSED = definitions.c.digest.is_distinct_from(_NEXT_IN_USE.correlate(definitions).scalar_subquery())


def prunable_runs(
    connection: Connection,
    *,
    job_id: str,
    keep_runs: int | None,
    before_us: int | None,
    limit: int,
    proofs_after_us: int | None = None,
    host: str = "",
    not_host: str = "",
) -> list[str]:
    """Return up to ``limit`` terminal runs of a job (empty: of all jobs) to delete, oldest first within a job.

    These are runs beyond the newest ``keep_runs`` of their job, or finished before ``before_us``. The count spares runs
    of fires, also of those that did not run, and of requests that finished after ``proofs_after_us``: they prevent the
    same fire or request from running again.

    :param host: counts and returns only the runs of this host; empty for all
    :param not_host: the same for the runs of all hosts but this one
    """
    found: dict[str, None] = {}
    of_hosts = [plain(runs.c.host) == host] if host else [plain(runs.c.host) != not_host] if not_host else []
    if before_us is not None:
        found.update(dict.fromkeys(_finished_before(connection, job_id, of_hosts, before_us, limit)))
    if keep_runs is not None:
        jobs = [job_id] if job_id else job_ids(connection)
        for job in jobs:
            if len(found) >= limit:
                break
            found.update(dict.fromkeys(_beyond(connection, job, of_hosts, keep_runs, limit, proofs_after_us)))
    return list(found)[:limit]


def _finished_before(
    connection: Connection, job_id: str, of_hosts: _Conditions, before_us: int, limit: int
) -> Sequence[str]:
    high = first_run_id(before_us // 1000 + 1)
    walk = of_value(runs.c.job_id, runs.c.run_id, job_id, high=high) if job_id else [runs.c.run_id < high]
    query = select(runs.c.run_id).where(*walk, runs.c.finished_at_us < before_us, _IS_TERMINAL, *of_hosts)
    order = [runs.c.job_id, runs.c.run_id] if job_id else [runs.c.run_id]
    return connection.execute(query.order_by(*order).limit(limit)).scalars().all()


def _beyond(
    connection: Connection,
    job_id: str,
    of_hosts: _Conditions,
    keep_runs: int,
    limit: int,
    proofs_after_us: int | None,
) -> Sequence[str]:
    of_job = of_value(runs.c.job_id, runs.c.run_id, job_id)
    newest_first = select(runs.c.run_id).where(*of_job, *of_hosts).order_by(runs.c.job_id.desc(), runs.c.run_id.desc())
    first_gone = connection.execute(newest_first.offset(keep_runs).limit(1)).scalar_one_or_none()
    if first_gone is None:
        return ()
    gone = [*of_job, *of_hosts, runs.c.run_id <= first_gone, _IS_TERMINAL]
    if proofs_after_us is not None:
        proves_nothing = and_(runs.c.request_id == "", runs.c.trigger_kind != TriggerKind.CRON.value)
        gone.append(or_(proves_nothing, runs.c.finished_at_us < proofs_after_us))
    query = select(runs.c.run_id).where(*gone).order_by(runs.c.job_id, runs.c.run_id).limit(limit)
    return connection.execute(query).scalars().all()


def remove_runs(session: WriteSession, run_ids: Sequence[str], *, on_gone: Callable[[int], None]) -> int:
    """Delete the runs that are terminal, with all their data; return the number deleted.

    :param on_gone: called with the newest event to be deleted, before the deletion
    """
    connection = session.connection
    facts = select(runs.c.run_id, runs.c.last_event_seq, runs.c.definition_digest)
    terminal = connection.execute(facts.where(runs.c.run_id.in_(run_ids), _IS_TERMINAL)).all()
    if not terminal:
        return 0
    _note_gone(connection, max(run.last_event_seq for run in terminal), on_gone)
    gone = [run.run_id for run in terminal]
    for table in (log_chunks, events, attempts, runs):
        connection.execute(delete(table).where(table.c.run_id.in_(gone)))
    digests = {run.definition_digest for run in terminal}
    session.known_digests.difference_update(digests)  # the next run of one stores it again
    connection.execute(delete(definitions).where(definitions.c.digest.in_(digests), _IS_UNUSED))
    return len(terminal)


def old_notices(connection: Connection, *, before_us: int, limit: int) -> Sequence[int]:
    """Return up to ``limit`` events without a run that are older than ``before_us``, oldest first."""
    of_no_run = select(events.c.seq).where(events.c.run_id == "", events.c.at_us < before_us)
    return connection.execute(of_no_run.order_by(events.c.seq).limit(limit)).scalars().all()


def remove_events(connection: Connection, seqs: Sequence[int], *, on_gone: Callable[[int], None]) -> None:
    """Delete some events.

    :param on_gone: called with the newest of them, before the deletion
    """
    _note_gone(connection, max(seqs), on_gone)
    connection.execute(delete(events).where(events.c.seq.in_(seqs)))


def _note_gone(connection: Connection, seq: int, on_gone: Callable[[int], None]) -> None:
    later = kernel.c.pruned_through_seq < seq
    connection.execute(update(kernel).where(later).values(pruned_through_seq=seq))
    on_gone(seq)
