"""Pages about hosts, and the start screen of ``up``."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path

import grpc
import pytest
from msgspec.structs import replace
from rich.console import Console

from cli_command import Command
from fake_kernel import FakeKernel, Refusal
from nomaflow.client.values import (
    AttemptView,
    CancelView,
    CatalogueView,
    CertificateView,
    EventView,
    FoldView,
    HostView,
    InstanceView,
    JobView,
    KernelView,
    ProblemView,
    RunCountView,
    RunView,
    StepView,
    TriggerView,
)
from nomaflow_api.v1 import job_pb2
from nomaflow_api.v1 import kernel_service_pb2 as pb
from nomaflow_cli.pages.access import tokens_page
from nomaflow_cli.pages.cells import Column, Rows
from nomaflow_cli.pages.events import counts_table, event_line
from nomaflow_cli.pages.hosts import hosts_page
from nomaflow_cli.pages.runs import headline, run_page, summary
from nomaflow_cli.up.reporting import JsonReporter, TextReporter
from nomaflow_cli.up.supervising import Ready


def printed(page: object) -> str:
    """Return what a wide terminal shows."""
    out = io.StringIO()
    Console(file=out, width=200).print(page)
    return out.getvalue()


def host(**fields: object) -> HostView:
    """Return a host of one instance that has introduced itself."""
    instance = InstanceView(incarnation="i", state="ATTACHED", pid=7, **fields)  # type: ignore[arg-type]  # fields of the view
    return HostView(name="team", state="ATTACHED", instances=(instance,))


def test_a_host_that_takes_nothing_new_says_why() -> None:
    """A host with a full spill file or without code says so; a healthy one says neither."""
    well = printed(hosts_page([host(generation=1)]))
    assert "takes no new work" not in well
    assert "takes no new work: its spill file is full" in printed(hosts_page([host(generation=1, saturated=True)]))
    assert "takes no new work: no code is loaded" in printed(hosts_page([host(generation=0)]))


def test_a_run_stops_since_the_cancel_and_not_since_its_start() -> None:
    """The time of a stop counts from the cancel, so that the reader can compare it with the grace."""
    now = datetime.now(UTC)
    run = RunView(run_id="run_1", job_id="j", state="RUNNING", started_at=now - timedelta(hours=2))
    assert "RUNNING for 2 h" in printed(headline(run))
    assert "stopping for 3 min" in printed(
        headline(replace(run, cancel=CancelView(requested_at=now - timedelta(minutes=3))))
    )


@pytest.mark.parametrize(
    ("kind", "by", "words"),
    [
        ("cli", "ann", "cli by ann"),
        ("api", "", "api"),
        ("cron", "0 6 * * *", "cron 0 6 * * *"),
        ("call_job", "parent/call", "call_job parent/call"),
    ],
)
def test_a_run_says_what_fired_it(kind: str, by: str, words: str) -> None:
    """A schedule and a step are no persons: nothing is by them."""
    run = RunView(run_id="run_1", job_id="j", state="RUNNING", trigger=TriggerView(kind=kind, by=by))
    assert re.search(f"trigger +{re.escape(words)} *\n", printed(run_page(run)))


def test_a_page_of_a_run_fits_on_a_screen_whatever_its_values_are() -> None:
    """Hundreds of values, and long ones, are cut on a page, which then says how to see the whole."""
    many = {f"key_{number}": number for number in range(300)}
    long = {"k" * 500: 1, "sql": "s" * 5000}

    def run(extras: Mapping[str, object], kwargs: Mapping[str, object]) -> RunView:
        attempt = AttemptView(attempt_key="k", state="SUCCEEDED", attempt=1, extras=extras, kwargs=kwargs)
        step = StepView(name="s", attempts=(attempt,))
        return RunView(run_id="run_1", job_id="j", state="SUCCEEDED", steps=(step,), params=kwargs)

    for page in (run_page, summary):
        text = printed(page(run(many, {})))
        assert "key_19 19 · … 280 more" in text
        assert "whole: nomaflow show run_1 -o json" in text
        assert len(printed(page(run(long, {}))).splitlines()) < 12
        assert "whole:" not in printed(page(run({"a": 1}, {"sql": "select 1"})))
    for values in (many, long):
        given = printed(run_page(run({}, values)))
        assert "whole: nomaflow show run_1 -o json" in given
        assert len(given.splitlines()) < 40


@pytest.mark.parametrize(("leader", "stands_by"), [(7, False), (99, True)])
def test_up_names_its_own_kernel(leader: int, stands_by: bool, capsys: pytest.CaptureFixture[str]) -> None:
    """The screen shows the project's own kernel's pid, and the leader on a shared database."""
    ready = Ready(
        project=Path("/srv/team"),
        address="unix:/srv/k.sock",
        kernel=KernelView(version="1", epoch=3, pid=leader, store="postgresql"),
        kernel_pid=7,
        host=None,
        catalogue=CatalogueView(),
        kernel_seconds=0.5,
        host_seconds=1.0,
    )
    out = io.StringIO()
    TextReporter(console=Console(file=out, width=200)).ready(ready)
    assert "kernel   pid 7 " in out.getvalue()
    assert ("on standby, kernel pid 99 is the leader" in out.getvalue()) is stands_by
    JsonReporter().ready(ready)
    told = json.loads(capsys.readouterr().out)
    assert (told["kernel_pid"], told["stands_by"], told["kernel"]["pid"]) == (7, stands_by, leader)


def test_up_tells_what_keeps_the_kernel_from_working(capsys: pytest.CaptureFixture[str]) -> None:
    """Once when it begins, and once when it is over."""
    out = io.StringIO()
    reporter = TextReporter(console=Console(file=out, width=200))
    for trouble in ("no room; make some", ""):
        reporter.trouble(trouble)
        JsonReporter().trouble(trouble)
    first, second = out.getvalue().splitlines()
    assert "the kernel waits: no room; make some" in first
    assert "the kernel works again" in second
    told = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert told == [{"type": "trouble", "message": "no room; make some"}, {"type": "trouble", "message": ""}]


def test_events_and_up_say_how_many_jobs_are_not_named() -> None:
    """The event of a load names 50 jobs at most, and has their number."""
    data = {"generation": 2, "removed_job_ids": ["a", "b"], "removed_count": 62, "added_job_ids": ["c"]}
    event = EventView(seq=1, at=None, kind="host.reloaded", host="team", data=data)
    assert "removed: a, b and 60 more · added: c" in printed(event_line(event))
    out = io.StringIO()
    TextReporter(console=Console(file=out, width=200)).event(event)
    assert "removed: a, b and 60 more" in out.getvalue()


def test_up_tells_the_problems_of_a_load_that_serves() -> None:
    """A load with problems has no green tick; five of them are printed, with the number of the others."""
    problem = {"severity": "error", "code": "missing_key", "message": "no url", "file": "connectors.toml", "line": 2}
    event = EventView(seq=1, at=None, kind="host.reloaded", host="team", data={"problems": [problem] * 6})
    out = io.StringIO()
    TextReporter(console=Console(file=out, width=200)).event(event)
    first, *below = [line.strip() for line in out.getvalue().splitlines()]
    assert "! team" in first
    assert below == ["✘ no url", "in connectors.toml:2"] * 5 + ["and 1 problem more: nomaflow reload shows all"]


def test_up_says_why_jobs_are_disabled() -> None:
    """Each job that the event names is printed with the reason, and no other job."""
    problem = ProblemView(
        severity="error", code="job_not_accepted", message="no host 'wlak' accepts jobs", file="jobs.toml", fix="none"
    )
    jobs = [JobView(job_id=name, valid=False, problems=(problem,)) for name in ("tick", "other")]
    event = EventView(seq=1, at=None, kind="host.manifest", host="team", data={"disabled_job_ids": ["tick"]})
    out = io.StringIO()
    TextReporter(console=Console(file=out, width=200)).disabled(event, jobs)
    assert [line.strip() for line in out.getvalue().splitlines()] == [
        "✘ job 'tick' is disabled: no host 'wlak' accepts jobs",
        "in jobs.toml",
        "→ none",
    ]


def test_up_prints_the_warnings_that_a_load_brings() -> None:
    """Each once, as long as it stands; an error is told by the event of disabled jobs."""
    warning = ProblemView(
        severity="warning", code="no_step_enabled", message="every step is disabled", file="jobs.toml"
    )
    jobs = [JobView(job_id="tick", problems=(warning, replace(warning, severity="error", message="no")))]
    event = EventView(seq=1, at=None, kind="host.manifest", host="team", data={})
    out = io.StringIO()
    reporter = TextReporter(console=Console(file=out, width=200))
    for found in (jobs, jobs, [], jobs):
        reporter.warnings(event, found)
    told = ["! job tick: every step is disabled", "in jobs.toml"]
    assert [line.strip() for line in out.getvalue().splitlines()] == told * 2


def test_a_stop_says_how_long_running_steps_may_take() -> None:
    """After that time they are stopped: nobody is told that they may finish, however long they take."""
    out = io.StringIO()
    TextReporter(console=Console(file=out, width=200), drain_seconds=90).stopping(hurried=False)
    assert "stopping: running steps have 1 min 30 s to finish; press Ctrl-C again to stop them now" in out.getvalue()


@pytest.mark.parametrize(
    ("width", "headers"),
    [(100, ["job", "schedule", "now"]), (60, ["job", "now"]), (30, ["job", "now"])],
)
def test_a_column_that_shrinks_stays_legible(width: int, headers: list[str]) -> None:
    """The least important columns go, not the reason of a pause: it had two letters a line on 80 columns."""
    columns: list[Column[str]] = [
        Column("job", lambda _: "nightly-refresh"),
        Column("schedule", lambda _: "30 2 * * 1-5 Europe/Paris", from_width=50),
        Column("now", lambda one: one, loose=True),
    ]
    out = io.StringIO()
    Console(file=out, width=width).print(Rows(columns, ["paused: the warehouse is down", ""]))
    assert out.getvalue().splitlines()[0].split() == headers
    narrow = Rows(columns, ["", ""])  # nothing needs the room
    out = io.StringIO()
    Console(file=out, width=60).print(narrow)
    assert out.getvalue().splitlines()[0].split() == ["job", "schedule", "now"]


def test_a_long_name_folds_and_takes_no_other_column_away() -> None:
    """A job id has up to 128 characters: the states of all runs went off the screen, and half of the id with them."""
    columns: list[Column[str]] = [
        Column("run", lambda _: "run_" + "0" * 26),
        Column("job", lambda one: one, folds=True),
        Column("state", lambda _: "SUCCEEDED"),
        Column("took", lambda _: "3 s", from_width=70),
        Column("why", lambda _: "because " * 20, loose=True),
    ]
    for width, has in ((80, ["run", "job", "state", "why"]), (120, ["run", "job", "state", "took", "why"])):
        out = io.StringIO()
        Console(file=out, width=width).print(Rows(columns, ["nightly", "monthly-" * 6]))
        lines = out.getvalue().splitlines()
        assert lines[0].split() == has
        assert "".join(line[32 : 32 + lines[0].index("state") - 34].strip() for line in lines).endswith("monthly-" * 6)
        assert out.getvalue().count("SUCCEEDED") == 2
        assert max(map(len, lines)) <= width


def test_counts_are_shown_beside_a_long_group() -> None:
    """The numbers are what was asked for: a long job id left none on 80 columns."""
    counts = [RunCountView(group="monthly-" * 12, state="SUCCEEDED", runs=41, fires=41, rows_affected=7)]
    out = io.StringIO()
    Console(file=out, width=80).print(counts_table(counts, "job"))
    assert all(each in out.getvalue() for each in ("✔ SUCCEEDED", " 41", " 7"))


def test_a_serial_is_whole_at_80_columns() -> None:
    """It is what ``token revoke`` takes; the name of the host gives way."""
    ends = datetime.now(UTC) + timedelta(days=29, hours=1)
    certificate = CertificateView(serial="5" * 40, host="reports-of-the-north", expires_at=ends)
    out = io.StringIO()
    Console(file=out, width=80).print(tokens_page([], [certificate]))
    assert all(each in out.getvalue() for each in ("5" * 40, " good ", "in 29 d"))


def test_a_name_that_folds_stays_legible() -> None:
    """On 60 columns the job of each run was a column of single letters."""
    columns: list[Column[str]] = [
        Column("run", lambda _: "run_" + "0" * 26, min_width=30),
        Column("job", lambda one: one, folds=True),
        Column("state", lambda _: "SUCCEEDED"),
        Column("why", lambda _: "because of all", loose=True),
    ]
    out = io.StringIO()
    Console(file=out, width=60).print(Rows(columns, ["nightly-load"]))
    first, second = out.getvalue().splitlines()[2:4]
    assert first.split()[1:3] == ["nightly-", "SUCCEEDED"]
    assert second.split()[0] == "load"


async def test_help_names_tables_of_settings(command: Command) -> None:
    """A name in square brackets is text, not a colour."""
    for words, text in (
        (("token", "create"), "[access.roles]"),
        (("up",), "[host] name"),
        (("backup",), "[kernel] store"),
    ):
        helped = await command(*words, "--help", env={"COLUMNS": "200"})
        assert text in helped.out


async def test_a_problem_of_a_job_is_shown_with_its_line(kernel: FakeKernel, command: Command, tmp_path: Path) -> None:
    """``jobs`` and ``job`` name the line in the project's file, and no line of a file that has another job there."""
    (tmp_path / "cwd" / "jobs.toml").write_text('[[jobs]]\nid = "nightly"\n\n[[jobs]]\nid = "other"\nshedule = ""\n')
    other, foreign = (job_pb2.Job(job_id=name) for name in ("other", "foreign"))
    for job in (other, foreign):
        job.problems.add(severity="error", code="unknown_key", file="jobs.toml", path="jobs[1].shedule", message="no")
    kernel.replies["ListJobs"] = pb.ListJobsResponse(jobs=[other, foreign])
    kernel.replies["ListHosts"] = pb.ListHostsResponse()
    kernel.replies["GetJob"] = pb.GetJobResponse(job=other)
    for words in (("jobs",), ("job", "other")):
        done = await command(*words, "--address", kernel.address)
        assert "in jobs.toml:6 › jobs[1].shedule" in done.out
        assert ("in jobs.toml › jobs[1].shedule" in done.out) == (words == ("jobs",))


async def test_a_problem_of_a_table_without_an_id_has_its_line(
    kernel: FakeKernel, command: Command, tmp_path: Path
) -> None:
    """The kernel calls its job by the table's place, and `job` shows it by that."""
    (tmp_path / "cwd" / "jobs.toml").write_text('[[jobs]]\nschedule = "x"\n')
    job = job_pb2.Job(job_id="jobs.toml:jobs[0]")
    job.problems.add(severity="error", code="bad_schedule", file="jobs.toml", path="jobs[0].schedule", message="no")
    kernel.replies["ListJobs"] = pb.ListJobsResponse(jobs=[job])
    kernel.replies["ListHosts"] = pb.ListHostsResponse()
    for words in (["jobs"], ["job", "jobs.toml:jobs[0]"]):
        assert "in jobs.toml:2 › jobs[0].schedule" in (await command(*words, "--address", kernel.address)).out


async def test_schedule_names_the_jobs_that_it_cannot_plan(command: Command, tmp_path: Path) -> None:
    """A job whose definition has an error is not silently left out."""
    (tmp_path / "jobs.toml").write_text(
        '[[jobs]]\nid = "bad"\nshedule = "* * * * *"\n[[jobs.steps]]\ntype = "python"\ncallable = "a.b:c"\n'
    )
    done = await command("schedule", str(tmp_path))
    assert (done.code, "nothing is scheduled" in done.out, "✘ bad has errors" in done.out) == (0, True, True)
    assert json.loads((await command("schedule", str(tmp_path), "-o", "json")).out)["broken"] == ["bad"]
    done = await command("schedule", str(tmp_path), "--job", "bed")
    assert (done.code, "did you mean 'bad'?" in done.err) == (2, True)
    (tmp_path / "jobs.toml").write_text("[[jobs\n")
    done = await command("schedule", str(tmp_path))
    assert (done.code, "nothing is scheduled" in done.out, "✘ jobs.toml:1: " in done.out) == (0, False, True)
    shown = json.loads((await command("schedule", str(tmp_path), "-o", "json")).out)
    assert [each["code"] for each in shown["problems"]] == ["bad_toml"]


async def test_what_is_no_run_id_gets_the_way_to_one(kernel: FakeKernel, command: Command) -> None:
    """A job's id in place of a run's is refused with the command that lists runs."""
    said = "run_id is 'nightly', expected 'run_' and 26 characters"
    kernel.refusals["GetRun"] = [
        Refusal(grpc.StatusCode.INVALID_ARGUMENT, said, reason="INVALID_ARGUMENT", fields={"run_id": said})
    ]
    done = await command("show", "nightly", "--address", kernel.address)
    assert (done.code, "nomaflow runs JOB those of a job" in done.err) == (2, True)


def test_a_skipped_trigger_stands_for_itself() -> None:
    """Only a row that has more fires folded into it says how many."""
    run = RunView(run_id="run_1", job_id="j", state="SKIPPED", fold=FoldView(first=None, last=None, count=1))
    assert "stands for" not in printed(run_page(run))
    assert "stands for  3 fires" in printed(run_page(replace(run, fold=FoldView(first=None, last=None, count=3))))


async def test_check_counts_warnings_and_ends_with_the_errors(command: Command, tmp_path: Path) -> None:
    """The errors, which matter most, are beside the verdict when a long page has scrolled past."""
    (tmp_path / "jobs.toml").write_text(
        '[[jobs]]\nid = "bad"\nshedule = "@daily"\nsteps = [{ callable = "a.b:c" }]\n'
        '[[jobs]]\nid = "odd"\nsteps = [{ callable = "a.b:c", name = "a/b" }]\n'
    )
    done = await command("check", str(tmp_path), "--no-import")
    assert done.code == 1
    assert 0 < done.out.index("\n! ") < done.out.index("✘ unknown key 'shedule'")
    assert "1 error; 1 of 2 jobs would be disabled; 1 warning; 1 file read" in done.out
