"""Reads of all pages from a history of 100,000 runs: the same on both databases, and never the whole history."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from functools import partial
from typing import Any

import pytest
from msgspec.structs import replace
from sqlalchemy import Connection
from store_long_history import BIG_LOG, CALLER, DAY, JOBS, NOW, REPLAYED, cost_of, fill, run_id
from store_places import Place, PostgresPlace, SqlitePlace

from nomaflow_kernel.history.lookups import EventFilter, LogFilter, RunFilter, VisibleRuns
from nomaflow_kernel.history.records import TriggerKind
from nomaflow_kernel.history.states import RunState
from nomaflow_kernel.store.operations import events, logs, prune, run_lists, runs, tallies
from nomaflow_kernel.store.sql_store import Store, open_store

pytestmark = pytest.mark.postgres

Read = Callable[[Connection], Any]
_Stores = Sequence[tuple[Store, Place]]

_LOOKED_AT = 1_000
"""Runs and events that a page looks at where no index answers: fewer than in use, since the history is shorter."""
_FOR_A_PAGE = 1_500
_FOR_A_LOOK = 8 * _LOOKED_AT
_DAY_OF_RUNS = 3 * DAY // 32_768_000
_OPEN = (RunState.QUEUED, RunState.RUNNING)
_BAD = (RunState.FAILED, RunState.MISSED)
_TAGGED = ("rare", "legacy", "job-3", *(f"never-run-{number}" for number in range(20)))
_MONTH_AGO = {"since_us": NOW - 30 * DAY, "until_us": NOW - 29 * DAY}

ANSWERED_BY_AN_INDEX: Mapping[str, RunFilter] = {
    "no filter": RunFilter(),
    "a job": RunFilter(job_id="heartbeat"),
    "a job of long ago": RunFilter(job_id="legacy"),
    "a job with few runs": RunFilter(job_id="rare"),
    "a job without a run": RunFilter(job_id="nothing"),
    "a host": RunFilter(host="host-1"),
    "a host of long ago": RunFilter(host="old"),
    "a tag": RunFilter(job_ids=_TAGGED),
    "a tag, a job": RunFilter(job_ids=_TAGGED, job_id="rare"),
    "waiting": RunFilter(states=(RunState.QUEUED,)),
    "running": RunFilter(states=(RunState.RUNNING,)),
    "open": RunFilter(states=_OPEN),
    "open, of a job": RunFilter(states=_OPEN, job_id="heartbeat"),
    "open, of a host": RunFilter(states=_OPEN, host="old"),
    "failed or missed": RunFilter(states=_BAD),
    "canceled, which was long ago": RunFilter(states=(RunState.CANCELED,)),
    "skipped, which never was": RunFilter(states=(RunState.SKIPPED,)),
    "succeeded": RunFilter(states=(RunState.SUCCEEDED,)),
    "failed or missed, since": RunFilter(states=_BAD, since_us=NOW - DAY),
    "since": RunFilter(since_us=NOW - DAY),
    "until": RunFilter(until_us=NOW - 30 * DAY),
    "since, until": RunFilter(**_MONTH_AGO),
    "a job, since, until": RunFilter(job_id="heartbeat", **_MONTH_AGO),
    "a job of long ago, since": RunFilter(job_id="legacy", since_us=NOW - DAY),
    "a host, since, until": RunFilter(host="host-1", **_MONTH_AGO),
    "a tag, since": RunFilter(job_ids=_TAGGED, since_us=NOW - DAY),
    "an id": RunFilter(run_id_prefix=run_id(60_000)),
    "the beginning of ids": RunFilter(run_id_prefix=run_id(60_000)[:11]),
    "the beginning of all ids": RunFilter(run_id_prefix="run_"),
    "replays of a run": RunFilter(replay_of=run_id(REPLAYED)),
    "called by a run": RunFilter(parent_run_id=run_id(CALLER)),
    "runs by their ids": RunFilter(run_ids=tuple(map(run_id, range(0, 100_000, 2_000)))),
    "failed runs by their ids": RunFilter(run_ids=tuple(map(run_id, range(3, 100_000, 2_000))), states=_BAD),
    "readable jobs": RunFilter(visible=VisibleRuns(job_ids=("rare", "job-5"), prefixes=("leg",))),
    "readable hosts": RunFilter(visible=VisibleRuns(hosts=("host-1", "old"))),
}  # fmt: skip
LOOKED_THROUGH: Mapping[str, RunFilter] = {
    "a job on a host": RunFilter(job_id="job-4", host="host-1"),
    "a job on its host of long ago": RunFilter(job_id="heartbeat", host="old"),
    "a tag, a host": RunFilter(job_ids=_TAGGED, host="old"),
    "a tag, failed": RunFilter(job_ids=_TAGGED, states=_BAD),
    "failed, of a job": RunFilter(states=_BAD, job_id="heartbeat"),
    "canceled, of a job": RunFilter(states=(RunState.CANCELED,), job_id="heartbeat"),
    "failed, of a host": RunFilter(states=_BAD, host="host-1"),
    "failed, of a host of long ago": RunFilter(states=_BAD, host="old"),
    "triggers": RunFilter(trigger_kinds=(TriggerKind.MANUAL, TriggerKind.API)),
    "a trigger of a few": RunFilter(trigger_kinds=(TriggerKind.REPLAY,)),
    "a person": RunFilter(triggered_by="ann"),
    "a person of long ago": RunFilter(triggered_by="zoe"),
    "a person of long ago, a job": RunFilter(triggered_by="zoe", job_id="job-4"),
    "a person of long ago, since": RunFilter(triggered_by="zoe", since_us=NOW - DAY),
    "a cause": RunFilter(reason_codes=("step_failed",)),
    "a cause of few": RunFilter(reason_codes=("host_lost",), states=_BAD),
    "warnings": RunFilter(log_levels=0b111000),
    "errors of a job": RunFilter(log_levels=0b110000, job_id="heartbeat"),
    "not a job": RunFilter(exclude_job_ids=("heartbeat",)),
    "readable jobs, failed": RunFilter(visible=VisibleRuns(prefixes=("job-",)), states=_BAD),
    "readable jobs of hosts": RunFilter(visible=VisibleRuns(jobs_of_hosts=(("job-4", "host-1"), ("heartbeat", "old")))),
    "everything": RunFilter(
        job_id="heartbeat", host="main", states=_BAD, since_us=NOW - 30 * DAY, until_us=NOW - DAY,
        trigger_kinds=(TriggerKind.CRON,), triggered_by="* * * * *", reason_codes=("step_failed",),
        log_levels=0b111000, exclude_job_ids=("rare",),
    ),
}  # fmt: skip
EVENTS: Mapping[str, tuple[EventFilter, int]] = {
    "no filter": (EventFilter(), _FOR_A_PAGE),
    "acts of people": (EventFilter(acts=True), _FOR_A_PAGE),
    "a run": (EventFilter(run_id=run_id(60_000)), _FOR_A_PAGE),
    "since, until": (EventFilter(**_MONTH_AGO), _FOR_A_PAGE),
    "acts, since, until": (EventFilter(acts=True, **_MONTH_AGO), _DAY_OF_RUNS),
    "acts, of a month": (EventFilter(acts=True, since_us=NOW - 31 * DAY, until_us=NOW - DAY), _FOR_A_PAGE),
    "a person": (EventFilter(by="ann"), _FOR_A_LOOK),
    "a person of long ago": (EventFilter(by="zoe"), _FOR_A_LOOK),
    "a kind": (EventFilter(kinds=("pause",)), _FOR_A_LOOK),
    "a job": (EventFilter(job_id="rare"), _FOR_A_LOOK),
    "a host, since": (EventFilter(host="old", since_us=NOW - DAY), _FOR_A_LOOK),
}


def _pages_of_runs(filter: RunFilter) -> Read:
    def read(connection: Connection) -> list[object]:
        first = run_lists.list_runs(connection, filter, before="", limit=50)
        pages = [first]
        if first.next_before:
            pages.append(run_lists.list_runs(connection, filter, before=first.next_before, limit=50))
        return [([run.run_id for run in page.runs], page.next_before, page.scanned_to) for page in pages]

    return read


def _pages_of_events(filter: EventFilter) -> Read:
    def read(connection: Connection) -> list[object]:
        first = events.events_before(connection, 0, filter=filter, limit=50)
        pages = [first]
        if first.next_seq:
            pages.append(events.events_before(connection, first.next_seq, filter=filter, limit=50))
        return [([event.seq for event in page.events], page.next_seq) for page in pages]

    return read


def _log(filter: LogFilter, *, newest_first: bool = False) -> Read:
    def read(connection: Connection) -> list[int]:
        page = logs.log_page(connection, run_id(BIG_LOG), filter, limit=20, newest_first=newest_first)
        return [chunk.first_seq for chunk in page.chunks]

    return read


def _counts(connection: Connection, **asked: Any) -> set[object]:
    return set(tallies.count_runs(connection, since_us=NOW - DAY, until_us=NOW, **asked))


def _to_remove(connection: Connection, **asked: Any) -> list[str]:
    given = {"job_id": "", "keep_runs": None, "before_us": None, **asked}
    return prune.prunable_runs(connection, limit=50, proofs_after_us=NOW - DAY, **given)


_RARE: Mapping[str, str] = {"job_id": "rare", "host": "old"}
_ALL_JOBS = (*JOBS, "never-run")
_SOME = tuple(map(run_id, range(0, 100_000, 2_000)))

OTHERS: Mapping[str, tuple[Read, int]] = {
    "the newest run of each job": (lambda c: tallies.last_runs(c, _ALL_JOBS), _FOR_A_PAGE),
    "its state": (lambda c: tallies.last_states(c, _ALL_JOBS), _FOR_A_PAGE),
    "the newest runs of each job": (lambda c: tallies.recent_runs(c, _ALL_JOBS, last=20), 2 * _FOR_A_PAGE),
    "those of a preset": (lambda c: tallies.recent_runs(c, ["heartbeat"], last=20, preset="eu"), _FOR_A_LOOK),
    "counts of a day": (lambda c: _counts(c), _DAY_OF_RUNS),
    "by job": (lambda c: _counts(c, by=["job_id"]), _DAY_OF_RUNS),
    "by host, of a job": (lambda c: _counts(c, job_id="legacy", by=["host"]), _DAY_OF_RUNS),
    "by trigger, of a host": (lambda c: _counts(c, host="old", by=["trigger_kind"]), _DAY_OF_RUNS),
    "runs with their steps": (lambda c: runs.run_details(c, _SOME), _FOR_A_PAGE),
    "their ended attempts": (lambda c: runs.ended_attempts(c, _SOME), _FOR_A_PAGE),
    "the facts that decide on access": (lambda c: runs.run_subjects(c, _SOME), _FOR_A_PAGE),
    "events after": (lambda c: events.events_after(c, 50_000, limit=50), _FOR_A_PAGE),
    "a log": (_log(LogFilter()), _FOR_A_PAGE),
    "a log from its middle": (_log(LogFilter(after_seq=20_000)), _FOR_A_PAGE),
    "a log backwards": (_log(LogFilter(before_seq=20_000), newest_first=True), _FOR_A_PAGE),
    "the heads of a log": (lambda c: logs.log_heads(c, run_id(BIG_LOG), LogFilter(), limit=100), _FOR_A_PAGE),
    "a level of a log": (_log(LogFilter(levels=0b10000, step="one", attempt=1)), _FOR_A_LOOK),
    "runs older than a month": (lambda c: _to_remove(c, before_us=NOW - 30 * DAY), _FOR_A_PAGE),
    "those of a job": (lambda c: _to_remove(c, job_id="heartbeat", before_us=NOW - 30 * DAY), _FOR_A_PAGE),
    "those of a job on its host": (lambda c: _to_remove(c, **_RARE, before_us=NOW - 30 * DAY), _FOR_A_PAGE),
    "runs of a job beyond a hundred": (lambda c: _to_remove(c, job_id="heartbeat", keep_runs=100), _FOR_A_PAGE),
    "those of a job with few": (lambda c: _to_remove(c, **_RARE, keep_runs=100), _FOR_A_PAGE),
    "those beyond one": (lambda c: _to_remove(c, **_RARE, keep_runs=1), _FOR_A_PAGE),
    "the logs of tries": (lambda c: logs.attempt_logs(c, run_id(BIG_LOG)), 2 * _FOR_A_LOOK),
}


def _reads() -> dict[str, tuple[Read, int]]:
    """Return each read, and the most rows and pages that it may visit."""
    found = dict(OTHERS)
    for filters, most in ((ANSWERED_BY_AN_INDEX, _FOR_A_PAGE), (LOOKED_THROUGH, _FOR_A_LOOK)):
        for name, filter in filters.items():
            found[f"runs: {name}"] = _pages_of_runs(filter), most
            found[f"runs, oldest first: {name}"] = _pages_of_runs(replace(filter, oldest_first=True)), most
    found |= {f"events: {name}": (_pages_of_events(filter), most) for name, (filter, most) in EVENTS.items()}
    return found


@pytest.fixture
async def stores(
    sqlite_place: SqlitePlace, postgres_place: PostgresPlace
) -> AsyncIterator[Sequence[tuple[Store, Place]]]:
    """Open a store on each database, with the same history."""
    places: Sequence[Place] = (sqlite_place, postgres_place)
    async with AsyncExitStack() as stack:
        opened = []
        for place in places:
            store = open_store(place.url)
            await store.open()
            stack.push_async_callback(store.close)
            await fill(place)
            opened.append((store, place))
        yield opened


async def test_no_page_reads_the_whole_history_and_both_databases_answer_alike(
    stores: _Stores, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each read visits rows in proportion to its page, whatever PostgreSQL expects of its values."""
    for module in (run_lists, tallies, events):
        monkeypatch.setattr(module, "_LOOKED_AT", _LOOKED_AT)
    problems: dict[str, object] = {}
    for name, (read, most) in _reads().items():
        answers = []
        for store, place in stores:
            cost, answer = await store._read(partial(cost_of, read=read))
            answers.append(answer)
            if cost > most:
                problems[f"{name}, {place.kind}"] = f"visits {cost} rows and pages, at most {most} expected"
        if answers[0] != answers[1]:
            problems[name] = answers
    assert not problems
