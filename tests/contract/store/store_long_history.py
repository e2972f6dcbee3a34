"""A history of a hundred thousand runs, the same on each database; and what it costs a database to read from it.

The database makes it, row by row from numbers. What is common is not common everywhere: a job, a host and a state occur
in the oldest fifth only, so that whoever expects to meet them soon walks through all the rest.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from sqlalchemy import Boolean, Column, Connection, LargeBinary, Table, text
from store_places import Place

from nomaflow_kernel.history.ids import first_run_id
from nomaflow_kernel.store import schema

__all__ = ["BIG_LOG", "CALLER", "DAY", "JOBS", "NOW", "REPLAYED", "cost_of", "fill", "run_id"]

T = TypeVar("T")

_RUNS = 100_000
_STEP_MS = 32**3
"""Between two runs, so that the number of a run is four letters of its id."""
_START_MS = 49 * 32**7
NOW = (_START_MS + _RUNS * _STEP_MS) * 1000
DAY = 86_400_000_000
JOBS = ("heartbeat", "legacy", "rare", *(f"job-{number}" for number in range(10)))
REPLAYED = 30_000
"""The run that was replayed."""
CALLER = 50_000
"""The run with two steps that have each called a job."""
BIG_LOG = 99_000
"""The run with a log of 3,000 chunks."""
_LETTERS = "0123456789abcdefghjkmnpqrstvwxyz"
_TABLES = ("runs", "attempts", "events", "log_chunks")


def run_id(number: int) -> str:
    """Return the id of a run by its number; the oldest is 0."""
    return first_run_id(_START_MS + number * _STEP_MS)


def _sql_id(number: str) -> str:
    first = run_id(0)
    letters = [f"substr('{_LETTERS}', CAST(1 + {number} / {32**n} % 32 AS int), 1)" for n in (3, 2, 1, 0)]
    return f"'{first[:7]}' || {' || '.join(letters)} || '{first[11:]}'"


_AT = f"({_START_MS} + n * {_STEP_MS}) * 1000"
_IS_PERSONS = "(n % 50 = 49 OR n < 20000 AND n % 5 = 1)"
_PERSON = "CASE WHEN n IN (41, 46, 20049) THEN 'zoe (for bob)' ELSE 'ann' END"
_JOB = """CASE WHEN n IN (11, 12, 500) THEN 'rare' WHEN n % 10 < 6 THEN 'heartbeat'
    WHEN n < 20000 THEN 'legacy' ELSE 'job-' || (n / 10 % 10) END"""
_HOST = f"""CASE {_JOB} WHEN 'heartbeat' THEN CASE WHEN n < 1000 THEN 'old' ELSE 'main' END
    WHEN 'legacy' THEN 'old' WHEN 'rare' THEN 'old' ELSE 'host-' || (n / 10 % 3) END"""
_STATE = f"""CASE WHEN n = 7 THEN 'RUNNING'
    WHEN n >= {_RUNS - 80} THEN CASE n % 4 WHEN 0 THEN 'RUNNING' ELSE 'QUEUED' END
    WHEN n < 20000 AND n % 10 = 3 THEN 'CANCELED' WHEN n % 100 = 3 THEN 'FAILED' WHEN n % 100 = 97 THEN 'MISSED'
    ELSE 'SUCCEEDED' END"""
_IS_REPLAY = f"n > {REPLAYED} AND n <= {REPLAYED + 5}"

_CONTENT: tuple[tuple[Table, int, int, str, Mapping[str, str]], ...] = (
    (
        schema.runs,
        0,
        _RUNS - 1,
        "n",
        {
            "run_id": _sql_id("n"),
            "job_id": _JOB,
            "host": _HOST,
            "state": _STATE,
            "reason_code": "CASE WHEN n % 50000 = 3 THEN 'host_lost' WHEN n % 100 = 3 THEN 'step_failed' ELSE '' END",
            "trigger_kind": f"CASE WHEN {_IS_REPLAY} THEN 'replay' WHEN {_IS_PERSONS} THEN 'manual' ELSE 'cron' END",
            "trigger_by": f"CASE WHEN {_IS_PERSONS} THEN {_PERSON} ELSE '* * * * *' END",
            "trigger_at_us": _AT,
            "definition_digest": "'digest'",
            "request": """CASE n % 9 WHEN 0 THEN '{"preset":"eu"}' ELSE '{}' END""",
            "parent_chain": "'[]'",
            "queued_at_us": _AT,
            "finished_at_us": f"CASE WHEN {_STATE} IN ('QUEUED', 'RUNNING') THEN NULL ELSE {_AT} + 1000 END",
            "replay_of": f"CASE WHEN {_IS_REPLAY} THEN '{run_id(REPLAYED)}' ELSE '' END",
            "rows_affected": "n % 1000",
            "log_levels": "CASE WHEN n % 1000 = 3 THEN 20 WHEN n % 100 = 3 THEN 12 ELSE 4 END",
        },
    ),
    (
        schema.attempts,
        0,
        _RUNS // 4 - 1,
        "4 * n",
        {"run_id": _sql_id("n"), "step": "'one'", "attempt": "1", "state": "'SUCCEEDED'", "facts": "'{}'"},
    ),
    (
        schema.attempts,
        1,
        2,
        "n",
        {
            "run_id": f"'{run_id(CALLER)}'",
            "step_index": "n",
            "step": "'calls'",
            "attempt": "1",
            "state": "'SUCCEEDED'",
            "child_run_id": _sql_id(f"({CALLER} + 10 * n)"),
            "facts": "'{}'",
        },
    ),
    (
        schema.events,
        0,
        _RUNS - 1,
        "n",
        {
            "seq": "n + 1",
            "at_us": _AT,
            "kind": "CASE n % 20000 WHEN 9 THEN 'pause.set' ELSE 'run.queued' END",
            "run_id": _sql_id("n"),
            "job_id": _JOB,
            "host": _HOST,
            "by": f"CASE WHEN {_IS_PERSONS} THEN {_PERSON} ELSE '' END",
            "data": "'{}'",
        },
    ),
    (
        schema.log_chunks,
        0,
        12_999,
        "n",
        {
            "run_id": f"CASE WHEN n < 3000 THEN '{run_id(BIG_LOG)}' ELSE {_sql_id('n')} END",
            "first_seq": "CASE WHEN n < 3000 THEN 10 * n + 1 ELSE 1 END",
            "line_count": "10",
            "attempt": "1",
            "levels": "CASE n % 1000 WHEN 500 THEN 16 ELSE 4 END",
            "step": "CASE n % 2 WHEN 0 THEN 'one' ELSE 'two' END",
        },
    ),
)


async def fill(place: Place) -> None:
    """Write the history into the tables of an open store, and let the database take the figures that it plans with."""
    for table, first, last, number, given in _CONTENT:
        values = [given.get(column.name) or _empty(column, place.kind) for column in table.columns]
        names = ", ".join(f'"{column.name}"' for column in table.columns)
        await place.sql(
            "WITH RECURSIVE counted(n) AS"  # our own names
            f" (SELECT CAST({first} AS bigint) UNION ALL SELECT n + 1 FROM counted WHERE n < {last}),"
            f" numbers(n) AS (SELECT {number} FROM counted)"
            f" INSERT INTO {table.name} ({names}) SELECT {', '.join(values)} FROM numbers"
        )
    if place.kind == "postgresql":
        await place.sql("VACUUM ANALYZE")


def _empty(column: Column[Any], kind: str) -> str:
    if column.nullable:
        return "NULL"
    if isinstance(column.type, LargeBinary):
        return "CAST('' AS bytea)" if kind == "postgresql" else "x''"
    if isinstance(column.type, Boolean):
        return "FALSE"
    return "''" if column.type.python_type is str else "0"


_COUNTED = text(
    "SELECT coalesce(sum(pg_stat_get_xact_tuples_returned(oid) + pg_stat_get_xact_blocks_fetched(oid)), 0)"
    " FROM pg_class WHERE oid = ANY(ARRAY(SELECT indexrelid FROM pg_index WHERE indrelid::regclass::text = ANY(:tables)"
    " UNION SELECT unnest(:tables)::regclass))"
)
_STEPS_A_ROW = 25
"""Instructions that SQLite takes for a row, at most."""


def cost_of(connection: Connection, read: Callable[[Connection], T]) -> tuple[int, T]:
    """Return about how many rows and pages of the history the database visits for a read, and the answer."""
    driver: Any = connection.connection.driver_connection
    if connection.dialect.name == "postgresql":
        before = connection.execute(_COUNTED, {"tables": list(_TABLES)}).scalar_one()
        answer = read(connection)
        return int(connection.execute(_COUNTED, {"tables": list(_TABLES)}).scalar_one() - before), answer
    steps = 0

    def step() -> None:
        nonlocal steps
        steps += 1

    driver.set_progress_handler(step, _STEPS_A_ROW)
    try:
        answer = read(connection)
    finally:
        driver.set_progress_handler(None, 0)
    return steps, answer
