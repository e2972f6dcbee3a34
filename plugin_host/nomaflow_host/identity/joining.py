"""Joining a kernel on TCP: a join string is exchanged for a certificate."""

from __future__ import annotations

import hashlib
import logging
import sys
from pathlib import Path

from nomaflow.client import ClientError, KernelUnreachable, NotTrusted
from nomaflow_api.join_string import JoinString, JoinStringError
from nomaflow_host.identity.files import Identity, IdentityFolder
from nomaflow_host.identity.requests import read_certificate, signing_request
from nomaflow_host.process.errors import EX_CONFIG, EX_TEMPFAIL, NotJoined

__all__ = ["join_kernel", "read_join_string"]

_log = logging.getLogger(__name__)
_LONGEST = 100_000


def read_join_string(file: str) -> JoinString:
    """Return the join string in a file.

    :param file: ``-`` means standard input
    :raises NotJoined: if there is none, or it is not for a host
    """
    try:
        if file == "-":
            text = sys.stdin.read(_LONGEST)
        else:
            with Path(file).open(encoding="utf-8") as opened:
                text = opened.read(_LONGEST)
        join = JoinString.decode(text)
    except OSError as error:
        why = (error.strerror or type(error).__name__).lower()
        raise NotJoined(f"the join string's file {file!r} cannot be read: {why}", fix="name a readable file") from None
    except JoinStringError as error:
        raise NotJoined(str(error)) from None
    except UnicodeDecodeError:
        raise NotJoined(f"{file!r} holds no join string") from None
    if join.kind != "host":
        raise NotJoined(
            f"this join string is for {join.kind} {join.name!r}, not for a host", fix="give it to: nomaflow login FILE"
        )
    return join


async def join_kernel(join: JoinString, *, host: str, folder: IdentityFolder) -> bool:
    """Exchange a join string for a certificate, and keep it.

    A string that this host has joined with before is not used again, so that it may stay in a command line.

    :param host: the host's configured name
    :return: whether the string was used now
    :raises NotJoined: if the names differ or the kernel does not take the string; an identity from before stays
    :raises StateUnwritable: if the identity cannot be kept
    """
    if join.name != host:
        raise NotJoined(
            f"this join string is for host {join.name!r}, and this host is called {host!r}",
            fix=f'start it with --name {join.name}, write name = "{join.name}" below [host] of nomaflow.toml, '
            f"or ask for a string for {host!r}: nomaflow token create --host {host}",
        )
    used = hashlib.sha256(join.encode().encode()).hexdigest()
    if folder.exists and (before := _identity(folder)) is not None and before.joined_with == used:
        _log.info("this host has joined with that string already; its certificate is %s", before.serial)
        return False
    request = signing_request(host)
    try:
        from nomaflow.client.enrolment import enrol

        enrolled = await enrol(join, csr_pem=request.csr)
    except ClientError as error:
        passes = isinstance(error, KernelUnreachable) and not isinstance(error, NotTrusted)
        raise NotJoined(error.message, fix=error.fix, exit_code=EX_TEMPFAIL if passes else EX_CONFIG) from None
    certificate = enrolled.certificate_pem.encode()
    facts = read_certificate(certificate, host=host, key=request.key)
    if "-----BEGIN CERTIFICATE-----" not in enrolled.authorities_pem:
        raise NotJoined("the kernel has sent no authority that vouches for it")
    identity = Identity(
        host=host,
        kernel_id=enrolled.kernel_id,
        addresses=enrolled.addresses,
        serial=facts.serial,
        issued_at=facts.issued_at,
        expires_at=facts.expires_at,
        joined_with=used,
        key=request.key,
        certificate=certificate,
        authorities=enrolled.authorities_pem.encode(),
    )
    folder.write(identity)
    _log.info("joined the kernel at %s as host %s, certificate %s", ", ".join(identity.addresses), host, facts.serial)
    return True


def _identity(folder: IdentityFolder) -> Identity | None:
    try:
        return folder.read()
    except NotJoined:
        return None
