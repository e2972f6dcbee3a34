"""Connects a command to a kernel, and translates the client's errors into the command's."""

from __future__ import annotations

import asyncio
import contextlib
import getpass
import os
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from nomaflow.client import (
    AddressSource,
    ClientError,
    FixedAddress,
    KernelFailed,
    KernelUnreachable,
    ProjectAddress,
    has_known_form,
    read_token,
    split_addresses,
)
from nomaflow_cli.errors import CliError, ExitCode
from nomaflow_cli.project import host_table, project_around, require_project
from nomaflow_project.reading.environment import resolve_environment
from nomaflow_telemetry.tracing import trace_globally

if TYPE_CHECKING:
    from nomaflow.client import KernelClient
    from nomaflow_cli.invocation import Invocation

__all__ = ["first", "kernel_client", "talk"]

R = TypeVar("R")


def talk(
    invocation: Invocation,
    conversation: Callable[[KernelClient], Awaitable[R]],
    *,
    retry_seconds: float = 10.0,
    on_connected: Callable[[bool], None] | None = None,
) -> R:
    """Call the kernel and return the result. If no kernel answers within half a second, none runs.

    :param retry_seconds: time to wait for a kernel that answered and then went away
    :raises CliError: with message, reason and exit code of the error
    """

    async def connected() -> R:
        trace_globally("nomaflow-cli", os.environ)
        source, ca = _kernel(invocation)
        client = kernel_client(
            source,
            ca=ca,
            by=_caller_name(),
            connect_seconds=0.5,
            retry_seconds=retry_seconds,
            on_connected=on_connected,
        )
        async with client:
            return await conversation(client)

    try:
        return asyncio.run(connected())
    except ClientError as error:
        away = isinstance(error, KernelUnreachable | KernelFailed)
        raise CliError(
            error.message,
            reason=error.reason,
            fix=error.fix,
            exit_code=ExitCode.UNREACHABLE if away else ExitCode.USAGE,
        ) from None


def kernel_client(source: AddressSource, **options: Any) -> KernelClient:
    """Return a client whose gRPC writes nothing to the terminal.

    :param options: those of :class:`nomaflow.client.KernelClient`
    """
    given = os.environ.get("GRPC_VERBOSITY")
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # gRPC reads it on import
    try:
        from nomaflow.client import KernelClient
    finally:
        if given is None:
            del os.environ["GRPC_VERBOSITY"]  # child processes do not need it
    return KernelClient(source, **options)


def _caller_name() -> str:
    """Return the name of the person at the terminal, for the record."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # no entry for this uid
        return f"uid {os.getuid()}"


def _kernel(invocation: Invocation) -> tuple[AddressSource, Path | None]:
    """Return the source of the kernel's address, and the file of the authorities that must vouch for it.

    The address is that of the options, else of the project's own kernel, else of the kernel that its host dials.

    :raises CliError: if there is no address, its form is unknown, or a token is missing
    """
    token = invocation.token or ""
    if not token and invocation.token_file is not None:
        token = read_token(invocation.token_file)
    if invocation.addresses:
        around = invocation.project or project_around()
        return _fixed(",".join(invocation.addresses), token, project=around), invocation.ca
    project = require_project(invocation.project)
    own = ProjectAddress(project=project, secret=token)
    if own.file.exists() and not _is_left_over(own):
        return own, invocation.ca
    host = _dialled(project)
    if not host.get("kernel"):
        return own, invocation.ca
    source = _fixed(host["kernel"], token, project=project)
    if not source.secret and not all(each.startswith("unix:") for each in source.addresses()):
        raise CliError(
            f"the kernel {host['kernel']!r} ([host] kernel of nomaflow.toml) requires a token; "
            "the token of [host] token_file is only for the host and is not sent by commands",
            reason="UNAUTHENTICATED",
            fix="give the clients' token of that kernel (its .nomaflow/token) with --token-file or NOMAFLOW_TOKEN_FILE",
        )
    ca = project / host["kernel_ca"] if host.get("kernel_ca") else None
    return source, invocation.ca or ca


def _dialled(project: Path) -> dict[str, str]:
    """Return the texts of ``[host]`` in the project's nomaflow.toml.

    :raises CliError: if the file cannot be read, so that the kernel's address is unknown
    """
    try:
        table = resolve_environment(host_table(project), os.environ)
    except CliError as error:
        raise CliError(
            f"no kernel runs in {str(project)!r}, and {error}, so that another is unknown",
            fix="correct the file, or name the kernel with --address",
        ) from None
    return {name: value for name, value in table.items() if isinstance(value, str)}


def _is_left_over(own: ProjectAddress) -> bool:
    """Return True if no kernel listens on the socket at the address any more, as after a kill."""
    try:
        address = own.current()
    except KernelUnreachable:
        return True
    if not address.startswith("unix:"):
        return False
    with contextlib.closing(socket.socket(socket.AF_UNIX)) as probe:
        try:
            probe.connect(address.removeprefix("unix:"))
        except (ConnectionRefusedError, FileNotFoundError):
            return True
        except OSError:
            return False  # it may exist, but this user may not use it
    return False


def _fixed(given: str, token: str, *, project: Path | None) -> FixedAddress:
    """Return the given addresses with the token, by default the project's if one of them is on TCP."""
    addresses = split_addresses(given)
    for address in addresses:
        if not has_known_form(address):
            raise CliError(
                f"the address {address!r} has no known form",
                fix="write unix:/path/kernel.sock, host:port or tls://host:port, as in --address 127.0.0.1:7070",
            )
    path = project / ".nomaflow" / "token" if project else None
    if not token and path is not None and path.exists() and not all(each.startswith("unix:") for each in addresses):
        token = read_token(path)
    return FixedAddress.of(addresses, token=token)


async def first(count: int, items: AsyncIterator[R]) -> list[R]:
    """Return the first items of a list that the kernel sends page by page; no further pages are fetched."""
    found: list[R] = []
    async for item in items:
        found.append(item)
        if len(found) == count:
            break
    return found
