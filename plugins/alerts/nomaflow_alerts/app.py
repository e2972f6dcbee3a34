"""The composition root of the alerts' process."""

from __future__ import annotations

import asyncio
import logging
import signal
from typing import Any

import grpc

from nomaflow.client import KernelClient, KernelPlace
from nomaflow_alerts.heartbeat import Pulse
from nomaflow_alerts.intake import Intake
from nomaflow_alerts.ledger import Ledger, LedgerInUse
from nomaflow_alerts.messages.details import KernelDetails
from nomaflow_alerts.messages.grouping_and_digests import Composer
from nomaflow_alerts.registry import Registry
from nomaflow_alerts.rules.policies import Policies
from nomaflow_alerts.sending import Sender
from nomaflow_alerts.service import AlertsCalls
from nomaflow_alerts.socket_place import forget_socket, publish_socket, socket_path
from nomaflow_alerts.timed_work import Clockwork
from nomaflow_api.event_loop import happens_within
from nomaflow_api.v1.alerts_service_pb2_grpc import add_AlertsServiceServicer_to_server
from nomaflow_project.models.alerts_section import AlertsSection
from nomaflow_telemetry.service_manager import ServiceManager

_LOG = logging.getLogger(__name__)
_LOCK_SECONDS = 1.0


def kernel_client(place: KernelPlace, *, seconds: float = 3.0) -> KernelClient:
    """Return a client that gives up soon."""
    return KernelClient(place.source, ca=place.ca, by="alerts", connect_seconds=seconds, retry_seconds=seconds)


async def serve(place: KernelPlace, alerts: AlertsSection, environ: dict[str, str]) -> None:
    """Watch the kernel and send messages until a signal asks to stop.

    :raises CannotServe: if the file cannot be used, or the socket cannot be made
    """
    manager = ServiceManager.of(environ)
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    ledger = Ledger(place.project / ".nomaflow" / "alerts.db")
    if not await _opened(ledger, stop, manager):
        return
    parts = _Parts(place, alerts, ledger)
    path = socket_path(place.project, environ)
    server = grpc.aio.server()
    add_AlertsServiceServicer_to_server(parts.calls, server)
    server.add_insecure_port(f"unix:{path}")
    await server.start()
    publish_socket(place.project, path)
    tasks = parts.start()
    channels = f"channels: {', '.join(alerts.channels)}"
    _LOG.info("alerts are served; %s", channels)
    manager.ready(channels)
    try:
        stopped = asyncio.create_task(stop.wait())
        ended, _ = await asyncio.wait({stopped, *tasks}, return_when=asyncio.FIRST_COMPLETED)
        for task in ended - {stopped}:
            await task  # raises its error: a part that has ended would be missed by nobody
    finally:
        manager.stopping("stopping")
        forget_socket(place.project)
        await server.stop(0.5)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await parts.close()
        await ledger.close()


async def _opened(ledger: Ledger, stop: asyncio.Event, manager: ServiceManager) -> bool:
    """Open the file; wait for as long as another process has it. Return False if asked to stop meanwhile."""
    said = False
    while not stop.is_set():
        try:
            await ledger.open()
        except LedgerInUse as error:
            if not said:
                _LOG.warning("another process has %s; waiting for its end", error)
                manager.ready("standing by: another process has the file")
            said = True
            await happens_within(stop, _LOCK_SECONDS)
        else:
            return True
    return False


class _Parts:
    """The parts of the process, put together."""

    def __init__(self, place: KernelPlace, alerts: AlertsSection, ledger: Ledger) -> None:
        self._client, self._stream = kernel_client(place), kernel_client(place, seconds=0.0)
        self._beats = bool(alerts.heartbeat_url)
        composer, policies, details = Composer(alerts), Policies(alerts), KernelDetails(self._client)
        registry = Registry(alerts, composer=composer, details=details)
        self.sender = Sender(
            ledger=ledger, alerts=alerts, policies=policies, channel=registry.channel,
            masker=composer.masker, told=self._wake,
        )  # fmt: skip
        self.pulse = Pulse(
            calls=self._client, ledger=ledger, alerts=alerts, policies=policies, changed=self._wake,
        )  # fmt: skip
        self.intake = Intake(
            calls=self._client, stream=self._stream, ledger=ledger, policies=policies,
            changed=self._wake, heard=self.pulse.heard, saw=self.pulse.saw,
        )  # fmt: skip
        self.clockwork = Clockwork(
            ledger=ledger, alerts=alerts, policies=policies, calls=self._client, intake=self.intake,
            sender=self.sender, composer=composer, details=details,
        )  # fmt: skip
        self.calls = AlertsCalls(
            calls=self._client, ledger=ledger, alerts=alerts, policies=policies, sender=self.sender, pulse=self.pulse,
            composer=composer, changed=self._wake,
        )  # fmt: skip

    def _wake(self) -> None:
        self.clockwork.wake()
        self.sender.wake()

    def start(self) -> list[asyncio.Task[Any]]:
        """Start all parts."""
        work = [self.sender.run, self.pulse.run, self.intake.run, self.clockwork.run]
        work += [self.pulse.beat] if self._beats else []
        return [asyncio.create_task(each(), name=each.__qualname__) for each in work]

    async def close(self) -> None:
        """Close connections."""
        await self._client.close()
        await self._stream.close()
