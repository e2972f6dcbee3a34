"""Which generation serves: loading one beside another, and refusing what is worse."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING, Any

from nomaflow_host.generation import manifest_bytes
from nomaflow_host.masking import Masker
from nomaflow_host.supervisor.disk_stamp import disk_stamp
from nomaflow_host.supervisor.generations import ServingGeneration, broken_since, digest_of
from nomaflow_host.supervisor.loading import LoadFailed, TemplateHandle
from nomaflow_host.supervisor.settings import worker_environment
from nomaflow_host.supervisor.values import LoadOutcome

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from nomaflow_host.supervisor.disk_stamp import DiskStamp
    from nomaflow_host.supervisor.loading import Loaded
    from nomaflow_host.supervisor.settings import SupervisorSettings
    from nomaflow_host.supervisor.values import ProjectLoad, ProjectSource

__all__ = ["GenerationLoader"]

_log = logging.getLogger("nomaflow.host")


class GenerationLoader:
    """Loads generations, one at a time.

    :param project: reads the project from disk
    :param environ: of this host, from which each generation's processes inherit what its connectors.toml lets them
    :param tell_reaper: sends the reaper a command
    """

    def __init__(
        self,
        *,
        settings: SupervisorSettings,
        project: ProjectSource,
        environ: Mapping[str, str],
        tell_reaper: Callable[[Mapping[str, Any], Sequence[int]], None],
    ) -> None:
        self._settings = settings
        self._project = project
        self._environ = environ
        self._tell_reaper = tell_reaper
        self._templates: dict[int, TemplateHandle] = {}
        self._number = 0
        self._one_at_a_time = asyncio.Lock()
        self._ended = asyncio.Event()
        self._tried: DiskStamp | None = None
        self.serving: ServingGeneration | None = None

    async def load(self, *, force: bool) -> tuple[LoadOutcome, ServingGeneration | None]:
        """Load the project as it is now; return what became of it, and the generation it replaces."""
        async with self._one_at_a_time:
            try:
                return await self._load(force=force)
            finally:
                ended, self._ended = self._ended, asyncio.Event()
                ended.set()

    async def settled(self, seconds: float) -> bool:
        """Wait until no load is under way, and none is due: the last one began with the files as they are.

        Returns False where that takes longer than *seconds*. A load that was refused is over, too.
        """
        try:
            async with asyncio.timeout(seconds):
                while True:
                    ended, serving = self._ended, self.serving
                    # Off the loop: a project may have thousands of files.
                    seen = None if serving is None else await asyncio.to_thread(disk_stamp, serving.project.spec)
                    if not self._one_at_a_time.locked() and (seen is None or seen == self._tried):
                        return True
                    await ended.wait()
        except TimeoutError:
            return False

    async def _load(self, *, force: bool) -> tuple[LoadOutcome, ServingGeneration | None]:
        began = time.monotonic()
        self._number += 1
        # Before anything is read: what is saved while it is read is newer.
        known = None if self.serving is None else self.serving.project.spec
        self._tried = None if known is None else disk_stamp(known)
        project = self._project()
        if self._tried is None or known is None or known.plugin_dirs != project.spec.plugin_dirs:
            self._tried = disk_stamp(project.spec)
        stamp = self._tried
        template = TemplateHandle(number=self._number, loop=asyncio.get_running_loop(), tell_reaper=self._tell_reaper)
        self._templates[template.number] = template
        template.start(
            project.spec,
            environ=self._environment(project),
            spawn_only=self._settings.spawn_only,
            load_seconds=self._settings.load_seconds,
        )
        try:
            loaded = await template.loaded(self._settings.load_seconds)
        except LoadFailed as error:
            template.stop()
            await template.exited.wait()
            return self._refused((str(error),), template, began, ()), None
        old = self.serving
        broken = broken_since(None if old is None else old.manifest, loaded.manifest)
        if broken and not force:
            template.stop()
            return self._refused(broken, template, began, loaded.manifest["problems"]), None
        self.serving = self._generation(template, loaded, project, stamp)
        if template.exited.is_set():  # while its answer was on its way
            self._template_died(self.serving)
        return self._outcome(template, began, accepted=True, reasons=broken), old

    def stop_template_if_idle(self, generation: ServingGeneration) -> None:
        """Stop the template of a generation that is no longer served, once it has forked what it was asked for."""
        if generation.retired and generation.forking <= 0 and generation.template is not None:
            number, generation.template = generation.template, None
            self._tell_reaper({"is": "stop_template", "template": number}, ())

    def template_exited(self, message: Mapping[str, Any]) -> None:
        """Take note that a template has ended; if it still serves, its workers are spawned from now on."""
        template = self._templates.pop(message["template"], None)
        if template is not None:
            template.ended(message)
            template.close()
        serving = self.serving
        if serving is not None and serving.template == message["template"]:
            self._template_died(serving)

    def reaper_ended(self) -> None:
        """Take note that every template has ended."""
        for number in list(self._templates):
            self.template_exited({"template": number, "error": "the host's reaper process has died"})

    def close(self) -> None:
        """Close every template's connection. May be called twice."""
        for template in self._templates.values():
            template.ended({"error": "the host is stopping"})
            template.close()
        self._templates.clear()

    def _template_died(self, serving: ServingGeneration) -> None:
        serving.template = None
        serving.unforkable_reason = "its template has died"
        _log.error("the template of generation %d has died; its workers are spawned from now on", serving.number)

    def _generation(
        self, template: TemplateHandle, loaded: Loaded, project: ProjectLoad, stamp: Mapping[str, tuple[int, int]]
    ) -> ServingGeneration:
        if loaded.unforkable_reason:
            _log.info("workers are spawned, not forked: %s", loaded.unforkable_reason)
        return ServingGeneration(
            number=template.number,
            project=project,
            manifest=loaded.manifest,
            digest=digest_of(manifest_bytes(loaded.manifest)),
            loaded_at_us=time.time_ns() // 1000,
            forkable=loaded.forkable,
            unforkable_reason=loaded.unforkable_reason,
            stamp=stamp,
            template=template.number,
            sources=loaded.sources,
            environ=self._environment(project),
            masker=Masker(project.connectors.secrets),
        )

    def _environment(self, project: ProjectLoad) -> dict[str, str]:
        return worker_environment(self._environ, drop=project.connectors.secret_env_names, settings=self._settings)

    def _refused(
        self, reasons: tuple[str, ...], template: TemplateHandle, began: float, problems: Sequence[Mapping[str, Any]]
    ) -> LoadOutcome:
        for reason in reasons:
            _log.error("generation %d is refused: %s", template.number, reason)
        return self._outcome(template, began, accepted=False, reasons=reasons, problems=problems)

    def _outcome(
        self,
        template: TemplateHandle,
        began: float,
        *,
        accepted: bool,
        reasons: tuple[str, ...],
        problems: Sequence[Mapping[str, Any]] | None = None,
    ) -> LoadOutcome:
        serving = self.serving
        manifest = None if serving is None else serving.manifest
        given = problems if problems is not None else (manifest or {}).get("problems", ())
        return LoadOutcome(
            accepted=accepted,
            generation=0 if serving is None else serving.number,
            digest="" if serving is None else serving.digest,
            reasons=reasons,
            problems=tuple(given),
            manifest=manifest,
            output_tail=template.output_tail,
            seconds=time.monotonic() - began,
        )
