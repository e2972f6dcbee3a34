"""The jobs of a host that are disabled, or keep their last good definition, as problems in the answer to a reload."""

from __future__ import annotations

from collections.abc import Iterable

from nomaflow_api.v1 import job_pb2
from nomaflow_api.v1.message_codec import encode
from nomaflow_kernel.access.grants import Target, Verb
from nomaflow_kernel.access.principals import Caller
from nomaflow_kernel.catalogue import Job
from nomaflow_kernel.catalogue.registry import ID_OF_ANOTHER
from nomaflow_kernel.catalogue.wording import listed, texts_without_owner

__all__ = ["disabled_jobs", "kept_jobs"]

_CODE = "job_disabled"
_MOST = 50
_NAMED = 5


def disabled_jobs(jobs: Iterable[Job], host: str, caller: Caller) -> list[job_pb2.Problem]:
    """Return an error with the reason for each job that a host brings and that cannot run, at most 50.

    The host itself does not know them all: only the kernel knows which ids and hosts are another's.
    """
    disabled = [
        job for job in jobs if job.loaded.host == host and not job.removed and (job.loaded.held or not job.valid)
    ]
    told = [_problem(job, caller) for job in disabled[:_MOST]]
    if len(disabled) > _MOST:
        message = f"{len(disabled) - _MOST:,} more jobs are disabled"
        told.append(job_pb2.Problem(severity="error", code=_CODE, message=message, fix="see all: nomaflow jobs --all"))
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


def _of_kept(jobs: list[Job]) -> job_pb2.Problem:
    error = next(each for each in jobs[0].loaded.problems if each.is_error)
    names = listed([repr(job.job_id) for job in jobs], most=_NAMED)
    keeps = f"job {names} keeps its" if len(jobs) == 1 else f"jobs {names} keep their"
    message = f"{keeps} last good definition: {error.message}"
    return encode(job_pb2.Problem, error, code="job_kept", message=message)


def _problem(job: Job, caller: Caller) -> job_pb2.Problem:
    error = next(each for each in job.loaded.problems if each.is_error)
    why, fix = job.loaded.held or error.message, error.fix
    if error.code == ID_OF_ANOTHER and job.owner and not caller.principal.may(Verb.READ, Target(host=job.owner)):
        why, fix = texts_without_owner(job.job_id)
    return encode(job_pb2.Problem, error, code=_CODE, message=f"job {job.job_id!r} is disabled: {why}", fix=fix)
