"""``runs`` with its filters and counts, ``events``, ``schedule --live`` and what is usual for a job."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from cli_command import Command
from fake_kernel import FakeKernel, make_run
from nomaflow.client.values import EventView
from nomaflow_api.v1 import event_pb2, fire_pb2, job_pb2, run_figures_pb2, run_pb2
from nomaflow_api.v1 import kernel_service_pb2 as pb
from nomaflow_cli.commands.events import _is_of


async def test_runs_hands_every_filter_to_the_kernel(kernel: FakeKernel, command: Command) -> None:
    """``--since 1h`` is an hour ago, levels are a set from one on, and lists are repeated options."""
    kernel.runs["run_1"] = make_run("run_1", "FAILED", log_levels=0b11000)
    options = (
        "--state failed --host team --tag nightly --trigger cron --trigger cli --by ann --reason timed_out --not beat"
        " --level warning --replays-of run_a --parent run_b --since 1h --until 2026-11-24T14:00:00Z --oldest-first"
    )
    done = await command("runs", "nightly", *options.split(), "--address", kernel.address, "-o", "json")
    assert done.code == 0, done.err
    request = kernel.requests["ListRuns"][-1]
    assert (request.job_id, request.host, request.tag, request.triggered_by) == ("nightly", "team", "nightly", "ann")
    assert list(request.trigger_kinds) == [run_pb2.TRIGGER_KIND_CRON, run_pb2.TRIGGER_KIND_CLI]
    assert (list(request.reason_codes), list(request.exclude_job_ids)) == (["timed_out"], ["beat"])
    assert (request.replay_of, request.parent_run_id, request.oldest_first) == ("run_a", "run_b", True)
    assert request.log_levels == 0b1111000
    assert abs(time.time() - 3600 - request.since.seconds) < 120
    assert request.until.ToJsonString() == "2026-11-24T14:00:00Z"
    assert json.loads(done.out)["runs"][0]["log_levels"] == ["WARNING", "ERROR"]


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--since", "soon"], "write a span before now, as in 1h or 7d"),
        (["--since", "9" * 20 + "d"], "longer than 1,000 years"),
        (["--trigger", "moon"], "use one of cron, manual"),
        (["--count", "moon"], "use one of state, job, host, trigger"),
        (["--count", "job", "--by", "ann"], "JOB, --host, --tag, --since and --until only"),
    ],
)
async def test_a_filter_that_means_nothing_is_refused(
    kernel: FakeKernel, command: Command, options: list[str], told: str
) -> None:
    """Each with the way out, and exit code 2."""
    done = await command("runs", *options, "--address", kernel.address)
    assert (done.code, told in done.err) == (2, True), done.err


async def test_runs_are_counted(kernel: FakeKernel, command: Command) -> None:
    """A table for people, one object for programs; fires only where they are more than rows."""
    count = run_figures_pb2.RunCount(
        group="nightly", state=run_pb2.RUN_STATE_MISSED, runs=2, fires=1300, rows_affected=7
    )
    kernel.replies["SummarizeRuns"] = run_figures_pb2.SummarizeRunsResponse(counts=[count])
    done = await command("runs", "--count", "job", "--since", "1d", "--tag", "t", "--address", kernel.address)
    assert (done.code, "1,300" in done.out, "nightly" in done.out) == (0, True, True), done.out
    (request,) = kernel.requests["SummarizeRuns"]
    assert (request.group_by, request.tag) == (run_figures_pb2.RUN_GROUPING_JOB, "t")
    as_json = await command("runs", "--count", "job", "--address", kernel.address, "-o", "json")
    assert json.loads(as_json.out)["counts"] == [
        {"group": "nightly", "state": "MISSED", "runs": 2, "fires": 1300, "rows_affected": 7}
    ]
    kernel.replies["SummarizeRuns"] = run_figures_pb2.SummarizeRunsResponse()
    for since, told in (([], "no open runs match; --since 1d counts"), (["--since", "1d"], "no runs match")):
        nothing = await command("runs", "--count", "job", *since, "--address", kernel.address)
        assert nothing.out.startswith(told), nothing


async def test_events_that_follow_have_no_end(kernel: FakeKernel, command: Command) -> None:
    """The pair of options is refused: what follows comes after any time that has a name."""
    done = await command("events", "--follow", "--until", "1m", "--address", kernel.address)
    assert (done.code, "--follow and --until exclude each other" in done.err) == (2, True), done


async def test_events_are_printed_oldest_first(kernel: FakeKernel, command: Command) -> None:
    """As many as asked for, over pages; who asked for it, and no escape sequence of theirs."""
    for seq in range(1, 1203):
        kernel.events.append(event_pb2.Event(seq=seq, kind="job.changed", job_id=f"j{seq}"))
    act = event_pb2.Event(seq=1203, kind="pause.set", job_id="nightly", by="ann\x1b[31m", data_json=b'{"why":"vendor"}')
    kernel.events.append(act)
    done = await command("events", "-n", "1201", "--address", kernel.address, "-o", "json")
    assert [json.loads(line)["seq"] for line in done.out.splitlines()] == list(range(3, 1204))
    assert [request.page_size for request in kernel.requests["ListEvents"]] == [500, 500, 201]
    options = ["--kind", "pause", "--acts", "--by", "ann", "--job", "nightly", "--host", "h", "--since", "7d"]
    done = await command("events", "-n", "1", *options, "--address", kernel.address)
    assert "pause.set" in done.out
    assert r"by ann\x1b[31m" in done.out
    assert "vendor" in done.out
    request = kernel.requests["ListEvents"][-1]
    assert (list(request.kinds), request.acts, request.by, request.job_id) == (["pause"], True, "ann", "nightly")
    assert (request.host, request.HasField("since")) == ("h", True)


@pytest.mark.parametrize(
    ("by", "name", "found"),
    [
        ("ann", "ann", True),
        ("ann (for bob)", "ann", True),
        ("owner (for ann)", "ann", True),
        ("owner (for anna)", "ann", False),
        ("joann", "ann", False),
        ("", "ann", False),
    ],
)
def test_followed_events_are_those_that_the_kernel_lists(by: str, name: str, found: bool) -> None:
    """By a principal, with or without a note, or by the name in the note."""
    assert _is_of(EventView(seq=1, at=None, kind="pause.set", by=by), name, acts=False) is found


async def test_the_live_schedule_tells_pauses_usual_times_and_collisions(kernel: FakeKernel, command: Command) -> None:
    """Both clock nights in words; a list that is not whole is a warning."""
    at = Timestamp(seconds=1_774_746_000)
    fire = fire_pb2.ListedFire(
        at=at, local="2026-03-29T03:00:00+02:00", timezone="Europe/Paris", job_id="night", at_once=2,
        collides_with=["long"], expected_seconds=41, paused=True, daylight_saving="gap",
    )  # fmt: skip
    often = fire_pb2.FrequentSchedule(
        job_id="often", schedule="* * * * *", timezone="UTC", fires=1440, next=at, collides_with=["night"]
    )
    kernel.replies["ListFires"] = fire_pb2.ListFiresResponse(fires=[fire], frequent=[often], listed_until=at)
    options = ["--live", "--days", "31", "--from", "2026-03-28T00:00:00Z", "--tag", "t", "--host", "h"]
    done = await command("schedule", *options, "--address", kernel.address, env={"COLUMNS": "160"})
    assert done.code == 0, done.err
    for part in (
        "night",
        "41 s",
        "paused",
        "skips its time",
        "while long runs",
        "2 at once",
        "1,440",
        "while night runs",
    ):
        assert part in done.out, part
    assert "there are more fires" in done.err
    (request,) = kernel.requests["ListFires"]
    assert (request.tag, request.host, request.limit) == ("t", "h", 10_000)
    refused = await command("schedule", "--live", "--days", "32", "--address", kernel.address)
    assert (refused.code, "at most 31 days" in refused.err) == (2, True)
    refused = await command("schedule", "--tag", "t")
    assert (refused.code, "add --live" in refused.err) == (2, True)


async def test_a_job_tells_what_is_usual(kernel: FakeKernel, command: Command) -> None:
    """Of its newest runs: how long, how many rows, how often it succeeds."""
    kernel.replies["GetJob"] = pb.GetJobResponse(job=job_pb2.Job(job_id="nightly", host="team", valid=True))
    stats = run_figures_pb2.JobStats(
        job_id="nightly", median_seconds=41, p95_seconds=52, median_rows=1, success_ratio=0.95
    )
    kernel.replies["GetJobStats"] = run_figures_pb2.GetJobStatsResponse(jobs=[stats])
    done = await command("job", "nightly", "--address", kernel.address, env={"COLUMNS": "120"})
    assert "41 s, 95 of 100 at most 52 s · 1 row · 95% succeed" in done.out
    as_json = await command("job", "nightly", "--address", kernel.address, "-o", "json")
    assert json.loads(as_json.out)["usual"]["median_rows"] == 1


async def test_the_live_schedule_asks_the_kernel_of_the_named_project(
    kernel: FakeKernel, command: Command, tmp_path: Path
) -> None:
    """``schedule DIR --live`` works from any directory, and its times say that they are local."""
    (tmp_path / "team" / ".nomaflow").mkdir(parents=True)
    (tmp_path / "team" / ".nomaflow" / "address").write_text(kernel.address)
    fire = fire_pb2.ListedFire(at=Timestamp(seconds=1_774_746_000), timezone="UTC", job_id="night")
    kernel.replies["ListFires"] = fire_pb2.ListFiresResponse(fires=[fire])
    done = await command("schedule", str(tmp_path / "team"), "--live")
    assert (done.code, "night" in done.out, "local time" in done.out) == (0, True, True), done.err
