"""The leading kernel: all its parts, assembled, started and stopped in order."""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Callable, Sequence
from importlib.metadata import version

import grpc.aio

from nomaflow_kernel.access.audit import AuditLog
from nomaflow_kernel.access.grants import Target
from nomaflow_kernel.access.guard import Guard, RunFacts
from nomaflow_kernel.access.principals import ANYONE, OWNER
from nomaflow_kernel.access.secret_params import SecretParams
from nomaflow_kernel.catalogue.file_watch import watch_jobs_file
from nomaflow_kernel.catalogue.service import CatalogueService
from nomaflow_kernel.domain.clock import Clock
from nomaflow_kernel.engine import Engine, EngineSettings
from nomaflow_kernel.history.feed import EventFeed
from nomaflow_kernel.history.ids import is_run_id
from nomaflow_kernel.history.port import StoreInfo
from nomaflow_kernel.history.transitions import Notice
from nomaflow_kernel.hosts import GatewaySettings, HostGateway, SessionRegistry
from nomaflow_kernel.network.certificates import CertificateFiles
from nomaflow_kernel.network.listening import forget_address, publish_address, published
from nomaflow_kernel.observing import KernelView, Observation
from nomaflow_kernel.process.settings import KernelSettings
from nomaflow_kernel.rpc import (
    SERVICES,
    Admission,
    CatalogueCalls,
    Endpoints,
    Health,
    KernelIdentity,
    KernelService,
    build_server,
    listen,
)
from nomaflow_kernel.scheduler import Scheduler
from nomaflow_kernel.store import SqlStore
from nomaflow_kernel.store.errors import StoreError
from nomaflow_kernel.upkeep.retention import RetentionSweeper

__all__ = ["Kernel", "engine_settings"]

_LOG = logging.getLogger("nomaflow.kernel")
_CALLS_SECONDS = 2.0
_EXPECTED_SECONDS = 30.0  # as long as `nomaflow up` itself waits for its host


class Kernel:
    """One kernel: every part, in the order in which they start and stop.

    :param addresses: checked addresses; Unix sockets are claimed already
    :param certificate: for addresses with TLS
    :param first_term: whether this process has not led before
    """

    def __init__(
        self,
        *,
        settings: KernelSettings,
        addresses: Sequence[str],
        store: SqlStore,
        info: StoreInfo,
        clock: Clock,
        certificate: CertificateFiles | None,
        on_engine_end: Callable[[Exception], None],
        observation: Observation,
        first_term: bool = True,
    ) -> None:
        self._settings = settings
        self._clock = clock
        self._first_term = first_term
        self._observation = observation
        self._addresses = addresses
        self._certificate = certificate
        self._store = store
        self._feed = EventFeed(info.last_event_seq)
        self._sessions = SessionRegistry()
        self._health = Health(services=SERVICES, store=store)
        self._catalogue = CatalogueService(store=store, clock=clock, feed=self._feed, jobs_file=settings.jobs_file)
        self._engine = Engine(
            store=store,
            info=info,
            clock=clock,
            jobs=self._catalogue,
            feed=self._feed,
            settings=engine_settings(settings),
            on_ended=on_engine_end,
            on_trouble=self._in_trouble,
            traceparent=observation.traceparent,
            secrets=SecretParams(settings.state_dir),
        )
        self._scheduler = Scheduler(
            store=store,
            clock=clock,
            jobs=self._catalogue,
            engine=self._engine,
            last_event_seq=info.last_event_seq,
        )
        self._jobs_watch: asyncio.Task[None] | None = None
        self._retention = RetentionSweeper(
            store=store, clock=clock, catalogue=self._catalogue, default=settings.retention
        )
        self._server = self._build_server(info, clock)
        self._served: list[str] = []
        self._info = info

    def _build_server(self, info: StoreInfo, clock: Clock) -> grpc.aio.Server:
        gateway = HostGateway(
            engine=self._engine,
            manifests=self._catalogue,
            sessions=self._sessions,
            settings=GatewaySettings(
                epoch=info.epoch,
                heartbeat_seconds=self._settings.heartbeat_seconds,
                lease_seconds=self._settings.lease_seconds,
                grace_seconds=self._settings.lost_after_seconds,
            ),
        )
        service = KernelService(
            engine=self._engine,
            store=self._store,
            feed=self._feed,
            clock=clock,
            admission=Admission(engine=self._engine, jobs=self._catalogue, sessions=self._sessions),
            catalogue_calls=CatalogueCalls(
                engine=self._engine,
                catalogue=self._catalogue,
                sessions=self._sessions,
                store=self._store,
                clock=clock,
            ),
            identity=KernelIdentity(
                version=version("nomaflow"),
                epoch=info.epoch,
                store=info.kind,
                store_id=info.store_id,
                started_at_us=clock.now_us(),
                # A name may be any bytes, but the wire carries text.
                project=os.fsencode(self._settings.project).decode(errors="backslashreplace"),
            ),
        )
        return build_server(
            service=service,
            gateway=gateway,
            health=self._health,
            endpoints=self._endpoints(clock),
            reflection=self._settings.reflection,
        )

    def _endpoints(self, clock: Clock) -> Endpoints:
        return Endpoints(
            identify=lambda shown: OWNER if shown.peer.startswith("unix:") else ANYONE,
            guard=Guard(job=self._target_of_job, run=self._facts_of_run, host=self._knows_host),
            audit=AuditLog(store=self._store, clock=clock),
            on_error=self._health.note,
        )

    def _target_of_job(self, job_id: str) -> Target | None:
        job = self._catalogue.job(job_id)
        if job is None:
            return None
        tags = () if job.definition is None else tuple(job.definition.tags)
        return Target(job_id=job_id, host=job.host, tags=tags)

    def _knows_host(self, host: str) -> bool:
        return bool(self._sessions.of_host(host)) or any(each.host == host for each in self._catalogue.hosts())

    async def _facts_of_run(self, run_id: str) -> RunFacts | None:
        found = await self._store.run_details([run_id]) if is_run_id(run_id) else ()
        if not found:
            return None
        run = found[0].run
        job = self._target_of_job(run.job_id)
        return Target(job_id=run.job_id, host=run.host, tags=() if job is None else job.tags), run.trigger.by

    async def start(self) -> tuple[str, ...]:
        """Start every part; the address is published last, once calls are answered.

        :return: the addresses, with the actual port in place of 0
        :raises StoreError: if the store cannot be read
        :raises AddressTaken: if an address cannot be listened on
        :raises AddressUntold: if the file that tells others the address cannot be written
        """
        began = time.perf_counter()
        await self._catalogue.start()
        await self._engine.start()
        await self._scheduler.start()
        await self._tell_start()
        took = time.perf_counter() - began
        jobs, schedules = len(self._catalogue.jobs()), len(self._scheduler)
        _LOG.info("%d jobs with %d schedules loaded in %.3f s", jobs, schedules, took)
        await self._retention.start()
        if self._settings.jobs_file is not None:
            watching = watch_jobs_file(self._settings.jobs_file, self._catalogue.reload_jobs_file)
            self._jobs_watch = asyncio.create_task(watching, name="jobs-file")
        self._catalogue.subscribe(self._engine.jobs_changed)
        self._catalogue.subscribe(self._scheduler.jobs_changed)
        self._served = [listen(self._server, address, self._certificate) for address in self._addresses]
        if self._settings.expect_host:
            self._sessions.expect_host(_EXPECTED_SECONDS)
        await self._server.start()
        self._health.set_ready()
        publish_address(self._settings.state_dir / "address", published(self._served))
        _LOG.info("serving on %s, store %s, epoch %d", ", ".join(self._served), self._store_name(), self._info.epoch)
        return tuple(self._served)

    async def _tell_start(self) -> None:
        """Write the events of the start. A failing store costs only the events."""
        now, last = self._clock.now_us(), self._info.last_event_seq
        try:
            before = await self._store.events_after(last - 1, limit=1) if last else ()
            data = {
                "version": version("nomaflow"),
                "epoch": self._info.epoch,
                "previous_end_us": before[0].at_us if before else None,
            }
            notices = [Notice(kind="kernel.leading", at_us=now, data=data)]
            if self._first_term:
                about = {"version": data["version"], "epoch": data["epoch"], "pid": os.getpid()}
                notices.insert(0, Notice(kind="kernel.started", at_us=now, data=about))
            result = await self._store.apply(notices, at_us=now)
        except StoreError as error:
            _LOG.warning("the events of the start could not be kept: %s", error)
        else:
            self._feed.publish(result.events)

    @property
    def view(self) -> KernelView:
        """The parts to observe."""
        return KernelView(
            info=self._info,
            store=self._store,
            engine=self._engine,
            scheduler=self._scheduler,
            sessions=self._sessions,
            feed=self._feed,
        )

    async def reload(self) -> None:
        """Read the kernel's own jobs file again."""
        _LOG.info("reading the jobs file again")
        await self._catalogue.reload_jobs_file()

    async def stop(self, *, fast: asyncio.Event) -> None:
        """Stop every part, without waiting for steps: they continue in their hosts.

        :param fast: an event; setting it gives open calls no more time
        """
        if self._served:
            forget_address(self._settings.state_dir / "address", published(self._served))
        await self._health.stop()
        if self._jobs_watch is not None:
            self._jobs_watch.cancel()
            await asyncio.wait([self._jobs_watch])
        await self._retention.stop()
        await self._scheduler.stop()
        self._sessions.stop()
        self._feed.close()
        stopping = asyncio.create_task(self._server.stop(min(_CALLS_SECONDS, self._settings.drain_seconds)))
        hurried = asyncio.create_task(fast.wait())
        await asyncio.wait((stopping, hurried), return_when=asyncio.FIRST_COMPLETED)
        hurried.cancel()
        if not stopping.done():
            await self._server.stop(None)
        await stopping
        await self._engine.stop()

    def _in_trouble(self, error: StoreError) -> None:
        self._observation.commit_failed()
        self._health.note(error)

    def _store_name(self) -> str:
        return "of its own" if not self._settings.store_url else self._settings.store_url.partition(":")[0]


def engine_settings(settings: KernelSettings) -> EngineSettings:
    """Return the engine's clocks. The margin over the grace is 30 s, or less if the grace itself is short."""
    return EngineSettings(
        lease_seconds=settings.lease_seconds,
        grace_seconds=settings.lost_after_seconds,
        grace_margin_seconds=min(30.0, max(5.0, settings.lost_after_seconds / 20)),
    )
