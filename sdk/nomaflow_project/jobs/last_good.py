"""Last good definitions: only a clear decision of its owner takes a job off the schedule.

An unreadable or emptied file, a misspelt key or a callable that no longer imports is not such a decision. The job keeps
the definition that was valid last; `docs/decisions/2026-11-26-edits.md` has the rules.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from nomaflow_project.jobs.definitions import JobDefinition
from nomaflow_project.jobs.loaded import CatalogueLoad, LoadedJob
from nomaflow_project.reading.environment import DOUBTFUL_VALUE
from nomaflow_project.reading.files import SETTINGS_FILE, JobFile
from nomaflow_project.reading.problems import Place, Problem

_OF_FILES = frozenset({"bad_toml", "unreadable_file", "missing_file", "emptied_file"})
_NONE_MEANT = "restore it; if it is meant to bring no jobs, write `jobs = []` into it"


def emptied_env_file(name: str) -> Problem:
    """Return the problem of an env file that had text and has none."""
    fix = "restore it; if it is meant to set nothing, write a comment into it, or take it out of [host] env_file"
    return Place(name).error("emptied_file", "the file is empty, and it had text", fix=fix)


def without_doubtful(files: Iterable[JobFile], manifest: Mapping[str, Any], *, why: Problem) -> Iterator[JobFile]:
    """Yield the job files; one with defaults in place of an emptied env file's variables counts as unreadable."""
    told = map(Problem.from_json, manifest.get("problems") or ())
    doubtful = {problem.file for problem in told if problem.code == DOUBTFUL_VALUE}
    for file in files:
        # Which file is the main one may be a default, too.
        doubted = file.path in doubtful or (file.main and SETTINGS_FILE in doubtful)
        yield replace(file, tree=None, error=why) if doubted else file


def jobs_of_illegible_files(
    before: CatalogueLoad, files: Sequence[JobFile], jobs: Sequence[LoadedJob], problems: Sequence[Problem]
) -> Iterator[LoadedJob]:
    """Yield the previous jobs that are missing only because their file is not legible.

    :param files: the files as they are now
    :param jobs: the jobs found in them
    :param problems: problems of the files themselves
    """
    present = {job.job_id for job in jobs}
    illegible = _Illegible(files, jobs, problems, before)
    for job in before.jobs:
        if job.job_id in present:
            continue
        problem = illegible.why(job)
        if problem is not None:
            told = replace(problem, job_id=job.job_id)
            yield replace(job, problems=(told,), kept=job.valid, held="")


def keep_invalid(jobs: Sequence[LoadedJob], before: CatalogueLoad) -> list[LoadedJob]:
    """Return the jobs; a job that was valid and no longer is keeps its last good definition.

    A job that its author switched off stays off, so it keeps its definition only if one of its presets fires.
    """
    good = {job.job_id: job.definition for job in before.jobs if job.valid}
    kept = []
    for job in jobs:
        # The first table of an id is the job; later ones never were.
        definition = None if job.valid else good.pop(job.job_id, None)
        if definition is not None and not job.enabled:
            definition = replace(definition, enabled=False)
            if not any(definition.schedules()):
                definition = None
        kept.append(job if definition is None else replace(job, definition=definition, kept=True))
        good.pop(job.job_id, None)
    return kept


def blame_misplaced_schedules(jobs: Sequence[LoadedJob], before: CatalogueLoad) -> list[LoadedJob]:
    """Return the jobs; one whose schedule now stands among the values for its steps gets an error.

    TOML assigns a key to the table above it, so a schedule that is written below ``[jobs.params]`` has no effect.
    """
    scheduled = {job.job_id: job.definition for job in before.jobs if job.valid and job.definition is not None}
    found = ((job, tuple(_misplaced_schedules(job, scheduled.get(job.job_id)))) for job in jobs)
    return [job.with_problem(*problems) if problems else job for job, problems in found]


def _misplaced_schedules(job: LoadedJob, was: JobDefinition | None) -> Iterator[Problem]:
    now = job.definition
    if now is None or was is None or not was.schedule or now.schedule or not now.enabled:
        return
    known = dict(was.values(job.place))
    for place, values in now.values(job.place):
        if "schedule" in values and "schedule" not in known.get(place, ()):
            message = f"the job no longer has a schedule: its schedule became a value of {place.path!r}"
            fix = "move it above that table; to take the job off its schedule write enabled = false"
            yield (place / "schedule").error("missing_key", message, fix=fix)


def hold_unimportable(jobs: Sequence[LoadedJob], manifest: Mapping[str, Any]) -> list[LoadedJob]:
    """Return the jobs; a kept job with a callable that cannot be imported gets the reason in `held`."""
    return [
        replace(job, held=_why_held(job.definition, manifest))
        if job.kept and job.definition is not None and job.definition.host == job.host
        else job
        for job in jobs
    ]


def _why_held(definition: JobDefinition, manifest: Mapping[str, Any]) -> str:
    """Return why a step cannot be imported; empty if all can."""
    callables, modules = manifest.get("callables") or {}, manifest.get("modules") or {}
    for step in definition.steps:
        if not step.enabled or step.calls_job:
            continue
        module = modules.get(step.callable.partition(":")[0])
        error = (callables.get(step.callable) or {}).get("error")
        if module is not None and module.get("error"):
            return f"the module of {step.callable!r} cannot be imported: {module['error']}"
        if module is None and error:
            return f"{step.callable!r} cannot be imported: {error}"
    return ""


class _Illegible:
    """Finds files in which a missing job may not have been removed on purpose."""

    def __init__(
        self,
        files: Sequence[JobFile],
        jobs: Sequence[LoadedJob],
        problems: Sequence[Problem],
        before: CatalogueLoad,
    ) -> None:
        self._files = {file.path: file for file in files}
        self._main = next((file for file in files if file.main), None)
        self._all_gone = not any(file.tree is not None for file in files)
        self._wrong: dict[str, Problem] = {}
        unnamed = [problem for job in jobs for problem in job.problems if _names_no_job(job, problem)]
        for problem in (*problems, *unnamed):
            if problem.is_error:
                self._wrong.setdefault(problem.file, problem)
        hid = [*before.problems, *(problem for job in before.jobs for problem in job.problems if _hides(job, problem))]
        stood = {problem.file for problem in hid if problem.is_error}
        had_jobs = {job.file for job in before.jobs}
        unread = {path: found for path in had_jobs if (found := self._why_not_in(path)) is not None}
        self._hiding = {**unread, **self._wrong}
        self._new = next((problem for file, problem in self._hiding.items() if file not in stood), None)

    def why(self, job: LoadedJob) -> Problem | None:
        """Return the problem that explains a missing job; None if it was removed on purpose.

        It may have moved into another file, which cannot be read since then.
        """
        moved = next((found for each in job.problems if job.kept and (found := self._hiding.get(each.file))), self._new)
        return self._why_not_in(job.file) or moved

    def _why_not_in(self, path: str) -> Problem | None:
        file = self._files.get(path)
        if file is None:
            folder = next((at for at in self._files.values() if path.startswith(f"{at.path}/")), None)
            if folder is not None:
                return self._why_unread(folder)
            return self._why_of_former_main(path) or (self._gone(path) if self._all_gone else None)
        return self._why_unread(file) or self._wrong.get(path)

    def _why_of_former_main(self, path: str) -> Problem | None:
        """Return the problem of the main file, for a path that was the main file before."""
        if self._main is None or path.startswith("plugins/"):
            return None
        return self._main.error or self._why_unread(self._main)

    def _why_unread(self, file: JobFile) -> Problem | None:
        if file.absent or (file.error is not None and file.error.code == "missing_file"):
            return self._gone(file.path)
        if file.tree is not None and "jobs" not in file.tree:  # half a file may end after [meta]
            what = "has no jobs any more" if file.tree else "is empty, and it had jobs"
            return self._wrong.get(file.path) or Place(file.path).error(
                "emptied_file", f"the file {what}", fix=_NONE_MEANT
            )
        return file.error

    def _gone(self, path: str) -> Problem:
        is_file = path.endswith(".toml")
        what = "file" if is_file else "folder"
        fix = _NONE_MEANT if is_file else "restore it"
        return Place(path).error("missing_file", f"there is no such {what}, and it had jobs", fix=fix)


def _hides(job: LoadedJob, problem: Problem) -> bool:
    """Return whether a problem of a job hid another job, or kept the job itself because of its file."""
    return _names_no_job(job, problem) or (job.kept and problem.code in _OF_FILES)


def _names_no_job(job: LoadedJob, problem: Problem) -> bool:
    """Return whether a problem hides the job of a table: it has no legible id, or that of another job."""
    return problem.is_error and (problem.code == "duplicate_job_id" or job.job_id == f"{job.file}:{job.path}")
