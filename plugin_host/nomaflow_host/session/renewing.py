"""Renewal of the host's certificate, on the session that it holds with the old one, which then gives way to a new one.

The kernel ends a session with the certificate that it was opened with, and takes the end for a refusal.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import grpc.aio
from msgspec import structs

from nomaflow.client.backoff import Backoff
from nomaflow_api.v1 import host_gateway_service_pb2 as pb
from nomaflow_host.identity.requests import read_certificate, signing_request
from nomaflow_host.process.errors import NotJoined, StateUnwritable
from nomaflow_host.session.failures import CallFailure

if TYPE_CHECKING:
    from nomaflow_host.identity.files import Identity, IdentityFile
    from nomaflow_host.session.link import Link

_log = logging.getLogger(__name__)

_DUE, _SPREAD = 2 / 3, 1 / 10
_CALL_SECONDS = 30.0
_LONGEST_NAP = 600.0  # the clock of the machine may be set meanwhile
_SOON_SECONDS = 60.0


def due_at(identity: Identity) -> float:
    """Return when to renew a certificate: at two thirds of its life, give or take a twentieth of it.

    The serial decides the exact time, so that it stays the same across restarts, and 1,000 hosts that joined in the
    same minute do not renew in the same minute.

    :return: seconds since the epoch
    """
    drawn = (int(identity.serial, 16) % 10_007) / 10_007 - 0.5
    return identity.issued_at + (identity.expires_at - identity.issued_at) * (_DUE + drawn * _SPREAD)


class Renewer:
    """Renews the certificate in time, with a new key each time; the previous one is good until it is replaced."""

    def __init__(self, *, file: IdentityFile, draw: Callable[[float, float], float] = random.uniform) -> None:
        self._file = file
        self._draw = draw

    async def run(self, link: Link) -> None:
        """Renew on one session, and return once there is another certificate than the one that it was opened with.

        On a Unix socket there is nothing to renew, and the certificate of a single instance ends with it.
        """
        if link.identity is None or link.identity.instance:
            await asyncio.Event().wait()
            return
        life = link.identity.expires_at - link.identity.issued_at
        # Hosts whose time came while the kernel was away do not all ask at once when it is back.
        await asyncio.sleep(self._draw(0.0, min(_SOON_SECONDS, life / 20)))
        backoff = Backoff(first=min(_SOON_SECONDS, life / 20), most=min(3600.0, life / 10))
        while True:
            wait = await self._renewed(link, link.identity, backoff)
            if wait is None:
                return
            await asyncio.sleep(min(wait, _LONGEST_NAP))

    async def _renewed(self, link: Link, shown: Identity, backoff: Backoff) -> float | None:
        """Renew if it is time, and return the seconds until the next check; None if the one shown is no longer ours."""
        try:
            current = self._file.read()
            if current.serial != shown.serial:
                return None
            left = due_at(current) - time.time()
            if left > 0:
                return left
            await self._renew(link, current)
        except grpc.aio.AioRpcError as error:
            return self._failed(str(CallFailure.of(error)), backoff)
        except NotJoined as error:
            return self._failed(error.problem, backoff)
        except StateUnwritable as error:
            return self._failed(str(error), backoff)
        backoff.reset()
        return 0.0

    async def _renew(self, link: Link, current: Identity) -> None:
        request = signing_request(current.host)
        message = pb.RenewCertificateRequest(csr_pem=request.csr)
        answer = await link.renew(message, timeout=_CALL_SECONDS)
        facts = read_certificate(answer.certificate_pem, host=current.host, key=request.key)
        newest = self._file.read()
        if newest.serial != current.serial:
            return  # the host has joined again meanwhile
        renewed = structs.replace(
            newest,
            **structs.asdict(facts),
            key=request.key,
            certificate=answer.certificate_pem,
            authorities=answer.authorities_pem or current.authorities,
        )
        self._file.write(renewed)
        _log.info("the certificate was renewed: %s, good until %s", renewed.serial, renewed.good_until)

    def _failed(self, why: str, backoff: Backoff) -> float:
        pause = backoff.next()
        until = ""
        with contextlib.suppress(NotJoined):
            until = f"; the present one is good until {self._file.read().good_until}"
        _log.warning("the certificate could not be renewed, trying again in %.0f s: %s%s", pause, why, until)
        return pause
