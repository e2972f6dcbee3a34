"""The client's calls about the kernel's authority and certificate."""

from __future__ import annotations

from nomaflow.client import values
from nomaflow.client.connection import Connection
from nomaflow_api.v1 import access_service_pb2 as service
from nomaflow_api.v1.message_codec import decode

__all__ = ["AuthorityCalls"]

_SECONDS = 10.0


class AuthorityCalls:
    """Reads the kernel's authority; renewing and replacing it need the verb admin."""

    _connection: Connection

    async def get_authority(self) -> values.AuthorityView:
        """Return the authority that vouches for the kernel, and the certificate that clients see."""
        reply = await self._connection.call("GetAuthority", service.GetAuthorityRequest(), timeout=_SECONDS)
        return decode(values.AuthorityView, reply)

    async def renew_authority(self, *, replace: bool = False) -> values.AuthorityView:
        """Renew the certificate of the kernel's own authority; return what is served now.

        :param replace: make a new authority; the old one vouches for it until the old one ends
        """
        request = service.RenewAuthorityRequest(replace=replace)
        reply = await self._connection.call("RenewAuthority", request, timeout=_SECONDS)
        return decode(values.AuthorityView, reply.authority)
