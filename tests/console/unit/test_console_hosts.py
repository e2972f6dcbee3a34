"""The notes of a host's page."""

from __future__ import annotations

from datetime import UTC, datetime

from msgspec.structs import replace

from nomaflow.client.values import (
    EventView,
    HostView,
    InstanceView,
    JobView,
    KernelView,
    ProblemView,
    RefusedLoadView,
    ReloadView,
)
from nomaflow_console.kernel.status import KernelStatus
from nomaflow_console.views.activity import deed_of
from nomaflow_console.views.hosts import Load, brought_by, host_notes, host_sign, instance_notes, load_of_event

_KERNEL = KernelView(version="1", epoch=1, pid=1, store="sqlite")


def broken(job_id: str, *, host: str, owner: str, code: str, message: str) -> JobView:
    """Return a disabled job."""
    problem = ProblemView(severity="error", code=code, message=message, file="jobs.toml", path="jobs[0]")
    return JobView(job_id=job_id, host=host, owner=owner, valid=False, problems=(problem,))


def test_a_job_is_told_on_the_page_of_the_host_that_brings_it() -> None:
    """A job for a host that does not accept it, and one with the id of another host: its own host's page says why."""
    jobs = [
        broken("aimed", host="wlak", owner="team", code="job_not_accepted", message="no host 'wlak' accepts jobs"),
        broken("taken", host="team", owner="other", code="id_of_another_host", message="the id belongs to 'other'"),
    ]

    def told(name: str) -> list[str]:
        host = HostView(name=name, state="ATTACHED")
        return [note.text for note in host_notes(host, brought_by(jobs, name), 1)]

    assert told("team") == [
        "job aimed cannot run: jobs.toml: no host 'wlak' accepts jobs",
        "job taken cannot run: jobs.toml: the id belongs to 'other'",
    ]
    assert told("other") == []


def test_a_host_at_zero_is_in_order() -> None:
    """It has no instance while nothing waits, since a launcher starts them."""
    host = HostView(name="team", state="DETACHED", launched=True)
    assert (host_sign(host).word, host_sign(host).css) == ("at zero", "ok")
    (note,) = host_notes(host, [], 1)
    assert note.text == "no instance now; its launcher starts one when a step waits"
    (note,) = host_notes(replace(host, queued=2), [], 1)
    assert note.text.startswith("no instance now; 2 runs wait for one; its launcher")
    assert note.fix == "if none comes, see the launcher's log"


def test_a_load_that_the_kernel_refused_is_told_as_such() -> None:
    """The kernel refused its manifest, and the instance none of it."""
    problem = ProblemView(severity="error", code="manifest_refused", message="the manifest has too many jobs")
    refused = RefusedLoadView(at=None, message=problem.message, problems=(problem,))
    instance = InstanceView(incarnation="inc_1", state="ATTACHED", refused_load=refused)
    (note,) = instance_notes(instance)
    assert note.text == "the kernel refused a load: the manifest has too many jobs"


def test_a_load_says_how_many_jobs_are_not_named() -> None:
    """The event and the answer name 50 at most, and have the number."""
    told = {"removed_job_ids": ["a", "b"], "removed_count": 62, "added_job_ids": ["c"], "added_count": 1}
    event = EventView(seq=1, at=datetime(2026, 11, 26, tzinfo=UTC), kind="host.reloaded", host="team", data=told)
    changes = [("new", "c"), ("gone", "a, b and 60 more")]
    assert load_of_event(event).changes == changes
    outcome = ReloadView(
        incarnation="inc_1", accepted=True, removed_job_ids=("a", "b"), removed_count=62, added_job_ids=("c",)
    )
    assert Load(outcome=outcome).changes == changes
    many = {"removed_job_ids": [f"job-{number}" for number in range(50)], "removed_count": 62}
    assert deed_of(EventView(seq=1, at=None, kind="host.reloaded", data=many)).detail.endswith("job-4 and 57 more")


def test_the_badge_counts_the_hosts_that_their_page_marks() -> None:
    """A job that its host cannot run is a reason to look there, as a module that does not import is."""
    good = InstanceView(incarnation="inc_1", state="ATTACHED")
    hosts = [HostView(name=name, state="ATTACHED", instances=(good,)) for name in ("team", "other", "fine")]
    troubled = [
        broken("aimed", host="team", owner="team", code="bad_callable", message="work has no function 'quik'"),
        broken("taken", host="team", owner="other", code="id_of_another_host", message="the id belongs to 'other'"),
        JobView(job_id="held", host="other", owner="other", valid=True, held="its manifest waits"),
    ]

    def alerts(*jobs: JobView) -> int:
        status = KernelStatus.of(_KERNEL, hosts, serving=True, running=0, waiting=0, troubled=jobs)
        marked = [host for host in hosts if host_sign(host, brought_by(jobs, host.name)).css != "ok"]
        assert status.alerts == len(marked)
        return status.alerts

    assert [alerts(), alerts(*troubled[:2]), alerts(*troubled)] == [0, 1, 2]
