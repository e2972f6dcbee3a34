"""The kernel process: reads its settings, puts the parts together, serves, and stops."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from importlib.metadata import version

import grpc.aio

from nomaflow_kernel.catalogue_service import CatalogueService
from nomaflow_kernel.domain.clock import Clock, SystemClock
from nomaflow_kernel.domain.errors import KernelError
from nomaflow_kernel.feed import EventFeed
from nomaflow_kernel.hosts import GatewaySettings, HostGateway, SessionRegistry
from nomaflow_kernel.jobs_watch import JobsFileWatch
from nomaflow_kernel.leadership import Sentry, take_lead
from nomaflow_kernel.listening import (
    AddressInUse,
    AddressRefused,
    check_address,
    claim_socket,
    default_socket,
    forget_address,
    is_tcp,
    private_directory,
    publish_address,
)
from nomaflow_kernel.observing import KernelView, Observation
from nomaflow_kernel.ports import Store, StoreInfo
from nomaflow_kernel.retention import RetentionSweeper
from nomaflow_kernel.rpc import (
    SERVICES,
    AccessControl,
    AddressTaken,
    CatalogueCalls,
    Health,
    KernelIdentity,
    KernelService,
    TokenFileError,
    Tokens,
    build_server,
    listen,
)
from nomaflow_kernel.runs import Engine, EngineSettings
from nomaflow_kernel.scheduler import Scheduler
from nomaflow_kernel.settings import KernelSettings, SettingsError, read_settings
from nomaflow_kernel.stopping import EX_TEMPFAIL, Requests
from nomaflow_kernel.store import LeasePolicy, SqlStore, open_store
from nomaflow_kernel.store.errors import (
    SchemaTooNew,
    StaleEpoch,
    StoreBusy,
    StoreError,
    StoreInUse,
    StoreUnavailable,
    UnsupportedStore,
)
from nomaflow_telemetry.endpoint import MetricsAddressRefused, MetricsAddressTaken
from nomaflow_telemetry.process_log import set_up_logging

__all__ = ["Kernel", "main"]

_LOG = logging.getLogger("nomaflow.kernel")
_EX_CONFIG = 78
_STORE_CLOSE_SECONDS = 3.0
_STOP_SECONDS = 9.0
_AGAIN_SECONDS = 1.0
_CALLS_SECONDS = 2.0


class Kernel:
    """One kernel: every part, in the order in which they start and stop.

    :param addresses: checked, and claimed where they are Unix sockets
    """

    def __init__(
        self,
        *,
        settings: KernelSettings,
        addresses: Sequence[str],
        store: Store,
        info: StoreInfo,
        access: AccessControl,
        clock: Clock,
        on_engine_end: Callable[[Exception], None],
        observation: Observation,
    ) -> None:
        self._settings = settings
        self._observation = observation
        self._addresses = addresses
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
        )
        self._scheduler = Scheduler(
            store=store,
            clock=clock,
            jobs=self._catalogue,
            engine=self._engine,
            last_event_seq=info.last_event_seq,
        )
        self._jobs_watch = JobsFileWatch(path=settings.jobs_file, on_change=self._catalogue.reload_jobs_file)
        self._retention = RetentionSweeper(
            store=store, clock=clock, catalogue=self._catalogue, default=settings.retention
        )
        self._server = self._build_server(info, access, clock)
        self._served: list[str] = []
        self._info = info
        self._access = access

    def _build_server(self, info: StoreInfo, access: AccessControl, clock: Clock) -> grpc.aio.Server:
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
                started_at_us=clock.now_us(),
                project=str(self._settings.project),
            ),
        )
        return build_server(
            service=service,
            gateway=gateway,
            health=self._health,
            access=access,
            reflection=self._settings.reflection,
        )

    async def start(self) -> tuple[str, ...]:
        """Start every part; the address is told to others last, once calls are answered.

        :return: the addresses, with the port where it was 0
        :raises StoreError: where the store cannot be read
        :raises AddressTaken: where an address cannot be listened on
        """
        began = time.perf_counter()
        await self._catalogue.start()
        await self._engine.start()
        await self._scheduler.start()
        took = time.perf_counter() - began
        jobs, schedules = len(self._catalogue.entries()), len(self._scheduler)
        _LOG.info("%d jobs with %d schedules loaded in %.3f s", jobs, schedules, took)
        await self._retention.start()
        await self._jobs_watch.start()
        self._catalogue.subscribe(self._engine.jobs_changed)
        self._catalogue.subscribe(self._scheduler.jobs_changed)
        self._served = [listen(self._server, address) for address in self._addresses]
        await self._server.start()
        self._health.set_ready()
        publish_address(self._settings.state_dir / "address", self._served[0])
        _LOG.info("serving on %s, store %s, epoch %d", ", ".join(self._served), self._store_name(), self._info.epoch)
        return tuple(self._served)

    @property
    def view(self) -> KernelView:
        """What there is to look at."""
        return KernelView(
            info=self._info, engine=self._engine, scheduler=self._scheduler, sessions=self._sessions, feed=self._feed
        )

    async def reload(self) -> None:
        """Read the kernel's own jobs file and the tokens again."""
        _LOG.info("reading the jobs file and the tokens again")
        self._access.renew()
        await self._catalogue.reload_jobs_file()

    async def stop(self, *, fast: asyncio.Event) -> None:
        """Stop every part, without waiting for steps: they go on in their hosts.

        :param fast: set it to give open calls no more time
        """
        if self._served:
            forget_address(self._settings.state_dir / "address", self._served[0])
        await self._health.stop()
        await self._jobs_watch.stop()
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
    """Return the engine's clocks. The margin over the grace is 30 s, less where the grace itself is short."""
    return EngineSettings(
        heartbeat_seconds=settings.heartbeat_seconds,
        lease_seconds=settings.lease_seconds,
        grace_seconds=settings.lost_after_seconds,
        grace_margin_seconds=min(30.0, max(5.0, settings.lost_after_seconds / 20)),
    )


async def run(settings: KernelSettings) -> int:
    """Lead, or stand by while another kernel does, until a signal says to stop; return the process's exit code.

    :raises AddressRefused: where an address must not be used
    :raises AddressInUse: where another kernel has it
    :raises MetricsAddressRefused: where metrics must not, or cannot, be served
    :raises MetricsAddressTaken: where another process has their address
    :raises StoreError: where the store cannot be used
    """
    private_directory(settings.state_dir)
    addresses = settings.addresses or (default_socket(settings.project, os.environ),)
    for address in addresses:
        check_address(address)
    on_tcp = any(map(is_tcp, addresses))
    access = AccessControl(tokens=_tokens(settings) if on_tcp else None, renew=lambda: _tokens(settings))
    observation = Observation(metrics_address=settings.metrics, environ=os.environ)
    requests = Requests(dump=observation.dump)
    requests.install()
    sentry = Sentry(addresses=addresses, access=access, address_file=settings.state_dir / "address")
    async with observation.served():
        exit_code = await _one_term(settings, sentry, access, requests, observation, patient=False)
        while exit_code is None:
            exit_code = await _one_term(settings, sentry, access, requests, observation, patient=True)
    return exit_code


async def _one_term(
    settings: KernelSettings,
    sentry: Sentry,
    access: AccessControl,
    requests: Requests,
    observation: Observation,
    *,
    patient: bool,
) -> int | None:
    """Wait for the lead, and work until it is lost or the process shall stop; return the exit code, None to go on."""
    lease = LeasePolicy(
        ttl_seconds=settings.leader_ttl_seconds,
        # A port that the system chooses is not known before it is listened on; the next renewal tells it.
        addresses=lambda: settings.advertised or [each for each in sentry.addresses if not each.endswith(":0")],
        on_lost=requests.lead_lost,
    )
    store = open_store(settings.store, lease=lease, observer=observation)
    info: StoreInfo | None = None
    try:
        info = await take_lead(store, sentry=sentry, requests=requests, patient=patient)
        if info is None:
            _LOG.info("stopped: %s", requests.why)
            return 0
        await _lead(settings, sentry, access, requests, observation, store, info)
    except (StaleEpoch, StoreBusy, StoreUnavailable) as error:
        # At its start, when the database has just come back, say. Not at once again, should it go on like that.
        if info is None or info.kind == "sqlite" or await requests.stop_within(_AGAIN_SECONDS):
            raise
        _LOG.warning("could not begin to lead: %s", error)
        requests.lead_lost(error)
    finally:
        await _within(_STORE_CLOSE_SECONDS, store.close(), "closing the store")
    if requests.why or requests.lost is None:
        return requests.exit_code
    if info.kind == "sqlite":  # only a kernel that broke in can have taken it: nothing to stand by for
        return EX_TEMPFAIL
    requests.lead_again()
    return None


async def _lead(
    settings: KernelSettings,
    sentry: Sentry,
    access: AccessControl,
    requests: Requests,
    observation: Observation,
    store: SqlStore,
    info: StoreInfo,
) -> None:
    # After the store: who holds it is the only one to look after a dead kernel's socket.
    for address in sentry.addresses:
        if not is_tcp(address):
            claim_socket(address)
    kernel = Kernel(
        settings=settings,
        addresses=sentry.addresses,
        store=store,
        info=info,
        access=access,
        clock=SystemClock(),
        on_engine_end=requests.engine_ended,
        observation=observation,
    )
    try:
        # What is made at the start stays for the term; looking for garbage in it takes a third of the start.
        gc.disable()
        gc.unfreeze()
        observation.begin(store, kernel.view)
        sentry.addresses = await kernel.start()
        _calm_collector()
        while not await requests.next():
            await kernel.reload()
        _LOG.info("stopping: %s", requests.why or "the lead is lost")
    finally:
        await _within(_STOP_SECONDS, kernel.stop(fast=requests.hurry), "stopping")
        await observation.end()
    _LOG.info("stopped" if requests.why else "standing by again")


def _tokens(settings: KernelSettings) -> Tokens:
    return Tokens.load(settings.state_dir, client_file=settings.token_file, host_file=settings.host_token_file)


async def _within(seconds: float, work: Awaitable[None], what: str) -> None:
    """Wait for a piece of the stop; what takes too long is left to the end of the process."""
    try:
        async with asyncio.timeout(seconds):
            await work
    except TimeoutError:
        _LOG.error("%s took more than %s seconds; not waiting any longer", what, seconds)


def _calm_collector() -> None:
    """Keep what was made so far out of collections, and collect less often: halves the slowest answers under load."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)
    gc.enable()


def main(argv: Sequence[str] | None = None) -> int:
    """Run a kernel; return the exit code: 0 stopped, 1 failed, 75 another kernel is there, 78 bad settings."""
    try:
        settings = read_settings(sys.argv[1:] if argv is None else argv, os.environ)
    except SettingsError as error:
        return _fail(error, _EX_CONFIG)
    set_up_logging(level=settings.log_level, form=settings.log_format)
    try:
        return asyncio.run(run(settings))
    except (AddressRefused, MetricsAddressRefused, TokenFileError, UnsupportedStore, SchemaTooNew) as error:
        return _fail(error, _EX_CONFIG)
    except (AddressInUse, AddressTaken, MetricsAddressTaken, StoreInUse) as error:
        return _fail(error, EX_TEMPFAIL)
    except StoreError as error:
        return _fail(error, 1)


def _fail(error: Exception, code: int) -> int:
    text = error.message if isinstance(error, KernelError) else str(error)
    sys.stderr.write(f"nomaflow kernel: {text}\n")
    return code
