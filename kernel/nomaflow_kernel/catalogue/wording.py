"""Sentences about jobs of the catalogue: whose an id is, and why an earlier definition serves."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from nomaflow_kernel.catalogue.own_file import NO_FILE_NAMED
from nomaflow_project.jobs.loaded import LoadedJob

_NAMED = 20


def called(owner: str) -> str:
    """Return the name of an owner of ids, in words."""
    return f"the host {owner!r}" if owner else "the kernel's own jobs file"


def way_to_release(owner: str, *, removed: bool) -> str:
    """Return what to do if an id is another owner's.

    :param removed: whether the owner has removed its job of this id
    """
    if not owner and removed:
        return (
            "rename the job; the ids of that file are free once it has no job any more (`jobs = []`) and the kernel is "
            "started without it"
        )
    if not owner:
        return "rename the job here, or take it out of that file"
    if removed:
        return f"rename the job: {owner} has removed its own, and keeps the id as long as it is a host of this kernel"
    return (
        f'rename the job; if this host was called {owner!r}, give it that name again, [host] name = "{owner}" in '
        f"nomaflow.toml; if that one is gone for good: nomaflow hosts forget {owner}"
    )


def listed(names: Sequence[str], *, most: int) -> str:
    """Return the first names, and how many more there are."""
    return ", ".join(names[:most]) + (f" and {len(names) - most:,} more" if len(names) > most else "")


def removal(source: str, job_ids: Sequence[str], *, former: str = "") -> str:
    """Return which jobs a file, or a host, no longer brings.

    :param former: the file that brought them, if the kernel may have been named another one since
    """
    brings = (
        f"{source} no longer brings"
        if former in ("", source)
        else f"{source} is now named in place of {former}, and no longer brings"
    )
    return f"{brings} these jobs: {listed(job_ids, most=_NAMED)}"


def losses(host: str, removed: Sequence[str], stopped: Sequence[str]) -> Iterator[str]:
    """Yield which jobs a host brings no more, and which of the others it takes off their schedules."""
    if removed:
        yield removal(called(host), removed)
    if stopped:
        yield f"{called(host)} takes these jobs off their schedules: {listed(stopped, most=_NAMED)}"


def texts_without_owner(job_id: str) -> tuple[str, str]:
    """Return problem and way out of an id that is not the host's, for those who may not learn whose it is."""
    return (
        f"the id {job_id!r} belongs to another host, or is not claimed",
        "rename the job; the kernel's owner sees whose the id is, and can free it",
    )


def why_kept(job: LoadedJob) -> str:
    """Return in one sentence why a job keeps its last good definition, and how to fix that."""
    problem = next(problem for problem in job.problems if problem.is_error)
    place = f"{problem.place}, {problem.path}" if problem.path else problem.place
    fix = f"correct the file, then `{f'nomaflow reload {job.host}'.strip()}`"
    if problem.code == NO_FILE_NAMED:
        fix = problem.fix
    return f"job {job.job_id!r} keeps its last good definition: {place}: {problem.message}; {fix}"
