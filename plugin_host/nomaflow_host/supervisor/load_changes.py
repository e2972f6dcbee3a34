"""The changes that a load would make to the serving generation: new jobs, removed jobs, and breakages."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from msgspec import Struct

from nomaflow_host.generation.manifest import IMPORT_FIX, import_problem
from nomaflow_project.reading.lines import with_lines
from nomaflow_project.reading.problems import Place, Problem, Severity, once

if TYPE_CHECKING:
    from nomaflow_project.jobs.loaded import CatalogueLoad, LoadedJob

_ILLEGIBLE = frozenset({"bad_toml", "bad_variable", "unreadable_file", "missing_file"})
_CAUSES = _ILLEGIBLE | {"emptied_file", "import_failed"}
"""The codes of problems that cause others: they are reported first."""


class Changes(Struct, frozen=True, kw_only=True):
    """The changes that a load would make.

    :param broken: parts that worked and no longer do: a load with any is refused
    :param removed: ids of jobs that their files no longer hold
    :param added: ids of jobs that are new
    :param stopped: schedules of jobs that stay, which no longer fire: a job's id, with the preset in brackets
    :param standing: what is wrong with the job files, and with jobs that keep their last good definition, new or not
    """

    broken: tuple[Problem, ...] = ()
    removed: tuple[str, ...] = ()
    added: tuple[str, ...] = ()
    stopped: tuple[str, ...] = ()
    standing: tuple[Problem, ...] = ()


def changes_of(serving: Mapping[str, Any] | None, new: Mapping[str, Any], *, root: Path) -> Changes:
    """Return the changes, with the lines of all problems. Blocks: call it in a thread.

    :param serving: the serving manifest; None if there is none, and then nothing is compared
    :param root: the project's folder, where lines are looked for
    """
    if serving is None:
        return Changes()
    # Imported here because the reader loads pydantic: a start of the host need not pay for it, only a reload.
    from nomaflow_project.jobs.load import load_manifest

    before = load_manifest(serving)
    after = load_manifest(new, before=before)
    kept = [job for job in after.jobs if job.kept]
    modules = _broken_modules(serving, new)
    named = {step.callable for job in kept if job.definition is not None for step in job.definition.steps}
    of_files, stood = _of_job_files(after, new), _of_job_files(before, serving)
    broken = [
        *modules.values(),
        *(problem for name, problem in _broken_callables(serving, new, modules) if name not in named),
        *_problems_of(kept, told=modules),
        *(problem for at, problem in of_files.items() if at not in stood),
        *_illegible_files(serving, new),
        *(each for each in after.problems if each.code == "emptied_file" and each.file in (new.get("env_files") or ())),
    ]
    known, found = _ids(before), _ids(after)
    broken = sorted(once(broken), key=lambda each: each.code not in _CAUSES)
    return Changes(
        broken=with_lines(broken, root),
        removed=tuple(sorted(known - found)),
        added=tuple(sorted(found - known)),
        stopped=tuple(
            sorted(name for name, job_id in _fires(before).items() - _fires(after).items() if job_id in found)
        ),
        standing=with_lines(once([*of_files.values(), *_problems_of(kept, told=())]), root),
    )


def job_count(manifest: Mapping[str, Any]) -> int:
    """Return the number of jobs in the files of a manifest."""
    trees = (file.get("tree") or {} for file in manifest.get("job_files") or ())
    return sum(len(jobs) for tree in trees if isinstance(jobs := tree.get("jobs"), list))


def _broken_modules(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Problem]:
    return {
        name: import_problem(module, Severity.ERROR)
        for name, module in new["modules"].items()
        if module.get("error") and _works(old["modules"].get(name))
    }


def _broken_callables(
    old: Mapping[str, Any], new: Mapping[str, Any], modules: Collection[str]
) -> Iterator[tuple[str, Problem]]:
    """Yield the callables that no longer work although their modules, except for *modules*, do."""
    for reference, entry in new["callables"].items():
        was = old["callables"].get(reference)
        if entry.get("error") and _works(was) and reference.partition(":")[0] not in modules:
            message = f"a job names the callable {reference!r}, which no longer works: {entry['error']}"
            place = Place(str((was or {}).get("file") or ""))
            yield reference, place.error("callable_broken", message, fix=IMPORT_FIX)


def _problems_of(kept: list[LoadedJob], *, told: Collection[str]) -> Iterator[Problem]:
    """Yield the reasons why jobs cannot be used; a module that cannot be imported is reported once, not per job."""
    for job in kept:
        for problem in job.problems:
            of_module = problem.code == "callable_error" and any(f"'{name}:" in problem.message for name in told)
            if problem.is_error and not of_module:
                yield problem


def _of_job_files(load: CatalogueLoad, manifest: Mapping[str, Any]) -> dict[tuple[str, str, str], Problem]:
    """Return the errors that may hide jobs, by what they are: those of job files, and tables with the id of another."""
    files = {file.get("path") for file in manifest.get("job_files") or ()}
    whole = [problem for problem in load.problems if problem.is_error and problem.file in files]
    tables = [problem for job in load.jobs for problem in job.problems if problem.code == "duplicate_job_id"]
    return {(each.code, each.file, each.job_id or each.path): each for each in (*whole, *tables)}


def _illegible_files(old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[Problem]:
    """Yield the reasons why files other than job files, such as connectors.toml, can no longer be read at all."""
    known = {each.file for each in _of_files(old)}
    yield from (each for each in _of_files(new) if each.file not in known)


def _of_files(manifest: Mapping[str, Any]) -> list[Problem]:
    problems = map(Problem.from_json, manifest.get("problems") or ())
    return [each for each in problems if each.is_error and each.code in _ILLEGIBLE]


def _fires(load: CatalogueLoad) -> dict[str, str]:
    """Return the schedules of a load by their name for people, each with its job."""
    return {name: job.job_id for job in load.jobs if job.valid for name in job.schedule_names()}


def _ids(load: CatalogueLoad) -> set[str]:
    return {job.job_id for job in load.jobs if job.job_id != f"{job.file}:{job.path}"}


def _works(entry: Mapping[str, Any] | None) -> bool:
    return entry is not None and not entry.get("error")
