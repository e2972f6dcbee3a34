"""The calls about the kernel's own authority: what it is, and renewing it."""

from __future__ import annotations

import asyncio
import logging

from nomaflow_api.v1 import access_service_pb2 as access
from nomaflow_kernel.access.principals import Caller
from nomaflow_kernel.domain.errors import FileUnusable
from nomaflow_kernel.rpc.parts import KernelParts

_LOG = logging.getLogger(__name__)


class AuthorityCalls:
    """The part of AccessService about the authority."""

    def __init__(self, parts: KernelParts) -> None:
        self._parts = parts

    async def get_authority(self, _request: access.GetAuthorityRequest, _caller: Caller) -> access.GetAuthorityResponse:
        """Return the authority, and the certificate that clients see.

        :raises NotOnTcp: if there is none
        """
        certificates = self._parts.tcp_certificates()
        authority, files = certificates.authority, certificates.for_clients
        files.renewed()
        served = files.current
        found = access.GetAuthorityResponse(
            authorities_pem=authority.authorities_pem,
            fingerprint=authority.fingerprint,
            certificate_names=served.names,
            own=certificates.given is None,
        )
        found.authority_expires_at.FromDatetime(authority.expires_at)
        found.certificate_expires_at.FromSeconds(served.expires_at)
        return found

    async def renew_authority(
        self, request: access.RenewAuthorityRequest, caller: Caller
    ) -> access.RenewAuthorityResponse:
        """Renew the certificate of the kernel's own authority, or replace the authority; return what is served now.

        :raises NotOnTcp: if there is none
        :raises FileUnusable: if the new one cannot be written
        """
        authority = self._parts.tcp_certificates().authority
        try:
            await asyncio.to_thread(authority.replace if request.replace else authority.renew)
        except OSError as error:
            what = f"cannot write this kernel's authority into {str(authority.cert.parent)!r}"
            raise FileUnusable(what, error, fix="correct that, and renew again") from None
        _LOG.info("%s %s", caller.principal, "replaced the authority" if request.replace else "renewed the certificate")
        return access.RenewAuthorityResponse(authority=await self.get_authority(access.GetAuthorityRequest(), caller))
