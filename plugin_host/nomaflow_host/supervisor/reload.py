"""Selects the serving generation: loads a new one beside the old, and refuses one that is worse."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
import os
import re
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from msgspec import structs

from nomaflow_api.private_file import write_private
from nomaflow_host.attempt.masking import Masker
from nomaflow_host.generation.manifest import manifest_bytes
from nomaflow_host.process.errors import ProjectError
from nomaflow_host.supervisor.disk_stamp import DiskWatch, disk_stamp
from nomaflow_host.supervisor.load_changes import Changes, changes_of, job_count
from nomaflow_host.supervisor.manifest_masking import masked_manifest
from nomaflow_host.supervisor.serving_generation import ServingGeneration
from nomaflow_host.supervisor.template_handle import LoadFailed, TemplateHandle
from nomaflow_host.supervisor.values import LoadOutcome, Refused
from nomaflow_project.reading.files import SETTINGS_FILE
from nomaflow_project.reading.lines import with_lines
from nomaflow_project.reading.problems import Place, Problem, once
from nomaflow_project.reading.regular_files import reason_of, shown_path
from nomaflow_project.reading.worker_environment import WorkerVariables, credentials_in, worker_variables

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence

    from nomaflow_host.generation.spec import ProjectSpec
    from nomaflow_host.project.project import Project
    from nomaflow_host.supervisor.disk_stamp import DiskStamp
    from nomaflow_host.supervisor.settings import SupervisorSettings

_log = logging.getLogger("nomaflow.host")

_FRAME = re.compile(r'File "(?!<frozen )(.*)", line (\d+) in ')
_DUMPED = "(most recent call first):"
_LOOK_AGAIN_SECONDS = 0.2
VANISHED_SECONDS = 2.0
"""How long, under ``--watch``, a missing job file has to come back: editors and git replace a file by deleting it."""
_SHOWN_OUTPUT = 200


class GenerationLoader:
    """Loads generations, one at a time.

    :param project: reads the project from disk
    :param environ: of this host; each generation's processes get a part of it
    :param tell_reaper: sends the reaper a command
    """

    def __init__(
        self,
        *,
        settings: SupervisorSettings,
        project: Callable[[], Project],
        environ: Mapping[str, str],
        tell_reaper: Callable[[Mapping[str, Any], Sequence[int]], None],
    ) -> None:
        self._settings = settings
        self._project = project
        self._environ = environ
        self._tell_reaper = tell_reaper
        self._templates: dict[int, TemplateHandle] = {}
        self._number = 0
        self._disk = DiskWatch()
        self._one_at_a_time = asyncio.Lock()
        self._spec: ProjectSpec | None = None
        self._stamp: DiskStamp = {}
        self._ended = asyncio.Event()
        self._given_up = False
        self.serving: ServingGeneration | None = None
        self.newest: LoadOutcome | None = None

    async def load(self, *, force: bool) -> tuple[LoadOutcome, ServingGeneration | None]:
        """Load the project as it is now; return the outcome, and the generation that was replaced.

        A load is refused and the old generation keeps serving if the project cannot be read, a valid job would have to
        be kept in its last good definition, or a module or callable that worked no longer does; and also if the load
        itself fails, since whoever asked for it waits for an answer.

        :param force: serve it anyway if it can be loaded at all
        :raises Refused: if the host stops meanwhile
        """
        async with self._one_at_a_time:
            try:
                self.newest, replaced = await self._load(force=force)
                return self.newest, replaced
            except Refused:
                raise
            except Exception as error:  # noqa: BLE001 - whoever asked for the load must not wait for ever
                _log.exception("the load failed unexpectedly")
                self.newest = self._refused((_unexpected(error),))
                return self.newest, None
            finally:
                ended, self._ended = self._ended, asyncio.Event()
                ended.set()

    async def settled(self, seconds: float) -> bool:
        """Wait until no load is under way or due, so that the last one began with the current files.

        Returns False if that takes longer than *seconds*. A refused load counts as done.
        """
        try:
            async with asyncio.timeout(seconds):
                while True:
                    ended = self._ended
                    # In a thread, since a project may have thousands of files.
                    changed = await asyncio.to_thread(self.disk_changed)
                    if not self._one_at_a_time.locked() and not changed:
                        return True
                    await ended.wait()
        except TimeoutError:
            return False

    async def another(self, than: ServingGeneration | None) -> ServingGeneration:
        """Wait until a generation other than *than* serves, and return it."""
        while self.serving is None or self.serving is than:
            await self._ended.wait()
        return self.serving

    def disk_changed(self) -> bool:
        """Return True if a file has changed, appeared or vanished since the newest load began. Reads the disk."""
        return self._spec is not None and disk_stamp(self._spec) != self._stamp

    def newer_files(self) -> tuple[str, ...]:
        """Return files that were newer on disk than what is loaded at the last look, at most 20."""
        return () if self.serving is None else self._disk.newer_than(self.serving.stamp)

    async def look_at_disk(self) -> None:
        """Look which files on disk are newer than what is loaded."""
        if self.serving is not None:
            await self._disk.look(self.serving.stamp, self.serving.project.spec)

    async def _read(self) -> Project:
        """Read the project. A vanished file gets time to come back, since editors and git replace files.

        :raises ProjectError: if it cannot be used
        """
        until = time.monotonic() + self._settings.vanished_seconds
        while True:
            # Taken before the files are read, so that a change meanwhile counts as newer than the load.
            stamp = {} if self._spec is None else await asyncio.to_thread(disk_stamp, self._spec)
            self._stamp = stamp
            project = self._project()
            self._spec = project.spec
            self._stamp = {**await asyncio.to_thread(disk_stamp, project.spec), **stamp}
            if time.monotonic() >= until or not _vanished(self.serving, project):
                return project
            await asyncio.sleep(_LOOK_AGAIN_SECONDS)

    async def _load(self, *, force: bool) -> tuple[LoadOutcome, ServingGeneration | None]:
        try:
            project = await self._read()
        except (ProjectError, OSError) as error:
            return self._refused((_unreadable(error),)), None
        if self._given_up:
            raise Refused("host_draining", "the host is stopping")
        self._number += 1
        stamp = self._stamp
        variables = self._variables(project)
        _write_down(variables.withheld, self._settings.state_dir)
        secrets = {*project.connectors.secrets, *credentials_in(variables.inherited)}
        masker = Masker(secrets)
        project = replace(project, spec=structs.replace(project.spec, withheld=variables.withheld))
        template = TemplateHandle(
            number=self._number,
            tell_reaper=self._tell_reaper,
            masker=masker,
            spec=project.spec,
            environ=variables.inherited,
            load_seconds=self._settings.load_seconds,
        )
        self._templates[template.number] = template
        try:
            loaded = await template.loaded(self._settings.load_seconds)
            if secrets:
                loaded = {**loaded, "manifest": masked_manifest(loaded["manifest"], masker)}
            old = self.serving
            before, root = None if old is None else old.manifest, Path(project.spec.root)
            changes = await asyncio.to_thread(changes_of, before, loaded["manifest"], root=root)
            if old is not None:
                lost = (_lost_connectors(old.project, project), _lost_settings(old.project, project))
                changes = structs.replace(
                    changes, broken=(*changes.broken, *with_lines([each for each in lost if each], root))
                )
            if changes.broken and not force:
                return self._refused(changes.broken, template), None
            self.serving = self._generation(template, loaded, project, variables, secrets, stamp)
        except LoadFailed as error:
            template.stop()
            await template.exited.wait()
            return self._refused((_failed(error, template.output_tail, project.spec),), template), None
        finally:
            if self.serving is None or self.serving.number != template.number:
                template.stop()
        if template.exited.is_set():  # it exited while its answer was on its way
            self._template_died(self.serving)
        return self._outcome(changes, template, accepted=True), old

    def stop_template_if_idle(self, generation: ServingGeneration) -> None:
        """Stop the template of a generation that no longer serves, once it has forked the requested workers."""
        if generation.retired and generation.forking <= 0:
            self._tell_reaper({"is": "stop_template", "template": generation.number}, ())

    def template_exited(self, message: Mapping[str, Any]) -> None:
        """Record that a template has ended; if it still serves, its workers are spawned from now on."""
        template = self._templates.pop(message["template"], None)
        if template is not None:
            template.ended(message)
            template.close()
        if self.serving is not None and self.serving.number == message["template"]:
            self._template_died(self.serving)

    def reaper_ended(self) -> None:
        """Record that every template has ended."""
        for number in list(self._templates):
            self.template_exited({"template": number, "error": "the host's reaper process has died"})

    def give_up(self) -> None:
        """End a load that is under way, since the host stops, and refuse any that has read no more than the project."""
        self._given_up = True
        for template in self._templates.values():
            template.give_up()

    def close(self) -> None:
        """Close every template's connection, after `give_up`. May be called twice."""
        for template in self._templates.values():
            template.close()
        self._templates.clear()

    def _template_died(self, serving: ServingGeneration) -> None:
        serving.unforkable_reason = "its template has died"
        _log.error("the template of generation %d has died; its workers are spawned from now on", serving.number)

    def _generation(
        self,
        template: TemplateHandle,
        loaded: Mapping[str, Any],
        project: Project,
        variables: WorkerVariables,
        secrets: Collection[str],
        stamp: DiskStamp,
    ) -> ServingGeneration:
        if loaded["unforkable_reason"]:
            _log.info("workers are spawned, not forked: %s", loaded["unforkable_reason"])
        body = manifest_bytes(loaded["manifest"])
        return ServingGeneration(
            number=template.number,
            project=project,
            manifest=loaded["manifest"],
            body=body,
            digest=f"sha256:{hashlib.sha256(body).hexdigest()}",
            loaded_at_us=time.time_ns() // 1000,
            unforkable_reason=loaded["unforkable_reason"],
            stamp=stamp,
            sources=loaded["sources"],
            secrets=secrets,
            variables=variables,
            explicit=self.serving is not None and self.serving.explicit,
        )

    def _variables(self, project: Project) -> WorkerVariables:
        found = worker_variables(
            self._environ,
            declared=project.variables,
            secret=project.connectors.variables,
            pass_env=self._settings.pass_env,
            wanted=project.wanted,
        )
        user = self._settings.user
        return found if user is None else replace(found, inherited=user.environ(found.inherited))

    def _refused(self, broken: Sequence[Problem], template: TemplateHandle | None = None) -> LoadOutcome:
        return self._outcome(Changes(broken=tuple(broken)), template, accepted=False)

    def _outcome(self, changes: Changes, template: TemplateHandle | None, *, accepted: bool) -> LoadOutcome:
        serving = self.serving
        found = serving.manifest.get("problems", ()) if accepted and serving is not None else ()
        return LoadOutcome(
            accepted=accepted,
            generation=0 if serving is None else serving.number,
            digest="" if serving is None else serving.digest,
            reasons=tuple(f"{each.place}: {each.message}" if each.place else each.message for each in changes.broken),
            problems=tuple(once([*changes.broken, *changes.standing, *map(Problem.from_json, found)])),
            manifest=None if serving is None else serving.manifest,
            output_tail="" if template is None else template.output_tail,
            at_us=time.time_ns() // 1000,
            jobs=0 if serving is None else job_count(serving.manifest),
            removed=changes.removed,
            added=changes.added,
            stopped=changes.stopped,
        )


def _write_down(withheld: Sequence[str], state_dir: str) -> None:
    """Write the names of withheld variables where ``nomaflow doctor`` reads them."""
    if state_dir:
        with contextlib.suppress(OSError):
            write_private(Path(state_dir, "withheld"), os.fsencode("\n".join(withheld)))


def _vanished(serving: ServingGeneration | None, project: Project) -> bool:
    """Return True if a file that the serving generation was loaded from is gone."""
    if serving is None:
        return False
    before, now = serving.project.spec, project.spec
    had = {file["path"] for file in before.job_files if file["tree"] is not None}
    has = {file["path"] for file in now.job_files if not (file["absent"] or _is_missing(file["error"]))}
    return not had <= has or bool(before.settings_file and not now.settings_file)


def _lost_connectors(before: Project, now: Project) -> Problem | None:
    """Return the problem of a connectors.toml that has lost everything, or a section to a misspelt name."""
    had, has = before.connectors, now.connectors
    lost = (had.pools and not has.pools) or (had.connectors and not has.connectors)
    if had.file != has.file or not lost:
        return None
    new = (each for each in has.problems if each.code == "unknown_key" and "." not in each.path)
    if (unknown := next((each for each in new if each not in had.problems), None)) is not None:
        return unknown
    if has.pools or has.connectors or has.unusable or has.problems:
        return None
    path = Path(has.file)
    name = shown_path(path, Path(has.root))
    code, what = ("emptied_file", "the file is empty") if path.exists() else ("missing_file", "there is no such file")
    fix = "restore it; if no pool or connector is needed any more, load it with --force"
    return Place(name).error(code, f"{what}, and it had pools or connectors", fix=fix)


def _lost_settings(before: Project, now: Project) -> Problem | None:
    """Return the problem of a nomaflow.toml that has lost its settings."""
    if now.tables or not before.tables:
        return None
    code, what = (
        ("emptied_file", "it no longer sets anything") if now.spec.settings_file else ("missing_file", "it is gone")
    )
    fix = "restore it; if it is meant to set nothing, load it with --force"
    return Place(SETTINGS_FILE).error(code, f"{what}, and it had settings", fix=fix)


def _is_missing(error: Mapping[str, Any] | None) -> bool:
    return error is not None and error["code"] == "missing_file"


def _unreadable(error: ProjectError | OSError) -> Problem:
    if isinstance(error, OSError):
        return Place(str(error.filename or "")).error("project_unusable", f"it cannot be read: {reason_of(error)}")
    found = error.problem
    said = f"{found.path}: {found.message}" if found.path else found.message  # of no job: nothing else names the key
    return replace(found, code="project_unusable", file=Path(found.file).name, message=said)


def _unexpected(error: Exception) -> Problem:
    message = f"the load itself failed: {type(error).__name__}: {error}"
    return Place("").error("load_failed", message, fix="report it with the traceback in the host's log")


def _failed(error: LoadFailed, output: str, spec: ProjectSpec) -> Problem:
    lines = [line.strip() for line in output.rstrip().splitlines()]
    # A dump of an endless import begins with its innermost frame.
    frames = [frame for line in lines if (frame := _FRAME.match(line))]
    said = f"; it is at: {frames[0].string}" if frames else f"; its last output: {lines[-1]}" if lines else ""
    own = [frame for frame in frames if any(Path(frame[1]).is_relative_to(each) for each in spec.plugin_dirs)]
    file, line = "", 0
    if own:
        file, line = shown_path(Path(own[0][1]), Path(spec.root)), int(own[0][2])
        before = lines[max(lines.index(own[0].string) - 1, 0)]
        said = "" if before == own[0].string or before.endswith(_DUMPED) else f"; its last output: {before}"
    fix = "correct what its last output says, then reload"
    return Place(file).error("load_failed", f"{error}{said[:_SHOWN_OUTPUT]}", fix=fix, line=line)
