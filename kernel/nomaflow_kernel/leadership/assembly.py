"""The leading kernel: all its parts, assembled, started and stopped in order."""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Callable

from nomaflow_api.version import VERSION
from nomaflow_kernel.access.audit import AuditLog
from nomaflow_kernel.access.credentials import Credentials
from nomaflow_kernel.access.quotas import Quotas
from nomaflow_kernel.access.secret_params import SecretParams
from nomaflow_kernel.catalogue.file_watch import watch_jobs_file
from nomaflow_kernel.catalogue.service import CatalogueService
from nomaflow_kernel.catalogue.stored_load import StoredManifests
from nomaflow_kernel.domain.clock import Clock
from nomaflow_kernel.engine.engine import Engine
from nomaflow_kernel.engine.silence import margin_over
from nomaflow_kernel.engine.state import EngineSettings
from nomaflow_kernel.history.feed import EventFeed
from nomaflow_kernel.history.lookups import StoreInfo
from nomaflow_kernel.history.transitions import Notice
from nomaflow_kernel.hosts.registry import SessionRegistry
from nomaflow_kernel.network.door_addresses import DoorAddresses
from nomaflow_kernel.network.door_certificates import DoorCertificates
from nomaflow_kernel.network.listening import forget_address, publish_address
from nomaflow_kernel.observing.observation import Observation
from nomaflow_kernel.process.settings import KernelSettings
from nomaflow_kernel.rpc.guard import Guard
from nomaflow_kernel.rpc.health import Health
from nomaflow_kernel.rpc.parts import KernelParts
from nomaflow_kernel.rpc.services import door_servers
from nomaflow_kernel.scheduler.scheduler import Scheduler
from nomaflow_kernel.store.errors import StoreError
from nomaflow_kernel.store.sql_store import Store
from nomaflow_kernel.upkeep.retention import RetentionSweeper

_LOG = logging.getLogger("nomaflow.kernel")
_CALLS_SECONDS = 2.0
_EXPECTED_SECONDS = 30.0  # as long as `nomaflow up` itself waits for its host


class Kernel:
    """One kernel: every part, in the order in which they start and stop.

    :param addresses: checked addresses; Unix sockets are claimed already
    :param certificates: for the TCP doors; None if there are none
    :param first_term: whether this process has not led before
    :param stored: reads the stored manifests, which it may have read ahead
    :ivar parts: for those who observe it
    """

    def __init__(
        self,
        *,
        settings: KernelSettings,
        addresses: DoorAddresses,
        store: Store,
        info: StoreInfo,
        clock: Clock,
        certificates: DoorCertificates | None,
        on_engine_end: Callable[[Exception], None],
        observation: Observation,
        first_term: bool,
        stored: StoredManifests,
    ) -> None:
        self._first_term, self._observation = first_term, observation
        self._served, self._serving = addresses, False
        feed, sessions = EventFeed(info.last_event_seq), SessionRegistry()
        withdrawn = settings.state_dir / "withdrawn"
        credentials = Credentials(store=store, clock=clock, roles=settings.access.roles, withdrawn=withdrawn)
        reserved, jobs_file = credentials.reserved.host_of, settings.jobs_file
        catalogue = CatalogueService(
            store=store, clock=clock, feed=feed, jobs_file=jobs_file, reserved=reserved, stored=stored
        )
        engine = Engine(
            store=store,
            info=info,
            clock=clock,
            jobs=catalogue,
            feed=feed,
            settings=engine_settings(settings),
            on_ended=on_engine_end,
            on_trouble=self._in_trouble,
            traceparent=observation.traceparent,
            secrets=SecretParams(settings.state_dir),
        )
        scheduler = Scheduler(
            store=store, clock=clock, jobs=catalogue, engine=engine, last_event_seq=info.last_event_seq
        )
        quotas = Quotas(limits=settings.access.quotas, clock=clock)
        self.parts = KernelParts(
            settings=settings,
            info=info,
            clock=clock,
            store=store,
            feed=feed,
            catalogue=catalogue,
            engine=engine,
            scheduler=scheduler,
            sessions=sessions,
            health=Health(store=store),
            credentials=credentials,
            guard=Guard(catalogue=catalogue, sessions=sessions, subjects=store.run_subjects, quotas=quotas),
            audit=AuditLog(store=store if settings.kernel.audit.enabled else None, clock=clock),
            quotas=quotas,
            certificates=certificates,
            reached=lambda: self._served.reached(settings),
        )
        self._jobs_watch: asyncio.Task[None] | None = None
        self._retention = _retention(self.parts)
        self._servers = door_servers(self.parts, addresses)

    async def start(self) -> DoorAddresses:
        """Start every part; the address is published once calls are answered.

        Schedules are read last: with 100,000 of them that takes seconds, and no fire is missed because of it.

        :return: the addresses, with the actual port in place of 0
        :raises StoreError: if the store cannot be read
        :raises CannotStart: if an address cannot be had, or the file that tells others of it cannot be written
        """
        began = time.perf_counter()
        shut_out = await self.parts.credentials.start()
        await self.parts.catalogue.start()
        for host in sorted(shut_out):
            await self.parts.catalogue.shut_out(host)
        await self.parts.engine.start()
        await self._tell_start()
        await self.parts.audit.start()
        await self._retention.start()
        if self.parts.settings.jobs_file is not None:
            watching = watch_jobs_file(self.parts.settings.jobs_file, self.parts.catalogue.reload_jobs_file)
            self._jobs_watch = asyncio.create_task(watching, name="jobs-file")
        self.parts.catalogue.subscribe(lambda _: self.parts.engine.jobs_changed())
        self.parts.catalogue.subscribe(self.parts.scheduler.jobs_changed)
        if self.parts.settings.expect_host:
            self.parts.sessions.expect_host(_EXPECTED_SECONDS)
        self._served = await self._servers.start()
        self._serving = True
        self.parts.health.set_ready()
        _LOG.info("serving on %s, store %s, epoch %d", self._served, self.parts.info.kind, self.parts.info.epoch)
        publish_address(self.parts.settings.state_dir / "address", self._served.owner[0])
        await self.parts.scheduler.start()
        jobs, schedules, took = len(self.parts.catalogue.jobs()), len(self.parts.scheduler), time.perf_counter() - began
        _LOG.info("jobs: %d, schedules: %d, loaded in %.3f s", jobs, schedules, took)
        return self._served

    async def _tell_start(self) -> None:
        """Write the events of the start, and its audit row. A failing store costs only these."""
        note = f"epoch {self.parts.info.epoch}, store {self.parts.info.store_id}, pid {os.getpid()}, version {VERSION}"
        self.parts.audit.happened("StartKernel" if self._first_term else "LeadAgain", note=note)
        now, last = self.parts.clock.now_us(), self.parts.info.last_event_seq
        try:
            before = (await self.parts.store.events_after(last - 1, limit=1)).events if last else ()
            data = {
                "version": VERSION,
                "epoch": self.parts.info.epoch,
                "previous_end_us": before[0].at_us if before else None,
            }
            notices = [Notice(kind="kernel.leading", data=data)]
            if self._first_term:
                started = {"version": data["version"], "epoch": data["epoch"], "pid": os.getpid()}
                notices.insert(0, Notice(kind="kernel.started", data=started))
            result = await self.parts.store.apply(notices, at_us=now)
        except StoreError as error:
            _LOG.warning("the events of the start could not be stored: %s", error)
        else:
            self.parts.feed.publish(result.events)

    async def reload(self) -> None:
        """Read the kernel's own jobs file again."""
        _LOG.info("reading the jobs file again")
        self.parts.audit.happened("ReloadJobsFile", note="on a signal")
        await self.parts.catalogue.reload_jobs_file(explicit=True)

    async def stop(self, *, fast: asyncio.Event) -> None:
        """Stop every part, without waiting for steps: they continue in their hosts.

        :param fast: an event that, once set, gives open calls no more time
        """
        if self._serving:
            forget_address(self.parts.settings.state_dir / "address", self._served.owner[0])
        await self.parts.health.stop()
        if self._jobs_watch is not None:
            self._jobs_watch.cancel()
            await asyncio.wait([self._jobs_watch])
        await self._retention.stop()
        await self.parts.scheduler.stop()
        self.parts.sessions.stop()
        self.parts.feed.close()
        seconds = min(_CALLS_SECONDS, self.parts.settings.kernel.drain_seconds)
        stopping = asyncio.create_task(self._servers.stop(seconds))
        hurried = asyncio.create_task(fast.wait())
        await asyncio.wait((stopping, hurried), return_when=asyncio.FIRST_COMPLETED)
        hurried.cancel()
        if not stopping.done():
            await self._servers.stop(None)
        await stopping
        await self.parts.engine.stop()
        await self.parts.credentials.stop()
        self.parts.audit.happened("StopKernel", note=f"epoch {self.parts.info.epoch}")
        await self.parts.audit.stop()

    def _in_trouble(self, error: StoreError) -> None:
        self._observation.commit_failed()
        self.parts.health.note(error)


def _retention(parts: KernelParts) -> RetentionSweeper:
    return RetentionSweeper(
        store=parts.store,
        clock=parts.clock,
        catalogue=parts.catalogue,
        default=parts.settings.kernel.retention,
        audit_days=parts.settings.kernel.audit.keep_days,
        also=parts.credentials.prune,
    )


def engine_settings(settings: KernelSettings) -> EngineSettings:
    """Return the engine's clocks."""
    return EngineSettings(
        lease_seconds=settings.kernel.lease_seconds,
        grace_seconds=settings.kernel.lost_after_seconds,
        max_waiting_of_author=settings.access.quotas.queued_runs,
        grace_margin_seconds=margin_over(settings.kernel.lost_after_seconds),
    )
