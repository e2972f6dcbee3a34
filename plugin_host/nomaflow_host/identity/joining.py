"""Joining a kernel on TCP: a join string is exchanged for a certificate."""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Iterable
from dataclasses import replace

from msgspec import structs

from nomaflow.client import ClientError, KernelUnreachable, NotTrusted
from nomaflow_api.addresses import host_and_port
from nomaflow_api.join_string import JoinString, JoinStringError, certificates_in
from nomaflow_host.identity.files import Identity, IdentityFile
from nomaflow_host.identity.requests import read_certificate, signing_request
from nomaflow_host.process.errors import NotJoined
from nomaflow_project.reading.regular_files import reason_of

_log = logging.getLogger(__name__)


def read_join_string(file: str) -> JoinString:
    """Return the join string in a file.

    :param file: ``-`` means standard input
    :raises NotJoined: if there is none, or it is not for a host
    """
    try:
        join = JoinString.read(file)
    except OSError as error:
        why = f"the join string's file {file!r} cannot be read: {reason_of(error)}"
        raise NotJoined(why, fix="name a readable file") from None
    except JoinStringError as error:
        raise NotJoined(str(error)) from None
    if join.kind != "host":
        raise NotJoined(
            f"this join string is for {join.kind} {join.name!r}, not for a host", fix="give it to: nomaflow login FILE"
        )
    return join


async def join_kernel(join: JoinString, *, host: str, file: IdentityFile) -> bool:
    """Exchange a join string for a certificate, and keep it.

    A string that this host has joined with before is not used again, so that it may stay in a command line.

    :param host: the host's configured name
    :return: whether the string was used now
    :raises NotJoined: if the names differ, the kernel does not take the string, or it is a kernel other than the one
      that this host has joined; an earlier identity stays
    :raises StateUnwritable: if the identity cannot be kept
    """
    if join.name != host:
        raise NotJoined(
            f"this join string is for host {join.name!r}, and this host is called {host!r}",
            fix=f'start it with --name {join.name}, write name = "{join.name}" below [host] of nomaflow.toml, '
            f"or ask for a string for {host!r}: nomaflow token create --host {host}",
        )
    used = hashlib.sha256(join.encode().encode()).hexdigest()
    before, unusable = _present(file)
    if before is not None and before.joined_with == used:
        _log.info("this host has joined with that string already; its certificate is %s", before.serial)
        return False
    request = signing_request(host)
    try:
        from nomaflow.client.enrolment import NotThatKernel, enrol

        # A host without a kernel trusts the string. A host that has joined one trusts what it knows already.
        known = before is None or _knows(before, join)
        trusted = join if known or before is None else replace(join, authorities_pem=before.authorities)
        enrolled = await enrol(trusted, csr_pem=request.csr)
    except ClientError as error:
        if before is not None and not known and isinstance(error, NotThatKernel):
            raise _other_kernel(before, file, "nothing was sent to it") from None
        passes = isinstance(error, KernelUnreachable) and not isinstance(error, NotTrusted)
        exit_code = os.EX_SOFTWARE if passes else os.EX_CONFIG
        raise NotJoined(f"{unusable}{error.message}", fix=error.fix, exit_code=exit_code) from None
    facts = read_certificate(enrolled.certificate_pem, host=host, key=request.key)
    if "-----BEGIN CERTIFICATE-----" not in enrolled.authorities_pem:
        raise NotJoined("the kernel has sent no authority that vouches for it")
    # With the same authorities it is the same kernel, even after a restore, which gives its history another id.
    if before is not None and not known and enrolled.kernel_id != before.kernel_id:
        raise _other_kernel(before, file, "the string is used up")
    identity = Identity(
        host=host,
        kernel_id=enrolled.kernel_id,
        addresses=enrolled.addresses,
        **structs.asdict(facts),
        joined_with=used,
        joined_at=join.at,
        joining_authorities=join.authorities_pem,
        instance=enrolled.instance,
        key=request.key,
        certificate=enrolled.certificate_pem,
        authorities=enrolled.authorities_pem,
    )
    file.write(identity)
    _log.info("joined the kernel at %s as host %s, certificate %s", ", ".join(identity.addresses), host, facts.serial)
    return True


def _present(file: IdentityFile) -> tuple[Identity | None, str]:
    """Return the identity that a host has, or why it cannot be used, as the beginning of a sentence."""
    try:
        return file.read(), ""
    except NotJoined as error:
        return None, f"{error.problem}, and " if file.exists else ""


def _knows(before: Identity, join: JoinString) -> bool:
    """Return whether a host already trusts what a string asks it to trust.

    If a string has no authorities, since the system's vouch for its door, that is the door's host names.
    """
    authorities = certificates_in(join.authorities_pem)
    if not authorities:
        return not before.joining_authorities and _hosts(join.at) <= _hosts(before.joined_at)
    return authorities <= certificates_in(before.authorities) | certificates_in(before.joining_authorities)


def _hosts(addresses: Iterable[str]) -> set[str]:
    return {found[0] for found in map(host_and_port, addresses) if found is not None}


def _other_kernel(before: Identity, file: IdentityFile, what_became: str) -> NotJoined:
    return NotJoined(
        "this join string is for a kernel other than the one that this host has joined, at "
        f"{', '.join(before.addresses)}; {what_became}",
        fix=f"ask for a string for that kernel; to leave it for another: stop this host, remove {file.path}, and "
        "join with a new string",
    )
