"""Enrolment: a join string is exchanged for a credential, and a host's certificate for the next one."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from nomaflow_api.join_string import JoinString
from nomaflow_api.v1 import access_service_pb2 as access
from nomaflow_api.v1 import host_gateway_service_pb2 as gateway
from nomaflow_kernel.access.audited_calls import audit_about
from nomaflow_kernel.access.principals import Caller, NotAuthenticated, NotPermitted, PrincipalKind
from nomaflow_kernel.domain.errors import BadRequest, KernelError
from nomaflow_kernel.history.access_records import CertificateRecord, TokenRecord
from nomaflow_kernel.network.certificates import CertificateRefused
from nomaflow_kernel.network.door_certificates import DoorCertificates
from nomaflow_kernel.rpc.parts import Calls, KernelParts

if TYPE_CHECKING:
    from nomaflow_kernel.network.authority import Authority, SignedCertificate

_LOG = logging.getLogger(__name__)


class Enrolment(Calls):
    """Gives credentials to those who join, and certificates to hosts that have one."""

    def __init__(self, parts: KernelParts) -> None:
        super().__init__(parts)
        self._credentials, self._addresses = parts.credentials, parts.reached

    def join_string(self, join: TokenRecord, secret: str) -> str:
        """Return the join string of a token with its secret.

        :raises KernelError: if there is no door at which to use it
        """
        string = JoinString(
            at=self._addresses().joining,
            authorities_pem=self._parts.tcp_certificates().join_authorities_pem,
            kind=join.kind,
            name=join.name,
            secret=secret,
        )
        return string.encode()

    async def enrol(self, request: access.EnrolRequest, caller: Caller) -> access.EnrolResponse:
        """Use a join string's secret once more; return a certificate for a host, a token for others.

        :raises KernelError: if the secret is not good, the request is not what it is for, or there is no authority
        :raises BadRequest: if the kernel's authority has ended
        """
        certificates = self._parts.tcp_certificates()
        try:
            # A request that is not what the string is for, or cannot be signed, must not use it up.
            join = self._credentials.join_of(request.secret)
            if bool(request.csr_pem) != (join.kind == "host"):
                raise NotAuthenticated
            if request.csr_pem:
                certificates.authority.check_request(request.csr_pem)
            join = await self._credentials.use_join(request.secret)
            if join.kind == "host":
                return await self._host(certificates, join, request.csr_pem, caller)
            return await self._other(certificates, join)
        except CertificateRefused as error:  # told only to those whose secret is good
            raise BadRequest(str(error), field="csr_pem") from None
        except (NotAuthenticated, ValueError):
            raise KernelError(  # in the same words whatever the cause
                "this join string cannot be used: it is unknown, used up, expired or withdrawn, or the request is not "
                "what it is for; ask for a new one, from `nomaflow token create`",
                reason="UNAUTHENTICATED",
            ) from None

    async def renew_certificate(
        self, request: gateway.RenewCertificateRequest, caller: Caller
    ) -> gateway.RenewCertificateResponse:
        """Issue the next certificate, for the same name, to a host that shows a good one.

        :raises BadRequest: if the signing request cannot be used, or the kernel's authority has ended
        :raises NotPermitted: if the caller shows no certificate, or one for a single instance, which is not renewed
        :raises NotAuthenticated: if its certificate was withdrawn meanwhile
        """
        principal = caller.principal
        if principal.kind is not PrincipalKind.HOST:
            raise NotPermitted(principal, "renew", "a certificate, which only a host has")
        if principal.instance:
            raise NotPermitted(principal, "renew", "a certificate for one instance, which ends with it")
        authority = self._parts.tcp_certificates().authority
        try:
            signed = authority.sign_host(request.csr_pem, principal.name)
        except (ValueError, CertificateRefused) as error:
            raise BadRequest(str(error), field="csr_pem") from None
        await self._keep(signed, principal.name, caller, renews=principal.credential)
        return gateway.RenewCertificateResponse(
            certificate_pem=signed.chain_pem, authorities_pem=authority.authorities_pem
        )

    async def _host(
        self, certificates: DoorCertificates, join: TokenRecord, csr_pem: str, caller: Caller
    ) -> access.EnrolResponse:
        authority: Authority = certificates.authority
        signed = authority.sign_host(csr_pem, join.name, seconds=join.instance_seconds)
        await self._keep(signed, join.name, caller, token_id=join.token_id)
        return access.EnrolResponse(
            certificate_pem=signed.chain_pem,
            authorities_pem=authority.authorities_pem,
            name=join.name,
            addresses=self._addresses().hosts,
            kernel_id=self._parts.info.store_id,
            instance=join.token_id if join.instance_seconds else "",
        )

    async def _other(self, certificates: DoorCertificates, join: TokenRecord) -> access.EnrolResponse:
        made, secret = await self._credentials.exchange(join)
        audit_about(f"{made.kind}:{made.name}", correlation=made.token_id)
        _LOG.info("%s %r has joined with %s and has token %s", made.kind, made.name, join.token_id, made.token_id)
        return access.EnrolResponse(
            authorities_pem=certificates.client_authorities_pem,
            name=join.name,
            addresses=self._addresses().clients,
            token=secret,
            kernel_id=self._parts.info.store_id,
        )

    async def _keep(
        self, signed: SignedCertificate, host: str, caller: Caller, *, token_id: str = "", renews: str = ""
    ) -> None:
        record = CertificateRecord(
            serial=signed.serial,
            host=host,
            issued_at_us=self._clock.now_us(),
            expires_at_us=signed.not_after_us,
            issued_to=caller.peer,
            token_id=token_id,
        )
        await self._credentials.keep_certificate(record, renews=renews)
        audit_about(f"host:{host}", correlation=signed.serial)
        why = f"joined with {token_id}" if token_id else f"renews {renews}"
        _LOG.info("host %r at %s has certificate %s: %s", host, caller.peer, signed.serial, why, extra={"host": host})
