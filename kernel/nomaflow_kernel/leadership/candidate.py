"""Getting the lead: one kernel of a database works; the others stand by, say so, and take over when it is gone."""

from __future__ import annotations

import logging
from pathlib import Path

from nomaflow_kernel.catalogue.stored_load import StoredManifests
from nomaflow_kernel.history.lookups import StoreInfo
from nomaflow_kernel.leadership.signals import Requests
from nomaflow_kernel.network.certificates import CertificateRefused
from nomaflow_kernel.network.door_addresses import DoorAddresses
from nomaflow_kernel.network.door_certificates import DoorCertificates
from nomaflow_kernel.network.listening import forget_address, publish_address
from nomaflow_kernel.network.socket_place import claim_socket
from nomaflow_kernel.rpc.endpoints import Endpoints
from nomaflow_kernel.rpc.server import DoorServers
from nomaflow_kernel.rpc.standby import standby_servers
from nomaflow_kernel.store.errors import StoreBusy, StoreError, StoreFull, StoreLed, StoreUnavailable
from nomaflow_kernel.store.sql_store import Store
from nomaflow_telemetry.service_manager import ServiceManager

_LOG = logging.getLogger(__name__)
_LOOK_SECONDS = 0.5


class Sentry:
    """Answers calls while this process stands by.

    :param addresses: where to listen
    :param address_file: tells clients and hosts of the project the address
    :param certificates: for the TCP doors; None if there are none
    """

    def __init__(
        self,
        *,
        addresses: DoorAddresses,
        endpoints: Endpoints,
        address_file: Path,
        certificates: DoorCertificates | None,
    ) -> None:
        self.addresses = addresses
        self.certificates = certificates
        self._endpoints = endpoints
        self._address_file = address_file
        self._why: StoreError | None = None
        self._servers: DoorServers | None = None

    @property
    def authority(self) -> str:
        """The fingerprint of this kernel's authority; empty if it has none."""
        return "" if self.certificates is None else self.certificates.authority.fingerprint

    async def answer(self, why: StoreError) -> None:
        """Answer every call with an error from now on.

        :raises CannotStart: if another process has an address, or the file that tells others of it cannot be written
        """
        self._why = why
        if self._servers is not None:
            return
        for address in self.addresses.owner:
            claim_socket(address)
        servers = standby_servers(
            addresses=self.addresses,
            certificates=self.certificates,
            endpoints=self._endpoints,
            why=lambda: self._why or why,
        )
        self.addresses = await servers.start()
        self._servers = servers
        publish_address(self._address_file, self.addresses.owner[0])

    async def retire(self) -> None:
        """Stop answering, so that the kernel can; the address file stays. Retiring twice is allowed."""
        servers, self._servers = self._servers, None
        if servers is not None:
            await servers.stop(None)

    async def leave(self) -> None:
        """Stop answering, and remove the address file."""
        if self._servers is not None:
            forget_address(self._address_file, self.addresses.owner[0])
        await self.retire()


async def take_lead(
    store: Store, *, sentry: Sentry, requests: Requests, manager: ServiceManager, ahead: StoredManifests, patient: bool
) -> StoreInfo | None:
    """Open a store; if another kernel leads, stand by until it no longer does. None if the process is to stop.

    :param manager: told that the kernel stands by: for the service manager, this completes the start
    :param ahead: told whether the leader may be gone
    :param patient: whether to wait for a store that cannot be reached, or has no room, as well
    :raises StoreError: if the store cannot be used
    :raises CertificateRefused: if the kernel that leads has another authority
    """
    said = ""
    while True:
        try:
            info = await requests.unless_over(store.open())
        except StoreLed as led:
            if led.authority and sentry.authority and led.authority != sentry.authority:
                await sentry.leave()
                raise _other_authority(led, sentry.authority) from None
            ahead.see(overdue=led.overdue)
            why: StoreError = led
        except (StoreBusy, StoreFull, StoreUnavailable) as error:
            if not patient:
                raise
            why = error
        else:
            await ahead.end()
            await (sentry.retire() if info is not None else sentry.leave())
            return info
        patient = True
        await sentry.answer(why)
        if said != str(why):
            said = str(why)
            _LOG.warning("not leading, listening on %s: %s", sentry.addresses, why)
            manager.ready(f"on standby: {why}")
        if await requests.stop_within(_LOOK_SECONDS):
            await sentry.leave()
            return None


def _other_authority(led: StoreLed, own: str) -> CertificateRefused:
    return CertificateRefused(
        f"kernel {led.holder!r} leads on this database with another authority, {led.authority}, and those who joined "
        f"that one would not trust this one, {own}; copy its .nomaflow/pki over that of this kernel, with the same "
        "owner and modes, and start this kernel again"
    )
