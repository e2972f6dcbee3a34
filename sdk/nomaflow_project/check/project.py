"""Checking a project's folder without a kernel and without importing its code."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from nomaflow_api.time_spans import time_span
from nomaflow_project.check.alerts import alert_problems, job_alert_problems
from nomaflow_project.check.original import ChangedMeaning, changed_meanings
from nomaflow_project.connectors.connector_set import ConnectorSet
from nomaflow_project.connectors.reading import connectors_of
from nomaflow_project.jobs.definitions import IsolationChoice
from nomaflow_project.jobs.load import load_manifest
from nomaflow_project.jobs.loaded import LoadedJob, errors_first
from nomaflow_project.jobs.machine_capacity import resources_here
from nomaflow_project.jobs.resources import Resources, lacking
from nomaflow_project.models.alerts_section import AlertsSection
from nomaflow_project.models.launcher_section import ENGINES_WITH_IMAGES, LauncherSection
from nomaflow_project.models.settings_file import SettingsFile
from nomaflow_project.models.settings_rules import TABLES, kernel_problems, unknown_tables
from nomaflow_project.reading.environment import (
    UNSET_VARIABLE,
    has_nested_reference,
    kept_texts,
    resolve_text,
    texts_in,
)
from nomaflow_project.reading.files import SETTINGS_FILE, JobFile
from nomaflow_project.reading.lines import with_lines
from nomaflow_project.reading.names import host_name_of
from nomaflow_project.reading.problems import Place, Problem, Severity
from nomaflow_project.reading.project_files import ProjectFiles
from nomaflow_project.reading.regular_files import shown_path
from nomaflow_project.reading.sources import MISSING_SECRET, NotedSource, ProjectSources, ReferenceMissing
from nomaflow_project.reading.store_password import open_store_password
from nomaflow_project.reading.validation import validate


@dataclass(frozen=True, kw_only=True, slots=True)
class CheckReport:
    """The findings of ``nomaflow check``.

    :param files: the files read, relative to the folder
    :param jobs: every job, with its problems
    :param problems: problems of the files themselves
    :param changes: settings whose meaning differs from the original's, if that was requested
    """

    root: str
    files: tuple[str, ...]
    jobs: tuple[LoadedJob, ...]
    problems: tuple[Problem, ...]
    changes: tuple[ChangedMeaning, ...] = ()

    @property
    def ok(self) -> bool:
        """True if there is no error: no job, pool or connector would be disabled, and every file can be read."""
        return not any(problem.is_error for problem in self.all_problems())

    def all_problems(self) -> tuple[Problem, ...]:
        """Return the problems of the files and of all jobs, errors first."""
        return errors_first([*self.problems, *(problem for job in self.jobs for problem in job.problems)])

    def to_json(self) -> dict[str, Any]:
        """Return the report as ``check -o json`` shows it."""
        return {
            "ok": self.ok,
            "root": self.root,
            "files": list(self.files),
            "jobs": [job.report() for job in self.jobs],
            "problems": [problem.to_json() for problem in self.problems],
            "changes": [change.to_json() for change in self.changes],
        }


def check_project(
    root: Path,
    *,
    manifest: Mapping[str, Any] | None = None,
    environ: Mapping[str, str] | None = None,
    from_original: bool = False,
) -> CheckReport:
    """Return all problems of the project in a folder, see :func:`check_files`.

    :param environ: variables to resolve references with; None means the process's own
    """
    files = ProjectFiles(root, os.environ if environ is None else environ)
    return check_files(files, manifest=manifest, from_original=from_original)


def check_files(
    files: ProjectFiles, *, manifest: Mapping[str, Any] | None = None, from_original: bool = False
) -> CheckReport:
    """Return all problems of a project.

    :param manifest: the host's manifest, to check callables against; None skips that check
    :param from_original: whether the files are the original's, so that the report lists the settings that mean
        something else here
    """
    root = files.root
    if files.error is not None and files.error.file != SETTINGS_FILE:
        return CheckReport(root=str(root), files=(), jobs=(), problems=(files.error,))
    settings, problems = _check_settings(files)
    connectors = connectors_of(files)
    problems += map(_only_here, connectors.problems)  # credentials are often given only where the host runs
    job_files = files.job_files if files.for_a_host else ()
    for each in job_files:
        problems += _check_job_texts(each, files.sources)
    section = settings or SettingsFile()
    offers = {"host": section.host.name or host_name_of(root.resolve().name), **(manifest or {})}
    offers["job_files"] = [each.to_json() for each in job_files]
    offers["problems"] = [*(each.to_json() for each in files.problems), *offers.get("problems", ())]
    load = load_manifest(json.loads(json.dumps(offers)))  # as a kernel gets it
    known = {each.subject for each in problems}
    problems += (each for each in load.problems if each.subject not in known)
    alerts = settings.alerts if settings is not None and files.settings.get("alerts") else None
    problems += () if alerts is None else alert_problems(alerts, Place("nomaflow.toml", "alerts"))
    instances = [resources_here(section.host.capacity, section.host.labels)]
    instances += [shape.resources for shape in section.launcher.shapes]
    jobs = [_checked(job, instances, section.launcher, alerts) for job in load.jobs]
    return CheckReport(
        root=str(root),
        files=tuple(_read(files, connectors)),
        jobs=tuple(replace(job, problems=with_lines(job.problems, root)) for job in jobs),
        problems=with_lines(problems, root),
        changes=changed_meanings(files.job_files) if from_original else (),
    )


def _checked(
    job: LoadedJob, instances: Sequence[Resources], launcher: LauncherSection, alerts: AlertsSection | None
) -> LoadedJob:
    """Return the job with what is wrong with it on this machine and with these settings."""
    return job.with_problem(
        *_check_aim(job),
        *_check_needs(job, instances),
        *_check_instances(job, launcher),
        *(() if alerts is None else job_alert_problems(job, alerts)),
    )


def _check_aim(job: LoadedJob) -> Iterator[Problem]:
    """Yield a warning if another host is to run a job: its own nomaflow.toml says whether it accepts that."""
    target = "" if job.definition is None else job.definition.host
    if target not in ("", job.host):
        yield (job.place / "host").warning(
            "job_for_another_host",
            f"host {target!r} is to run it, and does so only if it accepts jobs of host {job.host!r}",
            fix=f'in the nomaflow.toml of {target!r}: [host] accept_jobs_from = ["{job.host}"]',
        )


def _check_needs(job: LoadedJob, instances: Sequence[Resources]) -> Iterator[Problem]:
    """Yield a warning for each step that needs more than each instance has: one on this machine, and the launcher's."""
    for index, step in enumerate(() if job.definition is None else job.definition.steps):
        if step.resources is None or not all(lacking(step.resources, each) for each in instances):
            continue
        lacks = ", ".join(lacking(step.resources, instances[0]))
        yield (job.place / "steps" / index / "resources").warning(
            "no_fitting_instance",
            f"an instance on this machine cannot run step {step.name!r}: it lacks {lacks}",
            fix="start an instance that has it, or say in nomaflow.toml what this one has: [host] capacity, labels",
        )


def _check_instances(job: LoadedJob, launcher: LauncherSection) -> Iterator[Problem]:
    """Yield a warning for each step that wants an instance of its own and cannot get it from the project's launcher."""
    definition = job.definition
    if definition is None or not launcher.hosts:
        return
    for index, step in enumerate(definition.steps):
        if step.calls_job or definition.isolation_of(step) is not IsolationChoice.INSTANCE:
            continue
        if step.image and launcher.engine not in ENGINES_WITH_IMAGES:
            yield (job.place / "steps" / index / "image").warning(
                "image_not_used",
                f"[launcher] starts instances on {launcher.engine}, which has no images: none is started for"
                f" step {step.name!r}",
                fix="write isolation = 'instance' instead, for an instance of its own without an image",
            )
        elif step.timeout_seconds is not None and step.timeout_seconds >= launcher.walltime_seconds:
            yield (job.place / "steps" / index / "timeout_seconds").warning(
                "walltime_too_short",
                f"an instance of [launcher] lives {time_span(launcher.walltime_seconds)}, and step {step.name!r} may"
                f" take {time_span(step.timeout_seconds)}: no instance gets it",
                fix="raise walltime_seconds of [launcher], or lower the step's timeout_seconds",
            )


def _read(files: ProjectFiles, connectors: ConnectorSet) -> Iterator[str]:
    """Yield the names of the files that were read."""
    if files.has_settings and files.error is None:
        yield SETTINGS_FILE
    yield from (each.path for each in files.job_files if each.tree is not None)
    path, _ = files.path_of("connectors")
    if path.exists() and "" not in connectors.unusable:
        yield shown_path(path, files.root)


def _check_settings(files: ProjectFiles) -> tuple[SettingsFile | None, list[Problem]]:
    """Return the settings of nomaflow.toml, None if they cannot be used, and the problems."""
    if files.error is not None:
        return None, [files.error]
    tree = {name: files.table(name) for name in files.settings if name in TABLES}
    place = Place(SETTINGS_FILE)
    settings, problems = validate(SettingsFile, tree, place)
    if settings is not None and not problems:
        problems = list(kernel_problems(settings.kernel, lambda key: place / "kernel" / key))
    problems = [_only_here(each) if each.path.startswith("alerts.") else each for each in problems]
    told = open_store_password(files)
    return settings, [*unknown_tables(files.settings), *problems, *([] if told is None else [told])]


def _only_here(problem: Problem) -> Problem:
    """Return a warning for a value that is missing, since it may be given only where it is used."""
    if problem.code not in (UNSET_VARIABLE, MISSING_SECRET):
        return problem
    return replace(problem, severity=Severity.WARNING, message=f"on this machine, {problem.message}")


def _check_job_texts(file: JobFile, sources: ProjectSources) -> Iterator[Problem]:
    """Yield a warning for each value of a job that cannot be read here, and for each reference that is open or nested.

    Only attempts that need the value fail. References of plugins are left to the host.
    """
    values = NotedSource(replace(sources, whole_files=False))
    for at, job in file.jobs():
        for place, text in texts_in(job, at):
            if "${" in text and "}" not in text[text.rindex("${") :]:
                message = "a '${' has no '}' after it, so the text is passed as it is"
                yield place.warning("unclosed_reference", message, fix="write ${NAME}")
            elif has_nested_reference(text):
                message = "a reference in the default of another is not resolved, so its text is passed as it is"
                yield place.warning("unclosed_reference", message, fix="give the default as plain text")
        for place, text in kept_texts(job, at):
            try:
                resolve_text(text, values)
            except ReferenceMissing as error:
                yield place.warning(error.code, f"on this machine, {error.problem}", fix=error.fix)
