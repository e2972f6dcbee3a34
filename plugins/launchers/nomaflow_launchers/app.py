"""The composition root of a launcher: ask kernel and engine, decide, act, wait."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import os
import signal
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

from nomaflow.client import ClientError, KernelClient, KernelPlace
from nomaflow.client.values import HostView, InstanceView, KernelView
from nomaflow_api.event_loop import happens_within
from nomaflow_api.private_file import locked
from nomaflow_launchers.ended_instances import Witness
from nomaflow_launchers.engines.chosen import chosen_engine
from nomaflow_launchers.engines.engine import JOB_LABEL, Engine, EngineError
from nomaflow_launchers.engines.host_process import JOIN_SECONDS
from nomaflow_launchers.planning import Launched, Order, Plan, plan, served_before
from nomaflow_launchers.settings import CannotStart
from nomaflow_launchers.start_pauses import Patience
from nomaflow_project.models.launcher_section import LauncherSection
from nomaflow_telemetry.service_manager import ServiceManager

_LOG = logging.getLogger(__name__)
_LONGEST_WAIT_SECONDS = 30.0  # a kernel that has just started expects a host for a minute: it has to be told in time
_PROMISED_SECONDS = 180.0  # for so long, or three waits, the kernel counts on this launcher
_MARGIN_SECONDS = 900.0  # engines round the walltime up, and grant some time to end
_UNKNOWN = (
    "the kernel shows no host {0!r}, so nothing waits for it: start it once by hand (nomaflow host DIR --name {0}), "
    "or correct [launcher] hosts, or give this launcher the role for it"
)
_SILENT = (
    "instance {0} of host {1!r} has served and runs, but the kernel has not heard it for {2:g} s and awaits none "
    "of its steps: it keeps its place until its walltime; see {3}, and end it on the engine if it hangs"
)
_SERVED = ("ATTACHED", "DRAINING", "UNREACHABLE")  # one that is LOADING takes no attempts yet


class StartRefused(EngineError):
    """Raised when the engine has refused an instance, and others may have been started."""


async def serve(place: KernelPlace, section: LauncherSection, environ: dict[str, str]) -> None:
    """Start and end instances until a signal asks to stop. Instances that run go on.

    :raises CannotStart: if another launcher of the project runs, the project's state folder cannot be used or written,
        or what the engine needs is not installed
    """
    manager = ServiceManager.of(environ)
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    with _only_one(place.project):
        engine = chosen_engine(section, project=place.project, environ=environ)
        async with contextlib.aclosing(engine), KernelClient(place.source, ca=place.ca, by="launcher") as kernel:
            launcher = _Launcher(kernel, engine, section)
            _LOG.info("starting instances of %s on %s", ", ".join(section.hosts), section.engine)
            manager.ready(f"at most {section.max_instances} instances")
            failures, told = 0, ""
            while not stop.is_set():
                asked = 0.0
                try:
                    await launcher.turn()
                    failures, told = 0, ""
                except (ClientError, EngineError) as error:
                    failures += 1
                    asked = error.retry_after if isinstance(error, EngineError) else 0.0
                    why = error.advice if isinstance(error, ClientError) else str(error)
                    text = why if isinstance(error, StartRefused) else f"nothing is started: {why}"
                    _LOG.log(logging.DEBUG if text == told else logging.WARNING, "%s", text)
                    told = text
                wait = min(
                    section.poll_seconds * 2.0 ** min(failures, 10), max(_LONGEST_WAIT_SECONDS, section.poll_seconds)
                )
                wait = max(wait, asked)
                await happens_within(stop, wait)
            manager.stopping("stopping")


class _Launcher:
    def __init__(self, kernel: KernelClient, engine: Engine, section: LauncherSection) -> None:
        self._kernel = kernel
        self._engine = engine
        self._section = section
        self._witness = Witness(kernel, engine, section.hosts, clock=asyncio.get_running_loop().time)
        self._told: frozenset[str] = frozenset()
        self._taken_back: set[str] = set()
        self._silent: dict[str, float] = {}
        self._known: set[str] = set()
        self._refused: dict[tuple[str, str, str], EngineError] = {}
        self._patience = Patience(
            first_seconds=4 * section.poll_seconds,
            seen_seconds=max(section.idle_exit_seconds, 2 * section.poll_seconds),
            clock=asyncio.get_running_loop().time,
            log_of=engine.log_of,
        )

    async def turn(self) -> None:
        """Look once, and act.

        :raises ClientError: if the kernel does not answer
        :raises EngineError: if the engine does not
        """
        served = await self._kernel.get_kernel()
        store_id = served.store_id
        # The list comes first: an instance that attaches in between counts as coming, and one less is started.
        listed = await self._engine.listed(store_id)
        launched = [each for each in listed if each.host in self._section.hosts]  # the others are another launcher's
        # Another team's instance may have the same id on an engine of its own, or say that it has.
        hosts = [each for each in await self._kernel.list_hosts() if each.name in self._section.hosts]
        kernel = await self._kernel.get_kernel()
        if kernel.epoch == served.epoch:  # else another kernel, which does not know them yet, may have told their list
            await self._witness.look(hosts, epoch=kernel.epoch, left={each.engine_id for each in launched})
        attached = frozenset(_engine_ids(hosts, lambda each: each.state in _SERVED))
        known, refused = {each.name for each in hosts}, {host for host, *_ in self._refused}
        wanted = await self._kernel.list_wanted(
            launched_hosts=sorted(known - refused),
            launched_seconds=math.ceil(max(_PROMISED_SECONDS, 3 * self._section.poll_seconds)),
        )
        self._known = {each.engine_id for each in launched} & {*self._known, *_engine_ids(hosts, _has_served)}
        seconds = _seconds_of_lead(kernel)
        self._patience.look(
            launched,
            attached,
            served={each.engine_id for each in launched if served_before(each, self._known, seconds)},
            ended=self._taken_back,
            wanted={each.attempt_key for each in wanted},
        )
        acts = plan(
            self._section,
            wanted=wanted,
            launched=launched,
            attached=attached,
            idle=frozenset(_engine_ids(hosts, lambda each: each.state == "ATTACHED" and not each.running)),
            heard=frozenset(_engine_ids(hosts, lambda each: each.state in ("ATTACHED", "DRAINING"))),
            known=self._known,
            kernel_seconds=seconds,
            refused=self._refused,
        )
        unknown = [_UNKNOWN.format(each) for each in self._section.hosts if each not in known]
        self._tell([*acts.unmet, *unknown, *self._silence(launched, hosts, seconds)])
        await self._end(acts)
        self._refused = {}
        for start in acts.starts:
            if start.kind not in self._refused and self._patience.may_start(start.host):
                await self._start(start, store_id)
        for (host, shape, _), error in self._refused.items():
            raise StartRefused(f"no instance of {host} ({shape}) is started: {error}")

    def _silence(self, launched: Iterable[Launched], hosts: Iterable[HostView], kernel_seconds: float) -> Iterator[str]:
        """Yield what a person should know of instances that have served, still run, and are not at the kernel any more.

        Such a one hangs, or is cut off and may still run a step that was given up: only a person can tell.
        """
        now, listed = asyncio.get_running_loop().time(), frozenset(_engine_ids(hosts, lambda _: True))
        gone = [each for each in launched if each.engine_id in self._known - listed]
        self._silent = {each.engine_id: self._silent.get(each.engine_id, now) for each in gone}
        for each in gone:
            if min(now - self._silent[each.engine_id], kernel_seconds) > self._section.start_seconds:
                log = self._engine.log_of(each.engine_id)
                yield _SILENT.format(each.engine_id, each.host, self._section.start_seconds, log)

    def _tell(self, troubles: Collection[str]) -> None:
        """Log what a person has to change, each thing once."""
        for text in sorted({*troubles} - self._told):
            _LOG.warning("%s", text)
        self._told = frozenset(troubles)

    async def _end(self, acts: Plan) -> None:
        """End the instances that hang, and those that are no longer wanted.

        :raises EngineError: if the engine refuses
        """
        before, self._taken_back = self._taken_back, {*acts.stuck, *acts.surplus}
        for engine_id in acts.stuck:
            if engine_id not in before:  # one that hangs takes its time to end
                _LOG.warning(
                    "instance %s has run for %g s without attaching: ending it", engine_id, self._section.start_seconds
                )
            await self._engine.end(engine_id, only_waiting=False)
        for engine_id in acts.surplus:
            _LOG.info("instance %s is no longer wanted, and has no machine yet: ending it", engine_id)
            await self._engine.end(engine_id, only_waiting=True)

    async def _start(self, start: Order, store_id: str) -> None:
        """Start an instance; if the engine refuses it, others of its kind are not tried in this turn.

        :raises EngineError: if the engine asks to be left alone
        """
        order = replace(start, store_id=store_id, join=await self._join_string(start.host))
        try:
            engine_id = await self._engine.start(order)
        except EngineError as error:
            if error.retry_after:
                raise
            self._refused[start.kind] = error
            return
        self._patience.started(engine_id, order.host, order.attempt_key)
        alone = f" for attempt {start.attempt_key}" if start.attempt_key else ""
        _LOG.info("instance %s of %s (%s) is started%s", engine_id, start.host, start.shape.name, alone)

    async def _join_string(self, host: str) -> str:
        """Return a join string for one instance, good once; empty where the kernel is on a Unix socket alone.

        :raises ClientError: if the kernel does not answer, or does not let the launcher do that
        """
        lasts = timedelta(seconds=self._section.walltime_seconds + _MARGIN_SECONDS)
        waits = timedelta(seconds=JOIN_SECONDS)
        try:
            return (await self._kernel.invite_instance(host, lifetime=waits, instance_lifetime=lasts)).secret
        except ClientError as error:
            if error.reason == "NOT_ON_TCP":
                return ""
            raise


def _engine_ids(hosts: Iterable[HostView], chosen: Callable[[InstanceView], bool]) -> Iterator[str]:
    """Yield the engine's ids of the instances that are chosen."""
    for host in hosts:
        for instance in host.instances:
            if instance.has is not None and JOB_LABEL in instance.has.labels and chosen(instance):
                yield instance.has.labels[JOB_LABEL]


def _has_served(instance: InstanceView) -> bool:
    return instance.state != "LOADING" or instance.running > 0


def _seconds_of_lead(kernel: KernelView) -> float:
    if kernel.now is None or kernel.started_at is None:
        return math.inf
    return (kernel.now - kernel.started_at).total_seconds()


@contextlib.contextmanager
def _only_one(project: Path) -> Iterator[None]:
    """Hold the lock of the project's launcher.

    :raises CannotStart: if another process has it, or there can be none
    """
    state = project / ".nomaflow"
    try:
        state.mkdir(mode=0o700, exist_ok=True)
        fd = locked(state / "launcher.lock")
    except BlockingIOError:
        raise CannotStart(f"another launcher of {project} runs already", exit_code=os.EX_TEMPFAIL) from None
    except OSError as error:
        why = f"{str(state)!r} cannot be used: {error.strerror}"
        if isinstance(error, PermissionError | NotADirectoryError | FileExistsError):
            raise CannotStart(f"{why}; it has to be a folder of the user that runs this") from None
        raise CannotStart(f"{why}; check that folder and its disk", exit_code=1) from None  # a new start may succeed
    try:
        yield
    finally:
        os.close(fd)
