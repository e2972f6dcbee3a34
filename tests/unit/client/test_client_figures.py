"""Figures, pages of runs and events, coming fires, and who asks: what the client sends and what it makes of answers."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from fake_kernel import FakeKernel, make_run
from nomaflow.client import InvalidRequest, KernelClient, ReplayOrder, SyncKernelClient, TriggerOrder
from nomaflow.client.values import RunCountView
from nomaflow_api.v1 import event_pb2, fire_pb2, run_figures_pb2, run_pb2
from nomaflow_api.v1 import kernel_service_pb2 as pb

AT = datetime(2026, 11, 26, 8, tzinfo=UTC)


async def test_a_tally_is_asked_for_and_read(kernel: FakeKernel, client: KernelClient) -> None:
    """A grouping by its name, times as instants, states without their prefix."""
    count = run_figures_pb2.RunCount(group="a", state=run_pb2.RUN_STATE_FAILED, runs=2, fires=3, rows_affected=-4)
    tagged = run_figures_pb2.RunCount(group="t", state=run_pb2.RUN_STATE_FAILED, runs=1, fires=1, grouping=5)  # type: ignore[arg-type]
    kernel.replies["SummarizeRuns"] = run_figures_pb2.SummarizeRunsResponse(counts=[count, tagged])
    found = await client.summarize_runs(
        since=AT, until=AT + timedelta(days=1), group_by="job", also_by=["tag"], host="h", tag="t"
    )
    assert found == [
        RunCountView(group="a", state="FAILED", runs=2, fires=3, rows_affected=-4),
        RunCountView(group="t", state="FAILED", runs=1, fires=1, rows_affected=0, grouping="TAG"),
    ]
    assert "grouping" not in found[0].to_json()
    (request,) = kernel.requests["SummarizeRuns"]
    assert request.group_by == run_figures_pb2.RUN_GROUPING_JOB
    assert list(request.also_by) == [run_figures_pb2.RUN_GROUPING_TAG]
    assert (request.since.ToDatetime(UTC), request.host, request.tag) == (AT, "h", "t")


async def test_figures_that_there_are_none_of_are_none(kernel: FakeKernel, client: KernelClient) -> None:
    """A job without a successful run has no median; its runs have a length once they have ended."""
    begun, ended = Timestamp(seconds=10), Timestamp(seconds=12)
    recent = [
        run_figures_pb2.RecentRun(run_id="b", state=run_pb2.RUN_STATE_RUNNING, started_at=begun),
        run_figures_pb2.RecentRun(run_id="a", state=run_pb2.RUN_STATE_FAILED, started_at=begun, finished_at=ended),
    ]
    stats = run_figures_pb2.JobStats(job_id="j", recent=recent, success_ratio=0.0)
    kernel.replies["GetJobStats"] = run_figures_pb2.GetJobStatsResponse(jobs=[stats])
    found = (await client.job_stats(["j", "k"], last=5, preset="eu"))["j"]
    assert (found.median_seconds, found.success_ratio) == (None, 0.0)
    assert [(run.state, run.seconds) for run in found.recent] == [("RUNNING", None), ("FAILED", 2.0)]
    (request,) = kernel.requests["GetJobStats"]
    assert (list(request.job_ids), request.last, request.preset) == (["j", "k"], 5, "eu")


async def test_one_page_of_runs_has_its_token(kernel: FakeKernel, client: KernelClient) -> None:
    """The whole list goes through all pages with the same filters; a misspelt state or trigger is refused here."""
    for number in range(5):
        kernel.runs[f"run_{number}"] = make_run(f"run_{number}", log_levels=0b1000)
    page = await client.list_runs_page(page_size=2, trigger_kinds=["cli"], triggered_by="ann")
    assert ([run.run_id for run in page.runs], page.next_page_token) == (["run_0", "run_1"], "2")
    assert page.runs[0].log_level_names == ("WARNING",)
    page = await client.list_runs_page(page_size=2, page_token=page.next_page_token)
    assert [run.run_id for run in page.runs] == ["run_2", "run_3"]
    found = [run.run_id async for run in client.list_runs(page_size=2, tag="nightly")]
    assert found == [f"run_{number}" for number in range(5)]
    assert [request.tag for request in kernel.requests["ListRuns"][2:]] == ["nightly"] * 3
    for filters in ({"trigger_kinds": ["moon"]}, {"states": ["GONE"]}):
        with pytest.raises(InvalidRequest):
            await client.list_runs_page(**filters)  # type: ignore[arg-type] # one filter each


async def test_events_and_fires_are_read(kernel: FakeKernel, client: KernelClient) -> None:
    """Newest first with who asked; fires between two instants."""
    kernel.events = [event_pb2.Event(seq=seq, kind="pause.set", by="ann") for seq in (1, 2, 3)]
    page = await client.list_events(page_size=2, kinds=["pause"], acts=True)
    assert ([(event.seq, event.by) for event in page.events], page.next_before_seq) == ([(3, "ann"), (2, "ann")], 2)
    fire = fire_pb2.ListedFire(job_id="j", local="2026-11-26T09:00:00+01:00", timezone="Europe/Paris", at_once=1)
    kernel.replies["ListFires"] = fire_pb2.ListFiresResponse(fires=[fire])
    fires = await client.list_fires(since=AT, until=AT + timedelta(days=1), limit=7)
    assert [(each.job_id, each.expected_seconds) for each in fires.fires] == [("j", None)]
    (request,) = kernel.requests["ListFires"]
    assert (request.since.ToDatetime(UTC), request.limit) == (AT, 7)


async def test_a_filter_of_another_name_is_refused(client: KernelClient) -> None:
    """A misspelt filter is an error: a list without it would show everything."""
    misspelt: Any = {"jobid": "a"}
    with pytest.raises(ValueError, match="jobid"):
        await client.list_runs_page(**misspelt)
    with pytest.raises(ValueError, match="jobid"):
        await client.list_events(**misspelt)
    with pytest.raises(ValueError, match="jobid"):
        await anext(client.read_logs("run_1", **misspelt))


async def test_each_change_may_name_who_asks(kernel: FakeKernel) -> None:
    """A call's own name wins over the client's: a console speaks for many people."""
    kernel.runs["run_1"] = make_run("run_1")
    kernel.replies |= {
        "Pause": pb.PauseResponse(),
        "Resume": pb.ResumeResponse(),
        "ReloadHost": pb.ReloadHostResponse(),
        "ForgetHost": pb.ForgetHostResponse(),
    }
    async with KernelClient(kernel.address, by="console") as client:
        for by in ("", "ann"):
            await client.cancel("run_1", by=by)
            await client.replay(ReplayOrder(run_id="run_1", by=by))
            await client.pause(by=by)
            await client.resume(by=by)
            await client.reload_host(by=by)
            await client.forget_host("h", by=by)
    for method in ("CancelRun", "ReplayRun", "Pause", "Resume", "ReloadHost", "ForgetHost"):
        assert [request.by for request in kernel.requests[method]] == ["console", "ann"], method


def test_the_synchronous_client_has_the_calls_too() -> None:
    """Every public call of the client has its twin."""
    assert {name for name in dir(KernelClient) if not name.startswith("_")} - set(dir(SyncKernelClient)) == {
        "in_name_of"
    }


@pytest.mark.parametrize(
    ("call", "field"),
    [
        (lambda client: client.list_runs_page(page_size=-1), "page_size is -1, expected a whole number from 0"),
        (lambda client: client.list_runs_page(run_ids="run_1"), "run_ids is 'run_1', expected a list"),
        (lambda client: client.trigger("\udcff"), r"job_id is '\\udcff', expected a text"),
        (lambda client: client.replay(ReplayOrder(run_id="run_1", from_step="\udcff")), "from_step is"),
        (lambda client: client.trigger(TriggerOrder(job_id="a", steps={"\udcff": True})), "step is"),
        (lambda client: client.trigger(TriggerOrder(job_id="a", kind="cli2")), "unknown trigger kind 'cli2'"),
        (lambda client: client.trigger(TriggerOrder(job_id="a", overlap="queue")), "unknown overlap choice 'queue'"),
        (lambda client: client.summarize_runs(group_by="jobs"), "unknown run grouping 'jobs'"),
        (lambda client: client.list_jobs(conditions=["BROKEN"]), "unknown job condition 'BROKEN'"),
        (lambda client: client.list_jobs(conditions="PAUSED"), "conditions is 'PAUSED', expected a list"),
        (lambda client: client.list_runs_page(states="FAILED"), "states is 'FAILED', expected a list"),
        (lambda client: client.list_runs_page(trigger_kinds="cron"), "trigger_kinds is 'cron', expected a list"),
        (lambda client: client.summarize_runs(also_by="state"), "also_by is 'state', expected a list"),
        (lambda client: client.pause(until=5), "until is 5, expected a datetime"),
        (lambda client: client.pause(job_id="a", host="b"), "job_id and host are both given"),
        (lambda client: client.watch_events(after_seq=-1).__anext__(), "after_seq is -1"),
        (lambda client: client.watch_events(from_start=True, kinds="run").__anext__(), "kinds is 'run'"),
        (lambda client: client.read_logs("run_1", tail=-1).__anext__(), "tail is -1"),
        (lambda client: client.inspect_attempt("run_1", attempt="x"), "attempt is 'x'"),
        (lambda client: client.create_token("ann", uses=-1), "uses is -1"),
    ],
)
async def test_a_value_that_cannot_be_sent_is_an_invalid_request(
    client: KernelClient, call: Callable[[KernelClient], Awaitable[Any]], field: str
) -> None:
    """It names the field and what it holds, as the kernel does for values that can be sent."""
    with pytest.raises(InvalidRequest, match=field) as caught:
        await call(client)
    assert caught.value.reason == "BAD_REQUEST"
