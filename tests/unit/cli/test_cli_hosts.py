"""``hosts`` tells of an instance that is silent, outdated or leaving, or whose clock is off."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from cli_command import Command
from fake_kernel import FakeKernel
from nomaflow.client.values import (
    HostView,
    JobView,
    ProblemView,
    RefusedLoadView,
    ReloadView,
    TokenView,
)
from nomaflow.client.values.shapes import Shaped
from nomaflow_api.v1 import access_service_pb2 as access
from nomaflow_api.v1 import callable_pb2, host_pb2, job_pb2
from nomaflow_api.v1 import kernel_service_pb2 as pb
from nomaflow_api.v1.message_codec import decode, timestamp

DOCS = Path(__file__).parents[3] / "docs" / "cli.md"


def at(**ago: float) -> Timestamp:
    """Return an instant before now; negative for one after it."""
    return timestamp(datetime.now(UTC) - timedelta(**ago))


async def test_a_silent_instance_counts_down(kernel: FakeKernel, command: Command) -> None:
    """Since when it gets no work, and when its steps are LOST; a clock that is off and newer files are named."""
    host = host_pb2.Host(name="team", state=host_pb2.HOST_STATE_UNREACHABLE)
    host.instances.add(
        incarnation="abc", state=host_pb2.HOST_STATE_UNREACHABLE, pid=7, running=2, generation=1,
        unreachable_since=at(seconds=230), lost_at=at(seconds=-385), clock_offset_us=-90_500_000, code_newer=True,
        newer_files=["plugins/a\x1b.py", "jobs.toml"],
    )  # fmt: skip
    for number, (running, retried) in enumerate(((1, 1), (1, 0), (3, 1), (3, 3))):
        host.instances.add(
            incarnation=f"n{number}", state=host_pb2.HOST_STATE_UNREACHABLE, pid=9, running=running,
            retried_on_lost=retried, unreachable_since=at(seconds=230), lost_at=at(seconds=-385),
        )  # fmt: skip
    host.instances.add(
        incarnation="def", state=host_pb2.HOST_STATE_DRAINING, pid=8, generation=1, drain_deadline=at(seconds=-290),
        clock_offset_us=200_000,
    )  # fmt: skip
    kernel.replies["ListHosts"] = pb.ListHostsResponse(hosts=[host])
    done = await command("hosts", "--address", kernel.address, env={"COLUMNS": "200"})
    said = [" ".join(line.split()) for line in done.out.splitlines()]
    told = "its 2 steps are LOST, the first in 6 min, if it stays silent, and none of them runs again"
    assert f"silent no new work for 3 min; {told}" in said
    for fate in (
        "its step is LOST in 6 min if it stays silent, and runs again",
        "its step is LOST in 6 min if it stays silent, and does not run again",
        "its 3 steps are LOST, the first in 6 min, if it stays silent, and 1 of them runs again",
        "its 3 steps are LOST, the first in 6 min, if it stays silent, and all run again",
    ):
        assert f"silent no new work for 3 min; {fate}" in said
    assert "clock 1 min 30 s behind the kernel's" in said
    assert any(line.startswith("plugins/a") and line.endswith("jobs.toml") for line in said)
    assert any(line.startswith("drain cancels what still runs in 4 min") for line in said)
    assert sum(line.startswith("clock") for line in said) == 1
    assert "\x1b" not in done.out


@pytest.mark.parametrize(
    ("grant", "told"),
    [
        ("read *", {"hosts": "no host has attached yet", "jobs": "no jobs: no host brings any", "runs": "no runs yet"}),
        ("read host:team", {name: f"there are no {name} that you may see" for name in ("hosts", "jobs", "runs")}),
    ],
)
async def test_an_empty_list_says_whether_the_caller_sees_all(
    kernel: FakeKernel, command: Command, grant: str, told: dict[str, str]
) -> None:
    """A caller that may see only a part is not told that there is none, nor to start one."""
    kernel.replies["caller"] = pb.Caller(name="bob", kind="user", grants=[grant])
    kernel.replies |= {"ListHosts": pb.ListHostsResponse(), "ListJobs": pb.ListJobsResponse()}
    for name, text in told.items():
        done = await command(name, "--address", kernel.address)
        assert (done.code, done.out.startswith(text)) == (0, True), done


@pytest.mark.parametrize(("grant", "seen"), [("read *", ""), ("read job:a", " that you may see")])
async def test_a_name_that_the_caller_may_not_see_counts_as_none(
    kernel: FakeKernel, command: Command, grant: str, seen: str
) -> None:
    """The refusal of a filter does not tell whether there is such a host or tag, only whether the caller sees one."""
    kernel.replies["caller"] = pb.Caller(name="bob", kind="user", grants=[grant])
    jobs = pb.ListJobsResponse(counts=[job_pb2.JobCount(tag="nightly", jobs=1)])
    kernel.replies |= {"ListHosts": pb.ListHostsResponse(), "ListJobs": jobs}
    done = await command("runs", "--host", "team", "--address", kernel.address)
    assert (done.code, f"no host{seen} has the name 'team'" in done.err) == (2, True), done
    assert f"there are no hosts{seen}" in done.err
    done = await command("runs", "--tag", "nigthly", "--address", kernel.address)
    assert (done.code, f"no job{seen} has the tag 'nigthly'" in done.err) == (2, True), done
    assert "did you mean 'nightly'?" in done.err
    assert (await command("runs", "--tag", "nightly", "--address", kernel.address)).out == "no runs match\n"


async def test_a_load_that_the_kernel_refused_says_so(kernel: FakeKernel, command: Command) -> None:
    """The host serves the new code, so nothing says that the last good code stays in use, or that ``--force`` helps."""
    problem = job_pb2.Problem(severity="error", code="manifest_refused", message="the manifest has too many jobs")
    outcome = pb.ReloadOutcome(incarnation="abc", host="team", accepted=False, generation=2, problems=[problem])
    kernel.replies["ReloadHost"] = pb.ReloadHostResponse(instances=[outcome])
    refused = job_pb2.RefusedLoad(message=problem.message, at=at(seconds=5), problems=[problem])
    host = host_pb2.Host(name="team", state=host_pb2.HOST_STATE_ATTACHED)
    host.instances.add(incarnation="abc", state=host_pb2.HOST_STATE_ATTACHED, pid=7, generation=2, refused_load=refused)
    kernel.replies["ListHosts"] = pb.ListHostsResponse(hosts=[host])
    done = await command("reload", "--force", "--address", kernel.address)
    assert (done.code, done.out.splitlines()) == (
        1,
        [
            "✘ team: the kernel refused the load: the jobs stay as they were, and the new code serves (generation 2)",
            "  ✘ the manifest has too many jobs",
        ],
    )
    shown = (await command("hosts", "--address", kernel.address)).out
    (line,) = [each for each in shown.splitlines() if "kernel" in each]
    assert line.strip().startswith("the kernel refused the load of ")
    assert line.endswith(": the manifest has too many jobs")
    kernel.replies["ListJobs"] = pb.ListJobsResponse(jobs=[job_pb2.Job(job_id="a", host="team", valid=True)])
    listed = (await command("jobs", "--address", kernel.address)).out
    assert "✘ team: the kernel refused the load of " in listed


@pytest.mark.parametrize(
    ("code", "offered"), [("project_unusable", False), ("load_failed", False), ("unknown_key", True)]
)
async def test_force_is_offered_where_it_can_work(
    kernel: FakeKernel, command: Command, code: str, *, offered: bool
) -> None:
    """Without a readable nomaflow.toml, or where the import of the code does not end, there is nothing to use."""
    problem = job_pb2.Problem(severity="error", code=code, message="expected ']'", file="nomaflow.toml")
    outcome = pb.ReloadOutcome(incarnation="abc", host="team", accepted=False, generation=2, problems=[problem])
    kernel.replies["ReloadHost"] = pb.ReloadHostResponse(instances=[outcome])
    done = await command("reload", "--address", kernel.address)
    assert (done.code, "--force" in done.out) == (1, offered)


async def test_a_load_that_failed_is_told_once_with_its_output(kernel: FakeKernel, command: Command) -> None:
    """The sentence is not repeated above the last output of the import."""
    problem = job_pb2.Problem(severity="error", code="load_failed", file="plugins/a.py", line=2, message="it hangs")
    outcome = pb.ReloadOutcome(incarnation="abc", host="team", accepted=False, generation=2, problems=[problem])
    outcome.message = "plugins/a.py:2: it hangs\nlast output:\nwaiting"
    kernel.replies["ReloadHost"] = pb.ReloadHostResponse(instances=[outcome])
    done = await command("reload", "--address", kernel.address)
    assert done.out.splitlines()[1:5] == ["  ✘ it hangs", "    in plugins/a.py:2", "  last output:", "  waiting"]


async def test_a_reload_says_how_many_jobs_are_not_named(kernel: FakeKernel, command: Command) -> None:
    """An answer names 50 at most; the line says how many more there are."""
    outcome = pb.ReloadOutcome(
        incarnation="abc", host="team", accepted=True, generation=2, removed_job_ids=["a", "b"], removed_count=1_002,
        added_job_ids=["c"], added_count=1, stopped_schedules=["d", "e (preset x)"], stopped_count=3,
    )  # fmt: skip
    kernel.replies["ReloadHost"] = pb.ReloadHostResponse(instances=[outcome])
    done = await command("reload", "--address", kernel.address)
    assert done.out.splitlines()[1:] == [
        "  removed: a, b and 1,000 more",
        "  added: c",
        "  no longer scheduled: d, e (preset x) and 1 more",
    ]


async def test_a_reload_whose_manifest_waits_exits_1(kernel: FakeKernel, command: Command) -> None:
    """The kernel has not accepted the manifest yet: the load serves, and the reason is an error."""
    problem = job_pb2.Problem(severity="error", code="manifest_pending", message="not accepted yet")
    outcome = pb.ReloadOutcome(incarnation="abc", host="team", accepted=True, generation=2, problems=[problem])
    kernel.replies["ReloadHost"] = pb.ReloadHostResponse(instances=[outcome])
    done = await command("reload", "--address", kernel.address)
    assert done.code == 1
    assert done.out.startswith("! reloaded team: ")
    assert "✘ not accepted yet" in done.out


async def test_a_reload_with_warnings_is_well(kernel: FakeKernel, command: Command) -> None:
    """The first five are shown: `check` shows all."""
    warnings = [job_pb2.Problem(severity="warning", code="x", message=f"job 'a': {number}") for number in range(7)]
    outcome = pb.ReloadOutcome(incarnation="abc", host="team", accepted=True, generation=2, jobs=3, problems=warnings)
    kernel.replies["ReloadHost"] = pb.ReloadHostResponse(instances=[outcome])
    done = await command("reload", "--address", kernel.address)
    first, *shown, last = done.out.splitlines()
    assert (done.code, first[0], len(shown), last) == (0, "✔", 5, "  and 2 warnings more: nomaflow check")
    assert shown[0].strip() == "! job 'a': 0"


async def test_a_reload_with_a_disabled_job_exits_1(kernel: FakeKernel, command: Command) -> None:
    """The reason is printed with place and way out; the load itself serves, so ``--force`` makes it a success."""
    problem = job_pb2.Problem(
        severity="error", code="job_disabled",
        message="job 'a' is disabled: no host 'wlak' accepts jobs of host 'team'",
        file="jobs.toml", path="jobs[0].host", fix="leave out the key 'host'",
    )  # fmt: skip
    outcome = pb.ReloadOutcome(incarnation="abc", host="team", accepted=True, generation=2, jobs=3, problems=[problem])
    kernel.replies["ReloadHost"] = pb.ReloadHostResponse(instances=[outcome])
    done = await command("reload", "--address", kernel.address)
    assert (done.code, done.out.splitlines()) == (
        1,
        [
            "! reloaded team: 3 jobs, 0 callables (generation 2)",
            "  ✘ job 'a' is disabled: no host 'wlak' accepts jobs of host 'team'",
            "    in jobs.toml › jobs[0].host",
            "    → leave out the key 'host'",
        ],
    )
    answer = await command("reload", "--address", kernel.address, "-o", "json")
    (instance,) = json.loads(answer.out)["instances"]
    assert (answer.code, instance["accepted"]) == (1, True)
    assert instance["problems"][0]["code"] == "job_disabled"
    assert (await command("reload", "--force", "--address", kernel.address)).code == 0
    del outcome.problems[:]
    kernel.replies["ReloadHost"] = pb.ReloadHostResponse(instances=[outcome])
    done = await command("reload", "--address", kernel.address)
    assert (done.code, done.out) == (0, "✔ reloaded team: 3 jobs, 0 callables (generation 2)\n")


async def test_the_callables_of_a_host_are_listed(kernel: FakeKernel, command: Command) -> None:
    """Signature, first line of the docs, and the jobs that use it; what does not import comes first."""
    offered = callable_pb2.ListCallablesResponse(host="team")
    offered.modules.add(name="ops.mail", file="plugins/ops/mail.py", line=3, error="No module named 'lxml'")
    offered.modules.add(name="reports.monthly")
    score = offered.callables.add(
        reference="reports.monthly:score", kind="async", doc="Score the invoices.", job_ids=["month-end", "again"],
        accepts_any_keyword=True,
    )  # fmt: skip
    score.parameters.add(name="ctx", injected=True)
    score.parameters.add(name="tenant", required=True, annotation="int")
    score.parameters.add(name="month", default_json=b'"2026-10"', default_text="'2026-10'")
    offered.callables.add(reference="ops:old", kind="sync", error="it takes * only")
    kernel.replies["ListCallables"] = offered
    done = await command("callables", "team", "--address", kernel.address, env={"COLUMNS": "120"})
    assert (done.code, done.out.splitlines()) == (
        0,
        [
            "✘ ops.mail does not import: No module named 'lxml'",
            "  in plugins/ops/mail.py:3",
            "reports.monthly:score(tenant: int, month='2026-10', **)  async",
            "    Score the invoices.",
            "    used by month-end, again",
            "✘ ops:old()",
            "    cannot be called: it takes * only",
            "    no job uses it",
        ],
    )
    assert [request.host for request in kernel.requests["ListCallables"]] == ["team"]
    shape = json.loads((await command("callables", "--address", kernel.address, "-o", "json")).out)
    assert shape.keys() == {"host", "callables", "modules", "step_types"}
    assert (shape["callables"][0]["job_ids"], shape["modules"][0]["line"]) == (["month-end", "again"], 3)
    kernel.replies["ListCallables"] = callable_pb2.ListCallablesResponse(host="team")
    assert "host 'team' offers no callable" in (await command("callables", "--address", kernel.address)).out


async def test_an_awaited_instance_says_what_is_known_of_it(kernel: FakeKernel, command: Command) -> None:
    """After a restart of the kernel that is what it holds, and what becomes of that."""
    host = host_pb2.Host(name="team", state=host_pb2.HOST_STATE_UNREACHABLE)
    host.instances.add(
        incarnation="abcdef0123456789", state=host_pb2.HOST_STATE_UNREACHABLE, running=2, retried_on_lost=2,
        unreachable_since=at(seconds=230), lost_at=at(seconds=-385),
    )  # fmt: skip
    kernel.replies["ListHosts"] = pb.ListHostsResponse(hosts=[host])
    done = await command("hosts", "--address", kernel.address, env={"COLUMNS": "200"})
    assert [" ".join(line.split()) for line in done.out.splitlines()][1:] == [
        "instance abcdef01, awaited since the kernel started, holds 2 steps",
        "silent no new work for 3 min; its 2 steps are LOST, the first in 6 min, if it stays silent, and all run again",
    ]


def test_values_have_the_keys_that_the_document_names() -> None:
    """Each list of keys of docs/cli.md that begins like a value of the client is that of its JSON."""
    shapes: list[tuple[type[Shaped], Message]] = [
        (HostView, host_pb2.Host()), (JobView, job_pb2.Job()), (ProblemView, job_pb2.Problem()),
        (RefusedLoadView, job_pb2.RefusedLoad()), (ReloadView, pb.ReloadOutcome()), (TokenView, access.Token()),
    ]  # fmt: skip
    told = [re.findall(r'"(\w+)"', keys) for keys in re.findall(r'\{((?:"\w+"(?:, )?)+)\}', DOCS.read_text("utf-8"))]
    for kind, message in shapes:
        assert sorted(decode(kind, message).to_json()) in [sorted(each) for each in told], kind
