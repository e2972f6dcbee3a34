"""Composition root of a host: builds every part, connects them and runs the host."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import os
import platform
import random
import sys
import time
from collections.abc import Mapping, MutableMapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from msgspec import Struct, field, structs

from nomaflow_api.addresses import has_known_form, is_tcp
from nomaflow_api.time_spans import time_span
from nomaflow_api.version import VERSION
from nomaflow_host.generation.manifest import manifest_bytes
from nomaflow_host.identity.files import Identity, IdentityFile
from nomaflow_host.identity.joining import join_kernel, read_join_string
from nomaflow_host.observing.observation import HostObservation
from nomaflow_host.outbox.event_storage import SpillStore
from nomaflow_host.outbox.outbox import Outbox
from nomaflow_host.process.errors import HostBusy, HostError, NotJoined, ProjectError
from nomaflow_host.process.file_limit import most_sync, raise_file_limit
from nomaflow_host.process.life import HostLife
from nomaflow_host.process.runner import SupervisedRunner
from nomaflow_host.process.service_state import ServiceState
from nomaflow_host.project.instance_lock import Instance, InstanceLock
from nomaflow_host.project.mark import put_mark
from nomaflow_host.project.project import Project, changed_since_start, make_state_dir
from nomaflow_host.project.run_as import check_niceness, user_of
from nomaflow_host.reaper.proc import ProcessIdentity
from nomaflow_host.session.addresses import AddressSource
from nomaflow_host.session.facts import HostIdentity
from nomaflow_host.session.reconnecting import HostSession
from nomaflow_host.supervisor.reload import VANISHED_SECONDS
from nomaflow_host.supervisor.settings import SupervisorSettings
from nomaflow_host.supervisor.supervisor import Supervisor
from nomaflow_project.jobs.machine_capacity import resources_here
from nomaflow_project.models.kernel_addresses import ADDRESS_FORMS
from nomaflow_project.reading.problems import Place
from nomaflow_telemetry.metrics_address import MetricsPlace
from nomaflow_telemetry.process_log import set_up_logging
from nomaflow_telemetry.service_manager import ServiceManager

_log = logging.getLogger(__name__)
_JOIN_AGAIN_SECONDS = 2.0


class HostOptions(Struct, frozen=True, kw_only=True):
    """The options of the command line.

    :param kernel: addresses, separated by commas; empty means [host] kernel, then the kernel that the host has joined,
        then the project's own kernel
    :param join: file of a join string, ``-`` for standard input; empty for none
    :param state_dir: the instance's own folder, on this machine; None means ``.nomaflow/host-NAME`` in the project
    :param idle_exit_seconds: end once nothing has run for this long; 0 for never
    :param for_attempt: the key of the one attempt that it takes, before it ends; empty for any
    :param ends_at: when the time of this machine ends, in seconds since the epoch; None for never
    :param labels: laid over those of [host] labels
    :param capacity: laid over that of [host] capacity
    :param watch: reload whenever a file of the project is saved
    :param log_level: of the host's own log
    :param log_format: ``text`` or ``json``
    :param metrics: address to serve metrics on; empty means [host] metrics
    """

    project: Path
    kernel: str = ""
    join: str = ""
    name: str = ""
    state_dir: Path | None = None
    idle_exit_seconds: float = 0.0
    for_attempt: str = ""
    ends_at: float | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    capacity: Mapping[str, Any] = field(default_factory=dict)
    watch: bool = False
    log_level: str = "INFO"
    log_format: str = "text"
    metrics: str = ""


class ProjectReader:
    """Reads the project at each load and keeps the last one as `current`."""

    def __init__(self, *, options: HostOptions, environ: Mapping[str, str]) -> None:
        self._folder = options.project
        self._environ = environ
        self.current = self._open(options.name or None)
        self._started = self.current.settings

    def __call__(self) -> Project:
        """Return the project as it is now.

        :raises ProjectError: if it cannot be used
        """
        # A host keeps its name for life: a new name in the file takes effect at the next start.
        opened = self._open(self.current.host)
        waiting = changed_since_start(self._started, opened.settings, root=opened.root)
        problems = (*opened.spec.problems, *(each.to_json() for each in waiting))
        self.current = replace(opened, spec=structs.replace(opened.spec, problems=problems))
        return self.current

    def _open(self, name: str | None) -> Project:
        return Project.open(self._folder, name=name, environ=self._environ)


def supervisor_settings(project: Project, **more: Any) -> SupervisorSettings:
    """Return the supervisor's settings; the supervisor's defaults apply where [host] gives no value.

    A max_sync that nobody has given is no greater than the limit of open files allows.

    :param more: settings that are not in [host]
    """
    given = {name: getattr(project.settings, name, None) for name in SupervisorSettings.__struct_fields__}
    settings = SupervisorSettings(**{name: value for name, value in given.items() if value is not None}, **more)
    if given["max_sync"] is not None:
        return settings
    fitting = max(1, min(settings.max_sync, most_sync(settings.shared_workers)))
    return structs.replace(settings, max_sync=fitting)


async def serve(options: HostOptions, *, environ: MutableMapping[str, str]) -> int:
    """Run a host until it is told to stop; return the exit code.

    :param environ: the variables of the service manager are taken out, so that no child process speaks for the host
    :raises HostError: if it cannot start, or the kernel will never take it
    :raises MetricsAddressRefused: if metrics may not or cannot be served there
    :raises MetricsAddressTaken: if another process has their address
    """
    state = ServiceState(ServiceManager.of(environ))
    reader = ProjectReader(options=options, environ=environ)
    project = reader.current
    state_dir = project.state_dir if options.state_dir is None else options.state_dir.absolute()
    limits = _limits(options, project, state_dir)
    set_up_logging(level=options.log_level, form=options.log_format, host=project.host)
    raise_file_limit(limits)
    make_state_dir(state_dir, given=options.state_dir is not None)
    file, lock = _identity_file(options, project, state_dir), InstanceLock(state_dir=state_dir)
    me = await _joined_alone(options, project, file, lock)
    if me is None:
        return 0
    async with contextlib.AsyncExitStack() as stack:
        stack.callback(lock.release)
        addresses = _addresses(options, project, file)
        outbox = Outbox(store=SpillStore(directory=state_dir / "spill"))
        stack.callback(outbox.close)
        metrics = MetricsPlace.of(project.root, project.settings, address=options.metrics)
        observation = HostObservation(sink=outbox, metrics=metrics, environ=environ)
        supervisor = Supervisor(
            settings=limits,
            project=reader,
            sink=observation.sink,
            environ=environ,
            on_load=state.loaded,
            on_reaper=functools.partial(_record, lock, me),
        )
        stack.push_async_callback(supervisor.stop)
        await supervisor.start()
        runner = SupervisedRunner(supervisor=supervisor, for_attempt=options.for_attempt, watch=observation.orders)
        identity = _identity(me, project, limits, options)
        session = HostSession(
            identity=identity, addresses=addresses, identity_file=file, runner=runner, outbox=outbox, tell=state.session
        )
        await stack.enter_async_context(observation.of(supervisor, session))
        life = HostLife(
            runner=runner,
            session=session,
            state=state,
            watched=(project.root,) if options.watch else (),
            drain_s=project.settings.drain_seconds,
            idle_exit_s=options.idle_exit_seconds,
            one_attempt=bool(options.for_attempt),
            ends_at=options.ends_at,
            dump=observation.dump,
            disk_changed=supervisor.loader.disk_changed,
        )
        await life.run()
    return 0


def _identity_file(options: HostOptions, project: Project, state_dir: Path) -> IdentityFile:
    """Return the file of the certificate: the instance's own if it joins by itself or has one, else the project's."""
    shared = IdentityFile(project.root / ".nomaflow" / "identity.json")
    if options.state_dir is None:
        return shared
    own = IdentityFile(state_dir / "identity.json")
    return own if options.join or own.exists else shared


async def _joined_alone(
    options: HostOptions, project: Project, file: IdentityFile, lock: InstanceLock
) -> Instance | None:
    """Become the one process of this host, and join a kernel if told to.

    A disk without room is told before the join string is used up.

    :return: None if another process is this host; it then shows the new certificate
    :raises HostError: if it cannot join, or another process is this host and there was nothing to join
    """
    me = Instance.new()
    try:
        me = structs.replace(me, ended=lock.acquire(me))
        lock.record(me)
    except HostBusy:
        if not options.join or not await _joined(options, project, file):
            raise
    else:
        if options.join:
            await _joined(options, project, file)
        return me
    _log.info("this host already runs as another process, which shows the new certificate at its next connection")
    return None


async def _joined(options: HostOptions, project: Project, file: IdentityFile) -> bool:
    """Join a kernel; return whether the join string was used now.

    A host that ends when it is idle waits for as long for a kernel that is away: the engine that started it may have
    had it wait for hours, and starts it no second time.

    :raises NotJoined: if it cannot
    """
    join, until = read_join_string(options.join), time.monotonic() + options.idle_exit_seconds
    told = ""
    while True:
        try:
            return await join_kernel(join, host=project.host, file=file)
        except NotJoined as error:
            if error.exit_code == NotJoined.exit_code or time.monotonic() > until:
                raise
            if error.problem != told:
                _log.warning("%s; trying for %s", error.problem, time_span(until - time.monotonic()))
            told = error.problem
        await asyncio.sleep(random.uniform(0.8, 1.2) * _JOIN_AGAIN_SECONDS)  # noqa: S311  # not a secret


def _limits(options: HostOptions, project: Project, state_dir: Path) -> SupervisorSettings:
    """Return the supervisor's settings of a host that serves.

    :raises ProjectError: if the project's code cannot run as the user, or at the niceness, that it names
    """
    user = user_of(project)
    check_niceness(project, user)
    limits = supervisor_settings(
        project,
        state_dir=str(state_dir),
        vanished_seconds=VANISHED_SECONDS if options.watch else 0.0,
        user=user,
    )
    if not options.for_attempt:
        return limits
    return structs.replace(
        limits, max_async=1, max_sync=1, shared_workers=1, spare_exclusive=min(1, limits.spare_exclusive)
    )


async def print_manifest(options: HostOptions, *, environ: MutableMapping[str, str]) -> int:
    """Load the project once, print its manifest on stdout and return the exit code. No kernel is needed."""
    reader = ProjectReader(options=options, environ=environ)
    # A user without rights to give up reads the manifest as themselves.
    user = user_of(reader.current) if os.geteuid() == 0 else None
    settings = structs.replace(supervisor_settings(reader.current), shared_workers=1, spare_exclusive=0, user=user)
    supervisor = Supervisor(settings=settings, project=reader, sink=_NoAttempts(), environ=environ)
    try:
        await supervisor.start()
        outcome = await supervisor.load()
    finally:
        await supervisor.stop()
    if outcome.manifest is None:
        raise HostError(f"the plugins cannot be loaded: {outcome.message}")
    sys.stdout.buffer.write(manifest_bytes(outcome.manifest) + b"\n")
    sys.stdout.flush()
    return 0


class _NoAttempts:
    """The sink of a supervisor that is given no attempts."""

    def started(self, attempt_key: str, event: object) -> None:
        """Drop the event: this supervisor starts nothing."""

    log = progress = stopping = finished = started

    def may_read(self, *, exclusive: bool) -> bool:
        """Return True: nothing is ever held back."""
        return True


def _record(lock: InstanceLock, me: Instance, reaper: ProcessIdentity) -> None:
    """Mark a reaper before it starts anything, and record its identity.

    :raises StateUnwritable: if the record cannot be written
    """
    has_mark = put_mark(reaper.pid, me.mark)
    if not has_mark:
        _log.warning("processes cannot be marked on this system: if this host is killed, lost_after_seconds decides")
    lock.record(structs.replace(me, reaper=reaper, mark=me.mark if has_mark else 0))


def _identity(me: Instance, project: Project, limits: SupervisorSettings, options: HostOptions) -> HostIdentity:
    capacity = replace(project.settings.capacity, **dict(options.capacity))
    return HostIdentity(
        host=project.host,
        incarnation=me.incarnation,
        machine=platform.node(),
        pid=os.getpid(),
        version=VERSION,
        max_async=limits.max_async,
        max_sync=limits.max_sync,
        ended_incarnations=me.ended,
        watching=options.watch,
        python=platform.python_version(),
        project=str(project.root),
        has=resources_here(capacity, {**project.settings.labels, **options.labels}),
        ends_at_us=int((options.ends_at or 0) * 1_000_000),
        for_attempt=options.for_attempt,
    )


def _addresses(options: HostOptions, project: Project, file: IdentityFile) -> AddressSource:
    """Return the source of the kernel's addresses.

    :raises ProjectError: if the text given is not an address
    :raises NotJoined: if all addresses are on TCP, and the host has no identity to show there
    """
    given = options.kernel or project.settings.kernel
    identity = _identity_of(file, project.host) if file.exists else None
    joined = identity.addresses if identity else ()
    source = AddressSource(given=given, joined=joined, file=project.root / ".nomaflow" / "address")
    addresses = source.current() if source.fixed else ()
    for address in addresses:
        if not has_known_form(address):
            message = f"the kernel's address {address!r} has no known form"
            raise ProjectError(Place("--kernel").error("bad_address", message, fix=ADDRESS_FORMS))
    if identity is None and addresses and all(map(is_tcp, addresses)):
        raise NotJoined(f"the kernel at {addresses[0]} is reached over TCP, and this host has not joined it")
    return source


def _identity_of(file: IdentityFile, host: str) -> Identity:
    """Return the host's identity.

    :raises NotJoined: if it cannot be used, or is another host's
    """
    identity = file.read()
    if identity.host != host:
        raise NotJoined(
            f"the certificate in {str(file.path)!r} is for host {identity.host!r}, and this one is called {host!r}",
            fix=f"start it with --name {identity.host}, or join again as {host!r}: "
            f"`nomaflow token create --host {host}` on the kernel's machine, then: nomaflow host DIR --join FILE",
        )
    return identity
