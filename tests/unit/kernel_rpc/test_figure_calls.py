"""Figures, lists, events and fires over the wire: what they answer, and which requests they refuse."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import grpc
import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from msgspec.structs import replace
from rpc_world import RUN_ID, World, queue_run

from nomaflow_api.bounds import LAST_MOMENT_US
from nomaflow_api.v1 import event_pb2, fire_pb2, run_figures_pb2, run_pb2
from nomaflow_api.v1 import kernel_service_pb2 as kernel
from nomaflow_kernel.catalogue.registry import HostCatalogue
from nomaflow_kernel.history.ids import RunIds
from nomaflow_kernel.history.lookups import RunCount
from nomaflow_kernel.history.reason_texts import Reason
from nomaflow_kernel.history.records import PauseRecord, RunRequest, RunTrigger, TriggerKind
from nomaflow_kernel.history.states import RunState
from nomaflow_kernel.history.transitions import FinishRun, Notice, QueueRun, StartRun
from nomaflow_kernel.scheduler.fire_plan import FirePlan
from nomaflow_project.jobs.definitions import JobDefinition, StepDefinition
from nomaflow_project.jobs.loaded import CatalogueLoad, LoadedJob

NOW_US = time.time_ns() // 1000
SECOND = 1_000_000
INVALID = grpc.StatusCode.INVALID_ARGUMENT


def stamp(at_us: int) -> Timestamp:
    return Timestamp(seconds=at_us // SECOND, nanos=at_us % SECOND * 1000)


def queued(at_us: int, job_id: str = "job", **changes: Any) -> QueueRun:
    """Return a run queued at an instant, with an id of that time."""
    made = queue_run(RunIds(now_ms=lambda: at_us // 1000).new())
    return replace(made, run=replace(made.run, **{"job_id": job_id, "queued_at_us": at_us, **changes}))


def ended(run: QueueRun, seconds: float, *, state: RunState = RunState.SUCCEEDED, rows: int | None = None) -> list[Any]:
    """Return the transitions that take a run to its end."""
    run_id, job_id, at_us = run.run.run_id, run.run.job_id, run.run.queued_at_us
    return [
        run,
        StartRun(run_id=run_id, job_id=job_id, at_us=at_us + SECOND),
        FinishRun(
            run_id=run_id, job_id=job_id, state=state, at_us=at_us + int((1 + seconds) * SECOND), rows_affected=rows
        ),
    ]


def job(job_id: str, schedule: str, **fields: Any) -> LoadedJob:
    step = StepDefinition(name="a", type="python", callable="m:f")
    made = {"timezone": "Europe/Paris", "host": "team", **fields}
    definition = JobDefinition(id=job_id, steps=(step,), schedule=schedule, **made)
    return LoadedJob(job_id=job_id, host="team", definition=definition)


async def refusal(call: Any) -> str:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    assert caught.value.code() is INVALID
    return caught.value.details() or ""


async def test_a_tally_counts_the_runs_of_a_time_or_the_open_ones(world: World) -> None:
    """Open runs are those that the engine knows; those of a time are the stored ones, by each grouping."""
    world.engine.open = [
        RunCount(state=RunState.QUEUED, runs=5, fires=5, rows_affected=0, job_id="a", host="h", trigger_kind="cron"),
        RunCount(state=RunState.RUNNING, runs=1, fires=1, rows_affected=8, job_id="b", host="h", trigger_kind="api"),
        RunCount(state=RunState.RUNNING, runs=1, fires=1, rows_affected=4, job_id="a", host="g", trigger_kind="api"),
    ]

    async def counts(**asked: Any) -> list[tuple[str, str, int, int]]:
        reply = await world.client.SummarizeRuns(run_figures_pb2.SummarizeRunsRequest(**asked), timeout=10)
        return [(c.group, run_pb2.RunState.Name(c.state)[10:], c.runs, c.rows_affected) for c in reply.counts]

    assert await counts() == [("", "QUEUED", 5, 0), ("", "RUNNING", 2, 12)]
    assert await counts(job_id="a") == [("", "QUEUED", 5, 0), ("", "RUNNING", 1, 4)]
    assert await counts(host="g", group_by="RUN_GROUPING_JOB") == [("a", "RUNNING", 1, 4)]
    assert await counts(group_by="RUN_GROUPING_TRIGGER") == [("api", "RUNNING", 2, 12), ("cron", "QUEUED", 5, 0)]
    one, two = queued(NOW_US - 60 * SECOND), queued(NOW_US - 50 * SECOND, "other", host="g")
    await world.apply(*ended(one, 1, rows=3), two)
    since = stamp(NOW_US - 3600 * SECOND)
    assert await counts(since=since) == [("", "QUEUED", 1, 0), ("", "SUCCEEDED", 1, 3)]
    assert await counts(since=since, group_by="RUN_GROUPING_HOST") == [
        ("g", "QUEUED", 1, 0),
        ("team", "SUCCEEDED", 1, 3),
    ]
    assert await counts(since=since, until=stamp(NOW_US - 55 * SECOND)) == [("", "SUCCEEDED", 1, 3)]
    world.catalogue.take_in(
        HostCatalogue(host="team", load=CatalogueLoad(jobs=(job("job", "", tags=("nightly",)), job("a", ""))))
    )
    assert await counts(since=since, tag="nightly") == [("", "SUCCEEDED", 1, 3)]
    assert await counts(tag="nightly") == []
    world.engine.open = []
    also = await world.client.SummarizeRuns(
        run_figures_pb2.SummarizeRunsRequest(since=since, also_by=["RUN_GROUPING_TAG", "RUN_GROUPING_HOST"]), timeout=10
    )
    assert [(run_figures_pb2.RunGrouping.Name(c.grouping)[13:], c.group, c.runs) for c in also.counts] == [
        ("UNSPECIFIED", "", 1), ("UNSPECIFIED", "", 1), ("TAG", "nightly", 1), ("HOST", "g", 1), ("HOST", "team", 1),
    ]  # fmt: skip
    # Another host's table with the id, which is refused, says nothing of the job.
    world.catalogue.take_in(HostCatalogue(host="z", load=CatalogueLoad(jobs=(job("job", "", tags=("daily",)),))))
    assert await counts(since=since, tag="daily") == []
    assert await counts(since=since, group_by="RUN_GROUPING_TAG") == [("nightly", "SUCCEEDED", 1, 3)]
    runs = world.client.ListRuns
    assert not (await runs(kernel.ListRunsRequest(tag="daily"), timeout=10)).runs
    assert len((await runs(kernel.ListRunsRequest(tag="nightly"), timeout=10)).runs) == 1
    month = stamp(NOW_US - 40 * 86_400 * SECOND)
    call = world.client.SummarizeRuns
    assert "31 days" in await refusal(call(run_figures_pb2.SummarizeRunsRequest(since=month)))
    assert "since is not" in await refusal(call(run_figures_pb2.SummarizeRunsRequest(until=month)))
    assert "group_by" in await refusal(call(run_figures_pb2.SummarizeRunsRequest(group_by=9)))
    assert "also_by" in await refusal(call(run_figures_pb2.SummarizeRunsRequest(also_by=[9])))
    # Its counts could not be told from those of group_by.
    assert "also_by" in await refusal(call(run_figures_pb2.SummarizeRunsRequest(also_by=["RUN_GROUPING_UNSPECIFIED"])))


async def test_rows_beyond_what_an_answer_holds_are_told_as_the_most(world: World) -> None:
    """The sum of two runs may have more than the 64 bits of the field."""
    for rows in (2**63 - 1, 2**62):
        await world.apply(*ended(queued(NOW_US - 60 * SECOND), 1, rows=rows))
    request = run_figures_pb2.SummarizeRunsRequest(since=stamp(NOW_US - 3600 * SECOND))
    reply = await world.client.SummarizeRuns(request, timeout=10)
    assert [(count.runs, count.rows_affected) for count in reply.counts] == [(2, 2**63 - 1)]


async def test_the_figures_of_a_job_are_those_of_its_newest_runs(world: World) -> None:
    """Times and rows of what succeeded, the share of success of what was decided, and the wait of what started."""
    runs = [queued(NOW_US - (100 - number) * SECOND) for number in range(6)]
    times = (100.0, 2.0, 4.0, 9.0)
    for number, seconds in enumerate(times):
        await world.apply(*ended(runs[number], seconds, rows=10 * number))
    await world.apply(*ended(runs[4], 1, state=RunState.FAILED, rows=7), runs[5])
    reply = await world.client.GetJobStats(run_figures_pb2.GetJobStatsRequest(job_ids=["job", "none", "job"], last=5))
    (stats,) = reply.jobs
    assert [run.run_id for run in stats.recent] == [run.run.run_id for run in runs[:0:-1]]
    assert [run_pb2.RunState.Name(run.state)[10:] for run in stats.recent][:2] == ["QUEUED", "FAILED"]
    assert (stats.median_seconds, stats.p95_seconds, stats.median_rows) == (4.0, 9.0, 20)
    assert (stats.success_ratio, stats.median_wait_seconds) == (0.75, 1.0)
    world.catalogue.take_in(HostCatalogue(host="team", load=CatalogueLoad(jobs=(job("none", ""),))))
    reply = await world.client.GetJobStats(run_figures_pb2.GetJobStatsRequest(job_ids=["none"]))
    assert [(one.job_id, len(one.recent), one.HasField("median_seconds")) for one in reply.jobs] == [("none", 0, False)]
    many = run_figures_pb2.GetJobStatsRequest(job_ids=[f"j{number}" for number in range(201)])
    assert "at most 200" in await refusal(world.client.GetJobStats(many))
    assert "at most 100" in await refusal(world.client.GetJobStats(run_figures_pb2.GetJobStatsRequest(last=101)))


async def test_a_list_of_runs_may_have_steps_and_says_where_it_stopped(world: World) -> None:
    """A page with steps has at most 50 runs; filters are applied, and wrong ones are refused by name."""
    await world.queue_run()
    await world.apply(queued(NOW_US, "other", trigger=RunTrigger(kind=TriggerKind.CLI, by="alice", at_us=1)))
    call = world.client.ListRuns
    page = await call(kernel.ListRunsRequest(with_steps=True, job_id="job"))
    assert [step.name for step in page.runs[0].steps] == ["a"]
    assert not page.runs[0].definition_json
    assert not page.runs[0].HasField("request")
    page = await call(kernel.ListRunsRequest(trigger_kinds=[run_pb2.TRIGGER_KIND_CLI], triggered_by="alice"))
    assert [run.job_id for run in page.runs] == ["other"]
    assert not page.runs[0].steps
    assert not page.HasField("scanned_until")
    page = await call(kernel.ListRunsRequest(oldest_first=True))
    assert [run.job_id for run in page.runs] == ["job", "other"]
    assert [r.run_id for r in (await call(kernel.ListRunsRequest(run_ids=[RUN_ID]))).runs] == [RUN_ID]
    for fields, told in (
        ({"with_steps": True, "page_size": 51}, "at most 50 with_steps"),
        ({"trigger_kinds": [99]}, "trigger_kinds has the number 99, expected trigger kinds: 1 cron, 2 manual, 3 api"),
        ({"run_id_prefix": "job"}, "the beginning of a run id"),
        ({"replay_of": "x"}, "replay_of is"),
        ({"run_ids": ["x"] * 501}, "at most 500"),
        ({"exclude_job_ids": ["x"] * 101}, "at most 100"),
        ({"reason_codes": ["TIMED_OUT", "time_out"]}, "there is no reason 'time_out'; did you mean 'timed_out'?"),
        ({"reason_codes": ["memory"]}, "did you mean 'memory_limit'?"),
        ({"reason_codes": ["x"]}, "there is no reason 'x'; docs/reason_codes.md lists them"),
    ):
        assert told in await refusal(call(kernel.ListRunsRequest(**fields))), fields


async def test_a_run_tells_its_request_definition_and_deadline_and_how_to_mend_it(world: World) -> None:
    """Secret params are hidden in the request as they are in the params; a reason brings its way out."""
    request = RunRequest(
        params={"password": "hunter2", "n": 1},
        op_kwargs={"a": {"password": "hunter2"}},
        switches={"a": False},
        allow_overlap=True,
    )
    definition = (
        '{"id":"job","secret_params":["password"],"timeout_seconds":60.0,'
        '"steps":[{"name":"a","type":"python","callable":"m:f"}]}'
    )
    made = replace(queued(NOW_US, request=request), definition_json=definition)
    run_id = made.run.run_id
    failed = Reason("step_failed", "no rows")
    start = StartRun(run_id=run_id, job_id="job", at_us=NOW_US)
    finish = FinishRun(run_id=run_id, job_id="job", state=RunState.FAILED, at_us=NOW_US + 1, reason=failed)
    await world.apply(made, start, finish)
    run = (await world.client.GetRun(kernel.GetRunRequest(run_id=run_id))).run
    assert b"hunter2" not in run.SerializeToString()
    assert (run.request.params_json, run.request.allow_overlap) == (b'{"password":"***","n":1}', True)
    assert [(each.step, each.op_kwargs_json) for each in run.request.step_values] == [("a", b'{"password":"***"}')]
    assert [(each.step, each.enabled) for each in run.request.step_switches] == [("a", False)]
    assert run.deadline_at == stamp(NOW_US + 60 * SECOND)
    assert b'"timeout_seconds":60.0' in run.definition_json
    assert run.definition_digest == made.run.definition_digest
    assert run.reason.fix == "Read the error and the traceback in the run's log."
    (listed,) = (await world.client.ListRuns(kernel.ListRunsRequest())).runs
    assert (listed.definition_json, listed.HasField("request")) == (b"", False)
    assert listed.reason.fix == run.reason.fix
    (event,) = (await world.client.ListEvents(event_pb2.ListEventsRequest(kinds=["run.finished"]))).events
    assert event.reason.fix == run.reason.fix


async def test_events_are_listed_newest_first_and_say_who(world: World) -> None:
    """Pages of events join; events are found by job, host, kind and author."""
    by = RunTrigger(kind=TriggerKind.API, by="alice (for bob)", at_us=1)
    cron = RunTrigger(kind=TriggerKind.CRON, by="@daily", at_us=1)
    await world.apply(queued(NOW_US, trigger=by), queued(NOW_US + SECOND, "nightly", trigger=cron))
    await world.apply(*(Notice(kind="host.attached", host="team") for _ in range(3)))
    call = world.client.ListEvents

    async def listed(**asked: Any) -> list[tuple[int, str, str]]:
        found, before = [], 0
        while True:
            page = await call(event_pb2.ListEventsRequest(before_seq=before, page_size=2, **asked))
            found += [(event.seq, event.kind, event.by) for event in page.events]
            before = page.next_before_seq
            if not before:
                return found

    assert [seq for seq, _, _ in await listed()] == [5, 4, 3, 2, 1]
    assert await listed(by="alice") == await listed(acts=True) == [(1, "run.queued", "alice (for bob)")]
    assert await listed(job_id="nightly") == [(2, "run.queued", "")]
    assert [seq for seq, _, _ in await listed(host="team", kinds=["host."])] == [5, 4, 3]
    assert "page_size" in await refusal(call(event_pb2.ListEventsRequest(page_size=501)))
    for wrong, hint in (("run.finishd", "did you mean 'run.finished'?"), ("zzz", "docs/events.md lists them")):
        told = f"there is no kind of event {wrong!r}; {hint}"
        assert told in await refusal(call(event_pb2.ListEventsRequest(kinds=["host", wrong])))


async def test_a_watch_of_a_job_or_a_host_leaves_the_others_out(world: World) -> None:
    """A watch of a job or a host sends only its events, stored or new."""
    await world.apply(queued(NOW_US), queued(NOW_US, "other"), Notice(kind="host.attached", host="team"))
    for fields, wanted in (({"job_id": "other"}, [2, 4]), ({"host": "team"}, [1, 2, 3, 4])):
        stream = world.client.WatchEvents(kernel.WatchEventsRequest(from_start=True, **fields))
        seen = []
        while len(seen) < len(wanted):
            if seen and world.feed.last_seq < 4:
                await world.apply(queued(NOW_US + SECOND, "other"))
            seen += [event.seq for event in (await stream.read()).events]
        assert seen == wanted
        stream.cancel()


async def test_coming_fires_tell_usual_times_pauses_and_collisions(world: World) -> None:
    """Fires are those of jobs that can run, by host, tag and job, with the local time of the schedule's zone."""
    jobs = (
        job("long", "0 2 * * *", tags=("nightly",)),
        job("short", "30 2 * * *"),
        job("often", "* * * * *"),
        job("off", "0 3 * * *", enabled=False),
    )
    world.catalogue.take_in(HostCatalogue(host="team", load=CatalogueLoad(jobs=jobs)))
    await world.apply(*ended(queued(NOW_US - 90_000 * SECOND, "long"), 3000))
    world.engine.paused["job", "short"] = PauseRecord(
        scope="job", name="short", by="ann", why="", since_us=1, until_us=None
    )
    call = world.client.ListFires
    request = fire_pb2.ListFiresRequest(until=Timestamp(seconds=1_780_099_200))
    request.since.FromSeconds(1_780_012_800)  # 2026-05-29T00:00:00Z
    reply = await call(request)
    assert [(f.job_id, f.local, f.paused) for f in reply.fires] == [
        ("long", "2026-05-29T02:00:00+02:00", False),
        ("short", "2026-05-29T02:30:00+02:00", True),
    ]
    long, short = reply.fires
    assert (long.expected_seconds, short.HasField("expected_seconds")) == (3000.0, False)
    assert [list(fire.collides_with) for fire in reply.fires] == [[], []]
    del world.engine.paused["job", "short"]
    assert [list(fire.collides_with) for fire in (await call(request)).fires] == [[], ["long"]]
    assert [fire.at_once for fire in reply.fires] == [2, 2]
    (often,) = reply.frequent
    assert list(often.collides_with) == ["long"]
    assert (often.job_id, often.fires, often.schedule, often.next.seconds) == (
        "often",
        1440,
        "* * * * *",
        1_780_012_800,
    )
    assert reply.listed_until.seconds == 1_780_099_200
    assert [f.job_id for f in (await call(fire_pb2.ListFiresRequest(tag="nightly"))).fires] == ["long"]
    assert not (await call(fire_pb2.ListFiresRequest(host="other"))).fires
    assert [f.job_id for f in (await call(fire_pb2.ListFiresRequest(job_id="short"))).fires] == ["short"]
    late = fire_pb2.ListFiresRequest(until=Timestamp(seconds=NOW_US // SECOND + 32 * 86_400))
    assert "31 days" in await refusal(call(late))
    assert "later than since" in await refusal(call(fire_pb2.ListFiresRequest(until=Timestamp(seconds=5))))
    last_day = fire_pb2.ListFiresRequest()
    last_day.since.FromSeconds(LAST_MOMENT_US // SECOND)
    assert [fire.job_id for fire in (await call(last_day)).fires] == ["long", "short"]


async def test_usual_times_of_fires_are_read_once_in_a_while(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A page of fires asks again and again; what is usual changes slowly, and is read anew after a minute."""
    world.catalogue.take_in(HostCatalogue(host="team", load=CatalogueLoad(jobs=(job("long", "0 2 * * *"),))))
    await world.apply(*ended(queued(NOW_US - 90_000 * SECOND, "long"), 3000))

    async def usual() -> float:
        seconds: float = (await world.client.ListFires(fire_pb2.ListFiresRequest())).fires[0].expected_seconds
        return seconds

    assert await usual() == 3000.0
    await world.apply(*ended(queued(NOW_US - 80_000 * SECOND, "long"), 1000))
    assert await usual() == 3000.0
    monkeypatch.setattr("nomaflow_kernel.rpc.fire_calls._GOOD_US", 0)
    assert await usual() == 2000.0


async def test_the_same_days_are_not_planned_again(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Until a pause changes; another limit and other days are another question."""
    planned = []

    class Counted(FirePlan):
        def work(self) -> Iterator[None]:
            planned.append(self.limit)
            return super().work()

    monkeypatch.setattr("nomaflow_kernel.rpc.fire_calls.FirePlan", Counted)
    jobs = (job("one", "0 5 * * *"), job("two", "0 6 * * *"))
    world.catalogue.take_in(HostCatalogue(host="team", load=CatalogueLoad(jobs=jobs)))

    async def fires(**asked: int) -> list[tuple[str, bool]]:
        request = fire_pb2.ListFiresRequest(until=Timestamp(seconds=1_780_099_200), limit=asked.get("limit", 0))
        request.since.FromSeconds(1_780_012_900 + asked.get("later", 0))
        return [(fire.job_id, fire.paused) for fire in (await world.client.ListFires(request)).fires]

    both = [("one", False), ("two", False)]
    assert [await fires(), await fires(), await fires(later=600)] == [both] * 3
    assert planned == [1000]
    assert await fires(limit=1) == both[:1]
    world.engine.paused["job", "two"] = PauseRecord(
        scope="job", name="two", by="ann", why="", since_us=1, until_us=None
    )
    assert await fires() == [("one", False), ("two", True)]
    assert planned == [1000, 1, 1000]
