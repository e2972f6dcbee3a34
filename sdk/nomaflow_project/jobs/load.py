"""Loading the jobs of a host, each separately: a malformed job disables only itself."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import islice
from typing import Any

from pydantic import TypeAdapter, ValidationError

from nomaflow_api.bounds import JOB_BYTES, JOBS_OF_HOST, PROBLEMS_OF_TABLE
from nomaflow_project.jobs.build import build_job
from nomaflow_project.jobs.callables import check_call_params, check_callables
from nomaflow_project.jobs.calls import check_calls
from nomaflow_project.jobs.definitions import JobDefinition, JobsFile, MetaEntry, RetentionPolicy, canonical_json
from nomaflow_project.jobs.last_good import (
    blame_misplaced_schedules,
    emptied_env_file,
    hold_unimportable,
    jobs_of_illegible_files,
    keep_invalid,
    without_doubtful,
)
from nomaflow_project.jobs.loaded import CatalogueLoad, LoadedJob, errors_first
from nomaflow_project.jobs.step_types import StepType
from nomaflow_project.reading.files import JobFile
from nomaflow_project.reading.problems import Place, Problem, did_you_mean, once, shown
from nomaflow_project.reading.sources import EnvironmentMissing, SecretUnreadable
from nomaflow_project.reading.validation import keys_of, validate
from nomaflow_project.reading.work_time import check_time

_TRUE_OR_FALSE = TypeAdapter(bool)
_WITHOUT_VALUE = frozenset({SecretUnreadable.code, EnvironmentMissing.code})
"""Codes of a text whose reference has no value: it was checked as it is written."""
_OWN_ID = "give each job an id of its own"


def load_manifest(manifest: Mapping[str, Any], *, before: CatalogueLoad | None = None) -> CatalogueLoad:
    """Return the jobs that a host's manifest brings, checked against its callables.

    :param before: the previous load: a job that was valid in it stays unless its owner clearly removed it
    """
    states: Mapping[str, str] = manifest.get("env_files") or {}
    had_text = () if before is None else before.env_files
    emptied = [emptied_env_file(name) for name in sorted(states) if states[name] == "empty" and name in had_text]
    files = [JobFile.from_json(each) for each in manifest.get("job_files") or ()]
    if emptied:
        files = list(without_doubtful(files, manifest, why=emptied[0]))
    offers = manifest if "callables" in manifest else None  # the kernel's own file comes without code
    types = [StepType.from_json(each) for each in manifest.get("step_types") or ()]
    host = str(manifest.get("host", ""))
    load = load_job_files(files, host=host, manifest=offers, step_types=types, before=before)
    load = _with_told_problems(load, once([Problem.from_json(each) for each in manifest.get("problems") or ()]))
    load = replace(
        load,
        problems=errors_first(dict.fromkeys([*load.problems, *emptied])),
        env_files=tuple(sorted(name for name in states if states[name] == "text" or name in had_text)),
    )
    if before is None:
        return load
    return replace(load, jobs=tuple(hold_unimportable(keep_invalid(load.jobs, before), manifest)))


def _with_told_problems(load: CatalogueLoad, told: Iterable[Problem]) -> CatalogueLoad:
    """Return the load with the problems that its reader reported.

    A problem in the table of a job belongs to that job, and disables it if it is an error.
    """
    known = {(job.job_id, job.file, job.path) for job in load.jobs}
    of_files: list[Problem] = []
    of_jobs: dict[tuple[str, str, str], list[Problem]] = {}
    causes: set[tuple[str, str]] = set()
    for problem in told:
        if problem.code in _WITHOUT_VALUE:
            causes.add((problem.file, problem.path))  # of whatever else was found there
        table = problem.path.partition(".")[0]
        named, unnamed = ((job_id, problem.file, table) for job_id in (problem.job_id, f"{problem.file}:{table}"))
        its_job = named if named in known else unnamed
        (of_jobs.setdefault(its_job, []) if its_job in known else of_files).append(problem)
    jobs = []
    for job in load.jobs:
        own = tuple(problem for problem in job.problems if (problem.file, problem.path) not in causes)
        its_own = of_jobs.get((job.job_id, job.file, job.path), ())
        jobs.append(replace(job, problems=own).with_problem(*its_own))
    own = tuple(problem for problem in load.problems if (problem.file, problem.path) not in causes)
    return replace(load, jobs=tuple(jobs), problems=(*own, *of_files))


def load_job_files(
    files: Sequence[JobFile],
    *,
    host: str,
    manifest: Mapping[str, Any] | None = None,
    step_types: Iterable[StepType] = (),
    before: CatalogueLoad | None = None,
) -> CatalogueLoad:
    """Return the jobs of some files, each with its problems.

    :param host: the name of the host that brings them
    :param manifest: the host's manifest, to check callables against; None skips that check
    :param step_types: step types from plugins, besides ``python`` and ``call_job``
    :param before: as in `load_manifest`
    """
    types = {each.name: each for each in step_types}
    jobs: list[LoadedJob] = []
    problems: list[Problem] = []
    retention: RetentionPolicy | None = None
    for file in files:
        if file.error is not None:
            problems.append(file.error)
            continue
        tree = file.tree or {}
        place = Place(file.path)
        found, said = _check_top(tree, place)
        problems += found
        if said is not None and retention is not None and said != retention:
            problems.append((place / "meta" / "retention").warning("second_retention", "an earlier file's holds"))
        retention = retention or said
        for at, table in file.jobs():
            check_time()
            if len(jobs) >= JOBS_OF_HOST:
                message = f"this job and those after it are left out: a host has at most {JOBS_OF_HOST:,} jobs"
                problems.append(at.error("too_many_jobs", message, fix="give them to another host"))
                break
            jobs.append(_load_job(table, at, host=host, step_types=types))
    jobs = _check_duplicates([job.with_problem(*_check_host(job)) for job in jobs], before or CatalogueLoad())
    if before is not None:
        kept = list(jobs_of_illegible_files(before, files, jobs, problems))
        # What a job that stays says of its file says more than the file's own problem: that it had jobs.
        told = {each.subject: each for job in kept for each in job.problems}
        problems = [replace(told.get(each.subject, each), job_id=each.job_id) for each in problems]
        illegible = kept or any(problem.is_error for problem in problems)
        retention = retention or (before.retention if illegible else None)
        jobs = keep_invalid([*blame_misplaced_schedules(jobs, before), *kept], before)
    jobs = _check_together(jobs, manifest)
    if before is not None:
        jobs = keep_invalid(jobs, before)
    return CatalogueLoad(jobs=tuple(jobs), problems=errors_first(problems), retention=retention)


def _check_top(tree: Mapping[str, Any], place: Place) -> tuple[list[Problem], RetentionPolicy | None]:
    known = keys_of(JobsFile)
    problems = [
        (place / name).error("unknown_key", f"unknown key {name!r}", fix=_fix_of_top(name, tree[name]))
        for name in islice((name for name in tree if name not in known), PROBLEMS_OF_TABLE)
    ]
    if not isinstance(found := tree.get("jobs", []), list):
        got = "a single table" if isinstance(found, dict) else shown(found)
        text = f"expected [[jobs]] tables, got {got}"
        problems.append((place / "jobs").error("wrong_type", text, fix="write [[jobs]]"))
    meta, of_meta = validate(MetaEntry, tree.get("meta", {}), place / "meta")
    problems += of_meta
    return problems, None if meta is None else meta.retention


def _fix_of_top(name: str, value: object) -> str:
    """Return the fix for an unknown key outside the jobs: keys of a job are often written there."""
    if name not in keys_of(JobDefinition):
        return did_you_mean(name, keys_of(JobsFile))
    brackets = ("[[", "]]") if isinstance(value, list) and value and isinstance(value[0], dict) else ("[", "]")
    wanted = f"{brackets[0]}jobs.{name}{brackets[1]}" if isinstance(value, dict | list) else f"{name} below [[jobs]]"
    return f"it is a key of a job: write {wanted}"


def _load_job(table: object, place: Place, *, host: str, step_types: Mapping[str, StepType]) -> LoadedJob:
    if not isinstance(table, Mapping):
        wrong = place.error("wrong_type", f"expected a [[jobs]] table, got {shown(table)}")
        job_id = f"{place.file}:{place.path}"
        return LoadedJob(job_id=job_id, host=host, definition=None, problems=(wrong,), file=place.file, path=place.path)
    given = table.get("id")
    definition, problems = _build(table, place, host=host, step_types=step_types)
    size = 0 if definition is None else len(canonical_json(definition.to_json()))
    if size > JOB_BYTES:
        message = f"the job has {size:,} bytes as JSON, expected at most {JOB_BYTES:,}"
        fix = "keep large data in a file, and give the step its path"
        definition, problems = None, [place.error("too_large", message, fix=fix)]
    bad_id = any(problem.path == f"{place.path}.id" for problem in problems)
    return LoadedJob(
        job_id=f"{place.file}:{place.path}" if bad_id or not isinstance(given, str) else given,
        host=host,
        definition=definition,
        problems=errors_first(problems),
        enabled=_is_enabled(table) if definition is None else definition.enabled,
        file=place.file,
        path=place.path,
    )


def _build(
    table: Mapping[str, Any], place: Place, *, host: str, step_types: Mapping[str, StepType]
) -> tuple[JobDefinition | None, list[Problem]]:
    unencodable = table.get("$error")
    if not isinstance(unencodable, Mapping):
        return build_job(table, place, host=host, step_types=step_types)
    inner = str(unencodable.get("path", ""))
    at = replace(place, path=f"{place.path}.{inner}" if inner else place.path)
    return None, [at.error("bad_value", str(unencodable.get("message", "")), fix="give another value")]


def _is_enabled(table: Mapping[str, Any]) -> bool:
    """Return False if a table with other errors clearly switches its job off."""
    try:
        return _TRUE_OR_FALSE.validate_python(table.get("enabled", True))
    except ValidationError:
        return True


def _check_host(job: LoadedJob) -> Iterator[Problem]:
    """Yield an error if no host would run a job's steps: jobs in the kernel's own file must name a host."""
    definition = job.definition
    if definition is not None and not definition.host and not all(step.calls_job for step in definition.steps):
        message = "a job of the kernel's own file needs the key 'host': nothing else says who runs its steps"
        fix = "give the name of a host; `nomaflow hosts` lists them"
        yield (job.place / "host").error("missing_key", message, fix=fix)


def _check_duplicates(jobs: Sequence[LoadedJob], before: CatalogueLoad) -> list[LoadedJob]:
    """Return the jobs; of several tables with the same id, all but one are disabled and come last.

    That one is from the file in which the job was before, preferably with the same content; otherwise it is the first.
    """
    former = {job.job_id: job for job in reversed(before.jobs)}
    tables: dict[str, list[LoadedJob]] = {}
    for job in jobs:
        tables.setdefault(job.job_id, []).append(job)
    chosen = []
    others = []
    for job_id, named in tables.items():
        one = max(named, key=partial(_likeness, former.get(job_id)))
        passed_over = [job for job in named if job is not one]
        for job in passed_over:
            message = f"the id {job_id!r} is taken by {one.path} of {one.file}"
            others.append(job.with_problem((job.place / "id").error("duplicate_job_id", message, fix=_OWN_ID)))
        for job in passed_over[:1]:
            message = f"another table with this id is ignored: {job.path} of {job.file}"
            one = one.with_problem((one.place / "id").warning("id_given_twice", message, fix=_OWN_ID))
        chosen.append(one)
    return [*chosen, *others]


def _likeness(was: LoadedJob | None, job: LoadedJob) -> tuple[bool, bool]:
    return was is not None and job.file == was.file, was is not None and job.definition == was.definition


def _check_together(jobs: Sequence[LoadedJob], manifest: Mapping[str, Any] | None) -> list[LoadedJob]:
    """Return the jobs with the problems that need other jobs and the host's callables to be found."""
    found: dict[int, list[Problem]] = {}
    index_of: dict[str, int] = {}
    for index, job in enumerate(jobs):
        index_of.setdefault(job.job_id, index)
    definitions = {name: each for name, index in index_of.items() if (each := jobs[index].definition) is not None}
    places = {name: jobs[index].place for name, index in index_of.items()}
    for job_id, problem in check_calls(definitions, places):
        found.setdefault(index_of[job_id], []).append(problem)
    if manifest is not None:
        for index, job in enumerate(jobs):
            check_time()
            if job.definition is not None and job.definition.host == job.host:
                found.setdefault(index, []).extend(check_callables(job.definition, manifest, job.place))
                found[index].extend(check_call_params(job.definition, definitions, manifest, job.place))
    return [job.with_problem(*found[index]) if found.get(index) else job for index, job in enumerate(jobs)]
