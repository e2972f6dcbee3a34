"""The supervisor: executes the host's orders in worker processes."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from typing import TYPE_CHECKING, Any

from nomaflow_api.v1.letter_words import FinishedState, Isolation
from nomaflow_api.v1.letters import CancelOrder
from nomaflow_host.reaper.proc import ProcessIdentity
from nomaflow_host.reaper.tree_limits import Limits
from nomaflow_host.supervisor.attempt_table import AttemptTable
from nomaflow_host.supervisor.blocked_loops import watch_loops
from nomaflow_host.supervisor.inspecting import Inspector
from nomaflow_host.supervisor.order_values import OrderValues
from nomaflow_host.supervisor.pool import WorkerPool
from nomaflow_host.supervisor.reaper_link import ReaperLink
from nomaflow_host.supervisor.reload import GenerationLoader
from nomaflow_host.supervisor.secrets_link import SecretsLink
from nomaflow_host.supervisor.settings import SupervisorSettings, reaper_environment
from nomaflow_host.supervisor.value_checks import ValueChecker
from nomaflow_host.supervisor.values import LoadOutcome, Refused, StopRequest
from nomaflow_host.supervisor.worker_handle import WorkerHandle
from nomaflow_project.reading.regular_files import reason_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from nomaflow_api.v1.letters import DispatchOrder
    from nomaflow_host.attempt.messages import AttemptSink
    from nomaflow_host.channel.frames import FrameError
    from nomaflow_host.project.project import Project
    from nomaflow_host.supervisor.serving_generation import ServingGeneration

_log = logging.getLogger("nomaflow.host")
_TICK_SECONDS = 0.5
_SHUTDOWN_SECONDS = 3.0
_REVIVE_SECONDS = 1.0
_FAILED = {"spawn": ("spawn_failed", "worker"), "start_template": ("template_exited", "template")}
_CUT_OFF = "code in it has closed descriptors that the worker needs, such as that of its connection to the host"


class Supervisor:
    """Runs attempts in worker processes and stops them reliably. It lives on one event loop and never blocks it.

    :param project: reads the project at each load
    :param sink: receives the events of attempts
    :param environ: the host's variables, of which workers get a part; this process's own by default
    :param on_load: called with the outcome of each load
    :param on_reaper: called with the identity of the reaper as soon as it runs, and of each replacement
    :ivar pool: its workers
    :ivar loader: loads the code that they run
    :ivar attempts: what they run
    """

    def __init__(
        self,
        *,
        settings: SupervisorSettings,
        project: Callable[[], Project],
        sink: AttemptSink,
        environ: Mapping[str, str] | None = None,
        on_load: Callable[[LoadOutcome], None] = lambda _: None,
        on_reaper: Callable[[ProcessIdentity], None] | None = None,
    ) -> None:
        self._settings = settings
        self._sink = sink
        environ = os.environ if environ is None else environ
        self._reaper_environ = reaper_environment(environ)
        self._on_load = on_load
        self._on_reaper = on_reaper
        self.pool = WorkerPool(settings=settings, start=self._start_worker, shut_down=self._shut_down)
        self.loader = GenerationLoader(
            settings=settings, project=project, environ=environ, tell_reaper=self._tell_reaper
        )
        self._secrets = SecretsLink()
        values_of = OrderValues(plugins=self._secrets, environ=environ).of
        self.attempts = AttemptTable(settings=settings, sink=sink, pool=self.pool, values_of=values_of)
        self.check = ValueChecker(pool=self.pool, loader=self.loader).check
        """Checks given values against the callables of the serving generation, without calling one."""
        self.inspect = Inspector(find=self.attempts.find).inspect
        """Returns what an attempt does now; None if this host does not run it. Takes at most three seconds."""
        self._next_worker = 1
        self._draining = False
        self._reaper: ReaperLink | None = None
        self._tick_timer: asyncio.TimerHandle | None = None
        self._revival: asyncio.Task[None] | None = None
        self.mechanism = "sampling"
        """How limits of worker trees are enforced: ``cgroup`` or ``sampling``."""

    # --- life -----------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Start the reaper.

        :raises OSError: if it cannot be started
        """
        self._loop = asyncio.get_running_loop()
        await self._start_reaper()
        self._tick()

    async def load(self, *, force: bool = False) -> LoadOutcome:
        """Load a new generation beside the old one; serve it unless a part that worked no longer does.

        :param force: serve it anyway if it can be loaded at all
        :raises Refused: if the host is stopping, or its reaper is being replaced
        """
        if self._reaper is None:
            code = "host_draining" if self._draining else "host_has_no_reaper"
            raise Refused(code, "the host is not running and cannot load code")
        outcome, retired = await self.loader.load(force=force)
        if retired is not None:
            self.pool.retire(retired)
            self.loader.stop_template_if_idle(retired)
        if outcome.accepted and (serving := self.loader.serving) is not None:
            self.pool.prepare(serving)
        self._on_load(outcome)
        return outcome

    async def drain(self, deadline_s: float) -> None:
        """Accept nothing new, let running attempts finish within *deadline_s*, then stop them.

        Returns once the stop ladder's time is over as well, even if the sink is full.
        """
        self._draining = True
        self.attempts.host_ends(_DRAINING)
        if await self.attempts.emptied_within(deadline_s):
            return
        self.attempts.read_to_the_end()
        for key in self.attempts.held_keys():
            self.attempts.stop(key, _DRAINING)
        if not await self.attempts.emptied_within(self.attempts.ladder_seconds() + _SHUTDOWN_SECONDS):
            _log.error(
                "%d steps cannot be stopped; this host's next start will report their outcome", len(self.attempts)
            )

    async def stop(self) -> None:
        """Kill all attempts and end every process. May be called twice, and before `start`."""
        self._draining = True
        self.attempts.read_to_the_end()
        if self._revival is not None:
            self._revival.cancel()
            await asyncio.gather(self._revival, return_exceptions=True)
        if self._reaper is not None:  # otherwise all of its processes are gone
            for key in self.attempts.held_keys():
                self.attempts.kill(key, _DRAINING)
        await self.attempts.emptied_within(2 * _SHUTDOWN_SECONDS)
        if self._tick_timer is not None:
            self._tick_timer.cancel()
        reaper, self._reaper = self._reaper, None
        self.loader.give_up()
        if reaper is not None:
            await reaper.stop()
        for worker in self.pool:
            worker.close()
            self.pool.remove(worker)
        self.loader.close()
        self._secrets.close()

    # --- orders ---------------------------------------------------------------------------------------------------

    def accept(self, order: DispatchOrder) -> None:
        """Start an attempt. Whoever calls this knows that its key is new: the outbox remembers keys.

        :raises Refused: if this host accepts nothing new, or is full
        """
        generation = self.loader.serving
        if self._draining:
            raise Refused("host_draining", "the host is stopping and takes no new work")
        if self._reaper is None:
            raise Refused("host_has_no_reaper", "the host's reaper process is being replaced")
        if generation is None:
            raise Refused("host_has_no_code", "the host has not loaded its plugins")
        shared = order.isolation is Isolation.SHARED or (
            order.isolation is Isolation.BY_KIND and generation.is_async(order.callable)
        )
        settings, held = self._settings, self.attempts.count(sync=not shared)
        limit, name = (settings.max_async, "max_async") if shared else (settings.max_sync, "max_sync")
        if held >= limit:
            raise Refused("host_full", f"the host runs {held} such steps, and {name} is {limit}")
        exclusive = not shared or order.callable in generation.demoted
        self.attempts.begin(order, self.pool.take(generation, exclusive=exclusive), counts_as_sync=not shared)
        if exclusive:
            self._loop.call_soon(self.pool.prepare, generation)

    def cancel(self, order: CancelOrder) -> None:
        """Stop an attempt by the ladder. A second call or an unknown key does nothing."""
        by = f" by {order.by}" if order.by else ""
        why = f": {order.why}" if order.why else ""
        stop = StopRequest(
            state=FinishedState.CANCELED, reason_code=order.reason_code, reason=f"cancel requested{by}{why}"
        )
        self.attempts.stop(order.attempt_key, stop)

    def kill(self, attempt_key: str, reason_code: str, reason: str) -> None:
        """Kill an attempt's worker at once. An unknown key does nothing."""
        stop = StopRequest(state=FinishedState.FAILED, reason_code=reason_code, reason=reason)
        self.attempts.kill(attempt_key, stop)

    # --- status ---------------------------------------------------------------------------------------------------

    @property
    def reaper_identity(self) -> ProcessIdentity:
        """The reaper, of pid 0 while there is none. Once that process is gone, every process below it is gone too."""
        return ProcessIdentity(0, 0) if self._reaper is None else self._reaper.identity

    # --- workers --------------------------------------------------------------------------------------------------

    def _start_worker(self, generation: ServingGeneration, *, exclusive: bool) -> WorkerHandle:
        number, self._next_worker = self._next_worker, self._next_worker + 1
        try:
            worker = WorkerHandle(
                number=number,
                generation=generation,
                exclusive=exclusive,
                may_read=lambda: self._sink.may_read(exclusive=exclusive),
                on_frame=self.attempts.heard,
                on_pause=self.attempts.settle_waiting,
                on_nonsense=self._nonsense,
                tell_reaper=self._tell_reaper,
            )
        except OSError as error:  # more generations than its limit of open files was raised for still have workers
            raise Refused("host_full", f"the host cannot start another worker: {reason_of(error)}") from None
        forked = generation.forkable
        generation.forking += 1
        message = {
            "is": "spawn",
            "worker": number,
            "template": generation.number if forked else None,
            "environ": {} if forked else dict(generation.variables.inherited),
        }
        self._tell_reaper(message, worker.child_fds)
        worker.link.send(
            {
                "is": "bootstrap",
                "exclusive": exclusive,
                "nice": self._settings.nice or 0,
                "connectors": generation.project.connectors.to_json(),
                "spec": None if forked else generation.project.spec.to_json(),
                "sources": None if forked else generation.sources,
            }
        )
        return worker

    def _shut_down(self, worker: WorkerHandle) -> None:
        """End an idle worker: let it close its connections, then kill the rest of its tree."""
        if worker.shutdown is None and worker.kill_note is None:
            worker.link.send({"is": "shutdown"})
            worker.shutdown = self._loop.call_later(_SHUTDOWN_SECONDS, worker.kill_tree)

    def _nonsense(self, worker: WorkerHandle, error: FrameError | None) -> None:
        """Handle the end of a worker's connection: the worker is dying, or plugin code has damaged the connection."""
        if worker.shutdown is None:
            why = _CUT_OFF if error is None else f"it sent an invalid message to its host: {error}"
            worker.kill(why, spoilt=True, presumed=error is None)

    # --- the reaper -----------------------------------------------------------------------------------------------

    async def _start_reaper(self) -> None:
        memory_mb = self._settings.memory_mb
        limits = Limits(None if memory_mb is None else memory_mb << 20, self._settings.max_processes)
        reaper = ReaperLink(
            environ=self._reaper_environ, limits=limits, user=self._settings.user,
            on_message=self._reaper_said, on_end=self._reaper_ended,
        )  # fmt: skip
        self.mechanism = await reaper.start(self._on_reaper)
        # Not earlier: work given to a reaper that dies before it serves would never end.
        self._reaper = reaper

    def _tell_reaper(self, message: Mapping[str, Any], fds: Sequence[int] = ()) -> None:
        if self._reaper is not None:
            self._reaper.send(message, fds)
            return
        for fd in fds:
            os.close(fd)
        if message["is"] in _FAILED:
            failed, name = _FAILED[message["is"]]
            answer = {"is": failed, name: message[name], "error": "the host's reaper is being replaced"}
            self._loop.call_soon(self._reaper_said, answer)

    def _reaper_said(self, message: dict[str, Any]) -> None:
        match message["is"]:
            case "spawned":
                self._spawned(message)
            case "spawn_failed":
                self._exited(message, {"cause": None, "killed": False, "error": message["error"]})
            case "exited":
                self._exited(message, message)
            case "template_started":
                _log.info("template %d is process %d", message["template"], message["pid"])
            case "template_exited":
                self.loader.template_exited(message)

    def _spawned(self, message: dict[str, Any]) -> None:
        worker = self.pool.get(message["worker"])
        if worker is not None:
            worker.pid, worker.spawned = message["pid"], True
            self._fork_answered(worker)

    def _fork_answered(self, worker: WorkerHandle) -> None:
        worker.generation.forking -= 1
        self.loader.stop_template_if_idle(worker.generation)

    def _exited(self, message: dict[str, Any], exited: Mapping[str, Any]) -> None:
        """Conclude the attempts of a worker whose processes are all gone."""
        worker = self.pool.get(message["worker"])
        if worker is None:
            return
        if not worker.spawned:
            self._fork_answered(worker)
        worker.closed = True
        worker.link.read()
        self.attempts.worker_ended(worker, exited)

    def _reaper_ended(self) -> None:
        """Handle the reaper's death: kill its children, fail their attempts, and start another."""
        reaper, self._reaper = self._reaper, None
        if reaper is None:
            return  # it did not get to serve, and its start raises the error
        _log.error("the reaper has died; killing every worker and starting a new reaper")
        reaper.bury()
        for worker in self.pool:
            worker.link.read()
            if worker.kill_note is not None and worker.kill_note.presumed:
                worker.kill_note = None
            worker.kill("the host's reaper process has died")
            self.attempts.worker_ended(worker, {"cause": None, "killed": True})
        self.loader.reaper_ended()
        if not self._draining:
            self._revival = self._loop.create_task(self._revive(0 if reaper.steady else _REVIVE_SECONDS))

    async def _revive(self, pause: float) -> None:
        """Start another reaper and load the code; if that is refused, the old code continues in spawned workers."""
        while self._reaper is None:
            await asyncio.sleep(pause)
            try:
                await self._start_reaper()
            except (OSError, TimeoutError) as error:
                _log.error("a new reaper cannot be started, trying again: %s", error)
                pause = _REVIVE_SECONDS
        with contextlib.suppress(Refused):  # the host is stopping
            if not (outcome := await self.load()).accepted:
                _log.error("the code cannot be loaded again after the reaper died: %s", "; ".join(outcome.reasons))

    def _tick(self) -> None:
        watch_loops(self.pool, blocked_seconds=self._settings.blocked_seconds)
        limit = self._settings.load_seconds
        for worker in self.pool.overdue(limit):
            worker.kill(f"it did not become ready within {limit:g} s")
        self.pool.trim()
        if self._reaper is not None:
            self._reaper.thaw()
        self._tick_timer = self._loop.call_later(_TICK_SECONDS, self._tick)


_DRAINING = StopRequest(
    state=FinishedState.FAILED, reason_code="host_draining", reason="the host stopped before the step finished"
)
