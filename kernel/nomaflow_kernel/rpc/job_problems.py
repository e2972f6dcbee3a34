"""Problems of a host that only the kernel knows: jobs that are disabled, kept as they were, or left out by a copy."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from nomaflow_api.v1 import job_pb2
from nomaflow_api.v1.message_codec import encode
from nomaflow_kernel.access.grants import Target, Verb
from nomaflow_kernel.access.principals import Caller
from nomaflow_kernel.catalogue.job import Job
from nomaflow_kernel.catalogue.registry import ID_OF_ANOTHER, Catalogue
from nomaflow_kernel.catalogue.wording import listed, texts_without_owner
from nomaflow_kernel.engine.fleet import Instance
from nomaflow_project.reading.problems import Place, Problem

_DISABLED, _KEPT = "job_disabled", "job_kept"
_MOST = 50
_NAMED, _LEFT_OUT = 5, 20


def disabled_jobs(jobs: Iterable[Job], host: str, caller: Caller) -> list[job_pb2.Problem]:
    """Return an error with the reason for each job that a host brings and that cannot run, at most 50.

    The host itself does not know them all: only the kernel knows which ids and hosts are another's.
    """
    disabled = [
        job for job in jobs if job.loaded.host == host and not job.removed and (job.loaded.held or not job.valid)
    ]
    told = [_problem(job, caller) for job in disabled[:_MOST]]
    if len(disabled) > _MOST:
        message, fix = f"{len(disabled) - _MOST:,} more jobs are disabled", "see all: nomaflow jobs --all"
        told.append(job_pb2.Problem(severity="error", code=_DISABLED, message=message, fix=fix))
    return told


def kept_jobs(jobs: Iterable[Job], host: str) -> list[job_pb2.Problem]:
    """Return an error for each reason why jobs that a host brings keep their last good definition, at most 50.

    A host that started with a broken file does not know that it was ever in order.
    """
    kept: dict[tuple[str, str, str], list[Job]] = {}
    for job in jobs:
        if job.loaded.host == host and job.loaded.kept and job.runnable and not job.loaded.held:
            error = next(each for each in job.loaded.problems if each.is_error)
            kept.setdefault((error.file, error.code, error.message), []).append(job)
    return [_of_kept(of_reason) for of_reason in list(kept.values())[:_MOST]]


def warned_jobs(jobs: Iterable[Job], host: str) -> list[job_pb2.Problem]:
    """Return the warnings about the jobs that a host brings, with their names, at most 50."""
    found = {
        (each.file, each.path, each.message): encode(
            job_pb2.Problem, each, message=f"job {job.job_id!r}: {each.message}"
        )
        for job in jobs
        if job.loaded.host == host and not job.removed
        for each in job.loaded.problems
        if not each.is_error
    }
    return list(found.values())[:_MOST]


def left_out_jobs(catalogue: Catalogue, instances: Iterable[Instance]) -> Iterator[Problem]:
    """Yield a problem for each instance with jobs that another instance of its host took off the schedule.

    One that takes a single attempt, or is about to end, says nothing of which jobs there are.
    """
    for instance in instances:
        hello = instance.hello
        if hello.for_attempt or instance.state != "ATTACHED":
            continue
        lost = catalogue.left_out(hello.host, instance.heartbeat.manifest_digest)
        if not lost:
            continue
        who = f"pid {hello.pid} on {hello.machine}"
        message = (
            f"{who} brings jobs that do not fire, since another copy has none of them: {listed(lost, most=_LEFT_OUT)}"
        )
        fix = (
            f"give all copies of the host the same files, then: nomaflow reload {hello.host}; end a copy that is "
            "outdated; two different projects need two names, [host] name"
        )
        yield Place(hello.project).error("left_out_by_copy", message, fix=fix)


def _of_kept(jobs: list[Job]) -> job_pb2.Problem:
    error = next(each for each in jobs[0].loaded.problems if each.is_error)
    names = listed([repr(job.job_id) for job in jobs], most=_NAMED)
    keeps = f"job {names} keeps its" if len(jobs) == 1 else f"jobs {names} keep their"
    message = f"{keeps} last good definition: {error.message}"
    return encode(job_pb2.Problem, error, code=_KEPT, message=message)


def _problem(job: Job, caller: Caller) -> job_pb2.Problem:
    error = next(each for each in job.loaded.problems if each.is_error)
    why, fix = job.loaded.held or error.message, error.fix
    if error.code == ID_OF_ANOTHER and job.owner and not caller.principal.may(Verb.READ, Target(host=job.owner)):
        why, fix = texts_without_owner(job.job_id)
    return encode(job_pb2.Problem, error, code=_DISABLED, message=f"job {job.job_id!r} is disabled: {why}", fix=fix)
