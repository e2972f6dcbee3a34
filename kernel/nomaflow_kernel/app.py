"""The kernel process: it reads its settings, waits for the lead, serves while it leads, and stops."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
from collections.abc import Awaitable

from msgspec import Struct

from nomaflow_api import event_loop
from nomaflow_kernel.access.audit import AuditLog
from nomaflow_kernel.access.doors import owners_door
from nomaflow_kernel.catalogue.stored_load import StoredManifests
from nomaflow_kernel.domain.clock import SystemClock
from nomaflow_kernel.domain.errors import CannotStart, FileUnusable, KernelError
from nomaflow_kernel.history.lookups import StoreInfo
from nomaflow_kernel.leadership.assembly import Kernel
from nomaflow_kernel.leadership.candidate import Sentry, take_lead
from nomaflow_kernel.leadership.signals import Requests
from nomaflow_kernel.network.door_addresses import DoorAddresses, door_addresses
from nomaflow_kernel.network.door_certificates import door_certificates
from nomaflow_kernel.network.socket_place import claim_socket, private_directory, refuse_answered
from nomaflow_kernel.observing.observation import Observation
from nomaflow_kernel.process.file_limit import raise_file_limit
from nomaflow_kernel.process.settings import KernelSettings
from nomaflow_kernel.rpc.endpoints import Endpoints
from nomaflow_kernel.rpc.guard import Guard
from nomaflow_kernel.store.errors import (
    LeadLost,
    StoreBusy,
    StoreError,
    StoreFull,
    StoreInUse,
    StoreUnavailable,
    StoreUnusable,
)
from nomaflow_kernel.store.file_lock import FileLock
from nomaflow_kernel.store.lease_row import LeasePolicy
from nomaflow_kernel.store.sql_store import Store, open_store
from nomaflow_kernel.store.urls import shown_url, sqlite_file
from nomaflow_telemetry.metrics_address import MetricsAddressRefused, MetricsAddressTaken
from nomaflow_telemetry.process_log import set_up_logging, write_error
from nomaflow_telemetry.service_manager import ServiceManager

_LOG = logging.getLogger("nomaflow.kernel")
_STOP_SECONDS = 7.5
_STORE_CLOSE_SECONDS = 2.25  # after that: both are over in 10 s, whatever hangs; a connection has 2 s of its own
_AGAIN_SECONDS = 1.0


async def run(settings: KernelSettings, manager: ServiceManager) -> int:
    """Lead, or stand by while another kernel does, until a signal says to stop; return the process's exit code.

    :param manager: told what the kernel does
    :raises CannotStart: if an address must not be used or another kernel uses it, the file that tells others of it
        cannot be written, the certificate cannot be used, or the kernel that leads has another authority
    :raises FileUnusable: if the file of withdrawn credentials cannot be read
    :raises MetricsAddressRefused: if metrics must not, or cannot, be served
    :raises MetricsAddressTaken: if another process listens on their address
    :raises StoreError: if the store cannot be used, or another kernel holds it
    """
    private_directory(settings.state_dir)
    addresses = door_addresses(settings, os.environ)
    certificates = door_certificates(settings, addresses)
    observation = Observation(metrics=settings.metrics, environ=os.environ)
    _refuse_neighbours(settings.store, addresses)
    requests = Requests(dump=observation.dump)
    requests.install()
    address_file = settings.state_dir / "address"
    sentry = Sentry(addresses=addresses, endpoints=_standby(), address_file=address_file, certificates=certificates)
    process = _Process(settings=settings, sentry=sentry, requests=requests, manager=manager, observation=observation)
    renewing = None if certificates is None else asyncio.create_task(certificates.keep_fresh(), name="certificates")
    try:
        async with observation.served():
            exit_code = await _one_term(process, patient=False)
            while exit_code is None:
                exit_code = await _one_term(process, patient=True)
    finally:
        if renewing is not None:
            renewing.cancel()
    return exit_code


def _refuse_neighbours(store: str, addresses: DoorAddresses) -> None:
    """Check that no other kernel uses an SQLite store, even if that kernel's lock file was removed.

    Taking the store over would end the other kernel; this one would then fail on the address the other listens on.

    :raises StoreInUse: if another kernel has the lock
    :raises CannotStart: if another kernel listens on one of this kernel's addresses
    """
    file = sqlite_file(store)
    if file is None:
        return
    lock = FileLock(file)
    lock.acquire()
    try:
        for address in addresses.owner:
            refuse_answered(address)
    finally:
        lock.release()


class _Process(Struct, frozen=True, kw_only=True):
    """The parts a kernel keeps for its whole life, leading or standing by."""

    settings: KernelSettings
    sentry: Sentry
    requests: Requests
    manager: ServiceManager
    observation: Observation


async def _one_term(process: _Process, *, patient: bool) -> int | None:
    """Wait for the lead and work until it is lost or a stop is requested; return the exit code, None to continue."""
    settings, sentry, requests = process.settings, process.sentry, process.requests
    if patient:
        _collect_last_term()
    lease = LeasePolicy(
        ttl_seconds=settings.kernel.leader_ttl_seconds,
        addresses=lambda: _reported(sentry.addresses, settings),
        authority=lambda: sentry.authority,
        on_lost=requests.lead_lost,
    )
    store = open_store(settings.store, lease=lease, observer=process.observation.applied)
    info: StoreInfo | None = None
    manifests = StoredManifests(store)
    try:
        info = await take_lead(
            store, sentry=sentry, requests=requests, manager=process.manager, ahead=manifests, patient=patient
        )
        if info is not None:
            await _lead(process, store, info, manifests, first_term=not patient)
        elif requests.why:
            process.manager.stopping(f"stopping: {requests.why}")
            _LOG.info("stopped: %s", requests.why)
    except (LeadLost, StoreBusy, StoreFull, StoreUnavailable) as error:
        # The database may have just come back, for example. The wait keeps repeated failures from spinning.
        if info is None or info.kind == "sqlite":
            raise
        _LOG.warning("could not begin to lead: %s", error)
        requests.lead_lost(error)
        await requests.stop_within(_AGAIN_SECONDS)
    finally:
        await _within(_STORE_CLOSE_SECONDS, store.close(), "closing the store")
    if requests.why or requests.lost is None:
        return requests.exit_code
    if info is not None and info.kind == "sqlite":  # only an intruding kernel can have taken it: no standing by
        return os.EX_TEMPFAIL
    await sentry.answer(requests.lost)  # a database that hangs may keep it from the next term for long
    requests.lead_again()
    return None


async def _lead(
    process: _Process, store: Store, info: StoreInfo, manifests: StoredManifests, *, first_term: bool
) -> None:
    sentry, requests, manager = process.sentry, process.requests, process.manager
    # After the store is taken: only its holder may remove a dead kernel's socket.
    for address in sentry.addresses.owner:
        claim_socket(address)
    kernel = Kernel(
        settings=process.settings,
        addresses=sentry.addresses,
        store=store,
        info=info,
        clock=SystemClock(),
        certificates=sentry.certificates,
        on_engine_end=requests.engine_ended,
        observation=process.observation,
        first_term=first_term,
        stored=manifests,
    )
    try:
        # Objects made at the start live for the whole term; collecting garbage among them takes a third of the start.
        gc.disable()
        process.observation.begin(kernel.parts)
        addresses = await requests.unless_over(kernel.start())
        if addresses is not None:
            sentry.addresses = addresses
            _calm_collector()
            serving = f"serving on {addresses}, epoch {info.epoch}"
            manager.ready(serving)
            while not await requests.next():
                manager.reloading()
                await requests.unless_over(kernel.reload())
                manager.ready(serving)
        _LOG.info("stopping: %s", requests.why or "the lead is lost")
        if requests.why:
            manager.stopping(f"stopping: {requests.why}")
    finally:
        await _within(_STOP_SECONDS, kernel.stop(fast=requests.hurry), "stopping")
        await process.observation.end()
    _LOG.info("stopped" if requests.why else "standing by again")


def _reported(addresses: DoorAddresses, settings: KernelSettings) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the addresses that standby kernels tell clients, and hosts.

    A port chosen by the system is known only once the kernel listens on it: the next renewal of the lease reports it.
    """
    if any(each.endswith(":0") for each in addresses.on_tcp):
        return (), ()
    reached = addresses.reached(settings)
    return (*reached.owner, *reached.clients), (*reached.owner, *reached.hosts)


def _standby() -> Endpoints:
    """Return the endpoints of a kernel that stands by: it tells every caller which kernel leads, and nothing else."""
    return Endpoints(
        identify=owners_door,
        guard=Guard.blind(),
        audit=AuditLog(store=None, clock=SystemClock()),
        on_error=lambda _: None,
    )


async def _within(seconds: float, work: Awaitable[None], what: str) -> None:
    """Wait for one part of the stop; a part that takes too long is left to the end of the process."""
    try:
        async with asyncio.timeout(seconds):
            await work
    except TimeoutError:
        _LOG.error("%s took more than %s seconds; not waiting any longer", what, seconds)


def _collect_last_term() -> None:
    """Free what a finished term has left behind; nobody is waiting now."""
    gc.enable()  # a term whose start failed has left it disabled
    gc.unfreeze()
    gc.collect()


def _calm_collector() -> None:
    """Exempt existing objects from garbage collection and collect less often; this halves peak latency under load.

    They are not collected first: with 100,000 jobs that takes a second in which nobody is answered, and finds next to
    nothing.
    """
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)
    gc.enable()


def main(settings: KernelSettings) -> int:
    """Run a kernel; return the exit code: 0 stopped, 1 failed, 75 another kernel runs, 78 bad settings or limits."""
    try:
        raise_file_limit()
        set_up_logging(level=settings.kernel.log_level, form=settings.kernel.log_format)
        return event_loop.run(run(settings, ServiceManager.of(os.environ)))
    except CannotStart as error:
        return _fail(error, error.exit_code)
    except (FileUnusable, MetricsAddressRefused, StoreUnusable) as error:
        return _fail(error, os.EX_CONFIG)
    except (MetricsAddressTaken, StoreInUse) as error:
        return _fail(error, os.EX_TEMPFAIL)
    except StoreFull as error:  # at the start: a kernel that serves goes on
        error = StoreFull(error.detail, fix="free disk space, then start the kernel again")
        return _fail(error, 1, more=f"; the store is {shown_url(settings.store)}")
    except StoreError as error:
        return _fail(error, 1, more=f"; the store is {shown_url(settings.store)}")


def _fail(error: Exception, code: int, *, more: str = "") -> int:
    text = error.message if isinstance(error, KernelError) else str(error)
    write_error(f"nomaflow kernel: {text}{more}")
    return code
